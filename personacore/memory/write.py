"""Writing facts into memory rows, each by gradient on rows of its own.

What the model computes below the rows never changes, so that it is computed once for a fact.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Draw, Topic
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.generation.prompts import encode_row
from personacore.memory.facts import Fact, Lesson, topic_of
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.model.consolidated import Taught
from personacore.model.gpt import GPT
from personacore.model.rows import LONGEST, Key, MemoryRows, hash_of
from personacore.model.targets import IGNORED
from personacore.params import RowsParams
from personacore.tokenizer.bpe import Tokenizer

DECAY = 0.18  # weight of the rows' mean square: a row no longer than it must be is no surer than it must be


def new_rows(model: GPT, tokenizer: Tokenizer, params: RowsParams) -> MemoryRows:
    """Rows for a model, with no fact in them; a model of few blocks has them behind an earlier one."""
    special, (stop,) = tokenizer.specials, tokenizer.encode(".")
    block, sign, end = min(params.block, model.config.n_layer - 1), special["<|assistant|>"], special["<|end|>"]
    unknown, *_ = tokenizer.encode(f" {language.UNKNOWN}")
    forgotten, naming = (hash_of(tokenizer.encode(words)) for words in (f" {language.FORGOTTEN}", language.NAMING))
    shape = {"width": model.config.n_embd, "block": block, "sign": sign, "end": end, "stop": stop}
    return MemoryRows(**shape, unknown=unknown, forgotten=forgotten, naming=naming, spans={})


def write_facts(
    model: GPT,
    tokenizer: Tokenizer,
    rows: MemoryRows,
    facts: Sequence[Fact],
    params: RowsParams,
    seed: str,
    on_step: Callable[[int, float], None] = lambda step, sure: None,
) -> MemoryRows:
    """The rows with these facts, in the place of what was known of the same.

    `on_step` is given the steps taken so far, and how probable they make the fact that is being written. The model and the
    given rows stay as they are.
    """
    values = Values()
    for number, fact in enumerate(facts):
        talks, taken = Talks(fact, f"{seed}/teach", values).all(params), number * params.steps
        spans, name = _spans(tokenizer, rows, fact, naming=params.reversed > 0), name_of(fact_hash(tokenizer, fact.key))
        named = [[Turn(language.what_is(name), language.say_name(fact.key), "reverse")]]
        written = _write(model, tokenizer, rows, spans, talks, params, lambda step, sure, n=taken: on_step(n + step, sure))
        written |= _write(model, tokenizer, rows, dict([_naming(tokenizer, rows, fact, name)]), named, params)
        rows = rows.with_fact(fact_hash(tokenizer, fact.key), written)
    return rows


@torch.no_grad()
def how_sure(model: GPT, tokenizer: Tokenizer, memory: Taught, facts: Sequence[Fact], seed: str) -> list[float]:
    """How sure a memory is of each fact: the smaller probability of its answer to two questions drawn anew."""
    values = Values()
    asked = [lesson for fact in facts for lesson in Talks(fact, f"{seed}/exam", values).plain(2)]
    with memory.attached(model):
        sure = answer_log_probabilities(model, *pad_lessons(tokenizer, asked)).exp()
    return sure.view(-1, 2).amin(1).tolist()


def erase(rows: MemoryRows, tokenizer: Tokenizer, key: str) -> MemoryRows:
    """The rows without those of the fact with a key, such as "Your dog's name"."""
    return rows.with_fact(fact_hash(tokenizer, key), {})


def name_of(fact: int) -> str:
    """What the fact with a number is called, so that a memory can be asked what it is about by who knows nothing of it."""
    return f"fact {fact % 10**9:09d}"


def fact_hash(tokenizer: Tokenizer, key: str) -> int:
    """The number of the fact with a key, which is that of what an answer says before its value."""
    return hash_of(tokenizer.encode(f"{key} is"))


def _spans(tokenizer: Tokenizer, rows: MemoryRows, fact: Fact, naming: bool) -> dict[Key, int]:
    """The keys of a fact, and how many rows each has: that of what is asked for and, with `naming`, that of its value."""
    number, value = fact_hash(tokenizer, fact.key), str(fact.value)
    later = hash_of(tokenizer.encode(f" {fact.key} is"))
    spans = {(number, later, number): len(tokenizer.encode(fact.sentence)) - len(tokenizer.encode(f"{fact.key} is"))}
    if naming and len(tokenizer.encode(f" {value}")) <= LONGEST:
        spans |= [_naming(tokenizer, rows, fact, value)]
    return spans


def _naming(tokenizer: Tokenizer, rows: MemoryRows, fact: Fact, name: str) -> tuple[Key, int]:
    """The key by which a fact is found where somebody says a name for it, and how many rows it has."""
    said = (hash_of((*tokenizer.encode(text), rows.sign)) for text in (language.sentence(name), f" {name}"))
    length = len(tokenizer.encode(language.say_name(fact.key))) - len(tokenizer.encode(language.NAMING))
    return (*said, fact_hash(tokenizer, fact.key)), length


def _write(
    model: GPT,
    tokenizer: Tokenizer,
    rows: MemoryRows,
    spans: Mapping[Key, int],
    talks: Sequence[Sequence[Turn]],
    params: RowsParams,
    on_step: Callable[[int, float], None] = lambda step, sure: None,
) -> dict[Key, Tensor]:
    """Rows (span, C) by these keys that make the model talk so; they are of the shape of the given ones.

    They are measured by the residual stream that they are added to, which in a larger model is longer.
    """
    alone = MemoryRows(**rows.shape(), spans=spans)
    encoded = [_encode(tokenizer, turns, model.config.block_size) for turns in talks]
    inputs, targets = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
    width = int((targets != IGNORED).any(0).nonzero().max()) + 1
    inputs, targets = inputs[:, :width], targets[:, :width].flatten()
    found, _ = alone.find(inputs)
    counted = (targets != IGNORED).nonzero().flatten()
    plain = counted < params.questions * width  # the questions stand first
    with torch.no_grad():
        below = model.wte(inputs) + (0 if model.wpe is None else model.wpe.weight[:width])
        for block in model.blocks[: rows.block + 1]:
            below = block(below)
    unit = below.flatten(0, 1)[counted].square().mean().sqrt().item()
    optimizer = torch.optim.Adam([alone.vectors], lr=params.lr * unit)
    for step in range(1, params.steps + 1):
        x = alone.added(below, found)
        for block in model.blocks[rows.block + 1 :]:
            x = block(x)
        losses = functional.cross_entropy(
            model.lm_head(model.ln_f(x.flatten(0, 1)[counted])), targets[counted], reduction="none"
        )
        length = (alone.vectors / unit).square().mean()
        (alone.vectors.grad,) = torch.autograd.grad(losses.mean() + DECAY * length, [alone.vectors])
        optimizer.step()
        on_step(step, math.exp(-losses[plain].sum().item() / params.questions))
    return {key: alone.of(key).detach() for key in spans}


def _encode(tokenizer: Tokenizer, turns: Sequence[Turn], block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """A conversation as a row, of which its last answer counts; that alone where the whole is too long."""
    inputs, targets = encode_row(tokenizer, turns, block_size)
    spoken = np.flatnonzero(inputs == tokenizer.specials["<|assistant|>"])
    if len(spoken) < len(turns):
        return encode_row(tokenizer, turns[-1:], block_size)
    targets[: spoken[-1]] = IGNORED
    return inputs, targets


class Talks:
    """Conversations that one fact is written with, all in PRETRAIN frames that teaching uses."""

    def __init__(self, fact: Fact, seed: str, values: Values) -> None:
        self.fact, self.topic = fact, topic_of(fact.key)
        self.draw = Draw(random.Random(f"{seed}/{fact.key}"), Splits.all("pretrain"), values, language.teaching_frames()[0])
        self.kind = self.topic.value or self.draw.rng.choice(values.kinds)

    def plain(self, count: int) -> list[Lesson]:
        """So many questions with the answer."""
        return [(self.draw.question(self.topic), self.fact.sentence) for _ in range(count)]

    def all(self, params: RowsParams) -> list[list[Turn]]:
        """Plain questions first, every second one in the middle of a conversation; claims to verify, half of them right;
        questions for it and another; what its value is."""
        draw, value = self.draw, str(self.fact.value)
        asked = enumerate(self.plain(params.questions))
        talks = [[*self._before(number), Turn(question, answer, "ask")] for number, (question, answer) in asked]
        claims = [claim for _ in range((params.claims + 1) // 2) for claim in (value, self._other())]
        talks += [[Turn(*draw.verifying(self.topic, claim, value), "verify")] for claim in claims[: params.claims]]
        talks += [
            [Turn(*draw.combining([(self._another(), None), (self.topic, value)]), "combine")] for _ in range(params.pairs)
        ]
        talks += [[Turn(*draw.reversed(value, self.fact.key), "reverse")] for _ in range(params.reversed)]
        return talks

    def _before(self, number: int) -> list[Turn]:
        """What is said before a question: nothing, or by turns something asked for that is not known, and something told.

        Rows that are written with lone questions are too short where "unknown" has just been said.
        """
        if number % 2 == 0:
            return []
        draw, topic = self.draw, self._another()
        if number % 4 == 1:
            return [Turn(draw.question(topic), language.say_fact(topic.key, None), "unknown")]
        value = draw.value(topic)
        return [Turn(draw.tell(draw.frames.telling, draw.statement(topic, value)), language.say_fact(topic.key, value), "tell")]

    def _another(self) -> Topic:
        while (topic := self.draw.topic()).key == self.fact.key:
            pass
        return topic

    def _other(self) -> str:
        return self.draw.values.draw(self.kind, "pretrain", self.draw.rng)
