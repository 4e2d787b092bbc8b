"""The frame of every training command around its objective.

    with training(config, config.loop) as session:
        model, card = session.base_model(config.base_model)
        session.adopt(model)
        session.train(MyObjective(model, ...), config.optim, loop, tokenizer_folder=..., card=card)

A command adds its data and its objective. The frame opens the device, the processes, the run folder
and the newest checkpoint, and runs the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from hanllama.base import allocator, fs
from hanllama.base.errors import ConfigError
from hanllama.model.adapter import LoraConfig
from hanllama.model.card import ModelCard, card_of
from hanllama.model.checkpoint import load_model
from hanllama.model.device import choose_device, products_used
from hanllama.model.llama import Llama
from hanllama.model.lora import adapt
from hanllama.model.reward import RewardModel
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.load import Tokenizer, load_tokenizer
from hanllama.train import checkpoints
from hanllama.train.config import LoopConfig, OptimConfig
from hanllama.train.loop import Loop
from hanllama.train.objective import Objective
from hanllama.train.parallel import World, world
from hanllama.train.run import RunFolder
from hanllama.train.samples import Sampler
from hanllama.train.speed import flops_per_token


def day_of(template: ChatTemplate) -> dict[str, str]:
    """The fingerprint entry of the date given to a template; empty if the template has none."""
    return {"today": template.today} if template.today else {}


@dataclass(frozen=True)
class Session:
    """One run of a training command.

    Attributes:
        output: the run folder's path.
        run: the run folder; None on all processes but the main one.
        checkpoint: the newest checkpoint, verified; None for a new run.
    """

    output: Path
    device: torch.device
    processes: World
    run: RunFolder | None
    checkpoint: Path | None
    gradient_checkpointing: bool
    seed: int

    def chat_template(self, tokenizer: Tokenizer, name: str = "") -> ChatTemplate:
        """The template that encodes the data, with the date on which the run began.

        The objective's fingerprint must contain its `day_of`, from which a resume reads the date.
        """
        # The main process's date, since midnight may fall between two processes.
        day = self.processes.gather([float(date.today().toordinal())], self.device)[0]
        found = checkpoints.read_state(self.checkpoint).fingerprint if self.checkpoint else {}
        today = found.get("today") or date.fromordinal(int(day)).isoformat()
        return ChatTemplate(tokenizer, name, today=today)

    def base_model(
        self, folder: str, context: int = 0, lora: LoraConfig | None = None
    ) -> tuple[Llama, ModelCard]:
        """The model before training, float32 on the CPU, and its card.

        With a `lora` of a rank above 0 its weights are frozen and adapters are trained.
        Raises ConfigError for a context beyond the model's positions.
        """
        model = load_model(folder, dtype=torch.float32)
        if context > model.config.max_position_embeddings:
            raise ConfigError(
                f"context {context} exceeds the {model.config.max_position_embeddings}"
                f" positions of {folder}"
            )
        if lora is not None and lora.rank:
            adapt(model, lora, folder, self.seed)
        return model, card_of(folder)

    def settled(self, loop: LoopConfig, rows: int) -> LoopConfig:
        """`loop.with_steps(rows)`; ConfigError when a process would have no row in a step."""
        if loop.batch_size < self.processes.size:
            raise ConfigError(
                f"loop.batch_size {loop.batch_size} is smaller than the {self.processes.size}"
                " processes: each needs a row of every step"
            )
        return loop.with_steps(rows)

    def adopt(self, model: Llama) -> None:
        """Bring a model to the device, with the same weights on every process."""
        model.gradient_checkpointing = self.gradient_checkpointing
        model.to(self.device)
        self.processes.broadcast(model)

    def train(
        self,
        objective: Objective,
        optim: OptimConfig,
        loop: LoopConfig,
        *,
        tokenizer_folder: Path,
        card: ModelCard,
        context: int,
        announcement: str,
        template: ChatTemplate | None = None,
    ) -> None:
        """Train from the beginning or the newest checkpoint to the last step.

        Args:
            loop: with `max_steps` set.
            tokenizer_folder: copied into every model folder.
            card: the model's card before this stage.
            context: tokens of a row, for the MFU.
            announcement: printed before the first step.
            template: the chat template of the samples; None continues the prompts.

        Raises ResumeError when the newest checkpoint has another fingerprint.
        """
        if self.checkpoint is not None:
            found = checkpoints.read_state(self.checkpoint)
            checkpoints.require_same(found.fingerprint, objective.fingerprint(), self.checkpoint)
        sampler = None
        if loop.sample_tokens and loop.sample_prompts:
            sampler = Sampler(
                tokenizer_folder, loop.sample_prompts, loop.sample_tokens, loop.seed, template
            )
        if self.run is not None:
            print(announcement, flush=True)
            if how := products_used(self.device):
                print(f"{how}, heap {'kept' if allocator.kept else 'given back'}", flush=True)
        Loop(
            objective,
            optim,
            loop,
            self.run,
            self.processes,
            tokenizer_folder=tokenizer_folder,
            card=card,
            checkpoint=self.checkpoint,
            sampler=sampler,
            flops_per_token=flops_per_token(
                objective.model.config, context, head=not isinstance(objective.model, RewardModel)
            ),
        ).train()
        if self.run is not None:
            print(f"model: {self.run.model}\nreport: {self.run.path / 'report.html'}")


def reads_otherwise(folder: Path, model: Llama, tokenizer: Tokenizer, tokens: int) -> str:
    """Why the model in a folder cannot read another model's sequences; empty if it can.

    Args:
        tokenizer: the other model's.
        tokens: number of tokens of the longest sequence.
    """
    if load_tokenizer(folder).hash != tokenizer.hash:
        return f"has another tokenizer than {tokenizer.folder}"
    positions = model.config.max_position_embeddings
    return f"has {positions} positions, and {tokens} are needed" if positions < tokens else ""


@contextmanager
def training(config: Any, loop: LoopConfig) -> Iterator[Session]:
    """Open the run folder at `config.output` on the main process, and find its newest checkpoint.

    Raises ResumeError when the run was begun with another config, InputError when the folder holds
    something else or another run uses it, CorruptError when the newest checkpoint is damaged.
    """
    device = choose_device(loop.device)
    if device.type == "cpu":
        allocator.keep_heap()
    output = Path(config.output)
    with world(device) as processes, fs.alone(output) if processes.is_main else nullcontext():
        run = RunFolder(output, config) if processes.is_main else None
        processes.barrier()
        found = checkpoints.all_in(output / "checkpoints")
        if found:
            checkpoints.verify(found[-1])
        newest = found[-1] if found else None
        yield Session(
            output, device, processes, run, newest, loop.gradient_checkpointing, loop.seed
        )
