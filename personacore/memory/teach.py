"""Teaching: a low-rank adapter learns what a person told, or only to read the questions for it; the model stays as it is.

Every step mixes questions about the facts, near misses that must stay unknown, and generic conversations on which the adapter
is held to the base by the KL divergence. What is asked follows what the memory gets wrong: facts that it is not sure of, and
keys of the grammar that it takes for known. It stops when every value's probability passes a threshold and the near misses
still hold. Several people are taught in one batch, each with an adapter of their own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from personacore.corpus.dialogue.values import Values
from personacore.memory.facts import Fact, Lesson
from personacore.memory.lessons import Lessons
from personacore.memory.probe import Asked, grammar_keys
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.whitening import white_roots, whitened
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import SleepParams
from personacore.tokenizer.bpe import Tokenizer

Objective = Callable[[Sequence[Lesson]], Tensor]


@dataclass(frozen=True)
class Progress:
    """What came of teaching one person: the probability of each fact's answer, and of the near misses' answers."""

    probabilities: tuple[float, ...]
    unknown: float
    steps: int
    seconds: float


def new_adapter(model: GPT, tokenizer: Tokenizer, params: SleepParams, people: int | None = None, seed: int = 0) -> LoRA:
    """An adapter that knows nothing yet. It acts from the first word of a conversation on: stories stay the base's."""
    invocation = tokenizer.specials["<|user|>"]
    return LoRA(model.config, params.rank, params.alpha, params.targets, people, seed, invocation)


def teach_people(
    model: GPT,
    tokenizer: Tokenizer,
    people: Sequence[Sequence[Fact]],
    generic: Tensor,
    params: SleepParams,
    seed: int,
    start: LoRA | None = None,
    values: bool = True,
    on_step: Callable[[int, Sequence[Progress]], None] = lambda step, results: None,
    objective: Objective | None = None,
) -> tuple[LoRA, list[Progress]]:
    """Adapters of people who each told as many facts, taught in one batch, and what came of it.

    `generic` holds rows (N, T) of conversations on which the adapters must not differ from the base. `start` goes on from
    adapters of as many people. Without `values` they learn to read the questions and to say what is asked for, but not the
    answer. `objective` is the summed loss of lessons, where it is not that of their answers. `on_step` is given each step after
    which is looked, and what is known by then. The model is left as it was.
    """
    began = time.monotonic()
    objective = objective or partial(_answers, model, tokenizer, values)
    lora = start or new_adapter(model, tokenizer, params, len(people), seed)
    words = Values()
    lessons = [Lessons(facts, f"{seed}/teach/{number}", words, params.frames) for number, facts in enumerate(people)]
    exams = [Lessons(facts, f"{seed}/exam/{number}", words) for number, facts in enumerate(people)]
    asked = Asked(tokenizer, grammar_keys() if values else ())
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(seed)
    results = [Progress((0.0,) * len(facts), 0.0, 0, 0.0) for facts in people]
    known = torch.zeros(len(people), len(asked.keys))
    said = generic != tokenizer.end_of_text
    roots, hidden = white_roots(model, generic, said.float())
    ordinary = generic, hidden, said
    try:
        with whitened(lora, roots), lora.attached(model):
            optimizer = torch.optim.AdamW(lora.parameters(), lr=params.lr, betas=(0.9, 0.95), weight_decay=0.0)
            for step in range(1, params.max_steps + 1):
                rate = params.lr * min(1.0, step / params.warmup_steps) * max(0.1, 1 - step / params.max_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                drawn = [
                    _lessons(each, result, asked.keys, seeming, params)
                    for each, result, seeming in zip(lessons, results, known.tolist(), strict=True)
                ]
                _loss(model, objective, drawn, ordinary, params, generator).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if step % params.check_interval == 0 or step == params.max_steps:
                    known = asked.known(model, len(people)) if values else known
                    results = _examine(model, tokenizer, exams, values, step, time.monotonic() - began)
                    sure = min(min(result.probabilities, default=1.0) for result in results)
                    on_step(step, results)
                    if sure >= params.stop_probability and min(result.unknown for result in results) >= params.stop_unknown:
                        break
    finally:
        for parameter, grad in frozen:
            parameter.requires_grad_(grad)
    return lora, results


def _lessons(
    lessons: Lessons, result: Progress, keys: Sequence[str], known: Sequence[float], params: SleepParams
) -> list[Lesson]:
    """One person's lessons of a step."""
    near = round(params.near_misses * params.negatives)
    mistaken = lessons.mistaken(near // 2, keys, known)
    return [
        *lessons.doubtful(params.positives, result.probabilities),
        *lessons.reversed(params.reversed),
        *lessons.open(params.open),
        *mistaken,
        *lessons.negatives(near - len(mistaken), params.negatives - near),
    ]


def _answers(model: GPT, tokenizer: Tokenizer, values: bool, lessons: Sequence[Lesson]) -> Tensor:
    """The summed negative log probability of the lessons' answers."""
    return -answer_log_probabilities(model, *pad_lessons(tokenizer, lessons, values)).sum()


def _loss(
    model: GPT,
    objective: Objective,
    drawn: Sequence[Sequence[Lesson]],
    ordinary: tuple[Tensor, Tensor, Tensor],
    params: SleepParams,
    generator: torch.Generator,
) -> Tensor:
    """Summed over people, who share no weights: the mean loss of a lesson, and the weighted KL on conversations.

    `ordinary` are rows (N, T) of conversations, the base's hidden states (N, T, C) in them, and where (N, T) text stands.
    What the person says counts as well: held on answers alone, conversations drift ten times as far.
    """
    size = max(len(lessons) for lessons in drawn)
    loss = objective([lesson for lessons in drawn for lesson in _padded(lessons, size)]) / size
    if params.generic_rows:
        chosen = torch.randint(len(ordinary[0]), (params.generic_rows * len(drawn),), generator=generator)
        rows, hidden, places = (part[chosen] for part in ordinary)
        base = model.lm_head(hidden[places]).log_softmax(-1)  # (tokens, V)
        mine = model.lm_head(model.hidden(rows)[places]).log_softmax(-1)
        kl = (base.exp() * (base - mine)).sum(-1).mean() * len(drawn)  # nats per token and person
        loss = loss + params.kl_weight * kl
    return loss


@torch.no_grad()
def _examine(
    model: GPT, tokenizer: Tokenizer, exams: Sequence[Lessons], values: bool, step: int, seconds: float
) -> list[Progress]:
    """Everybody's adapter on questions in the frames that teaching uses, drawn anew: two a fact, and near misses."""
    drawn = [[*exam.positives(2), *exam.negatives(7, 1)] for exam in exams]
    size = max(len(lessons) for lessons in drawn)
    inputs, targets = pad_lessons(tokenizer, [lesson for lessons in drawn for lesson in _padded(lessons, size)], values)
    results = []
    for lessons, sure in zip(drawn, answer_log_probabilities(model, inputs, targets).exp().view(-1, size), strict=True):
        told, untold = sure[: len(lessons) - 8], sure[len(lessons) - 8 : len(lessons)]
        results.append(Progress(tuple(told.view(len(told) // 2, 2).amin(1).tolist()), untold.mean().item(), step, seconds))
    return results


def _padded(lessons: Sequence[Lesson], size: int) -> list[Lesson]:
    """As many lessons as everybody has, the first ones over again."""
    return [*lessons, *lessons[: size - len(lessons)]]
