"""Data that models make: tasks a teacher writes, answers a judge ranks, feedback put into words.

What asks a model behind an HTTP address goes through `endpoint.py` (one request) and `asking.py`
(many, journaled, within a budget); what turns data into data needs no network.
"""
