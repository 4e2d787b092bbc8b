"""The options of `hanllama chat`."""

from __future__ import annotations

from typing import Literal

from hanllama.base.config import Count, Natural, checked, option
from hanllama.model.sampling import Sampling


@checked
class ChatConfig(Sampling):
    """Options of `hanllama chat`."""

    model: str = option(help="model folder, or a folder of LoRA adapters", positional=True)
    system: str = option("", help="system prompt: who the model is, how it should answer")
    load: str = option("", help="continue a conversation that /save wrote")
    template: str = option(
        "", help="chat template by name or .jinja file; default: the model folder's own"
    )
    continuation: bool = option(
        False, help="no conversation: the model continues the typed text, as a base model does"
    )
    max_new_tokens: Count = 512
    seed: Natural = option(0, help="the same seed and the same words give the same answers")
    json: bool = option(False, help="piped: one JSON object per answer, with the reason of its end")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        help="precision of the weights; auto: bfloat16 (or float16) on a GPU, float32 elsewhere",
    )
