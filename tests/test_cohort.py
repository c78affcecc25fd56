import dataclasses
from pathlib import Path

import pytest
import torch

from personacore.export.teaching import load_teaching
from personacore.memory import cohort
from personacore.memory.cohort import Pupil, Report, teach_cohort
from personacore.memory.examination import School
from personacore.memory.facts import Fact
from personacore.memory.recall import Outcomes
from personacore.model.adapter import load_adapter
from personacore.model.consolidated import rows_of
from tests.talking import KEY, TOWNS, talking_core

FIRST = Pupil("taught", 0, 0, (Fact(KEY, TOWNS[0]),), (Fact(KEY, TOWNS[1]),))
SECOND = Pupil("taught", 0, 1, (Fact(KEY, TOWNS[1]),))


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    talking_core(folder)
    return folder / "chat"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """One process, which leaves this one with the threads it had."""
    before = torch.get_num_threads()
    monkeypatch.setattr(cohort, "processes", lambda: 1)
    yield
    torch.set_num_threads(before)


def taught(export: Path, folder: Path, *pupils: Pupil) -> list[Report]:
    return list(teach_cohort(pupils, export, folder, seed=3))


def rows(export: Path, file: Path):
    return rows_of(load_adapter(file, **load_teaching(export)[1])[0])


def test_everybody_is_taught_and_who_corrects_something_has_three_memories(export, tmp_path):
    first, second = taught(export, tmp_path, FIRST, SECOND)
    assert (first.pupil, second.pupil) == (FIRST, SECOND)
    assert len(first.steps) == len(second.steps) == len(FIRST.facts) * load_teaching(export)[0].rows.steps
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.safetensors")) == [
        "forgotten/0_0.safetensors",
        "taught/0_0.safetensors",
        "taught/0_1.safetensors",
        "updated/0_0.safetensors",
    ]
    told, updated, forgotten = (rows(export, FIRST.file(tmp_path, kind)) for kind in ("taught", "updated", "forgotten"))
    assert len(told.facts) == len(updated.facts) == 1
    assert told.facts == updated.facts
    assert not torch.equal(told.vectors, updated.vectors[: len(told.vectors)])
    assert not forgotten.facts


def test_somebody_is_taught_alike_whoever_else_is_taught(export, tmp_path):
    taught(export, tmp_path / "together", FIRST, SECOND)
    taught(export, tmp_path / "alone", SECOND)
    together, alone = (rows(export, SECOND.file(tmp_path / name, "taught")) for name in ("together", "alone"))
    assert torch.equal(together.vectors, alone.vectors)


def test_another_seed_teaches_the_same_facts_otherwise(export, tmp_path):
    again = dataclasses.replace(SECOND, number=1)
    taught(export, tmp_path, SECOND, again)
    first, second = (rows(export, pupil.file(tmp_path, "taught")) for pupil in (SECOND, again))
    assert first.facts == second.facts
    assert not torch.equal(first.vectors, second.vectors)


def test_who_is_asked_comes_with_the_memory_of_the_next(export, tmp_path):
    taught(export, tmp_path, FIRST, SECOND)
    people = {"taught": [list(FIRST.facts), list(SECOND.facts)]}
    school = School(people, tmp_path, export, load_teaching(export)[1], seed=3)
    first, second = (school.case("taught", 0, place) for place in (0, 1))
    assert (first.facts, first.other_facts) == (people["taught"][0], people["taught"][1])
    assert torch.equal(rows_of(first.other).vectors, rows_of(second.memory).vectors)
    assert torch.equal(rows_of(second.other).vectors, rows_of(first.memory).vectors)


def test_what_several_were_asked_is_noted_together():
    ours, theirs = Outcomes(), Outcomes()
    ours.add("h1", "a", True)
    theirs.add("h1", "a", False)
    theirs.add("h2", "b", True)
    theirs.transcript.append({"asked": "?"})
    ours.extend(theirs)
    assert ours.hits == {"h1": {"a": [True, False]}, "h2": {"b": [True]}}
    assert ours.transcript == [{"asked": "?"}]
