"""Rows of conversations for training, alone or among rows of stories."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from personacore.corpus.dialogue.turns import Turn
from personacore.generation.prompts import encode_row
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer
from personacore.training.batches import Rows


class ConversationRows:
    """Conversations epoch after epoch, each epoch in an order of its own; only what the assistant says counts.

    A conversation is a row. Every step also holds the batches of `beside`, such as stories, behind its own.
    """

    def __init__(
        self,
        conversations: Sequence[Sequence[Turn]],
        tokenizer: Tokenizer,
        block_size: int,
        batch_size: int,
        seed: int,
        beside: Sequence[Rows] = (),
    ) -> None:
        self.conversations, self.tokenizer, self.block_size = conversations, tokenizer, block_size
        self.each_step, self.seed, self.beside = batch_size, seed, beside
        self.batch_size = batch_size + sum(other.batch_size for other in beside)
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)
        self._step, self._rows = -1, (torch.empty(0), torch.empty(0))

    def rows(self, step: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, block_size) of rows first .. first + count of one step's batch."""
        inputs, targets = self._batch(step)
        return inputs[first : first + count], targets[first : first + count]

    def scored(self, step: int) -> int:
        """The number of targets that count in one step's whole batch."""
        return int((self._batch(step)[1] != IGNORED).sum())

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        if step != self._step:
            numbers = range(step * self.each_step, (step + 1) * self.each_step)
            encoded = [encode_row(self.tokenizer, self._conversation(number), self.block_size) for number in numbers]
            inputs, targets = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
            parts = [(inputs, targets), *(other.rows(step, 0, other.batch_size) for other in self.beside)]
            self._step, self._rows = step, tuple(torch.cat(part) for part in zip(*parts, strict=True))
        return self._rows

    def _conversation(self, number: int) -> Sequence[Turn]:
        epoch, place = divmod(number, len(self.conversations))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self.conversations))
        return self.conversations[self._order[place]]
