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
from personacore.memory.teach import Progress, teach_people
from personacore.memory.teaching import Teaching
from personacore.model.consolidated import Consolidated, Taught, rows_of
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer

QUESTIONS = 4  # about each fact, to see whether sleep has helped
OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Slept:
    """The memory then, the facts that were gone over, and the share of right answers to questions drawn anew, before and after.

    Where fewer would be right afterwards, or the memory can name nothing that it knows, it is as it was.
    """

    memory: Taught
    facts: tuple[Fact, ...]
    before: float
    after: float
    seconds: float


def consolidate(
    model: GPT, tokenizer: Tokenizer, memory: Taught, teaching: Teaching, on_step: OnStep = lambda step, sure: None
) -> Slept:
    """Teach a new adapter to read the questions for what the rows of a memory know; these and the model stay as they are.

    `on_step` is given the step after which is looked, and how surely the question is read that is read least surely.
    """
    began, rows = time.monotonic(), rows_of(memory)
    with rows.attached(model):
        facts = listed(model, tokenizer, rows)
    if not facts:
        return Slept(memory, (), 0.0, 0.0, time.monotonic() - began)

    def report(step: int, progress: Sequence[Progress]) -> None:
        on_step(step, min(progress[0].probabilities))

    generic, params = teaching.generic, teaching.sleep
    loras, _ = teach_people(model, tokenizer, [facts], generic, params, seed=0, values=False, on_step=report)
    rested = Consolidated(rows, loras.person(0).requires_grad_(False))
    exam = Lessons(facts, "sleep", Values())
    lessons = [*exam.positives(QUESTIONS), *exam.negatives(len(facts), len(facts))]
    before, after = (_right(model, tokenizer, each, lessons) for each in (memory, rested))
    kept = rested if after >= before else memory
    return Slept(kept, tuple(facts), before, after, time.monotonic() - began)


def _right(model: GPT, tokenizer: Tokenizer, memory: Taught, lessons: Sequence[Lesson]) -> float:
    """The share of right answers."""
    with memory.attached(model):
        said = answers(model, tokenizer, [encode_prompt(tokenizer, question) for question, _ in lessons])
    return sum(answer == right for answer, (_, right) in zip(said, lessons, strict=True)) / len(lessons)
