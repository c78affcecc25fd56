"""Conversations as tokens: what the person says between `<|user|>` and `<|end|>`, the answer behind `<|assistant|>`."""

from collections.abc import Iterable, Sequence

import numpy as np

from personacore.corpus.dialogue.turns import Turn
from personacore.model.targets import IGNORED
from personacore.tokenizer.bpe import Tokenizer


def encode_question(tokenizer: Tokenizer, text: str) -> list[int]:
    """What the person says, and the sign for the assistant to answer."""
    special = tokenizer.specials
    return [special["<|user|>"], *tokenizer.encode(text), special["<|end|>"], special["<|assistant|>"]]


def encode_answer(tokenizer: Tokenizer, text: str) -> list[int]:
    """What the assistant says, with its end."""
    return [*tokenizer.encode(text), tokenizer.specials["<|end|>"]]


def encode_prompt(tokenizer: Tokenizer, question: str, turns: Iterable[Turn] = ()) -> list[int]:
    """All that the model is given to answer a question: the turns before it, if any, and the question."""
    ids = [tokenizer.end_of_text]
    for turn in turns:
        ids += encode_question(tokenizer, turn.user) + encode_answer(tokenizer, turn.assistant)
    return ids + encode_question(tokenizer, question)


def encode_row(tokenizer: Tokenizer, turns: Sequence[Turn], block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (block_size,) of a conversation, of which as many turns are taken as fit; only answers count.

    What is left of the row is filled with `<|endoftext|>`, and does not count.
    """
    inputs = np.full(block_size + 1, tokenizer.end_of_text)
    targets = np.full(block_size + 1, IGNORED)
    end = 1
    for turn in turns:
        question, answer = encode_question(tokenizer, turn.user), encode_answer(tokenizer, turn.assistant)
        begin, answered = end, end + len(question)
        if answered + len(answer) > block_size + 1:
            break
        end = answered + len(answer)
        inputs[begin:end] = question + answer
        targets[answered:end] = answer
    return inputs[:-1], targets[1:]
