"""Preferences of any layout -> one stream of pairs, of single judgements or of rankings.

reader = PreferenceReader(["preference/"])
for pair in reader: ...              # Pair; a ranking gives all of its pairs
for one in reader.judged(): ...      # Judged, for KTO
for one in reader.ranked(): ...      # Ranked, for hindsight and best-of-n
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

from hanllama.talks.conversations.form import Record, Unusable
from hanllama.talks.conversations.reader import Labels, LayoutReader
from hanllama.talks.preferences import form
from hanllama.talks.preferences.form import Judged, Pair, Preference, Ranked


class PreferenceReader(LayoutReader):
    """The preferences of files; for arguments and counts see `LayoutReader`."""

    PACKAGE = "hanllama.talks.preferences.layouts"
    NOUN = "preference"

    def __iter__(self) -> Iterator[Pair]:
        return self._read(lambda *given: form.pairs(self._preference(*given)))

    def judged(self) -> Iterator[Judged]:
        """Yield judged answers; a ranking gives its first and its last."""
        return self._read(lambda *given: form.judged(self._preference(*given)))

    def ranked(self) -> Iterator[Ranked]:
        """Yield rankings, best first; a pair is a ranking of two."""
        return self._read(lambda *given: [form.ranked(self._preference(*given))])

    def _preference(self, layout: ModuleType, record: Record, labels: Labels) -> Preference:
        item: Preference = layout.preference(record)
        if reason := form.refusal(item):
            raise Unusable(reason)
        item = form.mapped(item, self.filled_text)
        return replace(item, id=labels["id"], source=labels["source"])
