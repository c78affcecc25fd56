"""Writing facts into memory rows, each by gradient on rows of its own.

What the model computes below the rows never changes, so that it is computed once for a fact.
"""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Draw
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.loss import IGNORED
from personacore.generation.prompts import encode_row
from personacore.memory.facts import Fact, Lesson, topic_of
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.model.gpt import GPT
from personacore.model.rows import Key, MemoryRows, hash_of
from personacore.tokenizer.bpe import Tokenizer

BLOCK = 1  # behind which rows are added
QUESTIONS, CLAIMS, PAIRS, CONFLICTS = 8, 4, 4, 16  # lessons: plain, to verify, for two facts, and with other values told
STEPS, RATE = 60, 0.1  # of Adam on the rows of a fact


def new_rows(model: GPT, tokenizer: Tokenizer) -> MemoryRows:
    """MemoryRows that hold nothing yet."""
    special, (stop,) = tokenizer.specials, tokenizer.encode(".")
    block, sign, end = min(BLOCK, model.config.n_layer - 1), special["<|assistant|>"], special["<|end|>"]
    return MemoryRows(width=model.config.n_embd, block=block, sign=sign, end=end, stop=stop, spans={})


def write_facts(
    model: GPT,
    tokenizer: Tokenizer,
    rows: MemoryRows,
    facts: Sequence[Fact],
    seed: str,
    on_step: Callable[[int, float], None] = lambda step, sure: None,
) -> tuple[MemoryRows, list[float]]:
    """The rows with these facts, those of a key that has some being replaced, and how sure the memory then is of each fact.

    That is the smaller probability of its answer to two questions drawn anew. `on_step` is given the steps taken so far, and
    how probable they make the fact that is being written. The model and the given rows stay as they are.
    """
    values, written = Values(), {}
    for number, fact in enumerate(facts):
        talks = Talks(fact, f"{seed}/teach", values)
        written |= _write(model, tokenizer, rows, talks, lambda step, sure, before=number * STEPS: on_step(before + step, sure))
    rows = rows.with_rows(written)
    asked = [lesson for fact in facts for lesson in Talks(fact, f"{seed}/exam", values).plain(2)]
    with torch.no_grad(), rows.attached(model):
        sure = answer_log_probabilities(model, *pad_lessons(tokenizer, asked)).exp()
    return rows, sure.view(-1, 2).amin(1).tolist()


def erase(rows: MemoryRows, tokenizer: Tokenizer, key: str) -> MemoryRows:
    """The rows without those of a key."""
    return rows.with_rows({row_key(tokenizer, key): torch.empty(0, rows.width)})


def row_key(tokenizer: Tokenizer, key: str) -> Key:
    """What finds the rows of a fact's key, such as "Your dog's name"."""
    return hash_of(tokenizer.encode(f"{key} is")), hash_of(tokenizer.encode(f" {key} is"))


def _write(
    model: GPT,
    tokenizer: Tokenizer,
    rows: MemoryRows,
    talks: "Talks",
    on_step: Callable[[int, float], None],
) -> dict[Key, Tensor]:
    """The rows (span, C) that make the model say a fact, by their key; they are of the shape of the given ones."""
    fact = talks.fact
    key = row_key(tokenizer, fact.key)
    span = len(tokenizer.encode(fact.sentence)) - len(tokenizer.encode(f"{fact.key} is"))  # its value and the full stop
    alone = MemoryRows(**rows.shape(), spans={key: span})
    encoded = [encode_row(tokenizer, turns, model.config.block_size) for turns in talks.all()]
    inputs, targets = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
    width = int((targets != IGNORED).any(0).nonzero().max()) + 1
    inputs, targets = inputs[:, :width], targets[:, :width].flatten()
    found, _ = alone.find(inputs)
    counted = (targets != IGNORED).nonzero().flatten()
    plain = counted < QUESTIONS * width  # the questions stand first
    with torch.no_grad():
        below = model.wte(inputs) + (0 if model.wpe is None else model.wpe.weight[:width])
        for block in model.blocks[: rows.block + 1]:
            below = block(below)
    optimizer = torch.optim.Adam([alone.vectors], lr=RATE)
    for step in range(1, STEPS + 1):
        x = alone.added(below, found)
        for block in model.blocks[rows.block + 1 :]:
            x = block(x)
        losses = functional.cross_entropy(
            model.lm_head(model.ln_f(x.flatten(0, 1)[counted])), targets[counted], reduction="none"
        )
        (alone.vectors.grad,) = torch.autograd.grad(losses.mean(), [alone.vectors])
        optimizer.step()
        on_step(step, math.exp(-losses[plain].sum().item() / QUESTIONS))
    return {key: alone.of(key).detach()}


class Talks:
    """Conversations that one fact is written with, all in PRETRAIN frames that teaching uses."""

    def __init__(self, fact: Fact, seed: str, values: Values) -> None:
        self.fact, self.topic = fact, topic_of(fact.key)
        self.draw = Draw(random.Random(f"{seed}/{fact.key}"), Splits.all("pretrain"), values, language.teaching_frames()[0])
        self.kind = self.topic.value or self.draw.rng.choice(values.kinds)

    def plain(self, count: int) -> list[Lesson]:
        """So many questions with the answer."""
        return [(self.draw.question(self.topic), self.fact.sentence) for _ in range(count)]

    def all(self) -> list[list[Turn]]:
        """Plain questions first; claims to verify; questions for two things; and other values that have just been told."""
        draw, value = self.draw, str(self.fact.value)
        talks = [[Turn(question, answer, "ask")] for question, answer in self.plain(QUESTIONS)]
        claims = [claim for _ in range(CLAIMS // 2) for claim in (value, self._other())]
        talks += [[Turn(*draw.verifying(self.topic, claim, value), "verify")] for claim in claims]
        talks += [[Turn(*draw.combining([(draw.topic(), None), (self.topic, value)]), "combine")] for _ in range(PAIRS)]
        for _ in range(CONFLICTS):
            told = language.say_fact(self.fact.key, another := self._other())
            statement = draw.tell(draw.frames.telling, draw.statement(self.topic, another))
            talks.append([Turn(statement, told, "tell"), Turn(draw.question(self.topic), told, "ask")])
        return talks

    def _other(self) -> str:
        return self.draw.values.draw(self.kind, "pretrain", self.draw.rng)
