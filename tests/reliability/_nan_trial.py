"""`hanllama pretrain --config FILE`, but the loss of one row of the data is NaN: `ROW FILE`."""

from __future__ import annotations

import math
import sys

from torch import Tensor

from hanllama import cli
from hanllama.train.objective import Micro
from hanllama.train.pretrain import Pretrain

plain, bad = Pretrain.loss, int(sys.argv[1])


def loss(self: Pretrain, micro: Micro) -> Tensor:
    value = plain(self, micro)
    return value * math.nan if bad in micro.rows else value


Pretrain.loss = loss  # type: ignore[method-assign]
sys.exit(cli.main(["pretrain", "--config", sys.argv[2]]))
