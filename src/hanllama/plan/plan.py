"""`hanllama plan`: time, memory and cost of a training before it runs.

Parameters, steps, peak memory, FLOPs, hours and cost, for a config, every training of a recipe, or
a preset and a number of tokens. Memory is a formula (`plan/memory.py`). Hours on a named device are
FLOPs over an assumed share of its peak (`train/devices.py`); hours on the device here are measured
(`plan/measure.py`).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hanllama.model.presets import PRESETS, preset
from hanllama.plan import words
from hanllama.plan.forecast import forecast
from hanllama.plan.jobs import jobs
from hanllama.plan.options import HERE, PlanConfig
from hanllama.train import devices


def plan(options: PlanConfig) -> dict[str, Any]:
    """Print the plan, and return it as plain values.

    Raises ConfigError for an unknown device, preset, recipe or config, and for a missing number.
    """
    if options.list:
        found = {"presets": sizes(options.vocab_size)}
        print(_json(found) if options.json else words.sizes_table(found["presets"]))
        return found
    names = [name for text in options.devices for name in text.split(",") if name]
    for name in names:
        if name != HERE:
            devices.find(name)
    plans = [forecast(job, names, options) for job in jobs(options)]
    print(_json({"plans": plans}) if options.json else "\n\n".join(words.page(p) for p in plans))
    return {"plans": plans}


def sizes(vocab_size: int) -> list[dict[str, Any]]:
    """The stated and the exact size of each preset; None where the vocabulary is unknown.

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


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=2)
