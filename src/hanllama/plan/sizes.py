"""`hanllama plan --list`: the stated and the exact size of each preset."""

from __future__ import annotations

import dataclasses
from typing import Any

from hanllama.model.presets import PRESETS, preset


def sizes(vocab_size: int) -> list[dict[str, Any]]:
    """All presets as plain values; counts that need an unknown vocabulary are None.

    Args:
        vocab_size: for all presets; 0: each preset's own, if it has one.
    """
    rows = []
    for name, known in PRESETS.items():
        vocabulary = vocab_size or known.vocab_size
        # The size without embeddings needs no vocabulary, so 1 will do.
        tied = preset(name, vocab_size=vocabulary or 1, tie_word_embeddings=True)
        untied = dataclasses.replace(tied, tie_word_embeddings=False)
        rows.append(
            {
                "name": name,
                "source": known.source,
                "stated": known.stated,
                "vocab_size": vocabulary,
                "tied_by_default": bool(known.dimensions["tie_word_embeddings"]),
                "tied": tied.parameter_count() if vocabulary else None,
                "untied": untied.parameter_count() if vocabulary else None,
                "without_embeddings": tied.parameter_count(embeddings=False),
                "notes": list(known.notes),
            }
        )
    return rows
