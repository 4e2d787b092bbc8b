"""Cleaning rules: one file each; a rule's name in a preset is its file name.

A rule file holds
- a docstring: what it does, why, and where the rule comes from;
- `@checked class Rule`: its parameters as fields with defaults, and
  `__call__(text) -> str | Drop`, a function of the text alone: the text as it was, a changed
  text, or `Drop(reason)` for the whole document;
- `EXAMPLES`: pairs (text, the rule's result with default parameters), or triples with the
  parameters in the middle. They document the rule and are its tests.

A rule applied twice must do what it does once. A file of your own also works: give its path,
ending in `.py`, in place of the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the document. `reason` is counted, so it must hold no part of the text."""

    reason: str


class CleaningRule(Protocol):
    """The interface of a rule's class `Rule`."""

    def __call__(self, text: str) -> str | Drop: ...
