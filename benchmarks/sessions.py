"""One fact a session: rows, which is ours, beside ways to do it with a low-rank adapter, on CALIBRATION facts.

python -m benchmarks.sessions    (about a quarter of an hour on two cores, after `dvc repro export`)

- rows: each fact is written into rows of its own.
- read_out: what the adapter says with confidence is read out and taught again with the new fact.
- unfiltered: the same without the confidence, so that whatever it says is taught again.
- sequential: the adapter goes on with the new fact alone.
- ewc: the same, held by elastic weight consolidation to what the questions of each session before needed (the Fisher is kept
  beside the adapter), without near misses, which may be facts of before; of some strengths the one of most right answers.
- distilled: the adapter goes on with the new fact, and on whatever else is asked is held to what it said before.
- sum: every fact has an adapter of its own; they are added up.
- joint: all facts at once, in one session, which none of the others can know; what there is to reach.
"""

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.generation.sampling import Sampling
from personacore.layout import CHAT_EXPORT
from personacore.memory.cohort import Room, each_in
from personacore.memory.ewc import diagonal_fisher
from personacore.memory.facts import Fact, Lesson, plain_question, read_facts
from personacore.memory.lessons import Lessons
from personacore.memory.people import Questions, draw_sessions
from personacore.memory.probe import BATCH_ROWS, Asked, grammar_keys
from personacore.memory.recall import Asker, abstains
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teach import Objective, teach_people
from personacore.memory.write import new_rows, write_facts
from personacore.model.adapter import Adapter
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.model.targets import IGNORED
from personacore.params import SleepParams
from personacore.tokenizer.bpe import Tokenizer

METRICS = Path("metrics/session_ways.json")
SESSIONS, QUESTIONS, UNTOLD = 10, 4, 40
STEPS = 70  # of a later session at most: it goes on from an adapter that knows the rest
DRAWS = 8  # open questions a fact, when an adapter is read out
CONFIDENCE = 0.5  # probability of an answer below which it is no knowledge
STRENGTHS, EXAMPLES = (1.0, 30.0, 1e3), 32  # of EWC; questions of each Fisher
WAYS = (
    "rows",
    "joint",
    "read_out",
    "unfiltered",
    "sequential",
    *(f"ewc {strength:g}" for strength in STRENGTHS),
    "distilled",
    "sum",
)


@dataclass(frozen=True)
class Known:
    """A fact that a memory says, and the probability with which it says it."""

    fact: Fact
    probability: float


@torch.no_grad()
def take_inventory(model: GPT, tokenizer: Tokenizer, keys: Sequence[str], confidence: float) -> list[Known]:
    """What the model, with whatever adapter is attached, says of these keys with at least so much probability."""
    asked = Asked(tokenizer, keys)
    # A value that is told with some probability begins with no smaller one, so one look at most keys is enough.
    likely = [key for key, p in zip(asked.keys, asked.known(model)[0].tolist(), strict=True) if p >= confidence]
    told = answers(model, tokenizer, [encode_prompt(tokenizer, plain_question(key)) for key in likely])
    read = [(key, fact) for key, answer in zip(likely, told, strict=True) for fact in read_facts(answer) or []]
    said = [fact for key, fact in read if fact.key == key and fact.value not in (None, language.FORGOTTEN)]
    sure: list[float] = []
    for start in range(0, len(said), BATCH_ROWS):
        lessons = [(plain_question(fact.key), fact.sentence) for fact in said[start : start + BATCH_ROWS]]
        sure += answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp().tolist()
    return [Known(fact, p) for fact, p in zip(said, sure, strict=True) if p >= confidence]


