"""Rows of tokens for training, each a pure function of the seed and its place in the run."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from personacore.errors import UserError


def row_starts(tokens: np.ndarray, end_of_text: int, block_size: int) -> np.ndarray:
    """Where the rows of an epoch begin, so that every document is read from its start with its whole context.

    A row begins at the `<|endoftext|>` before a document, as generation does; a document longer than a block also gives
    rows that begin inside it, a block apart. All rows hold block_size + 1 tokens.

    >>> row_starts(np.array([5, 9, 6, 7, 8, 4, 9, 3, 9], dtype="<u2"), end_of_text=9, block_size=2).tolist()
    [0, 1, 3, 5, 6]

    Raises:
        UserError: the corpus is shorter than one row.
    """
    last = len(tokens) - block_size - 1
    if last < 0:
        raise UserError(
            f"the training corpus has {len(tokens)} tokens, fewer than one row of model.block_size + 1 = {block_size + 1}: "
            "bring more text or lower model.block_size"
        )
    ends = np.flatnonzero(tokens == end_of_text)
    firsts = np.concatenate(([0], ends[:-1] if len(ends) and ends[-1] == len(tokens) - 1 else ends)).astype(np.int64)
    firsts = np.unique(firsts)
    lengths = np.diff(np.append(firsts, len(tokens) - 1))
    rows = np.maximum(1, -(-lengths // block_size))
    within = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    return np.unique(np.minimum(np.repeat(firsts, rows) + within * block_size, last))


class Rows(Protocol):
    """What a run trains on: rows that depend on the seed and the step alone, and how many of their tokens count."""

    seed: int
    batch_size: int

    def rows(self, step: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, T) of rows first .. first + count of one step's batch; targets of -100 do not count."""

    def scored(self, step: int) -> int:
        """The number of targets that count in one step's whole batch."""


class Batches:
    """The rows of a run: epoch after epoch, each in a random order of its own."""

    def __init__(self, tokens: np.ndarray, starts: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        self.tokens, self.starts, self.block_size = tokens, starts, block_size
        self.batch_size, self.seed = batch_size, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, block_size) of rows first .. first + count of one step's batch."""
        wanted = np.arange(first, first + count) + step * self.batch_size
        taken = np.stack([self._row(int(number)) for number in wanted]).astype(np.int64)
        rows = torch.from_numpy(taken)
        return rows[:, :-1], rows[:, 1:]

    def scored(self, step: int) -> int:
        """Every token of every row counts."""
        return self.batch_size * self.block_size

    def _row(self, number: int) -> np.ndarray:
        epoch, place = divmod(number, len(self.starts))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.starts)
        start = self._order[place]
        return self.tokens[start : start + self.block_size + 1]
