"""One person's memory: an adapter that is taught by telling, asked without any context, corrected and made to forget."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from personacore.errors import UserError
from personacore.files import sha256_of
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.memory.facts import Fact, holds, read_facts
from personacore.memory.inventory import CONFIDENCE, read_out
from personacore.memory.teach import Taught, new_adapter, teach_people
from personacore.model.adapter import load_adapter, save_adapter
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import TeachParams
from personacore.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Learned:
    """A fact that was taught, and how sure the memory is of it: the smaller probability of two questions in teaching frames."""

    fact: Fact
    probability: float


@dataclass(frozen=True)
class Told:
    """What came of a statement: the facts learned; none where the model did not understand it.

    `doubtful` are facts told before that the memory now says with less confidence than the next read-out asks for, and `lost`
    is how many it could not be brought to say any more before this one was taught.
    """

    statement: str
    learned: tuple[Learned, ...]
    seconds: float
    doubtful: tuple[Learned, ...] = ()
    lost: int = 0

    @property
    def understood(self) -> bool:
        return bool(self.learned)


class Memory:
    """The memory in one file, opened where there is one, else new; nothing is written before something is taught."""

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, options: TeachParams, generic: Tensor, sha256: dict[str, str], path: Path
    ) -> None:
        self.model, self.tokenizer, self.generic, self.options, self.path = model, tokenizer, generic, options, path
        self.identity = {"base_sha256": sha256["model.safetensors"], "tokenizer_sha256": sha256["tokenizer.json"]}
        self.lora: LoRA | None = None
        self.count = 0
        self._version = sha256_of(path) if path.exists() else None
        if self._version is not None:
            self.lora, description = load_adapter(path, **self.identity)
            self.count = int(description.get("facts", 0))

    def ask(self, question: str) -> str:
        """The answer, from the weights alone: the prompt holds nothing but the question."""
        return self._answers([self._checked(question)])[0]

    def read(self, statement: str) -> list[Fact]:
        """The facts that the model itself reads out of a statement, without the memory; none where it reads none.

        A value that does not stand in the statement was not read but made up, and makes the reading worth nothing.
        """
        facts = read_facts(self._answers([statement], remembering=False)[0]) or []
        return facts if all(fact.value is not None and holds(statement, fact.value) for fact in facts) else []

    def teach(self, statement: str, on_step: Callable[[int, float], None] = lambda step, sure: None) -> Told:
        """Learn what a statement says, together with all that is known already, and save.

        Raises:
            UserError: the statement is empty or too long.
        """
        began = time.monotonic()
        told = {fact.key: fact for fact in self.read(self._checked(statement))}
        if not told:
            return Told(statement, (), time.monotonic() - began)
        before = {fact.key: fact for fact in self.known()}
        lost, known = max(0, self.count - len(before)), before | told
        sure = self._learn(list(known.values()), self.lora, on_step)
        learned = tuple(Learned(fact, sure[key]) for key, fact in told.items())
        others = (Learned(fact, sure[key]) for key, fact in before.items() if key not in told)
        doubtful = tuple(other for other in others if other.probability < CONFIDENCE)
        return Told(statement, learned, time.monotonic() - began, doubtful, lost)

    def forget(self, what: str, on_step: Callable[[int, float], None] = lambda step, sure: None) -> Fact:
        """Forget one fact, named as in a question ("my dog's name"), by learning all others anew without it; returns its key.

        Raises:
            UserError: the model does not understand what is meant, or knows nothing of it.
        """
        question = what if what.rstrip().endswith(("?", ".")) else f"What is {what}?"
        named = read_facts(self._answers([self._checked(question)], remembering=False)[0])
        if not named:
            raise UserError(f"I did not understand what to forget: {what}. Name it as in a question, such as: my dog's name")
        known = {fact.key: fact for fact in self.known()}
        if named[0].key not in known:
            raise UserError(f"{named[0].key} is not known, so there is nothing to forget")
        forgotten = known.pop(named[0].key)
        self._learn(list(known.values()), None, on_step)
        return Fact(forgotten.key, None)

    def known(self) -> list[Fact]:
        """What the memory says it knows, read out of the weights: every key of the grammar asked for, and open questions."""
        if self.lora is None:
            return []
        with self.lora.attached(self.model):
            return list(read_out(self.model, self.tokenizer, self.count).values())

    def _learn(self, facts: list[Fact], start: LoRA | None, on_step: Callable[[int, float], None]) -> dict[str, float]:
        """Teach all facts into an adapter, save it, and say how sure it is of each key."""
        options = self.options
        if facts:
            stacked = LoRA.stack([start]) if start is not None else None

            def look(step: int, results: Sequence[Taught]) -> None:
                on_step(step, min(results[0].probabilities))

            taught, results = teach_people(self.model, self.tokenizer, [facts], self.generic, options, 0, stacked, look)
            lora, sure = taught.person(0), dict(zip((f.key for f in facts), results[0].probabilities, strict=True))
        else:
            lora, sure = new_adapter(self.model, self.tokenizer, options), {}
        if self._version != (sha256_of(self.path) if self.path.exists() else None):
            raise UserError(f"{self.path} was changed by another program meanwhile and is left as it is: say it once more")
        save_adapter(self.path, lora, {**self.identity, "facts": len(facts)})
        self.lora, self.count, self._version = lora, len(facts), sha256_of(self.path)
        return sure

    def _answers(self, questions: list[str], remembering: bool = True, **options: object) -> list[str]:
        prompts = [encode_prompt(self.tokenizer, question) for question in questions]
        with self.lora.attached(self.model) if remembering and self.lora is not None else nullcontext():
            return answers(self.model, self.tokenizer, prompts, **options)

    def _checked(self, text: str) -> str:
        if not text.strip():
            raise UserError("there is nothing to read: say a sentence, such as: My dog is called Biscuit.")
        longest = self.model.config.block_size // 2
        if len(self.tokenizer.encode(text)) > longest:
            raise UserError(f"the text is longer than {longest} tokens: say it in shorter sentences, one at a time")
        return text
