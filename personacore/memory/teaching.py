"""What a memory is written with, which a model that converses brings along."""

from dataclasses import dataclass

from torch import Tensor

from personacore.params import RowsParams, SleepParams


@dataclass(frozen=True)
class Teaching:
    """How rows are written, what happens in sleep, and rows (N, T) of ordinary conversations, which sleep must not change."""

    rows: RowsParams
    sleep: SleepParams
    generic: Tensor
