"""The loss of whole documents, each token scored once with as much of its own document before it as fits."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from personacore.model.gpt import GPT
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Loss:
    """A summed loss and its denominators; one `<|endoftext|>` a document is scored but has no bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats_per_token)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes


@dataclass(frozen=True)
class Window:
    """Tokens [begin, end) of a document predicted in one pass; only those from `scored` on count."""

    begin: int
    scored: int
    end: int


def windows(length: int, block_size: int) -> Iterator[Window]:
    """The passes that score each of a document's `length` tokens once.

    A document that fits is one pass. A longer one is read in steps of half a block, so that every token is predicted from
    at least half a block, or all that stands before it.

    >>> list(windows(3, 4)), [(w.begin, w.scored, w.end) for w in windows(9, 4)]
    ([Window(begin=0, scored=0, end=3)], [(0, 0, 4), (2, 4, 6), (4, 6, 8), (6, 8, 9)])
    """
    stride = max(1, block_size // 2)
    scored = begin = 0
    while scored < length:
        end = min(begin + block_size, length)
        yield Window(begin, scored, end)
        scored, begin = end, begin + stride


def split_documents(tokens: np.ndarray, end_of_text: int, limit: int | None = None) -> list[np.ndarray]:
    """The documents of a token file, each with its `<|endoftext|>`, at most `limit` of them."""
    ends = np.flatnonzero(tokens == end_of_text)[:limit] + 1
    return [np.asarray(tokens[begin:end]) for begin, end in pairwise(np.append(0, ends))]


def _batches(documents: Sequence[np.ndarray], block_size: int, batch_tokens: int) -> Iterator[list[tuple[int, Window]]]:
    """Passes of like length together, so that little is spent on padding."""
    passes = [(number, window) for number, doc in enumerate(documents) for window in windows(len(doc), block_size)]
    passes.sort(key=lambda item: item[1].end - item[1].begin, reverse=True)
    while passes:
        width = passes[0][1].end - passes[0][1].begin
        count = max(1, batch_tokens // width)
        yield passes[:count]
        passes = passes[count:]


@torch.no_grad()
def document_loss(
    model: GPT,
    documents: Sequence[np.ndarray],
    end_of_text: int,
    batch_tokens: int = 8192,
    token_bytes: Sequence[int] | None = None,
) -> Loss:
    """The loss of `documents`, each an array of ids that ends with `<|endoftext|>`.

    `token_bytes` gives the number of bytes of each id; without it `bytes` is 0. The result does not depend on
    `batch_tokens` beyond rounding.
    """
    was_training, device = model.training, model.wte.weight.device
    model.eval()
    nats = 0.0
    for batch in _batches(documents, model.config.block_size, batch_tokens):
        width = max(window.end - window.begin for _, window in batch)
        inputs = torch.full((len(batch), width), end_of_text)
        targets = torch.full((len(batch), width), IGNORED)
        for row, (number, window) in enumerate(batch):
            # A document is predicted from the <|endoftext|> before it.
            text = torch.from_numpy(np.concatenate(([end_of_text], documents[number])).astype(np.int64))
            inputs[row, : window.end - window.begin] = text[window.begin : window.end]
            targets[row, window.scored - window.begin : window.end - window.begin] = text[window.scored + 1 : window.end + 1]
        nats += _summed_loss(model, inputs.to(device), targets.to(device))
    model.train(was_training)
    tokens = sum(len(document) for document in documents)
    count = sum(int(np.asarray(token_bytes)[document[:-1]].sum()) for document in documents) if token_bytes is not None else 0
    return Loss(nats, tokens, count)


def _summed_loss(model: GPT, inputs: Tensor, targets: Tensor) -> float:
    losses = functional.cross_entropy(
        model(inputs).float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.cpu().double().sum().item()


def file_loss(model: GPT, tokenizer: Tokenizer, tokens: np.ndarray, batch_tokens: int) -> Loss:
    """The loss of every document of a token file, with its bytes counted."""
    sizes = [len(tokenizer.token_bytes(number)) for number in range(tokenizer.vocab_size)]
    return document_loss(model, split_documents(tokens, tokenizer.end_of_text), tokenizer.end_of_text, batch_tokens, sizes)
