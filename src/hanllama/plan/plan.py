"""`hanllama plan`: time, memory and cost of a training before it runs.

Parameters, steps, peak memory, FLOPs, hours and cost, for a config, every training of a recipe, or
a preset and a number of tokens. Memory is a formula (`plan/memory.py`). Hours on a named device are
FLOPs over an assumed share of its peak (`train/devices.py`); hours on the device here are measured
(`plan/measure.py`).

Importing this folder imports no torch; only a forecast does.
"""

from __future__ import annotations

import json
from typing import Any

from hanllama.plan import words
from hanllama.plan.forecast import forecast
from hanllama.plan.jobs import jobs
from hanllama.plan.options import HERE, PlanConfig
from hanllama.plan.sizes import sizes
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


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, indent=2)
