"""The layouts in which conversations are published, one file each.

A layout offers

    def fits(record) -> bool                 # whether a record has this form, by its fields alone
    def messages(record) -> list[Message]    # raises form.Unusable with the reason
    EXAMPLES = [(record, messages), …]       # its tests and its documentation

and, if some of `id`, `source` and `category` are not labels in it, `LABELS`: those that are.
No two layouts fit the same record. A user's `.py` file is used by its path.
"""
