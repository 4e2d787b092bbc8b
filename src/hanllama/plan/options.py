"""The options of `hanllama plan`."""

from __future__ import annotations

from hanllama.base.config import Count, Natural, NonNegative, Share, checked, option

HERE = "here"  # the name of this machine's device


@checked
class PlanConfig:
    """Options of `hanllama plan`."""

    training: str = option("", help="a pretrain config (.yaml) or a recipe", positional=True)
    preset: str = option("", help="plan this named size instead of a config")
    list: bool = option(False, help="show every preset with its stated and its exact size")
    tokens: NonNegative = option(
        0.0, help="tokens of the data set, instead of counting the data folder"
    )
    vocab_size: Natural = option(0, help="vocabulary, instead of the data's, recipe's or preset's")
    context: Natural = option(0, help="tokens of a row, instead of the config's")
    batch_size: Natural = option(0, help="rows of a step, instead of the config's")
    micro_batch_size: Natural = option(0, help="rows of a pass, instead of the config's")
    gradient_checkpointing: bool = option(False, help="plan with it even if the config has none")
    devices: tuple[str, ...] = option(
        (HERE, "rtx4090", "a100", "h100"), help="devices, with commas; here: this machine's"
    )
    count: Count = option(1, help="number of equal devices that share every step's rows")
    price: float = option(-1.0, help="dollars per hour of one device, instead of the table's")
    mfu: Share = option(0.0, help="share of a device's peak reached, instead of the table's")
    measure: bool = option(True, help="run a few steps on the device here to measure its speed")
    json: bool = option(False, help="print JSON instead of a table")
