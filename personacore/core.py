"""The loaded model: what `personacore.load` returns."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from personacore.errors import UserError
from personacore.export.slim import load_slim
from personacore.generation.sampling import Sampling
from personacore.generation.streaming import TextStream
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer

if TYPE_CHECKING:
    from personacore.generation.compiled import CompiledGPT
    from personacore.memory.memory import Memory


class Core:
    """A model and its tokenizer, ready to write."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, folder: Path | None = None) -> None:
        self.model, self.tokenizer, self.folder = model, tokenizer, folder
        self._writer: GPT | CompiledGPT = model

    def compiled(self, int8: bool = False) -> "Core":
        """The same model, which writes by steps that numba compiles: several times faster, and with `int8` faster again.

        Logits differ from the plain ones by rounding, with `int8` by that of the weights too. The first step compiles for some
        seconds and is kept on disk. A memory acts on the plain model, and answers with it.
        Raises:
            UserError: numba is not installed, or not one that works here.
        """
        try:
            from personacore.generation.compiled import CompiledGPT
        except (ImportError, RuntimeError) as error:  # numba's own, where it finds no folder to keep what it compiles
            raise UserError(f"no step can be compiled ({error}): python -m pip install '.[fast]' in a clone") from None
        core = Core(self.model, self.tokenizer, self.folder)
        core._writer = CompiledGPT(self.model, int8)
        return core

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> Iterator[str]:
        """Yield the continuation of `prompt` as it is written, in whole characters, up to the end of the text.

        `temperature=0` is greedy. An empty prompt begins a text of the model's own.
        Raises:
            UserError: an argument is out of its range; the message names it.
        """
        end = self.tokenizer.end_of_text
        yield from TextStream(
            self._writer,
            self.tokenizer,
            [end, *self.tokenizer.encode(prompt)],
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature, top_k, top_p),
            seed=seed,
            stop=end,
        )

    def complete(self, prompt: str, **options: object) -> str:
        """The continuation of `prompt` as one string; the options are those of `stream`."""
        return "".join(self.stream(prompt, **options))

    def memory(self, path: str | Path) -> "Memory":
        """The personal memory in a file, opened where there is one, else new.

        Raises:
            UserError: this model cannot be taught, or the file is damaged or of another model.
        """
        if self.folder is None:
            raise UserError("this model was not loaded from an exported folder, so no memory can be taught on it")
        # These load the grammar of lessons, which what only writes does not wait for.
        from personacore.export.teaching import load_teaching
        from personacore.memory.spelling import TypedMemory

        # A link stays one: what it leads to is read, written and locked.
        return TypedMemory(self.model, self.tokenizer, Path(os.path.realpath(path)), *load_teaching(self.folder))


def load(folder: str | Path) -> Core:
    """The model of an exported folder, which needs nothing but itself.

    Raises:
        UserError: the folder is missing a file, or one of them is damaged or of a newer schema.
    """
    return Core(*load_slim(Path(folder)), Path(folder))
