"""`hanllama plan --list`: what size each preset says it is, and what it is exactly."""

from __future__ import annotations

import dataclasses
from typing import Any

from hanllama.model.presets import PRESETS, preset


def sizes(vocab_size: int) -> list[dict[str, Any]]:
    """Every preset, as plain values; counts are None where they depend on a vocabulary not known.

    Args:
        vocab_size: for all of them; 0: each preset's own, where it has one.
    """
    rows = []
    for name, known in PRESETS.items():
        vocabulary = vocab_size or known.vocab_size
        # The body's size depends on no vocabulary.
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
