"""One person's memory: it is taught by telling, asked without any context, corrected, made to forget, and left to sleep."""

import copy
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from filelock import FileLock

from personacore.errors import UserError
from personacore.files import sha256_of
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.memory.facts import Fact, read_facts
from personacore.memory.inventory import listed
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.sleep import OnStep, Slept, consolidate
from personacore.memory.teaching import Teaching
from personacore.memory.write import erase, how_sure, new_rows, write_facts
from personacore.model.adapter import load_adapter, save_adapter
from personacore.model.consolidated import Consolidated, Taught, rows_of, with_rows
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.model.rows import MemoryRows
from personacore.tokenizer.bpe import Tokenizer

LEAST = 0.05  # probability of a reading in the statement's own words, below which it is not meant
LONGEST = 5  # words of a value that are looked for


@dataclass(frozen=True)
class Learned:
    """A fact that was taught, and how sure the memory is of it: the smaller probability of two questions in teaching frames."""

    fact: Fact
    probability: float


@dataclass(frozen=True)
class Told:
    """What came of a statement: the facts learned; none where the model did not understand it."""

    statement: str
    learned: tuple[Learned, ...]
    seconds: float

    @property
    def understood(self) -> bool:
        return bool(self.learned)


class Memory:
    """The memory in one file, opened where there is one, else new; nothing is written before something is taught.

    It works on a model of its own that shares the weights of the one it is given, so that memories of several people can be
    open, and used from several threads, without one ever acting in another's answers. `taught` says when it was taught.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, path: Path, teaching: Teaching, identity: Mapping[str, str]) -> None:
        self.model, self.tokenizer, self.path, self.teaching, self.identity = _twin(model), tokenizer, path, teaching, identity
        self.adapter: Taught = self._nothing()
        self.taught: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._version: str | None = None
        self._refresh()

    @contextmanager
    def reading(self, remembering: bool = True) -> Iterator[GPT]:
        """The model, for one at a time to read and write with, with the memory or without."""
        with self._lock:
            self._refresh()
            with self.adapter.attached(self.model) if remembering else nullcontext():
                yield self.model

    def ask(self, question: str) -> str:
        """The answer, from the weights alone: the prompt holds nothing but the question."""
        return self._answer(self.checked(question))

    def read(self, statement: str) -> list[Fact]:
        """The facts that the model itself reads out of a statement, without the memory; none where it reads none.

        A value that does not stand in the statement was misspelled or made up, and one that goes on there, as 7 does in 7.5,
        was cut off. The model then chooses among the words of the statement; if none is likely, the reading is worth nothing.
        """
        facts = read_facts(self._answer(statement, remembering=False)) or []
        if any(fact.value is None for fact in facts):
            return []
        likelihood, spans = 1.0, [span for span in _spans(statement) if _stands_in(statement, span)]
        for place, fact in enumerate(facts):
            if not _stands_in(statement, str(fact.value)):
                readings = [[*facts[:place], Fact(fact.key, span), *facts[place + 1 :]] for span in spans]
                facts, likelihood = self._likeliest(statement, readings)
        return facts if likelihood >= LEAST else []

    @torch.no_grad()
    def _likeliest(self, statement: str, readings: Sequence[list[Fact]]) -> tuple[list[Fact], float]:
        """The likeliest of some readings of a statement, and its probability."""
        if not readings:
            return [], 0.0
        lessons = [(statement, " ".join(fact.sentence for fact in facts)) for facts in readings]
        with self.reading(remembering=False) as model:
            probabilities = answer_log_probabilities(model, *pad_lessons(self.tokenizer, lessons)).exp()
        best = int(probabilities.argmax())
        return readings[best], float(probabilities[best])

    def teach(self, statement: str, on_step: OnStep = lambda step, sure: None) -> Told:
        """Learn what a statement says, in the place of what was known of the same, and save.

        Raises:
            UserError: the statement is empty or too long, or the file was changed meanwhile.
        """
        began = time.monotonic()
        facts = list({fact.key: fact for fact in self.read(self.checked(statement))}.values())
        sure: Sequence[float] = ()
        if facts:
            with self._lock:
                self._refresh()
                rows = write_facts(self.model, self.tokenizer, self.rows, facts, self.teaching.rows, "memory", on_step)
                adapter = with_rows(self.adapter, rows)
                sure = how_sure(self.model, self.tokenizer, adapter, facts, "memory")
                self._save(adapter, datetime.now(UTC).isoformat(timespec="seconds"))
        learned = tuple(Learned(fact, probability) for fact, probability in zip(facts, sure, strict=True))
        return Told(statement, learned, time.monotonic() - began)

    def sleep(self, on_step: OnStep = lambda step, sure: None) -> Slept:
        """Learn to read the questions for what is known, so that it is found by more ways of asking, and save.

        Meanwhile it answers as before. What is taught later is only read better after the next sleep.
        Raises:
            UserError: nothing is known, or the memory was changed meanwhile.
        """
        with self._lock:
            self._refresh()
            adapter, version, model = copy.deepcopy(self.adapter), self._version, _twin(self.model)
        if not rows_of(adapter).facts:
            raise UserError("there is nothing to go over in sleep yet: teach something first")
        slept = consolidate(model, self.tokenizer, adapter, self.teaching, on_step)
        with self._lock:
            if self._version != version:
                raise UserError("something was taught or forgotten meanwhile: let it sleep once more")
            self._save(slept.memory)
        return slept

    def forget(self, what: str) -> Fact:
        """Forget one fact, named as in a question ("my dog's name"), and save; returns its key.

        Raises:
            UserError: the model does not understand what is meant, or knows nothing of it; the file was changed meanwhile.
        """
        question = what if what.rstrip().endswith(("?", ".")) else f"What is {what}?"
        named = read_facts(self._answer(self.checked(question), remembering=False))
        if not named:
            raise UserError(f"I did not understand what to forget: {what}. Name it as in a question, such as: my dog's name")
        return self.forget_key(named[0].key)

    def forget_key(self, key: str) -> Fact:
        """Forget the fact with a key, such as "Your dog's name", and save; returns its key.

        What sleep has taught it goes as well, since that would still read the questions for it; it can sleep again.

        Raises:
            UserError: nothing is known of it, or the file was changed meanwhile.
        """
        with self._lock:
            self._refresh()
            rows = erase(self.rows, self.tokenizer, key)
            if rows.facts == self.rows.facts:
                raise UserError(f"{key} is not known, so there is nothing to forget")
            self._save(rows)
        return Fact(key, None)

    def eject(self) -> None:
        """Delete the file: the model is what it was before anything was taught."""
        with self._lock:
            self.path.unlink(missing_ok=True)
            self._lock_file.unlink(missing_ok=True)
            self.adapter, self.taught, self._version = self._nothing(), (), None

    def save_as(self, path: Path) -> None:
        """Keep a copy in a new file, readable by this user only.

        Raises:
            UserError: nothing was taught yet, there is such a file already, or it cannot be written.
        """
        with self._lock:
            self._refresh()
            if not self.count:
                raise UserError("nothing was taught yet, so there is nothing to save")
            if path.exists():
                raise UserError(f"{path} exists already: name a new file")
            self._write(path, self.adapter, self.taught)

    def known(self) -> list[Fact]:
        """What the memory answers when it is asked for everything that it holds, in the order in which it was told."""
        with self.reading(remembering=False) as model, self.rows.attached(model):
            return listed(model, self.tokenizer, self.rows)

    def listing(self) -> list[str]:
        """What is known as sentences, one a line, with the number of facts that it cannot name."""
        lines = [fact.sentence for fact in self.known()]
        if unlisted := self.count - len(lines):
            lines.append(f"{unlisted} more, which I cannot name: ask me.")
        return lines or ["Nothing is known yet."]

    @property
    def rows(self) -> MemoryRows:
        """The rows, which hold every fact."""
        return rows_of(self.adapter)

    @property
    def count(self) -> int:
        """The number of facts."""
        return len(self.rows.facts)

    @property
    def has_slept(self) -> bool:
        """Whether it has slept since something was last forgotten."""
        return isinstance(self.adapter, Consolidated)

    def _nothing(self) -> MemoryRows:
        return new_rows(self.model, self.tokenizer, self.teaching.rows)

    def _load(self) -> tuple[Taught, tuple[str, ...]]:
        adapter, description = load_adapter(self.path, **self.identity)
        if isinstance(adapter, LoRA) or rows_of(adapter).shape() != self.rows.shape():
            raise UserError(f"{self.path} holds no rows for this model, as a memory does: name another file for your memory")
        taught = description.get("taught")
        return adapter, tuple(taught) if isinstance(taught, list) else ()

    def _refresh(self) -> None:
        """Read the file again if another program has changed or deleted it since."""
        version = self._version_of_file()
        if version != self._version:
            self.adapter, self.taught = self._load() if version else (self._nothing(), ())
            self._version = version

    def _version_of_file(self) -> str | None:
        try:
            return sha256_of(self.path) if self.path.exists() else None
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from None

    def _write(self, path: Path, adapter: Taught, taught: Sequence[str]) -> None:
        try:
            save_adapter(path, adapter, {**self.identity, "facts": len(rows_of(adapter).facts), "taught": list(taught)})
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None

    def _save(self, adapter: Taught, *taught: str) -> None:
        with self._alone():
            if self._version != self._version_of_file():
                raise UserError(f"{self.path} was changed by another program meanwhile and is left as it is: say it once more")
            times = (*self.taught, *taught)
            self._write(self.path, adapter, times)
            self.adapter, self.taught, self._version = adapter, times, self._version_of_file()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other programs from writing the file between a look at it and its replacement."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock_file, mode=0o600)
            lock.acquire()
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def _lock_file(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _answer(self, text: str, remembering: bool = True) -> str:
        with self.reading(remembering) as model:
            return answers(model, self.tokenizer, [encode_prompt(self.tokenizer, text)])[0]

    def checked(self, text: str) -> str:
        """The text, if it can be read.

        Raises:
            UserError: it is empty or too long.
        """
        return checked(self.model, self.tokenizer, text)


def checked(model: GPT, tokenizer: Tokenizer, text: str) -> str:
    """What a person says, if it can be read.

    Raises:
        UserError: it is empty or too long.
    """
    if not text.strip():
        raise UserError("there is nothing to read: say a sentence, such as: My dog is called Biscuit.")
    longest = model.config.block_size // 2
    if len(tokenizer.encode(text)) > longest:
        raise UserError(f"the text is longer than {longest} tokens: say it in shorter sentences, one at a time")
    return text


def _twin(model: GPT) -> GPT:
    """A model of its own, so that what is attached to one does not act in the other, with the same tensors."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _spans(statement: str) -> list[str]:
    """Runs of the statement's words, without the punctuation around them.

    >>> _spans("It is Rex!")
    ['It', 'It is', 'It is Rex', 'is', 'is Rex', 'Rex']
    """
    words = statement.split()
    runs = (words[first:last] for first in range(len(words)) for last in range(first + 1, min(first + LONGEST, len(words)) + 1))
    return [" ".join(run).strip(".,;:!?\"'()") for run in runs]


def _stands_in(statement: str, value: str) -> bool:
    """Whether a value stands in a statement whole, and holds no full stop, at which sentences are told apart."""
    whole = rf"(?<!\w)(?<!\w[.:@,]){re.escape(value)}(?!\w)(?![.:@,]\w)"
    return "." not in value and re.search(whole, statement, re.IGNORECASE) is not None
