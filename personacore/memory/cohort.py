"""Teaching many people, several at once: each process has the model, and one thread for it.

The model is so small that threads gain little on its products, and people have nothing to do with one another. What is learned
does not depend on how many are taught at once.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from personacore.memory.facts import Fact
from personacore.memory.sleep import consolidate
from personacore.memory.teaching import Teaching
from personacore.memory.write import erase, new_rows, write_facts
from personacore.model.adapter import save_adapter
from personacore.model.consolidated import Taught, rows_of
from personacore.model.gpt import GPT
from personacore.model.rows import MemoryRows
from personacore.processes import ordered_map
from personacore.tokenizer.bpe import Tokenizer

ASLEEP = "asleep"  # the folder of memories that have slept
MOST_PROCESSES = 4  # each holds the model and what sleep practises on, about a gigabyte
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Room:
    """What each process has: a model, how its memories are taught, and what their files name it by."""

    model: GPT
    tokenizer: Tokenizer
    teaching: Teaching
    identity: Mapping[str, str]


def each_in(room: Room, function: Callable[[Room, Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`function(room, item)` for each item, several at once, in the order of the items."""
    return ordered_map(partial(_inside, function), items, processes(), _enter, (room,))


def processes() -> int:
    """How many are taught or asked at once."""
    return min(os.cpu_count() or 1, MOST_PROCESSES)


_room: Room


def _enter(room: Room) -> None:
    global _room  # what each process is given once, and not with every item
    _room = room
    torch.set_num_threads(1)


def _inside(function: Callable[[Room, Item], Result], item: Item) -> Result:
    return function(_room, item)


def memory_file(folder: Path, kind: str, number: int, place: int) -> Path:
    """Where the memory is kept of one of the people of a kind, who was taught for the `number`th time."""
    return folder / kind / f"{number}_{place}.safetensors"


@dataclass(frozen=True)
class Pupil:
    """One of the people of a kind, taught for the `number`th time: what is told, whether sleep follows, what is corrected."""

    kind: str
    number: int
    place: int
    facts: tuple[Fact, ...]
    corrected: tuple[Fact, ...] = ()
    sleeps: bool = False


@dataclass(frozen=True)
class Sleep:
    """How somebody slept: for how long, how many facts were gone over, and the share of right answers before and after."""

    seconds: float
    facts: int
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """How somebody was taught: how probable each step made what it wrote, the seconds it took, and the sleep of who slept."""

    pupil: Pupil
    steps: tuple[float, ...]
    seconds: float
    sleep: Sleep | None


def teach_cohort(room: Room, pupils: Sequence[Pupil], folder: Path, seed: int) -> Iterator[Report]:
    """Teach everybody, into `folder`/KIND; in their order.

    Those who correct something do so into `folder`/updated, and what they would correct is forgotten in `folder`/forgotten.
    Those who sleep have one memory more, in `folder`/asleep/KIND.
    """
    return each_in(room, partial(_teach, folder, seed), pupils)


def _teach(folder: Path, seed: int, room: Room, pupil: Pupil) -> Report:
    model, tokenizer, teaching = room.model, room.tokenizer, room.teaching
    name, steps = f"{seed + pupil.number}/{pupil.kind}/{pupil.place}", []

    def keep(memory: Taught, kind: str, into: Path = folder) -> None:
        file = memory_file(into, kind, pupil.number, pupil.place)
        save_adapter(file, memory, {**room.identity, "facts": len(rows_of(memory).facts)})

    def write(rows: MemoryRows, facts: Sequence[Fact], name: str) -> MemoryRows:
        return write_facts(model, tokenizer, rows, facts, teaching.rows, name, lambda _, sure: steps.append(sure))

    began = time.monotonic()
    rows = write(new_rows(model, tokenizer, teaching.rows), pupil.facts, name)
    seconds, told = time.monotonic() - began, tuple(steps)
    keep(rows, pupil.kind)
    sleep = None
    if pupil.sleeps:
        slept = consolidate(model, tokenizer, rows, teaching)
        keep(slept.memory, pupil.kind, folder / ASLEEP)
        sleep = Sleep(slept.seconds, len(slept.facts), slept.before, slept.after)
    if pupil.corrected:
        keep(write(rows, pupil.corrected, f"{name}/corrected"), "updated")
        for fact in pupil.corrected:
            rows = erase(rows, tokenizer, fact.key)
        keep(rows, "forgotten")
    return Report(pupil, told, seconds, sleep)
