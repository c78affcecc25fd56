"""Teaching many people, several at once: each process has the model, and one thread for it.

The model is so small that threads gain little on its products, and people have nothing to do with one another.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.memory.facts import Fact
from personacore.memory.sleep import consolidate
from personacore.memory.teaching import Teaching
from personacore.memory.write import erase, new_rows, write_facts
from personacore.model.adapter import save_adapter
from personacore.model.consolidated import Taught, rows_of, with_rows
from personacore.model.gpt import GPT
from personacore.processes import ordered_map
from personacore.tokenizer.bpe import Tokenizer

MOST_PROCESSES = 4  # each holds the model and what sleep practises on, about a gigabyte


@dataclass(frozen=True)
class Pupil:
    """One of the people of a kind, taught for the `number`th time: what is told, and what is corrected later."""

    kind: str
    number: int
    place: int
    facts: tuple[Fact, ...]
    corrected: tuple[Fact, ...] = ()

    def file(self, folder: Path, kind: str) -> Path:
        """Where a memory of this person is kept."""
        return folder / kind / f"{self.number}_{self.place}.safetensors"


@dataclass(frozen=True)
class Report:
    """How somebody was taught: how probable each step made what it wrote, and the seconds awake and asleep.

    Of the sleep also how many facts were gone over, and the share of right answers before and after.
    """

    pupil: Pupil
    steps: tuple[float, ...]
    seconds: float
    seconds_asleep: float
    listed: int
    before: float
    after: float


def teach_cohort(pupils: Sequence[Pupil], export: Path, folder: Path, seed: int) -> Iterator[Report]:
    """Teach everybody and let them sleep, into `folder`/KIND; in their order.

    Those who correct something do so after their sleep, into `folder`/updated; before it, what they would correct is forgotten,
    into `folder`/forgotten.
    """
    return ordered_map(partial(_teach, export, folder, seed), pupils, processes())


def processes() -> int:
    """How many are taught or asked at once."""
    return min(os.cpu_count() or 1, MOST_PROCESSES)


@cache
def classroom(export: Path) -> tuple[GPT, Tokenizer, Teaching, dict[str, str]]:
    """What each process has: an exported model, how it is taught, and what its memories say that they belong to."""
    torch.set_num_threads(1)
    return (*load_slim(export), *load_teaching(export))


def _teach(export: Path, folder: Path, seed: int, pupil: Pupil) -> Report:
    model, tokenizer, teaching, identity = classroom(export)
    name, steps = f"{seed + pupil.number}/{pupil.kind}/{pupil.place}", []

    def keep(memory: Taught, kind: str) -> None:
        save_adapter(pupil.file(folder, kind), memory, {**identity, "facts": len(rows_of(memory).facts)})

    def write(rows: Taught, facts: Sequence[Fact], name: str) -> Taught:
        return write_facts(model, tokenizer, rows, facts, teaching.rows, name, lambda _, sure: steps.append(sure))

    began = time.monotonic()
    rows = write(new_rows(model, tokenizer, teaching.rows), pupil.facts, name)
    seconds, told = time.monotonic() - began, tuple(steps)
    slept = consolidate(model, tokenizer, rows, teaching)
    keep(slept.memory, pupil.kind)
    if pupil.corrected:
        keep(with_rows(slept.memory, write(rows, pupil.corrected, f"{name}/corrected")), "updated")
        for fact in pupil.corrected:
            rows = erase(rows, tokenizer, fact.key)
        keep(rows, "forgotten")
    return Report(pupil, told, seconds, slept.seconds, len(slept.facts), slept.before, slept.after)
