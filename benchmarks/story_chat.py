"""Do DPO and PPO make the story model more obedient than SFT left it? Three seeds, with intervals.

    hanllama run story-chat --output runs/story-chat --until reward
    python benchmarks/story_chat.py runs/story-chat --seeds 0 1 2

The stages are the recipe's own, with its options; only the seed of training and of the answers
differs. All seeds share one pretrained, fine-tuned model, its preferences and its reward model.
What is there already is not done again, so seeds may be run one by one.

Every seed asks held-out prompts of its own; a gain is the mean difference over all of them, with
its interval, and once more with the seeds as what varies. `--set chats.count=600` asks more of them
than the recipe's 200. The measure is the gold checker, which also ranked DPO's pairs and is one of
PPO's rewards (on other prompts): this says whether the stages reach what they are after.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from hanllama import recipe
from hanllama.evaluate.story_obeyed import mean_interval, obeyed
from hanllama.evaluate.story_options import ObeyedConfig

STAGES = ("dpo", "ppo")
# Student's t at 97.5 % for the mean of so many seeds.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
Figures = list[dict[str, Any]]


def main() -> None:
    """Train and ask what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="a finished run of story-chat, up to `reward`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="changes, as stage.option=value")
    given = parser.parse_args()
    stages = recipe.resolve(recipe.read("story-chat"), [], given.run, {}, given.set)
    by_name = {stage.name: stage for stage in stages}
    asked = by_name["chats"].config
    measured = []
    for seed in given.seeds:
        folder = given.run / "seeds" / str(seed)
        base, tuned = by_name["sft"].config.base_model, by_name["dpo"].config.base_model
        models = {"pretrain": base, "sft": tuned}
        for name in STAGES:
            output = folder / name
            base = models["dpo"] if name == "ppo" else models["sft"]
            _train(by_name[name], output, base, seed)
            models[name] = str(output / "model")
        measured.append(_ask(asked, tuple(models.values()), folder / "chats", seed))
    _show(given.seeds, measured)


def _train(stage: recipe.Stage, output: Path, base: str, seed: int) -> None:
    if (output / "model").is_dir():
        return
    loop = dataclasses.replace(stage.config.loop, seed=seed)
    config = dataclasses.replace(stage.config, output=str(output), base_model=base, loop=loop)
    dataclasses.replace(stage, config=config).run()


def _ask(asked: ObeyedConfig, models: tuple[str, ...], output: Path, seed: int) -> Path:
    if not output.is_dir():
        obeyed(dataclasses.replace(asked, models=models, output=str(output), seed=seed, show=0))
    return output


def _show(seeds: list[int], folders: list[Path]) -> None:
    figures: list[Figures] = [json.loads((f / "obeyed.json").read_text()) for f in folders]
    print("seed  model     obeyed  KL, nats  bits per byte")
    for seed, rows in zip(seeds, figures, strict=True):
        for row in rows:
            kl = "" if row["kl_nats"] is None else f"{row['kl_nats']:.2f}"
            share = "" if row["obeyed"] is None else f"{row['obeyed'][0]:.1%}"
            print(f"{seed:<6}{row['model']:<10}{share:<8}{kl:<10}{row['bits_per_byte']:.4f}")
    for name, before in (("dpo", "sft"), ("ppo", "sft"), ("ppo", "dpo")):
        _show_gain(name, before, folders)


def _show_gain(name: str, before: str, folders: list[Path]) -> None:
    """The gain over all prompts with its interval, and with the seeds as what varies."""
    seeds = [
        [
            100 * (float(now) - float(then))
            for now, then in zip(_obedience(f, name), _obedience(f, before), strict=True)
        ]
        for f in folders
    ]
    mean, low, high = mean_interval([gain for gains in seeds for gain in gains])
    by_seed = [fmean(gains) for gains in seeds]
    line = f"{name} over {before}: {mean:+.1f} points ({low:+.1f} to {high:+.1f})"
    line += f"; by seed {', '.join(f'{gain:+.1f}' for gain in by_seed)}"
    if (n := len(seeds)) in STUDENT:
        half = STUDENT[n] * stdev(by_seed) / n**0.5
        line += f", over seeds {mean - half:+.1f} to {mean + half:+.1f}"
    print(line)


def _obedience(folder: Path, name: str) -> list[bool]:
    lines = (folder / f"answers-{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["obeyed"] for line in lines]


if __name__ == "__main__":
    main()
