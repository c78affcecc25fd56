"""Ordinary text that an exported model carries with it: what a memory is taught must change nothing on it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from personacore.corpus.dialogue.turns import Turn
from personacore.evaluation.loss import split_documents
from personacore.generation.prompts import encode_row
from personacore.tokenizer.bpe import Tokenizer

ROWS = 64  # of stories, and as many of conversations


def generic_rows(tokens: np.ndarray, conversations: Sequence[Sequence[Turn]], tokenizer: Tokenizer, block_size: int) -> Tensor:
    """Rows (N, block_size) of stories and conversations by turns, each from its start and filled with `<|endoftext|>`."""
    rows = []
    for story, turns in zip(split_documents(tokens, tokenizer.end_of_text, ROWS), conversations[:ROWS], strict=False):
        row = np.full(block_size, tokenizer.end_of_text)
        begun = story[: block_size - 1]
        row[1 : 1 + len(begun)] = begun
        rows += [row, encode_row(tokenizer, turns, block_size)[0]]
    return torch.from_numpy(np.stack(rows))
