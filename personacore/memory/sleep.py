"""Sleep: a memory asks its rows what they know, and a low-rank adapter learns to read the questions for it.

Rows hold values, exactly and at once, but answer only what the model reads rightly. The adapter learns to say what is asked
for, beside near misses, and nothing of what the answer is: a correction changes rows, and the adapter is as good as before.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from personacore.corpus.dialogue.values import Values
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.memory.facts import Fact, Lesson
from personacore.memory.inventory import listed
from personacore.memory.lessons import Lessons
from personacore.memory.teach import Taught, teach_people
from personacore.memory.teaching import Teaching
from personacore.model.consolidated import Consolidated
from personacore.model.gpt import GPT
from personacore.model.rows import MemoryRows
from personacore.tokenizer.bpe import Tokenizer

QUESTIONS = 4  # about each fact, to see whether sleep has helped
OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Slept:
    """The memory then, the facts that were gone over, and the share of right answers to questions drawn anew, before and after.

    Where fewer would be right afterwards, or the memory can name nothing that it knows, it is the rows as they were.
    """

    memory: MemoryRows | Consolidated
    facts: tuple[Fact, ...]
    awake: float
    rested: float
    seconds: float


def consolidate(
    model: GPT, tokenizer: Tokenizer, rows: MemoryRows, teaching: Teaching, on_step: OnStep = lambda step, sure: None
) -> Slept:
    """Teach an adapter to read the questions for what the rows know; the model and the rows stay as they are.

    `on_step` is given the step after which is looked, and how surely the question is read that is read least surely.
    """
    began = time.monotonic()
    with rows.attached(model):
        facts = listed(model, tokenizer, rows)
    if not facts:
        return Slept(rows, (), 0.0, 0.0, time.monotonic() - began)

    def report(step: int, results: Sequence[Taught]) -> None:
        on_step(step, min(results[0].probabilities))

    generic, params = teaching.generic, teaching.sleep
    loras, _ = teach_people(model, tokenizer, [facts], generic, params, seed=0, values=False, on_step=report)
    both = Consolidated(rows, loras.person(0).requires_grad_(False))
    exam = Lessons(facts, "sleep", Values())
    lessons = [*exam.positives(QUESTIONS), *exam.negatives(len(facts), len(facts))]
    awake, rested = (_right(model, tokenizer, memory, lessons) for memory in (rows, both))
    memory = both if rested >= awake else rows
    return Slept(memory, tuple(facts), awake, rested, time.monotonic() - began)


def with_rows(memory: MemoryRows | Consolidated, rows: MemoryRows) -> MemoryRows | Consolidated:
    """A memory whose rows have changed: what sleep has taught it stays as good as it was."""
    return Consolidated(rows, memory.lora) if isinstance(memory, Consolidated) else rows


def _right(model: GPT, tokenizer: Tokenizer, memory: MemoryRows | Consolidated, lessons: Sequence[Lesson]) -> float:
    """The share of right answers."""
    with memory.attached(model):
        said = answers(model, tokenizer, [encode_prompt(tokenizer, question) for question, _ in lessons])
    return sum(answer == right for answer, (_, right) in zip(said, lessons, strict=True)) / len(lessons)
