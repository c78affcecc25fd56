"""Many sessions: each reads out what the memory knows, and teaches that together with one new fact."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from personacore.evaluation.intervals import mean_with_interval
from personacore.layout import MEMORY
from personacore.memory.facts import Fact
from personacore.memory.inventory import CONFIDENCE, read_out
from personacore.memory.people import Questions
from personacore.memory.recall import Asker, Outcomes, judged
from personacore.memory.teach import teach_people
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import TeachParams
from personacore.tokenizer.bpe import Tokenizer

FOLDER = MEMORY.with_name("sessions")
COUNT, QUICK_COUNT = 100, 20  # sessions by the full and by the quick protocol
STEPS = 70  # of a later session at most: it goes on from an adapter that knows the rest
QUESTIONS, FIRST_QUESTIONS = 2, 20  # about each fact; more about the first, when all are told


@dataclass(frozen=True)
class Session:
    """One session: the facts that were read out before it, how many of them were right, and what it took."""

    read_out: int
    right: int
    told_before: int
    steps: int
    seconds: float


def hold_sessions(
    model: GPT,
    tokenizer: Tokenizer,
    facts: Sequence[Fact],
    generic: Tensor,
    params: TeachParams,
    seed: int,
    on_session: Callable[[int, LoRA, Session], None],
    confidence: float = CONFIDENCE,
) -> None:
    """One session for each fact, in which nothing is at hand but the adapter that the session before has left.

    Of what the memory says in between, answers of at least this `confidence` are taught again. `on_session` is given the
    number of facts told, the adapter and the record of each session.
    """
    lora: LoRA | None = None
    further = dataclasses.replace(params, max_steps=min(STEPS, params.max_steps))
    for number, new in enumerate(facts):
        known: dict[str, Fact] = {}
        if lora is not None:
            with lora.attached(model):
                known = read_out(model, tokenizer, number, confidence)
        right = sum(fact in facts[:number] for fact in known.values())
        told = list((known | {new.key: new}).values())
        start = LoRA.stack([lora]) if lora is not None else None
        taught, results = teach_people(
            model, tokenizer, [told], generic, params if lora is None else further, seed + number, start
        )
        lora = taught.person(0)
        on_session(number + 1, lora, Session(len(known), right, number, results[0].steps, results[0].seconds))


def ask_sessions(
    asker: Asker,
    outcomes: Outcomes,
    facts: Sequence[Fact],
    after: Sequence[LoRA],
    questions: Questions,
    thresholds: dict[str, float],
) -> tuple[dict[str, dict[str, object]], list[tuple[int, int, float]]]:
    """What is known of facts told one a session: the gate of backward transfer, and rows of how it went on the way.

    `after` holds the adapter after each session. A row is (sessions held, session of a fact, share of right
    answers), for ten places on the way. Whether all, and the first one, are known in the end, `outcomes` notes.
    """
    lessons = {number: questions.about(fact, QUESTIONS) for number, fact in enumerate(facts, 1)}
    every = max(1, len(facts) // 10)

    def ask(numbers: Sequence[int], lora: LoRA) -> dict[int, list[bool]]:
        asked = [lesson for number in numbers for lesson in lessons[number]]
        hits = [said == right for (_, right), (said, *_) in zip(asked, asker.ask(asked, lora), strict=True)]
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
    for (_, right), (said, *_) in zip(first, asker.ask(first, after[-1]), strict=True):
        outcomes.add("first_fact", right, said == right)
    transfer = mean_with_interval([float(np.mean(known[number])) - float(np.mean(at_once[number])) for number in told])
    return {"backward_transfer": judged("backward_transfer", transfer, thresholds)}, rows
