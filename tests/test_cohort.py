import dataclasses
from pathlib import Path

import pytest
import torch

from personacore.export.teaching import load_teaching
from personacore.memory import cohort
from personacore.memory.cohort import Pupil, Report, Room, Sleep, memory_file, teach_cohort
from personacore.memory.examination import School, examine
from personacore.memory.facts import Fact
from personacore.memory.recall import Outcomes
from personacore.memory.sleep import Slept
from personacore.memory.write import fact_hash
from personacore.model.adapter import load_adapter
from personacore.model.consolidated import Consolidated, rows_of
from personacore.model.lora import LoRA
from personacore.model.rows import MemoryRows
from personacore.params import load_params
from tests.talking import KEY, TOWNS, talking_core

MEMORY = load_params(Path(__file__).parent.parent / "params.yaml").memory
FIRST = Pupil("taught", 0, 0, (Fact(KEY, TOWNS[0]),), (Fact(KEY, TOWNS[1]),))
SECOND = Pupil("taught", 0, 1, (Fact(KEY, TOWNS[1]),))
ASLEEP = [dataclasses.replace(pupil, sleeps=True) for pupil in (FIRST, SECOND)]
HAND = dataclasses.replace(ASLEEP[1], kind="handwritten", place=0)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    folder = tmp_path_factory.mktemp("export")
    core = talking_core(folder)
    return Room(core.model, core.tokenizer, *load_teaching(folder / "chat"))


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """One process, which leaves this one with the threads it had."""
    before = torch.get_num_threads()
    monkeypatch.setattr(cohort, "processes", lambda: 1)
    yield
    torch.set_num_threads(before)


def taught(room: Room, folder: Path, *pupils: Pupil) -> list[Report]:
    return list(teach_cohort(room, pupils, folder, seed=3))


def rows(room: Room, folder: Path, pupil: Pupil, kind: str = "taught") -> MemoryRows:
    return rows_of(load_adapter(memory_file(folder, kind, pupil.number, pupil.place), **room.identity)[0])


def test_everybody_is_taught_and_who_corrects_something_has_three_memories(room, tmp_path):
    first, second = taught(room, tmp_path, FIRST, SECOND)
    assert (first.pupil, second.pupil) == (FIRST, SECOND)
    assert len(first.steps) == len(second.steps) == len(FIRST.facts) * room.teaching.rows.steps
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.safetensors")) == [
        "forgotten/0_0.safetensors",
        "taught/0_0.safetensors",
        "taught/0_1.safetensors",
        "updated/0_0.safetensors",
    ]
    told, updated, forgotten = (rows(room, tmp_path, FIRST, kind) for kind in ("taught", "updated", "forgotten"))
    assert told.facts == updated.facts == rows(room, tmp_path, SECOND).facts == {fact_hash(room.tokenizer, KEY)}
    assert not forgotten.facts
    both = told.spans.keys() & updated.spans.keys()
    assert any(not torch.equal(told.of(key)[0], updated.of(key)[0]) for key in both)


def test_who_sleeps_has_one_memory_more_with_the_same_rows(room, tmp_path, monkeypatch):
    def sleep(model, tokenizer, memory, teaching) -> Slept:
        return Slept(Consolidated(memory, LoRA(model.config, 1, 1.0)), SECOND.facts, 0.5, 1.0, 2.0)

    monkeypatch.setattr(cohort, "consolidate", sleep)
    awake, asleep = taught(room, tmp_path, SECOND, ASLEEP[1])
    assert awake.sleep is None and asleep.sleep == Sleep(2.0, 1, 0.5, 1.0)
    slept, _ = load_adapter(memory_file(tmp_path / cohort.ASLEEP, "taught", 0, 1), **room.identity)
    assert isinstance(slept, Consolidated)
    assert torch.equal(rows_of(slept).vectors, rows(room, tmp_path, SECOND).vectors)


def test_somebody_is_taught_alike_by_one_process_or_two_and_whoever_else_is_taught(room, tmp_path, monkeypatch):
    taught(room, tmp_path / "alone", SECOND)
    monkeypatch.setattr(cohort, "processes", lambda: 2)
    taught(room, tmp_path / "together", FIRST, SECOND)
    together, alone = (rows(room, tmp_path / name, SECOND) for name in ("together", "alone"))
    assert torch.equal(together.vectors, alone.vectors)


def test_another_seed_teaches_the_same_facts_otherwise(room, tmp_path):
    again = dataclasses.replace(SECOND, number=1)
    taught(room, tmp_path, SECOND, again)
    first, second = (rows(room, tmp_path, pupil) for pupil in (SECOND, again))
    assert first.facts == second.facts
    assert first.vectors.shape == second.vectors.shape
    assert not torch.equal(first.vectors, second.vectors)


def school(room: Room, folder: Path) -> School:
    people = {"taught": [list(FIRST.facts), list(SECOND.facts)], "updated": [list(FIRST.corrected)], "forgotten": [[]]}
    return School(people | {"handwritten": [list(HAND.facts)]}, folder, room.identity, seed=3)


def test_who_is_asked_comes_with_the_memory_of_the_next(room, tmp_path):
    taught(room, tmp_path, FIRST, SECOND)
    first, second = (school(room, tmp_path).case("taught", 0, place) for place in (0, 1))
    assert (first.facts, first.other_facts) == (list(FIRST.facts), list(SECOND.facts))
    assert torch.equal(rows_of(first.other).vectors, rows_of(second.memory).vectors)
    assert torch.equal(rows_of(second.other).vectors, rows_of(first.memory).vectors)


def test_everybody_is_asked_what_was_taught_corrected_and_forgotten_and_some_again_after_sleep(room, tmp_path):
    taught(room, tmp_path, *ASLEEP, HAND)
    once = dataclasses.replace(MEMORY, seeds=1, questions=1, draws=1)
    first, second, updated, forgotten, hand = examine(room, school(room, tmp_path), once)
    for each, fact in ((first, FIRST.facts[0]), (second, SECOND.facts[0])):
        assert {"taught_greedy", "h2_sampled", "reversed_greedy", "asleep_h1_greedy"} <= each.outcomes.hits.keys()
        said = each.outcomes.transcript
        awake, asleep = ([answer["asked"] for answer in said if answer["tier"] == tier] for tier in ("h1", "asleep_h1"))
        assert awake == asleep  # the same questions, so that the answers can be compared
        assert any(fact.sentence in name for name in each.outcomes.hits["wrong_user"])
    assert set(updated.outcomes.hits) == {"update_new", "update_old_leak"}
    assert set(forgotten.outcomes.hits) == {"forget_abstain", "forget_emission"}
    assert set(hand.outcomes.hits) == {"handwritten_greedy", "asleep_handwritten_greedy"}
    for each in (first, second, updated, forgotten, hand):
        assert len(each.prompts) >= len(each.outcomes.transcript)


def test_what_several_were_asked_is_noted_together():
    ours, theirs = Outcomes(), Outcomes()
    ours.add("h1", "a", True)
    theirs.add("h1", "a", False)
    theirs.add("h2", "b", True)
    theirs.transcript.append({"asked": "?"})
    ours.extend(theirs)
    assert ours.hits == {"h1": {"a": [True, False]}, "h2": {"b": [True]}}
    assert ours.transcript == [{"asked": "?"}]
