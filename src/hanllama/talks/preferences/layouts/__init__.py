"""The layouts in which preferences are published, one file each.

A layout offers

    def fits(record) -> bool                 # is a record of this form, by its fields alone
    def preference(record) -> Preference     # a Pair, Judged or Ranked; raises Unusable
    EXAMPLES = [(record, preference), …]     # its tests and its documentation

No two layouts fit the same record. A `.py` file of one's own is used by its path.
"""
