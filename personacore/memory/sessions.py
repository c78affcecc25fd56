"""Many sessions: each begins with nothing but the memory that the last one left, and tells it one new fact."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from personacore.evaluation.intervals import mean_with_interval
from personacore.layout import MEMORY
from personacore.memory.facts import Fact
from personacore.memory.inventory import listed
from personacore.memory.people import Questions
from personacore.memory.recall import Asker, Outcomes, judged
from personacore.memory.write import new_rows, write_facts
from personacore.model.adapter import Adapter
from personacore.model.gpt import GPT
from personacore.model.rows import MemoryRows
from personacore.params import RowsParams
from personacore.tokenizer.bpe import Tokenizer

FOLDER = MEMORY.with_name("sessions")
QUESTIONS, FIRST_QUESTIONS = 2, 20  # about each fact; more about the first, when all are told


@dataclass(frozen=True)
class Session:
    """One session: how many facts were listed before it, how many of them rightly, and what it took."""

    listed: int
    right: int
    told_before: int
    seconds: float


def hold_sessions(
    model: GPT,
    tokenizer: Tokenizer,
    facts: Sequence[Fact],
    params: RowsParams,
    seed: str,
    on_session: Callable[[int, MemoryRows, Session], None],
) -> None:
    """One session for each fact, in which nothing is at hand but the memory that the session before has left.

    `on_session` is given the number of facts told, the memory and the record of each session.
    """
    rows = new_rows(model, tokenizer, params)
    for number, new in enumerate(facts):
        with rows.attached(model):
            known = listed(model, tokenizer, rows)
        right = sum(fact in facts[:number] for fact in known)
        began = time.monotonic()
        rows = write_facts(model, tokenizer, rows, [new], params, f"{seed}/{number}")
        on_session(number + 1, rows, Session(len(known), right, number, time.monotonic() - began))


def ask_sessions(
    asker: Asker,
    outcomes: Outcomes,
    facts: Sequence[Fact],
    after: Sequence[Adapter],
    questions: Questions,
    thresholds: dict[str, float],
) -> tuple[dict[str, dict[str, object]], list[tuple[int, int, float]]]:
    """What is known of facts told one a session: the gate of backward transfer, and rows of how it went on the way.

    `after` holds the memory after each session. A row is (sessions held, session of a fact, share of right
    answers), for ten places on the way. Whether all, and the first one, are known in the end, `outcomes` notes.
    """
    lessons = {number: questions.about(fact, QUESTIONS) for number, fact in enumerate(facts, 1)}
    every = max(1, len(facts) // 10)

    def ask(numbers: Sequence[int], memory: Adapter) -> dict[int, list[bool]]:
        asked = [lesson for number in numbers for lesson in lessons[number]]
        hits = [said == right for (_, right), (said, *_) in zip(asked, asker.ask(asked, memory), strict=True)]
        return {n: hits[i * QUESTIONS : (i + 1) * QUESTIONS] for i, n in enumerate(numbers)}

    told = sorted(lessons)
    at_once = {number: ask([number], after[number - 1])[number] for number in told}
    rows = []
    for held in sorted({*range(every, len(facts) + 1, every), len(facts)}):
        known = ask(told[:held], after[held - 1])
        rows += [(held, number, float(np.mean(hits))) for number, hits in known.items()]
    for number, hits in known.items():
        for hit in hits:
            outcomes.add("sequential_100_accuracy", facts[number - 1].key, hit)
    first = questions.about(facts[0], FIRST_QUESTIONS)
    for (question, right), (said, *_) in zip(first, asker.ask(first, after[-1]), strict=True):
        outcomes.add("first_fact", question, said == right)  # one fact: what varies is how it is asked for
    transfer = mean_with_interval([float(np.mean(known[number])) - float(np.mean(at_once[number])) for number in told])
    return {"backward_transfer": judged("backward_transfer", transfer, thresholds)}, rows
