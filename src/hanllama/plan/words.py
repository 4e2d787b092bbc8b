"""A plan in words and tables, as the terminal shows it; `--json` says the same in values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hanllama.base.progress import duration
from hanllama.plan import memory


def page(found: dict[str, Any]) -> str:
    """One training's forecast."""
    epochs = "" if found["epochs"] is None else f", {found['epochs']:.2f} epochs"
    checkpointing = ", gradient checkpointing" if found["gradient_checkpointing"] else ""
    facts = [
        ("plan", found["name"]),
        (
            "parameters",
            f"{found['parameters']:,}; {found['parameters_without_embeddings']:,} without"
            f" embeddings (vocabulary {found['vocab_size']:,})",
        ),
        (
            "step",
            f"{found['tokens_per_step']:,} tokens: {found['batch_size']} rows of"
            f" {found['context']}, {found['micro_batch_size']} at a time{checkpointing}",
        ),
        ("steps", f"{found['steps']:,}, {found['tokens']:,} tokens{epochs}"),
        ("arithmetic", f"{found['flops']:.3g} FLOPs, {found['flops_per_token']:.3g} a token"),
    ]
    width = max(len(name) for name, _ in facts)
    head = "\n".join(f"{name:<{width}}  {text}" for name, text in facts)
    cells = [("device", "dtype", "peak memory", "tokens/s", "time", "cost", "speed is")]
    for device in found["devices"]:
        fits = "" if device["fits"] else " does NOT fit"
        cells.append(
            (
                device["device"],
                device["dtype"],
                f"{gib(device['memory']['total'])} of {gib(device['memory_limit'])}{fits}",
                f"{device['tokens_per_second']:,.0f}",
                _time(device["hours"]),
                "-" if device["cost"] is None else f"${device['cost']:,.2f}",
                device["basis"],
            )
        )
    parts = _parts(found["devices"][0]) if found["devices"] else ""
    warnings = [f"{d['device']}: {d['advice']}" for d in found["devices"] if d["advice"]]
    note = "Prices and assumed MFU are orders of magnitude: --price and --mfu replace them."
    if found["work"] != 1 or found["counts"] != "packed rows":
        note += (
            f"\nloop.batch_size counts {found['counts']}; a sequence is assumed to fill half of the"
            f" context, and a row to cost {found['work']:.2f} training passes by time."
        )
    return "\n".join([head, "", _aligned(cells), parts, note, *warnings])


def sizes_table(rows: Sequence[dict[str, Any]]) -> str:
    """The presets, a line each, and what is to be known of some."""
    cells = [
        ("preset", "stated", "tied", "untied", "without embeddings", "vocabulary", "source"),
        *(
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
                f"{row['without_embeddings']:,}",
                f"{row['vocab_size']:,}" if row["vocab_size"] else "-",
                row["source"],
            )
            for row in rows
        ),
    ]
    notes = [f"{row['name']}: {note}" for row in rows for note in row["notes"]]
    legend = "* the preset's own choice; -: it depends on the tokenizer (--vocab-size shows it)"
    return "\n".join([_aligned(cells), legend, *notes])


def gib(count: float) -> str:
    """Bytes, as people say them."""
    return f"{count / memory.GIB:.2f} GiB"


def _parts(device: dict[str, Any]) -> str:
    parts = {k: v for k, v in device["memory"].items() if k != "total" and v}
    return f"memory on {device['device']}: " + ", ".join(f"{k} {gib(v)}" for k, v in parts.items())


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in cells)
    return "\n".join(line.rstrip() for line in lines)


def _time(hours: float) -> str:
    return duration(hours * 3600) if hours < 100 else f"{hours:,.0f} h ({hours / 24:,.0f} days)"
