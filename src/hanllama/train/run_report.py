"""`report.html` of a training run: curves, samples, speed, settings, and verdicts in words.

The verdicts tell a newcomer what the curves mean and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any, Literal

from markupsafe import Markup

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.base.progress import duration
from hanllama.train.run import RunFolder

Verdict = tuple[report.Level, str]
_SHOWN_SAMPLES = 3
_HELDOUT = "heldout_"
_GAP_NATS = 0.5
_ENDS = 4  # the first and the last quarter of the steps are compared: one step's loss is noise


def write_report(run: RunFolder, max_steps: int) -> None:
    """Write the run's report.html from its metrics."""
    lines = run.metrics()
    steps = [line for line in lines if "loss" in line]
    evals = [line for line in lines if any(name.startswith(_HELDOUT) for name in line)]
    samples = [line for line in lines if "samples" in line]
    done = max((line["step"] for line in lines), default=0)
    card = Card("Training", f"{run.path.name}, step {done:,} of {max_steps:,}")
    card.section("Result", *_facts(steps, evals))
    for level, words in verdicts(steps, evals, done, max_steps):
        card.note(words, level)
    card.section("Curves", *_curves(steps, evals))
    events = [f"step {line['step']}: {line['event']}" for line in lines if "event" in line]
    if events:
        card.section("Events", report.text("\n".join(events)))
    card.section("Evaluation")
    for tables in [line["tables"] for line in lines if "tables" in line][-1:]:  # of the last one
        for table in tables:
            card.table(table["rows"], table["headings"], table["title"])
    card.section("Samples", *_samples(samples))
    card.section("Settings", report.text(run.config_yaml, title="config.yaml"))
    card.write(run.path)


def verdicts(
    steps: Sequence[dict[str, Any]],
    evals: Sequence[dict[str, Any]],
    done: int,
    max_steps: int,
) -> list[Verdict]:
    """The verdicts on the metrics, each as (level, sentence)."""
    found: list[Verdict] = []
    if done < max_steps:
        found.append(("info", f"The run is at step {done:,} of {max_steps:,}; not finished."))
    if len(steps) >= 2:
        found.append(_progress(steps))
    if not evals:
        found.append(("warning", "No held-out text: the quality on new text is not measured."))
    elif "heldout_loss" in evals[-1]:
        found += _heldout_verdicts(steps, evals)
    else:
        shown = ", ".join(f"{e['heldout_reward']:.3f} at step {e['step']}" for e in evals[-2:])
        found.append(("info", f"Reward of answers to held-out prompts: {shown}."))
    spikes = [line["step"] for line in steps if line.get("spike")]
    if spikes:
        shown = ", ".join(str(s) for s in spikes[:8])
        found.append(("warning", f"{len(spikes)} loss spikes, at steps {shown}."))
    overflows = steps[-1].get("overflows", 0) if steps else 0
    if overflows > 0.02 * max(done, 1):
        found.append(("warning", f"float16 overflowed in {overflows} of {done} steps."))
    return found


def _progress(steps: Sequence[dict[str, Any]]) -> Verdict:
    """Whether training improved its aim."""
    name, wanted = _aim(steps)
    size = max(len(steps) // _ENDS, 1)
    first, last = (mean(s[name] for s in part) for part in (steps[:size], steps[-size:]))
    level: Literal["good", "bad"] = "good" if (last - first) * wanted > 0 else "bad"
    return level, f"Training {name} went from {first:.3f} to {last:.3f}."


def _aim(steps: Sequence[dict[str, Any]]) -> tuple[str, Literal[1, -1]]:
    """The figure that should change, and its direction: the loss down, or in reinforcement learning
    the reward up, since the loss of a policy says nothing."""
    return ("reward", 1) if "reward" in steps[0] else ("loss", -1)


def _heldout_verdicts(
    steps: Sequence[dict[str, Any]], evals: Sequence[dict[str, Any]]
) -> list[Verdict]:
    best = min(evals, key=lambda line: line["heldout_loss"])
    last = evals[-1]
    bits = best.get("heldout_bits_per_byte")
    quality = f", {bits:.3f} bits per byte" if bits is not None else ""
    found: list[Verdict] = [
        ("info", f"Best held-out loss {best['heldout_loss']:.3f}{quality}, at step {best['step']}.")
    ]
    if last["heldout_loss"] > 1.02 * best["heldout_loss"]:
        found.append(
            (
                "warning",
                f"Held-out loss has risen to {last['heldout_loss']:.3f} since step {best['step']}:"
                " the model has begun to memorise the training data. More data, fewer epochs or a"
                " smaller model help.",
            )
        )
    if last.get("heldout_longer_wins", 0.0) >= last.get("heldout_accuracy", 1.0):
        found.append(
            (
                "warning",
                f"The longer answer wins in {last['heldout_longer_wins']:.1%} of the held-out"
                f" pairs, and the model is right in {last['heldout_accuracy']:.1%}: it may have"
                " learned only length. Look at the pairs whose chosen answer is shorter.",
            )
        )
    # Only where losses are in nats per token: in IPO's squares this gap is the noise of a batch.
    in_nats = "heldout_bits_per_byte" in last
    if steps and in_nats and last["heldout_loss"] - steps[-1]["loss"] > _GAP_NATS:
        found.append(
            (
                "warning",
                f"Held-out loss is {last['heldout_loss'] - steps[-1]['loss']:.2f} above training"
                " loss: the held-out text differs from the training text, or the model has"
                " memorised the training text.",
            )
        )
    return found


def _facts(steps: Sequence[dict[str, Any]], evals: Sequence[dict[str, Any]]) -> list[Markup | str]:
    if not steps:
        return ["No step has been logged yet."]
    last = steps[-1]
    name, _ = _aim(steps)
    values: dict[str, Any] = {"tokens trained": last.get("tokens"), f"training {name}": last[name]}
    if evals:
        values |= {k.replace("_", " "): v for k, v in evals[-1].items() if k != "step"}
    speeds = sorted(s["tokens_per_second"] for s in steps if s.get("tokens_per_second"))
    if speeds:
        middle = speeds[len(speeds) // 2]
        values["tokens/s (median)"] = round(middle)
        values["time training"] = duration(last["tokens"] / middle)
    if last.get("mfu"):
        values["MFU"] = f"{100 * last['mfu']:.1f} %"
    return [report.facts(values)]


def _curves(steps: Sequence[dict[str, Any]], evals: Sequence[dict[str, Any]]) -> list[Markup]:
    charts = []
    losses = {"training": _series(steps, "loss"), "held out": _series(evals, "heldout_loss")}
    charts.append(
        report.chart({k: v for k, v in losses.items() if v[0]}, title="Loss", x="step", y="nats")
    )
    shown = {"loss", "step", "tokens", "spike", "overflows", "samples", "event"}
    names = [k for line in (*steps, *evals) for k, v in line.items() if isinstance(v, int | float)]
    for name in dict.fromkeys(names):
        if name in shown or name == "heldout_loss":
            continue
        series = _series([*steps, *evals], name)
        title = name.replace("_", " ").capitalize()
        charts.append(report.chart({name: series}, title=title, x="step", y=""))
    return charts


def _series(lines: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    found = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    return [float(step) for step, _ in found], [float(value) for _, value in found]


def _samples(samples: Sequence[dict[str, Any]]) -> list[Markup | str]:
    if not samples:
        return ["No samples were written."]
    chosen = samples if len(samples) <= _SHOWN_SAMPLES else [samples[0], *samples[-2:]]
    return [
        report.text(content, title=f"step {line['step']}")
        for line in chosen
        for content in line["samples"]
    ]
