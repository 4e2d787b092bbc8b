"""Cleaning rules: one file each; a rule's name in a preset is its file name.

A rule file holds
- a docstring: what it does, why, and where the rule comes from;
- `@checked class Rule`: its parameters as fields with defaults, and
  `__call__(text) -> str | Drop`, a function of the text alone: the text as it was, a changed
  text, or `Drop(reason)` for the whole document;
- `EXAMPLES`: pairs (text, what the rule with its default parameters makes of it), or triples with
  the parameters in the middle. They document the rule and are its tests.

A rule applied twice must do what it does once. A file of your own works as well: give its path,
ending in `.py`, where the name would stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Drop:
    """The document is not to be kept. `reason` is counted, so it holds no part of the text."""

    reason: str


class CleaningRule(Protocol):
    """What a rule's `Rule` is."""

    def __call__(self, text: str) -> str | Drop: ...
