"""The layouts in which preferences are published, one file each.

A layout offers

    def fits(record) -> bool                 # whether a record has this form, by its fields alone
    def preference(record) -> Preference     # a Pair, Judged or Ranked; raises Unusable
    EXAMPLES = [(record, preference), …]     # its tests and its documentation

No two layouts fit the same record. A user's `.py` file is used by its path.
"""
