"""Answers become data: teachers and judges at an endpoint, rules, and people's rankings."""
