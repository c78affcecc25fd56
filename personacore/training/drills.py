"""Rows of drills for training, drawn anew for every step."""

import numpy as np
import torch
from torch import Tensor

from personacore.corpus.dialogue.drills import Drill, draw_drill
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.values import Values
from personacore.generation.prompts import encode_answer, encode_question
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer


class DrillRows:
    """PRETRAIN drills, a row each."""

    def __init__(self, tokenizer: Tokenizer, block_size: int, batch_size: int, seed: int) -> None:
        self.tokenizer, self.block_size, self.batch_size, self.seed = tokenizer, block_size, batch_size, seed
        self.splits, self.values = Splits.all("pretrain"), Values()

    def rows(self, step: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, block_size) of rows first .. first + count of one step's batch."""
        numbers = range(step * self.batch_size + first, step * self.batch_size + first + count)
        drills = [draw_drill(f"{self.seed}/drill/{number}", self.splits, self.values) for number in numbers]
        inputs, targets = zip(*(encode_drill(self.tokenizer, drill, self.block_size) for drill in drills), strict=True)
        return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))

    def scored(self, step: int) -> int:
        """The number of targets that count in one step's whole batch."""
        return int((self.rows(step, 0, self.batch_size)[1] != IGNORED).sum())


def encode_drill(tokenizer: Tokenizer, drill: Drill, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (block_size,) of a drill, of which as many answers are taken as fit.

    Of a run of answers only the values count, since nothing says whose turn it is; to something said the whole answer does.
    """
    ids, counted = [tokenizer.end_of_text], [False]

    def say(more: list[int], counts: bool = False) -> None:
        ids.extend(more)
        counted.extend([counts] * len(more))

    for turn in drill.turns:
        say(encode_question(tokenizer, turn.user))
        say(encode_answer(tokenizer, turn.assistant), counts=bool(turn.user))
    if drill.opening is not None:
        say(encode_question(tokenizer, drill.opening))
    for number, asked in enumerate(drill.asked):
        if drill.opening is None:
            parts = [(encode_question(tokenizer, asked.question), False), (encode_answer(tokenizer, asked.answer), True)]
        else:
            start = tokenizer.encode(f" {asked.start}" if number else asked.start)
            parts = [(start, False), (tokenizer.encode(asked.answer[len(asked.start) :]), True)]
        if len(ids) + sum(len(part) for part, _ in parts) > block_size + 1:
            break
        for part, counts in parts:
            say(part, counts)
    row = np.full(block_size + 1, tokenizer.end_of_text)
    targets = np.full(block_size + 1, IGNORED)
    kept = min(len(ids), block_size + 1)
    row[:kept] = ids[:kept]
    targets[:kept] = np.where(counted[:kept], ids[:kept], IGNORED)
    return row[:-1], targets[1:]
