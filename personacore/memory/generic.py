"""Ordinary conversations, in which what a memory is taught must change nothing."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from personacore.corpus.dialogue.turns import Turn
from personacore.generation.prompts import encode_row
from personacore.tokenizer.bpe import Tokenizer

ROWS = 128


def generic_rows(conversations: Sequence[Sequence[Turn]], tokenizer: Tokenizer, block_size: int) -> Tensor:
    """Rows (N, block_size), one of each of the first conversations, filled with `<|endoftext|>`."""
    return torch.from_numpy(np.stack([encode_row(tokenizer, turns, block_size)[0] for turns in conversations[:ROWS]]))
