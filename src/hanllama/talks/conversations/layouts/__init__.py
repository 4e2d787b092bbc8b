"""The layouts in which conversations are published, one file each.

A layout offers

    def fits(record) -> bool                 # is a record of this form, by its fields alone
    def messages(record) -> list[Message]    # raises form.Unusable with the reason
    EXAMPLES = [(record, messages), …]       # its tests and its documentation

and, where `id`, `source` or `category` is something else in it, `LABELS`: those that are labels.
No two layouts fit the same record. A `.py` file of one's own is used by its path.
"""
