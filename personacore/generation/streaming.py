"""Text as it is written: whole characters, piece by piece, up to the sign that ends it."""

from collections.abc import Iterator, Sequence

import torch

from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import StreamDecoder, Tokenizer


class TextStream:
    """Iterates over the pieces; meanwhile `tokens` counts what was written, and `ended` says whether it ended by itself.

    `stop` is the special id that ends the text; no other special id is ever drawn.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        sampling: Sampling,
        seed: int,
        stop: int,
    ) -> None:
        self.tokens, self.ended = 0, False
        self._decoder, self._stop = StreamDecoder(tokenizer), stop
        self._steps = generate(
            model,
            torch.tensor([list(prompt)]),
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
            stop=stop,
            forbidden=[number for number in tokenizer.specials.values() if number != stop],
        )

    def __iter__(self) -> Iterator[str]:
        for step in self._steps:
            if (token := int(step)) == self._stop:
                self.ended = True
                break
            self.tokens += 1
            if piece := self._decoder.push(token):
                yield piece
        if rest := self._decoder.finish():
            yield rest
