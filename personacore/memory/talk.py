"""A conversation with a model and a memory: what was said stays in the context until it is wiped, the memory in the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from personacore.corpus.dialogue.turns import Turn
from personacore.generation.answers import GREEDY, MAX_ANSWER_TOKENS
from personacore.generation.prompts import encode_prompt
from personacore.generation.streaming import TextStream
from personacore.memory.memory import Memory
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Said:
    """An answer, all ids of its prompt, and whether the memory took part."""

    prompt: list[int]
    answer: str
    remembering: bool


class Talk:
    """The turns so far, whether the memory takes part, and what was answered last."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.remembering = memory, True
        self.turns: list[Turn] = []
        self.last: Said | None = None

    def say(self, text: str) -> Iterator[str]:
        """Yield the answer as it is written; what was answered by then is kept, also when nobody reads to the end.

        Raises:
            UserError: the text is empty or too long.
        """
        memory, turns, said, text = self.memory, self.turns, "", self.memory.checked(text)
        prompt, remembering = fitting_prompt(memory.model, memory.tokenizer, text, turns), self.remembering
        try:
            for piece in self._answer(prompt, remembering):
                said += piece
                yield piece
        finally:
            if said:  # a failure before the first word leaves nothing that later answers would have to follow
                turns.append(Turn(text, said, "said"))  # of the conversation it belongs to, wiped meanwhile or not
                self.last = Said(prompt, said, remembering)

    def both_ways(self, text: str) -> tuple[str, str]:
        """The answers with the memory and without it, to nothing but the question; neither is part of the conversation.

        Raises:
            UserError: the text is empty or too long.
        """
        prompt = encode_prompt(self.memory.tokenizer, self.memory.checked(text))
        with_memory, without = ("".join(self._answer(prompt, remembering)) for remembering in (True, False))
        self.last = Said(prompt, with_memory, True)
        return with_memory, without

    def wipe(self) -> None:
        """Forget what was said; the memory keeps what it was taught."""
        self.turns = []

    def _answer(self, prompt: list[int], remembering: bool) -> Iterator[str]:
        with self.memory.reading(remembering) as model:
            tokenizer = self.memory.tokenizer
            yield from TextStream(
                model,
                tokenizer,
                prompt,
                max_new_tokens=MAX_ANSWER_TOKENS,
                sampling=GREEDY,
                seed=0,
                stop=tokenizer.specials["<|end|>"],
            )


def fitting_prompt(model: GPT, tokenizer: Tokenizer, question: str, turns: Sequence[Turn]) -> list[int]:
    """The prompt with as many of the last turns as leave room for an answer in a block."""
    room = model.config.block_size - MAX_ANSWER_TOKENS
    for first in range(len(turns) + 1):
        prompt = encode_prompt(tokenizer, question, turns[first:])
        if len(prompt) <= room:
            break
    return prompt