def read_out(model: GPT, tokenizer: Tokenizer, count: int, confidence: float) -> dict[str, Fact]:
    """What the attached adapter of about `count` facts says it knows, by key: every key of the grammar, and open questions.

    An open question finds keys that the grammar has no word for. It may draw a value that is not the likeliest one, so each
    key's own question decides.
    """
    frames = language.teaching_frames()[0].recounting
    prompts = [encode_prompt(tokenizer, frames[number % len(frames)]) for number in range(DRAWS * max(1, count))]
    drawn = answers(model, tokenizer, prompts, sampling=Sampling(1.0))
    told = [fact.key for answer in drawn for fact in read_facts(answer) or []]
    listed = take_inventory(model, tokenizer, [*grammar_keys(), *told], confidence)
    return {known.fact.key: known.fact for known in listed}


def reading_out(
    model: GPT,
    tokenizer: Tokenizer,
    facts: Sequence[Fact],
    generic: Tensor,
    params: SleepParams,
    confidence: float,
) -> LoRA:
    """One session for each fact, in which nothing is at hand but the adapter that the session before has left.

    Of what the memory says in between, answers of at least this `confidence` are taught again. Returns the last adapter.
    """
    lora: LoRA | None = None
    further = dataclasses.replace(params, max_steps=min(STEPS, params.max_steps))
    for number, new in enumerate(facts):
        known: dict[str, Fact] = {}
        if lora is not None:
            with lora.attached(model):
                known = read_out(model, tokenizer, number, confidence)
        told = list((known | {new.key: new}).values())
        start = LoRA.stack([lora]) if lora is not None else None
        budget = params if lora is None else further
        lora = teach_people(model, tokenizer, [told], generic, budget, number, start)[0].person(0)
    return lora


Keeping = Callable[[LoRA, Fact], Objective]


def in_turn(room: Room, facts: Sequence[Fact], params: SleepParams, on: bool, keeping: Keeping | None = None) -> Iterator[LoRA]:
    """The adapter of each fact, which goes `on` from the one before or begins anew.

    `keeping` gives what a later session is to learn, from the adapter that it goes on from, which it may change, and its fact.
    """
    lora: LoRA | None = None
    for number, fact in enumerate(facts):
        start = LoRA.stack([lora]) if on and lora is not None else None
        budget = params if start is None else dataclasses.replace(params, max_steps=min(STEPS, params.max_steps))
        objective = keeping(start, fact) if keeping and start is not None else None
        lora = teach_people(
            room.model, room.tokenizer, [[fact]], room.teaching.generic, budget, number, start, objective=objective
        )[0].person(0)
        yield lora


def cost_of(model: GPT, tokenizer: Tokenizer, lessons: Sequence[Lesson]) -> Tensor:
    """The negative log probability (N,) of the answers."""
    return -answer_log_probabilities(model, *pad_lessons(tokenizer, lessons))


def with_ewc(room: Room, facts: Sequence[Fact], params: SleepParams, strength: float) -> LoRA:
    """The adapter that learned fact after fact, held to the one before by the sum of every session's Fisher."""
    needed: dict[str, Tensor] = {}
    model, tokenizer = room.model, room.tokenizer

    def held(start: LoRA, fact: Fact) -> Objective:
        pairs = start.pairs()
        anchor = {name: (pair.a[0].detach().clone(), pair.b[0].detach().clone()) for name, pair in pairs.items()}

        def loss(lessons: Sequence[Lesson]) -> Tensor:
            penalty = sum(
                (needed[f"{name}.{factor}"] * (getattr(pair, factor)[0] - was[0]).square()).sum()
                for name, pair in pairs.items()
                for factor, was in zip("ab", anchor[name], strict=True)
            )
            return cost_of(model, tokenizer, lessons).sum() + len(lessons) * strength / 2 * penalty

        return loss

    for number, (fact, lora) in enumerate(zip(facts, in_turn(room, facts, params, on=True, keeping=held), strict=True)):
        questions = Lessons([fact], f"{number}/fisher", Values()).positives(EXAMPLES)
        with lora.attached(model):
            fisher = diagonal_fisher(lora, lambda _, lesson: cost_of(model, tokenizer, [lesson]).sum(), questions)
        for name, entries in fisher.items():
            needed[name] = needed.get(name, 0.0) + entries
    return lora


