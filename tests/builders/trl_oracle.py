"""TRL's trainers over a model folder of ours, and the comparison of a step with theirs.

float32, on the CPU, without gradient checkpointing and reports. A test skips where TRL is absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")
pytest.importorskip("trl")

Step = tuple[float, dict[str, torch.Tensor]]
"""A step's loss, and its gradients by the parameter's name."""


def trainer(
    cls: Any,
    config: Any,
    model: Path,
    output: Path,
    rows: list[dict[str, Any]],
    *,
    settings: dict[str, Any],
    tokenizer: Any = None,
    kind: str = "AutoModelForCausalLM",
    **more: Any,
) -> Any:
    """One of TRL's trainers.

    Args:
        rows: its data; most tests hand it their own batch later.
        settings: further fields of `config`.
        kind: the class of transformers that opens the folder.
    """
    return cls(
        model=getattr(transformers, kind).from_pretrained(model, dtype=torch.float32),
        args=config(
            output_dir=str(output),
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            **settings,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer or transformers.AutoTokenizer.from_pretrained(model),
        **more,
    )


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradients that a backward pass left, by the parameter's name."""
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def step_of(objective: Any) -> Step:
    """The first step as the loop makes it."""
    micros = objective.prepare(0)
    total = sum(m.weight for m in micros)
    value = 0.0
    for micro in micros:
        loss = objective.loss(micro) / total
        loss.backward()
        value += float(loss.detach())
    return value, gradients(objective.model)


def assert_equal(mine: Step, theirs: torch.Tensor, model: torch.nn.Module) -> None:
    """Loss and gradients agree within 1e-5, and no parameter is left out.

    Gradients above 1, as IPO's, agree within 1e-5 of the largest.
    """
    theirs.backward()
    loss, found = mine
    assert loss == pytest.approx(float(theirs.detach()), abs=1e-5)
    expected = gradients(model)
    assert expected.keys() == found.keys()
    largest = max(float(g.abs().max()) for g in expected.values())
    assert largest > 1e-3, "a gradient of nothing agrees with everything"
    for name, gradient in expected.items():
        atol = 1e-5 * max(1.0, largest)
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=atol)
