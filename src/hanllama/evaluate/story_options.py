"""Options of `hanllama corpus obeyed`."""

from __future__ import annotations

from hanllama.base.config import Count, Natural, NonNegative, Texts, checked, option
from hanllama.model.sampling import Sampling


@checked
class ObeyedConfig(Sampling):
    """Options of `hanllama corpus obeyed`."""

    models: Texts = option(
        help="chat models in the order of their stages, .jsonl files of conversations that end in"
        " an answer, or the base model (only its bits per byte are measured)",
        positional=True,
    )
    output: str = option("", help="a folder for answers, figures and a report; none: only print")
    prompts: str = option("", help="a .jsonl file of instructions to ask; none: held-out ones")
    count: Count = option(200, help="held-out instructions to make")
    seed: Natural = option(0, help="seed of the instructions and of the answers")
    stories: int = option(400, help="new stories to measure bits per byte on; 0: none")
    show: int = option(6, help="chats of the last model to print")
    max_new_tokens: Count = 160
    temperature: NonNegative = 0.7
    batch: Count = option(50, help="answers written at a time; more use more memory")
    device: str = option("auto", help="auto, cpu, cuda, cuda:1, mps")
    force: bool = option(False, help="replace the output")
