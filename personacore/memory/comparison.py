"""Ways to write facts into a model, on the same CALIBRATION people, questions and gates."""

import time
from collections.abc import Callable, Mapping, Sequence

from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.memory.closed_form import closed_form
from personacore.memory.facts import Fact
from personacore.memory.people import Questions
from personacore.memory.recall import Asker, Case, Outcomes, ask_taught, drift
from personacore.memory.sleep import consolidate
from personacore.memory.teach import teach_people
from personacore.memory.teaching import Teaching
from personacore.memory.write import new_rows, write_facts
from personacore.model.adapter import Adapter
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.model.rows import MemoryRows
from personacore.tokenizer.bpe import Tokenizer

QUESTIONS, DRAWS = 2, 4
Writer = Callable[[GPT, Tokenizer, Sequence[Fact], Teaching], Adapter]


def _rows(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], teaching: Teaching) -> MemoryRows:
    new = new_rows(model, tokenizer, teaching.rows)
    return write_facts(model, tokenizer, new, facts, teaching.rows, "comparison")


def _lora(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], teaching: Teaching) -> LoRA:
    return teach_people(model, tokenizer, [facts], teaching.generic, teaching.sleep, seed=0)[0].person(0)


def _rows_and_sleep(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], teaching: Teaching) -> Adapter:
    rows = _rows(model, tokenizer, facts, teaching)
    return consolidate(model, tokenizer, rows, teaching).memory


def _closed_form(model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], teaching: Teaching) -> LoRA:
    return closed_form(model, tokenizer, facts, teaching.generic)


WRITERS: Mapping[str, Writer] = {
    "rows": _rows,
    "rows_and_sleep": _rows_and_sleep,
    "lora": _lora,
    "closed_form": _closed_form,
}


def compare(
    model: GPT,
    tokenizer: Tokenizer,
    people: Sequence[Sequence[Fact]],
    talks: Sequence[Sequence[Turn]],
    teaching: Teaching,
    writer: Writer,
) -> tuple[list[Adapter], dict[str, float]]:
    """The people's memories by one way to write, and every gate with the seconds it took for a fact."""
    began = time.monotonic()
    memories = [writer(model, tokenizer, facts, teaching).requires_grad_(False) for facts in people]
    seconds = (time.monotonic() - began) / sum(len(facts) for facts in people)
    return memories, measure(model, tokenizer, people, memories, talks) | {"seconds_per_fact": round(seconds, 2)}


def measure(
    model: GPT,
    tokenizer: Tokenizer,
    people: Sequence[Sequence[Fact]],
    memories: Sequence[Adapter],
    talks: Sequence[Sequence[Turn]],
) -> dict[str, float]:
    """The share of right answers by gate, and by how much conversations that nobody taught are predicted worse."""
    outcomes, asker, values = Outcomes(), Asker(model, tokenizer), Values()
    for place, facts in enumerate(people):
        other = (place + 1) % len(people)
        questions = Questions(facts, f"comparison/{place}", "calibration", values)
        case = Case(str(place), facts, questions, memories[place], memories[other], people[other])
        ask_taught(asker, outcomes, case, QUESTIONS, DRAWS, seed=place)
    drifted = drift(model, tokenizer, list(zip(memories, people, strict=True)), (), talks, {})
    return {gate: round(each["value"], 4) for gate, each in (outcomes.gates({}) | drifted).items()}
