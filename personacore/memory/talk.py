"""A conversation with a model and a memory: what was said stays in the context until it is wiped, the memory in the weights."""

from collections.abc import Iterator, Sequence

from personacore.corpus.dialogue.turns import Turn
from personacore.generation.answers import GREEDY, MAX_ANSWER_TOKENS
from personacore.generation.prompts import encode_prompt
from personacore.generation.streaming import TextStream
from personacore.memory.memory import Memory
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer


class Talk:
    """The turns so far, whether the memory takes part, and the ids of the prompt behind the last answer, all of them."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.remembering = memory, True
        self.turns: list[Turn] = []
        self.prompt: list[int] = []

    def say(self, text: str) -> Iterator[str]:
        """Yield the answer as it is written; what was answered by then is kept, also when nobody reads to the end.

        Raises:
            UserError: the text is empty or too long.
        """
        memory = self.memory
        self.prompt = fitting_prompt(memory.model, memory.tokenizer, memory.checked(text), self.turns)
        said: list[str] = []
        try:
            for piece in self._answer(self.prompt, self.remembering):
                said.append(piece)
                yield piece
        finally:
            self.turns.append(Turn(text, "".join(said), "said"))

    def both_ways(self, text: str) -> tuple[str, str]:
        """The answers with the memory and without it, to nothing but the question; neither is part of the conversation.

        Raises:
            UserError: the text is empty or too long.
        """
        self.prompt = encode_prompt(self.memory.tokenizer, self.memory.checked(text))
        with_memory, without = ("".join(self._answer(self.prompt, remembering)) for remembering in (True, False))
        return with_memory, without

    def wipe(self) -> None:
        """Forget what was said; the memory keeps what it was taught."""
        self.turns.clear()

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
