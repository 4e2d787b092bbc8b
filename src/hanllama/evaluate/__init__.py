"""Measure how chat models obey instructions about stories."""
