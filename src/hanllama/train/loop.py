"""THE training loop: every objective is trained here.

A step asks the objective for its micro-batches, adds up their gradients, checks that loss and
gradient are finite, clips, and updates. Around it: evaluation, samples, checkpoints, metrics, and
an exact resume. A step depends only on (config, step), so a run that was killed and started again
is the run that was never killed, bit for bit.

Losses are sums, scaled by the whole step's weight before the backward pass (see objective.py).
"""

from __future__ import annotations

import math
import signal
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hanllama.base import fs
from hanllama.base.errors import HanllamaError, Interrupted, NonFiniteError
from hanllama.base.making import Signals
from hanllama.base.progress import Progress
from hanllama.model.batches import is_out_of_memory
from hanllama.model.card import ModelCard, Stage
from hanllama.model.device import autocast, choose_dtype, fast_products
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train import checkpoints
from hanllama.train.config import LoopConfig, OptimConfig
from hanllama.train.objective import Micro, Objective
from hanllama.train.optim import build_optimizer, learning_rate
from hanllama.train.parallel import World
from hanllama.train.run import RunFolder
from hanllama.train.run_report import write_report
from hanllama.train.samples import Sampler
from hanllama.train.speed import Speed

# A loss further from the recent mean than this many standard deviations is logged as a spike.
_SPIKE_SIGMAS = 6.0
_SPIKE_WINDOW = 100
# fp16's scaler halves its scale at each overflow; after so many in a row the scale is far too small
# for a healthy run, and the weights are not moving.
_OVERFLOWS_IN_A_ROW = 25
# How many rows the message about a NaN names, and how many characters of each.
_ROWS_SHOWN = 8
_NAME_SHOWN = 80


@dataclass(frozen=True)
class StepResult:
    """The result of a step: mean loss, gradient norm, weight, overflow of fp16, request to stop."""

    loss: float
    grad_norm: float
    weight: float
    overflow: bool
    stop: bool


