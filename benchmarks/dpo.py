"""DPO beside TRL's DPOTrainer: useful tokens a second on the same pairs, the same model.

    python benchmarks/dpo.py TOKENIZER PREFERENCES [--rounds 6] [--pairs 8] [--context 512]

Both begin from one folder: the 24M preset with random weights and the given tokenizer. Each round
both make a step of the same pairs, one after the other in one process, fp32, fused AdamW, gradients
clipped at 1.0, no gradient checkpointing; in every other round ours goes first. Useful tokens are
those of both sequences of each pair, padding not counted, so the ratio of speeds is that of times.

    TRL         collate, compute_loss (with the reference's forward pass), backward, clip, update
    plain       the same with transformers' logits and a log-softmax instead of TRL's fused head,
                which is written for GPUs and folds its tiles in plain torch elsewhere
    ours        the reference's log-probabilities, prepare, loss, backward, clip, update: one epoch
    ours, later the same without the reference, as in every epoch after the first

Neither's logging and saving is counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

PRESET = "tiny-llama2-24m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokenizer", help="a tokenizer folder with a chat template")
    parser.add_argument("preferences", nargs="+", help="files of pairs")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=8, help="of one step")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--template", default="", help="where the tokenizer has none")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        rows = read(options)
        base = random_model(Path(folder) / "base", Path(options.tokenizer), options.context)
        theirs, ours = Trl(base, Path(folder)), Ours(base, rows, options.pairs)
        plain = Plain(base, theirs)
        times: dict[str, list[float]] = {
            "TRL": [], "plain": [], "ours": [], "ours, later epochs": []
        }  # fmt: skip
        tokens = []
        for number in range(options.rounds + 1):
            part = ours.rows_of(number)
            steps = [
                lambda p=part: theirs.step(p),
                lambda n=number: ours.step(n),
                lambda p=part: plain.step(p),
            ]
            found = {i: steps[i]() for i in ((0, 1, 2) if number % 2 else (2, 1, 0))}
            if number == 0:
                continue  # the first step of each allocates
            reference, step = found[1]
            times["TRL"].append(found[0])
            times["plain"].append(found[2])
            times["ours"].append(reference + step)
            times["ours, later epochs"].append(step)
            tokens.append(sum(row.first.ids.size + row.second.ids.size for row in part))
    print(f"{options.pairs} pairs a step, {statistics.mean(tokens):.0f} useful tokens")
    losses = zip(ours.losses, theirs.losses, plain.losses, strict=True)
    apart = [max(three) - min(three) for three in losses]
    print(f"largest difference of the losses: {max(apart):.1e}")
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(times["TRL"], seconds, strict=True)]
        speed = sum(tokens) / sum(seconds)
        print(
            f"{name:20} {speed:8.0f} tokens/s   ratio median {statistics.median(ratios):.2f},"
            f" min {min(ratios):.2f}, max {max(ratios):.2f}"
        )


def read(options: argparse.Namespace) -> list[Any]:
    """The pairs, encoded once for both."""
    from hanllama.tokenizer.chat import ChatTemplate
    from hanllama.tokenizer.load import load_tokenizer
    from hanllama.train.preferences.config import DpoConfig
    from hanllama.train.preferences.data import read_rows

    template = ChatTemplate(load_tokenizer(options.tokenizer), options.template)
    config = DpoConfig(
        data=tuple(options.preferences),
        output="",
        base_model="",
        heldout_share=0.0,
        max_quarantine_share=1.0,
    )
    found = read_rows(config, template, paired=True, context=options.context)
    print(found.summary)
    return found.train


def random_model(folder: Path, tokenizer: Path, context: int) -> Path:
    """The preset with random weights in a model folder."""
    import torch

    from hanllama.base import fs
    from hanllama.model.card import ModelCard
    from hanllama.model.checkpoint import save_model
    from hanllama.model.llama import Llama
    from hanllama.model.presets import preset
    from hanllama.tokenizer.load import load_tokenizer

    tokens = load_tokenizer(tokenizer)
    config = preset(
        PRESET,
        vocab_size=tokens.vocab_size,
        max_position_embeddings=context,
        bos_token_id=tokens.bos_id,
        eos_token_id=tokens.eos_id,
    )
    with fs.publish(folder) as beside:
        model = Llama(config, torch.Generator().manual_seed(0))
        save_model(beside, model, tokenizer, ModelCard())
    return folder


class Trl:
    """TRL's trainer with its own collator and loss; the pairs come as ids."""

    def __init__(self, base: Path, folder: Path) -> None:
        import datasets
        import torch
        import transformers
        import trl

        def model() -> Any:
            return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

        row = {"prompt": ["问"], "chosen": ["好"], "rejected": ["坏"]}
        self.trainer = trl.DPOTrainer(
            model=model(),
            ref_model=model(),
            args=trl.DPOConfig(
                output_dir=str(folder / "trl"),
                report_to=[],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                beta=0.1,
            ),
            train_dataset=datasets.Dataset.from_dict(row),
            processing_class=transformers.AutoTokenizer.from_pretrained(base),
        )
        self.model = self.trainer.model.train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        self.losses: list[float] = []

    def step(self, rows: list[Any]) -> float:
        """Seconds of a step."""
        import torch

        started = time.perf_counter()
        batch = self.trainer.data_collator([as_example(row) for row in rows])
        loss = self.trainer.compute_loss(self.model, batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return time.perf_counter() - started


class Ours:
    """Our objective on a model of its own."""

    def __init__(self, base: Path, rows: list[Any], pairs: int) -> None:
        import numpy as np

        from hanllama.model.checkpoint import load_model
        from hanllama.train.config import LoopConfig, OptimConfig
        from hanllama.train.optim import build_optimizer
        from hanllama.train.parallel import World
        from hanllama.train.preferences import losses as preference
        from hanllama.train.preferences.dpo import Preference
        from hanllama.train.preferences.objective import Split

        self.model, self.reference = load_model(base).train(), load_model(base)
        self.split = Split(rows, np.zeros((len(rows), 2), dtype=np.float32))
        loop = LoopConfig(batch_size=pairs, micro_batch_size=pairs, device="cpu")
        self.objective = Preference(
            self.model,
            preference.build("dpo", ("beta=0.1",)),
            "dpo",
            self.split,
            Split([]),
            loop,
            World(),
            {},
        )
        optim = OptimConfig(learning_rate=1e-6, weight_decay=0.0)
        self.optimizer = build_optimizer(self.model, optim)
        self.pairs = pairs
        self.losses: list[float] = []

    def numbers_of(self, step: int) -> Any:
        """Which pairs a step takes."""
        from hanllama.batches.mix import rows_of_step

        return rows_of_step(step, self.pairs, len(self.split.rows), 0)

    def rows_of(self, step: int) -> list[Any]:
        return [self.split.rows[i] for i in self.numbers_of(step)]

    def step(self, number: int) -> tuple[float, float]:
        """Seconds of the reference's pass and of the step."""
        import torch

        from hanllama.train.loop import gradient_norm
        from hanllama.train.sequences import pack_sequences, sequence_log_probs

        begun = time.perf_counter()
        rows = self.rows_of(number)
        with torch.no_grad():
            batch = pack_sequences([r.first for r in rows] + [r.second for r in rows], 0)
            sums_S, _ = sequence_log_probs(self.reference, batch)
        assert self.split.references is not None
        self.split.references[self.numbers_of(number)] = sums_S.numpy().reshape(2, -1).T
        started = time.perf_counter()
        micros = self.objective.prepare(number)
        total = sum(m.weight for m in micros)
        self.optimizer.zero_grad()
        loss = sum(self.objective.loss(m) for m in micros) / total
        loss.backward()
        parameters = list(self.model.parameters())
        norm = float(gradient_norm(parameters))
        if norm > 1.0:
            torch._foreach_mul_([p.grad for p in parameters], 1.0 / norm)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return started - begun, time.perf_counter() - started


class Plain:
    """What most people write: padded logits of both models, a log-softmax, DPO's formula."""

    def __init__(self, base: Path, trl: Trl) -> None:
        import torch
        import transformers

        def model() -> Any:
            return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

        self.model, self.reference, self.collate = (
            model().train(),
            model(),
            trl.trainer.data_collator,
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-6, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        self.losses: list[float] = []

    def step(self, rows: list[Any]) -> float:
        """Seconds of a step."""
        import torch

        started = time.perf_counter()
        batch = self.collate([as_example(row) for row in rows])
        with torch.no_grad():
            expected = self.log_probs(self.reference, batch)
        chosen, rejected = (self.log_probs(self.model, batch) - expected).chunk(2)
        loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return time.perf_counter() - started

    def log_probs(self, model: Any, batch: Any) -> Any:
        ids = batch["input_ids"]
        logits = model(ids, attention_mask=batch["attention_mask"], use_cache=False).logits
        values = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return (values * batch["completion_mask"][:, 1:]).sum(1)


def as_example(row: Any) -> dict[str, Any]:
    prompt = row.first.ids[~row.first.mask].tolist()
    chosen, rejected = row.first.ids[row.first.mask], row.second.ids[row.second.mask]
    return {
        "prompt_ids": prompt,
        "chosen_ids": chosen.tolist(),
        "rejected_ids": rejected.tolist(),
    }


if __name__ == "__main__":
    main()