def distilling(room: Room, start: LoRA, fact: Fact) -> Objective:
    """Learn the answers that are about a fact, and of all others what the adapter to go on from would have said."""
    before, old = copy.deepcopy(room.model), LoRA.stack([start.person(0)]).requires_grad_(False)
    old.attach(before)
    about = (fact.sentence, language.say_name(fact.key))

    def loss(lessons: Sequence[Lesson]) -> Tensor:
        inputs, targets = pad_lessons(room.tokenizer, lessons)
        places = targets != IGNORED
        mine = room.model.lm_head(room.model.hidden(inputs)[places]).log_softmax(-1)
        with torch.no_grad():
            said = before.lm_head(before.hidden(inputs)[places]).log_softmax(-1)
        new = torch.tensor([answer in about for _, answer in lessons])[:, None].expand_as(places)[places]
        learned = -mine.gather(1, targets[places][:, None])[:, 0]
        return torch.where(new, learned, (said.exp() * (said - mine)).sum(-1)).sum()

    return loss


def written(way: str, room: Room, facts: Sequence[Fact]) -> Adapter:
    """The memory that is left after all sessions."""
    model, tokenizer, generic = room.model, room.tokenizer, room.teaching.generic
    params = dataclasses.replace(room.teaching.sleep, open=2, stop_probability=0.97)  # read out by open questions
    match way.split():
        case ["rows"]:
            rows = new_rows(model, tokenizer, room.teaching.rows)
            for fact in facts:
                rows = write_facts(model, tokenizer, rows, [fact], room.teaching.rows, "sessions")
            return rows
        case ["sequential"]:
            return list(in_turn(room, facts, params, on=True))[-1]
        case ["ewc", strength]:
            return with_ewc(room, facts, dataclasses.replace(params, near_misses=0.0), float(strength))
        case ["distilled"]:
            return list(in_turn(room, facts, params, on=True, keeping=partial(distilling, room)))[-1]
        case ["sum"]:
            return LoRA.concatenate(list(in_turn(room, facts, params, on=False)))
        case ["joint"]:
            return teach_people(model, tokenizer, [facts], generic, params, 0)[0].person(0)
    return reading_out(model, tokenizer, facts, generic, params, CONFIDENCE if way == "read_out" else 0.0)


def hold(facts: Sequence[Fact], room: Room, way: str) -> dict[str, float]:
    """What is answered after sessions that were held in a way."""
    memory = written(way, room, facts).requires_grad_(False)
    questions, asker = Questions(facts, "session ways", "calibration", Values()), Asker(room.model, room.tokenizer)
    told = [lesson for fact in facts for lesson in questions.about(fact, QUESTIONS)]
    hits = [said == right for (_, right), (said, *_) in zip(told, asker.ask(told, memory), strict=True)]
    unknown = [abstains(said) for said, *_ in asker.ask(questions.untold("known_slot", UNTOLD), memory)]
    return {
        "accuracy": sum(hits) / len(hits),
        "first_fact": sum(hits[:QUESTIONS]) / QUESTIONS,
        "last_fact": sum(hits[-QUESTIONS:]) / QUESTIONS,
        "abstains": sum(unknown) / UNTOLD,
    }


def main() -> None:
    """Hold the sessions in each way, ask for all facts, print, and keep the table."""
    model, tokenizer = load_slim(CHAT_EXPORT)
    room, table = Room(model, tokenizer, *load_teaching(CHAT_EXPORT)), {}
    facts, names = draw_sessions(SESSIONS, "calibration", "session ways", Values()), sys.argv[1:] or WAYS
    for way, found in zip(names, each_in(room, partial(hold, facts), names), strict=True):
        print(f"{way:11}", *(f"{name} {value:.3f}" for name, value in found.items()), sep="  ", flush=True)
        name, _, strength = way.partition(" ")
        if found["accuracy"] >= table.get(name, found)["accuracy"]:
            table[name] = found | ({"strength": float(strength)} if strength else {})
    if not sys.argv[1:]:
        write_json(METRICS, {"sessions": SESSIONS} | table)


if __name__ == "__main__":
    main()
