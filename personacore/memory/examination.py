"""Asking many people what was taught, several at once, as they are taught: in processes of one thread each."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from personacore.corpus.dialogue.values import Values
from personacore.memory import recall
from personacore.memory.cohort import ASLEEP, Room, each_in, memory_file
from personacore.memory.facts import Fact
from personacore.memory.people import UPDATED, Questions
from personacore.model.adapter import load_adapter
from personacore.params import MemoryParams


@dataclass(frozen=True)
class School:
    """What everybody has told, by kind and person, the folder of their memories, and what these name their model by."""

    people: Mapping[str, Sequence[Sequence[Fact]]]
    folder: Path
    identity: Mapping[str, str]
    seed: int

    def case(self, kind: str, number: int, place: int, asleep: bool = False) -> recall.Case:
        """A person of a kind, taught for the `number`th time, with the memory of the next beside; or both after their sleep.

        Raises:
            UserError: a memory is missing, damaged, of another model, or holds a value.
        """
        people, pair = self.people[kind], (place, (place + 1) % len(self.people[kind]))
        folder = self.folder / ASLEEP if asleep else self.folder
        files = [memory_file(folder, kind, number, who) for who in pair]
        memory, other = (load_adapter(file, **self.identity)[0] for file in files)
        facts, others = (people[who] for who in pair)
        recall.check_absent(files[0], facts)
        questions = Questions(facts, f"{self.seed}/{kind}/{number}/{place}", "evaluation", Values())
        return recall.Case(f"{kind} {place}", facts, questions, memory, other, others)


@dataclass(frozen=True)
class Examined:
    """What somebody answered, and every prompt that was read, as ids."""

    outcomes: recall.Outcomes
    prompts: list[list[int]]


def examine(room: Room, school: School, memory: MemoryParams) -> Iterator[Examined]:
    """Ask everybody: what was taught, each time; what was corrected and forgotten; what was written by hand.

    What was taught the first time and what was written by hand is asked again after sleep.
    """
    sittings = [*itertools.product(("taught",), range(memory.seeds), range(len(school.people["taught"])))]
    sittings += [*itertools.product(("updated", "forgotten"), (0,), range(len(school.people["updated"])))]
    sittings += [*itertools.product(("handwritten",), (0,), range(len(school.people["handwritten"])))]
    return each_in(room, partial(_examine, school, memory), sittings)


def _examine(school: School, memory: MemoryParams, room: Room, sitting: tuple[str, int, int]) -> Examined:
    (kind, number, place), case = sitting, school.case(*sitting)
    asker, outcomes = recall.Asker(room.model, room.tokenizer), recall.Outcomes()
    if kind == "taught":
        recall.ask_taught(asker, outcomes, case, memory.questions, memory.draws, school.seed + number)
        if number == 0:
            recall.ask_asleep(asker, outcomes, school.case(*sitting, asleep=True), memory.questions)
    elif kind == "handwritten":
        recall.ask_handwritten(asker, outcomes, case)
        recall.ask_handwritten(asker, outcomes, school.case(*sitting, asleep=True), "asleep_handwritten")
    else:
        change = {"updated": "update", "forgotten": "forget"}[kind]
        before = school.people["taught"][place][:UPDATED]
        recall.ask_changed(asker, outcomes, change, before, case, memory.draws, school.seed)
    return Examined(outcomes, asker.prompts)