class Loop:
    """One run of an objective, from the beginning or a checkpoint to the last step."""

    def __init__(
        self,
        objective: Objective,
        optim: OptimConfig,
        loop: LoopConfig,
        run: RunFolder | None,
        world: World,
        *,
        tokenizer_folder: Path,
        card: ModelCard,
        checkpoint: Path | None,
        sampler: Sampler | None,
        flops_per_token: float,
    ) -> None:
        """
        Args:
            objective: with its model on its device.
            optim, loop: the settings; `loop.max_steps` is set.
            run: the run folder on the main process, None on the others.
            tokenizer_folder: copied into every written model folder.
            card: the model's card before this stage.
            checkpoint: a verified checkpoint to resume from.
            sampler: writes the samples; None for none.
            flops_per_token: FLOPs of a forward and backward pass, for the MFU.
        """
        self.objective, self.optim, self.loop = objective, optim, loop
        self.run, self.world = run, world
        self.tokenizer_folder, self.card, self.sampler = tokenizer_folder, card, sampler
        self.modules = nn.ModuleDict({"model": objective.model, **objective.further_models()})
        self.device = next(objective.model.parameters()).device
        self.dtype = choose_dtype(loop.dtype, self.device)
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(self.modules, optim, objective.learning_rate_scales())
        self.scaler = torch.amp.GradScaler(  # type: ignore[attr-defined]
            self.device.type, enabled=self.dtype == torch.float16
        )
        self.speed = Speed(flops_per_token, self.device, self.dtype, world.size)
        self.step, self.tokens = 0, 0
        self.overflows = self.overflows_in_a_row = 0
        self.figures: Mapping[str, float] = {}
        self.recent: deque[float] = deque(maxlen=_SPIKE_WINDOW)
        self.signals = Signals(polled=True)  # a step ends and is saved before a signal counts
        if checkpoint is not None:
            self._resume(checkpoint)

    def train(self) -> None:
        """Run to the last step and publish the result.

        Raises Interrupted after a checkpoint when SIGINT, SIGTERM or SIGHUP arrived,
        NonFiniteError when loss or gradient is not finite, HanllamaError when out of memory.
        """
        if self.run is not None:
            self.run.begin(self.step, self.loop.trackers, self.run.path.name)
            for line in self.run.metrics()[-_SPIKE_WINDOW:]:
                if "loss" in line:
                    self.recent.append(line["loss"])
        title = f"{self.objective.name}"
        try:
            with self.signals, self._progress(title) as progress:
                self._train(progress)
            if self.run is not None:
                self._publish_result(self.run)
        finally:
            if self.run is not None:
                self.run.end()
        self.world.barrier()

    # --- the loop ------------------------------------------------------------------------------

    def _train(self, progress: Progress | None) -> None:
        last = self.loop.max_steps
        saved, stop = self.step, False
        while self.step < last:
            started = time.perf_counter()
            result = self._step_with_memory_to_spare(self.step)
            self.step += 1
            self.tokens += int(result.weight)
            self.speed.add(result.weight, time.perf_counter() - started)
            stop = stop or result.stop or self.step == self.loop.stop_at
            self._log_step(result, progress)
            passed = self.step // self.loop.save_every > saved // self.loop.save_every
            experience_ends = self.step % self.objective.steps_per_experience == 0
            due = self.step == last or (experience_ends and (passed or stop))
            if due or self._every(self.loop.eval_every):
                self._evaluate(progress)
            if due or self._every(self.loop.sample_every):
                self._sample(progress)
            if due:
                self._save()
                saved = self.step
            if stop and due and self.step < last:
                number = self.signals.arrived or signal.SIGINT
                raise Interrupted(number, f"step {saved} of {last}")

    def _step_with_memory_to_spare(self, step: int) -> StepResult:
        """Do a step; if out of memory, with a smaller micro-batch, which gives the same result."""
        while True:
            try:
                with fast_products(self.device):
                    return self._one_step(step)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                rows = self.objective.micro_batch_size
                advice = (
                    f"out of memory on {self.device} with loop.micro_batch_size {rows} and"
                    f" loop.gradient_checkpointing {self.loop.gradient_checkpointing}"
                )
                if rows == 1 or not self.loop.auto_micro_batch or self.world.size > 1:
                    raise HanllamaError(
                        f"{advice}: lower loop.micro_batch_size, turn gradient_checkpointing on,"
                        " or choose a smaller model or context"
                    ) from error
                self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.objective.micro_batch_size = rows // 2
            if self.run is not None:
                event = {"event": f"{advice}; going on with {rows // 2}"}
                self.run.log(step, event)

    def _one_step(self, step: int) -> StepResult:
        rate = learning_rate(step, self.loop.max_steps, self.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        # An objective may draw random numbers: they must depend only on the step.
        torch.manual_seed((self.loop.seed << 32) + step * self.world.size + self.world.rank)
        self.modules.train()
        micros = self.objective.prepare(step)
        (weight,) = self.world.sum([float(sum(m.weight for m in micros))], self.device)
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        for micro in micros:
            with autocast(self.device, self.dtype):
                loss = self.objective.loss(micro)
            losses.append(loss.detach())
            scaled = self.scaler.scale(loss / max(weight, 1.0))
            scaled.backward()  # type: ignore[no-untyped-call]
        self.world.sum_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(self.parameters)
        own_loss, grad_norm = torch.stack([torch.stack(losses).sum(), norm]).tolist()
        flags = [own_loss, float(self.signals.arrived)]
        loss_sum, stop = self.world.sum(flags, self.device)
        loss_mean = loss_sum / max(weight, 1.0)
        overflow = self.scaler.is_enabled() and not math.isfinite(grad_norm)
        if not math.isfinite(loss_mean) or (not math.isfinite(grad_norm) and not overflow):
            self._refuse_non_finite(step, loss_mean, grad_norm, micros, losses)
        self._clip(grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._count_overflow(overflow, step)
        return StepResult(loss_mean, grad_norm, weight, overflow, stop > 0)

    def _clip(self, grad_norm: float) -> None:
        """Scale the gradient down to `max_grad_norm` if it is larger."""
        limit = self.optim.max_grad_norm
        if limit and limit < grad_norm < math.inf:
            grads = [p.grad for p in self.parameters if p.grad is not None]
            torch._foreach_mul_(grads, limit / (grad_norm + 1e-6))

    def _count_overflow(self, overflow: bool, step: int) -> None:
        self.overflows += overflow
        self.overflows_in_a_row = self.overflows_in_a_row + 1 if overflow else 0
        if self.overflows_in_a_row >= _OVERFLOWS_IN_A_ROW:
            raise NonFiniteError(
                f"float16 overflowed in {_OVERFLOWS_IN_A_ROW} steps in a row, up to step"
                f" {step + 1}: lower optim.learning_rate, or use bfloat16 or float32"
            )

    def _refuse_non_finite(
        self,
        step: int,
        loss: float,
        grad_norm: float,
        micros: Sequence[Micro],
        losses: list[Tensor],
    ) -> None:
        """Stop before the update and record the rows of the micro-batches whose loss is not finite,
        or all rows of the step, over all processes."""
        bad = [m for m, value in zip(micros, losses, strict=True) if not torch.isfinite(value)]
        rows = self._rows_of(bad) or self._rows_of(micros)
        names = self.objective.row_names(rows, load_tokenizer(self.tokenizer_folder).decode)
        what = "loss" if not math.isfinite(loss) else "gradient"
        note = f"step {step + 1}: {what} is not finite (loss {loss}, gradient norm {grad_norm})"
        where = ""
        if self.run is not None:
            record = {"step": step + 1, "loss": str(loss), "grad_norm": str(grad_norm)}
            path = self.run.path / "nonfinite.json"
            fs.write_json(path, {**record, "rows": rows, "names": names})
            where = f" (in full in {path})"
        first = list(zip(rows, names, strict=True))[:_ROWS_SHOWN]
        shown = "; ".join(f"{row}: {' '.join(name.split())[:_NAME_SHOWN]}" for row, name in first)
        raise NonFiniteError(
            f"{note}; the weights were not updated. The step had {len(rows)} rows of the data,"
            f" {shown}{'; …' if len(rows) > len(first) else ''}{where}: look at them, or lower"
            " optim.learning_rate"
        )

    def _rows_of(self, micros: Sequence[Micro]) -> list[int]:
        """The distinct rows of the micro-batches of all processes."""
        own = [float(row) for micro in micros for row in micro.rows]
        return sorted({int(row) for row in self.world.gather(own, self.device)})

    # --- metrics, evaluation, samples, checkpoints ------------------------------------------------

    def _log_step(self, result: StepResult, progress: Progress | None) -> None:
        if self.run is None or progress is None:
            return
        spike = is_spike(result.loss, self.recent)
        self.recent.append(result.loss)
        for alarm in self.objective.alarms():
            self.run.log(self.step, {"event": alarm})
            progress.log(f"step {self.step}: {alarm}")
        rate = self.speed.tokens_per_second
        progress.advance(1, loss=result.loss, tokens_per_second=rate, mfu=self.speed.mfu)
        every = self.step % self.loop.log_every == 0 or self.step == self.loop.max_steps
        if not (every or spike or result.overflow):
            return
        values: dict[str, Any] = {
            "loss": result.loss,
            "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "tokens": self.tokens,
            "tokens_per_second": round(rate, 1),
            "mfu": round(self.speed.mfu, 4),
            **self.objective.step_metrics(),
        }
        if spike:
            values["spike"] = True
        if self.scaler.is_enabled():
            values |= {"loss_scale": self.scaler.get_scale(), "overflows": self.overflows}
        self.run.log(self.step, values)

    def _evaluate(self, progress: Progress | None) -> None:
        self.modules.eval()
        with torch.no_grad(), fast_products(self.device), autocast(self.device, self.dtype):
            self.figures = self.objective.evaluate()
        self.modules.train()
        if self.run is not None and self.figures:
            self.run.log(self.step, self.figures)
            if tables := self.objective.tables():
                self.run.log(self.step, {"tables": list(tables)})
            shown = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in self.figures.items())
            if progress is not None:
                progress.log(f"step {self.step}: {shown}")

    def _sample(self, progress: Progress | None) -> None:
        if self.sampler is None or self.run is None:
            return
        self.modules.eval()
        with torch.no_grad(), autocast(self.device, self.dtype):
            texts = self.sampler.write(self.objective.model, self.step)
        self.modules.train()
        self.run.log(self.step, {"samples": texts})
        if progress is not None:
            progress.log(f"step {self.step}: {texts[0]!r}")

    def _save(self) -> None:
        """Publish a checkpoint, remove old ones, write the report; the other processes wait."""
        if self.run is not None:
            state = checkpoints.State(
                step=self.step,
                tokens=self.tokens,
                fingerprint=dict(self.objective.fingerprint()),
                figures=dict(self.figures),
                objective=dict(self.objective.state()),
                scaler=self.scaler.state_dict(),
            )
            checkpoints.save(
                self.run.checkpoints,
                state,
                self.objective.model,
                self.objective.further_models(),
                self.optimizer,
                self._card(state),
                self.tokenizer_folder,
                self.run.config_yaml,
            )
            checkpoints.retain(self.run.checkpoints, self.loop.keep)
            write_report(self.run, self.loop.max_steps)
        self.world.barrier()

    def _resume(self, checkpoint: Path) -> None:
        state = checkpoints.restore(
            checkpoint, self.objective.model, self.objective.further_models(), self.optimizer
        )
        self.objective.restore(state.objective)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(state.scaler))
        self.step, self.tokens, self.figures = state.step, state.tokens, state.figures

    def _publish_result(self, run: RunFolder) -> None:
        """Copy the best or the last checkpoint to model/."""
        found = checkpoints.all_in(run.checkpoints)
        best = checkpoints.best(found) if self.loop.result == "best" else None
        chosen = best or found[-1]
        checkpoints.verify(chosen)
        publish_model(chosen, run.model)
        write_report(run, self.loop.max_steps)

    def _card(self, state: checkpoints.State) -> ModelCard:
        fingerprint = state.fingerprint
        return self.card.with_stage(
            Stage(
                name=self.objective.name,
                config=fingerprint.get("config", ""),
                data=fingerprint.get("data", "")[:16],
                tokens=state.tokens,
                steps=state.step,
                facts=state.figures,
            )
        )

    # --- small things -----------------------------------------------------------------------

    def _every(self, steps: int) -> bool:
        return steps > 0 and self.step % steps == 0

    @contextmanager
    def _progress(self, title: str) -> Iterator[Progress | None]:
        if self.run is None:
            yield None
            return
        with Progress(title, self.loop.max_steps, "steps", done=self.step) as progress:
            yield progress


def publish_model(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint without its `trainer/` to `target`, which is replaced in one step."""
    import shutil

    with fs.publish(target, replace=True) as beside, fs.storage(target):
        for file in checkpoint.iterdir():
            if file.is_file() and file.name != fs.SUMS:
                shutil.copyfile(file, beside / file.name)


def gradient_norm(parameters: list[nn.Parameter]) -> Tensor:
    """The Euclidean norm of all gradients together, a float32 scalar."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)).float())
    return norm


def is_spike(loss: float, recent: deque[float]) -> bool:
    """Whether a loss is far above the recent ones."""
    if len(recent) < 20:
        return False
    spread = statistics.pstdev(recent)
    return loss > statistics.fmean(recent) + _SPIKE_SIGMAS * max(spread, 1e-3)
