"""Deduplication: exact by document and by line, near duplicates, works inside larger works."""
