"""Teaching: a low-rank adapter learns what a person told, while the model under it stays as it is.

Every step mixes questions about the facts, near misses that must stay unknown, and generic text on which the adapter is held to
the base by the KL divergence. It stops when every value's probability passes a threshold and the near misses still hold.
Several people are taught in one batch, each with an adapter of their own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from personacore.corpus.dialogue.values import Values
from personacore.evaluation.loss import IGNORED
from personacore.generation.prompts import encode_answer, encode_prompt
from personacore.memory.facts import Fact
from personacore.memory.lessons import Lesson, Lessons
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import TeachParams
from personacore.tokenizer.bpe import Tokenizer


@dataclass(frozen=True)
class Taught:
    """What came of teaching one person: the probability of each fact's answer, and of the near misses' answers."""

    probabilities: tuple[float, ...]
    unknown: float
    steps: int
    seconds: float


def pad_lessons(tokenizer: Tokenizer, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor]:
    """Inputs and targets (N, T) of lessons, each a question at position 0 with its answer; only answers count."""
    pairs = [(encode_prompt(tokenizer, question), encode_answer(tokenizer, answer)) for question, answer in lessons]
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    inputs = torch.full((len(pairs), width), tokenizer.end_of_text)
    targets = torch.full((len(pairs), width), IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        ids = torch.tensor(prompt + answer)
        inputs[row, : len(ids)] = ids
        targets[row, len(prompt) - 1 : len(ids) - 1] = ids[len(prompt) :]
    return inputs, targets


def answer_log_probabilities(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """The log probability (N,) of each row's answer, the product over its tokens."""
    places = targets.flatten() != IGNORED
    wanted = targets.flatten()[places]
    hidden = model.hidden(inputs).flatten(0, 1)[places]
    losses = functional.cross_entropy(hidden @ model.lm_head.weight.T, wanted, reduction="none")
    rows = torch.arange(len(inputs)).repeat_interleave(inputs.size(1))[places]
    return torch.zeros(len(inputs)).index_add(0, rows, -losses)


def teach_people(
    model: GPT,
    tokenizer: Tokenizer,
    people: Sequence[Sequence[Fact]],
    generic: Tensor,
    params: TeachParams,
    seed: int,
    start: LoRA | None = None,
    on_step: Callable[[int, float], None] = lambda step, sure: None,
) -> tuple[LoRA, list[Taught]]:
    """Adapters of people who each told as many facts, taught in one batch, and what came of it.

    `generic` holds rows (N, T) of text on which the adapters must not differ from the base. `start` goes on from adapters of
    as many people. `on_step` is given each checked step and the smallest probability of a fact. The model is left as it was.
    """
    began = time.monotonic()
    lora = start or LoRA(model.config, params.rank, params.alpha, people=len(people), seed=seed)
    optimizer = torch.optim.AdamW(lora.parameters(), lr=params.lr, betas=(0.9, 0.95), weight_decay=0.0)
    values = Values()
    lessons = [Lessons(facts, f"{seed}/teach/{number}", values) for number, facts in enumerate(people)]
    exams = [Lessons(facts, f"{seed}/exam/{number}", values) for number, facts in enumerate(people)]
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(seed)
    results = [Taught((0.0,) * len(facts), 0.0, 0, 0.0) for facts in people]
    try:
        with lora.attached(model):
            for step in range(1, params.max_steps + 1):
                rate = params.lr * min(1.0, step / params.warmup_steps) * max(0.1, 1 - step / params.max_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                drawn = [
                    each.doubtful(params.positives, result.probabilities)
                    + each.reversed(params.reversed)
                    + each.open(params.open)
                    + each.negatives(params.negatives)
                    for each, result in zip(lessons, results, strict=True)
                ]
                _loss(model, tokenizer, lora, drawn, generic, params, generator).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if step % params.check_interval == 0 or step == params.max_steps:
                    seconds = time.monotonic() - began
                    results = [
                        _examine(model, tokenizer, lora, number, exam, step, seconds) for number, exam in enumerate(exams)
                    ]
                    sure = min(min(result.probabilities, default=1.0) for result in results)
                    on_step(step, sure)
                    if sure >= params.stop_probability and min(result.unknown for result in results) >= params.stop_unknown:
                        break
    finally:
        for parameter, grad in frozen:
            parameter.requires_grad_(grad)
    return lora, results


def _loss(
    model: GPT,
    tokenizer: Tokenizer,
    lora: LoRA,
    drawn: Sequence[Sequence[Lesson]],
    generic: Tensor,
    params: TeachParams,
    generator: torch.Generator,
) -> Tensor:
    """Summed over people, who share no weights: the mean loss of a lesson's answer, and the weighted KL on generic text."""
    size = max(len(lessons) for lessons in drawn)
    even = [lesson for lessons in drawn for lesson in [*lessons, *lessons[: size - len(lessons)]]]
    inputs, targets = pad_lessons(tokenizer, even)
    loss = -answer_log_probabilities(model, inputs, targets).sum() / size
    if params.generic_rows:
        rows = torch.randint(len(generic), (params.generic_rows * len(drawn),), generator=generator)
        lora.enabled = False
        with torch.no_grad():
            base = model(generic[rows]).log_softmax(-1)
        lora.enabled = True
        mine = model(generic[rows]).log_softmax(-1)
        kl = (base.exp() * (base - mine)).sum(-1).mean() * len(drawn)  # (rows, T) to nats per token and person
        loss = loss + params.kl_weight * kl
    return loss


@torch.no_grad()
def _examine(model: GPT, tokenizer: Tokenizer, lora: LoRA, number: int, exam: Lessons, step: int, seconds: float) -> Taught:
    """One person's adapter on questions that it was not taught with."""
    positives, negatives = exam.positives(2), exam.negatives(8)
    lessons = positives + negatives
    inputs, targets = pad_lessons(tokenizer, lessons)
    inputs, targets = (part.repeat(lora.people or 1, 1) for part in (inputs, targets))
    sure = answer_log_probabilities(model, inputs, targets).view(lora.people or 1, -1)[number].exp()
    each = sure[: len(positives)].view(-1, 2).amin(1)
    return Taught(tuple(each.tolist()), sure[len(positives) :].mean().item(), step, seconds)
