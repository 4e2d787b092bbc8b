"""A plan as text and tables for the terminal; `--json` prints the values instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hanllama.base.card import Card, aligned
from hanllama.base.progress import duration
from hanllama.plan import memory


def page(found: dict[str, Any]) -> str:
    epochs = "" if found["epochs"] is None else f", {found['epochs']:.2f} epochs"
    checkpointing = ", gradient checkpointing" if found["gradient_checkpointing"] else ""
    card = Card(found["name"])
    card.facts(
        {
            "plan": found["name"],
            "parameters": f"{found['parameters']:,}; {found['parameters_without_embeddings']:,}"
            f" without embeddings (vocabulary {found['vocab_size']:,})",
            "step": f"{found['tokens_per_step']:,} tokens: {found['batch_size']} rows of"
            f" {found['context']}, {found['micro_batch_size']} at a time{checkpointing}",
            "steps": f"{found['steps']:,}, {found['tokens']:,} tokens{epochs}",
            "arithmetic": f"{found['flops']:.3g} FLOPs, {found['flops_per_token']:.3g} a token",
        }
    )
    card.say("")
    rows = [
        (
            device["device"],
            device["dtype"],
            f"{gib(device['memory']['total'])} of {gib(device['memory_limit'])}"
            + ("" if device["fits"] else " does NOT fit"),
            f"{device['tokens_per_second']:,.0f}",
            _time(device["hours"]),
            "-" if device["cost"] is None else f"${device['cost']:,.2f}",
            device["basis"],
        )
        for device in found["devices"]
    ]
    headings = ["device", "dtype", "peak memory", "tokens/s", "time", "cost", "speed is"]
    card.table(rows, headings)
    for device in found["devices"][:1]:
        parts = {k: v for k, v in device["memory"].items() if k != "total" and v}
        sizes = ", ".join(f"{k} {gib(v)}" for k, v in parts.items())
        card.say(f"memory on {device['device']}: {sizes}")
    card.say("Prices and assumed MFU are orders of magnitude: --price and --mfu replace them.")
    if found["work"] != 1 or found["counts"] != "packed rows":
        card.say(
            f"loop.batch_size counts {found['counts']}; a sequence is assumed to fill half of the"
            f" context, and a row to cost {found['work']:.2f} training passes by time."
        )
    card.say(*(f"{d['device']}: {d['advice']}" for d in found["devices"] if d["advice"]))
    return "\n".join(card.lines)


def sizes_table(rows: Sequence[dict[str, Any]]) -> str:
    """The presets, one per line, and their notes."""
    headings = ["preset", "stated", "tied", "untied", "without embeddings", "vocabulary", "source"]
    cells = [
        (
            row["name"],
            row["stated"] or "-",
            *(
                "-" if row[key] is None else f"{row[key]:,}" + mark
                for key, mark in (
                    ("tied", "*" if row["tied_by_default"] else " "),
                    ("untied", " " if row["tied_by_default"] else "*"),
                )
            ),
            row["without_embeddings"],
            row["vocab_size"] or "-",
            row["source"],
        )
        for row in rows
    ]
    notes = [f"{row['name']}: {note}" for row in rows for note in row["notes"]]
    legend = "* the preset's own choice; -: depends on the tokenizer (give --vocab-size)"
    return "\n".join([*aligned(cells, headings), legend, *notes])


def gib(count: float) -> str:
    return f"{count / memory.GIB:.2f} GiB"


def _time(hours: float) -> str:
    return duration(hours * 3600) if hours < 100 else f"{hours:,.0f} h ({hours / 24:,.0f} days)"
