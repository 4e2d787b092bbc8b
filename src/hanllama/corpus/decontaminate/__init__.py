"""Decontamination: which questions of evaluation sets stand in a corpus, and out with them."""
