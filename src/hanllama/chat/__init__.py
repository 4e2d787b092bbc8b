"""Talking with a model on a terminal: `hanllama chat`."""
