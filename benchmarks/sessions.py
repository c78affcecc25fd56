"""One fact a session: rows, which is ours, beside five ways to do it with a low-rank adapter, on CALIBRATION facts.

python -m benchmarks.sessions    (about a quarter of an hour on two cores, after `dvc repro export`)

- rows: each fact is written into rows of its own.
- read_out: what the adapter says with confidence is read out and taught again with the new fact.
- unfiltered: the same without the confidence, so that whatever it says is taught again.
- sequential: the adapter goes on with the new fact alone.
- sum: every fact has an adapter of its own; they are added up.
- joint: all facts at once, in one session, which none of the others can know; what there is to reach.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.files import write_json
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.generation.sampling import Sampling
from personacore.layout import CHAT_EXPORT, PRETRAIN
from personacore.memory.facts import Fact, plain_question, read_facts
from personacore.memory.generic import generic_rows
from personacore.memory.people import Questions, draw_sessions
from personacore.memory.probe import BATCH_ROWS, Asked, grammar_keys
from personacore.memory.recall import Asker, abstains
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teach import teach_people
from personacore.memory.write import new_rows, write_facts
from personacore.model.adapter import Adapter
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import MemoryParams, SleepParams, load_params
from personacore.tokenizer.bpe import Tokenizer

METRICS = Path("metrics/session_ways.json")
SESSIONS, QUESTIONS, UNTOLD = 10, 4, 40
STEPS = 70  # of a later session at most: it goes on from an adapter that knows the rest
DRAWS = 8  # open questions a fact, when an adapter is read out
CONFIDENCE = 0.5  # probability of an answer below which it is no knowledge


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


def in_turn(
    model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, params: SleepParams, on: bool
) -> Iterator[LoRA]:
    """The adapter of each fact, which goes `on` from the one before or begins anew."""
    lora: LoRA | None = None
    for number, fact in enumerate(facts):
        start = LoRA.stack([lora]) if on and lora is not None else None
        budget = params if start is None else dataclasses.replace(params, max_steps=min(STEPS, params.max_steps))
        lora = teach_people(model, tokenizer, [[fact]], generic, budget, number, start)[0].person(0)
        yield lora


def written(
    way: str, model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, memory: MemoryParams
) -> Adapter:
    """The memory that is left after all sessions."""
    params = dataclasses.replace(memory.sleep, open=2, stop_probability=0.97)  # read out by open questions
    match way:
        case "rows":
            rows = new_rows(model, tokenizer, memory.rows)
            for fact in facts:
                rows = write_facts(model, tokenizer, rows, [fact], memory.rows, "sessions")
            return rows
        case "sequential":
            return list(in_turn(model, tokenizer, facts, generic, params, on=True))[-1]
        case "sum":
            return LoRA.concatenate(list(in_turn(model, tokenizer, facts, generic, params, on=False)))
        case "joint":
            return teach_people(model, tokenizer, [facts], generic, params, 0)[0].person(0)
    return reading_out(model, tokenizer, facts, generic, params, CONFIDENCE if way == "read_out" else 0.0)


def main() -> None:
    """Hold the sessions in each way, ask for all facts, print, and keep the table."""
    model, tokenizer = load_slim(CHAT_EXPORT)
    params, values, table = load_params().memory, Values(), {}
    generic = generic_rows(read_conversations(PRETRAIN), tokenizer, model.config.block_size)
    facts = draw_sessions(SESSIONS, "calibration", "session ways", values)
    for way in ("rows", "joint", "read_out", "unfiltered", "sequential", "sum"):
        lora = written(way, model, tokenizer, facts, generic, params).requires_grad_(False)
        questions, asker = Questions(facts, "session ways", "calibration", values), Asker(model, tokenizer)
        told = [lesson for fact in facts for lesson in questions.about(fact, QUESTIONS)]
        hits = [said == right for (_, right), (said, *_) in zip(told, asker.ask(told, lora), strict=True)]
        unknown = [abstains(said) for said, *_ in asker.ask(questions.untold("known_slot", UNTOLD), lora)]
        table[way] = {
            "accuracy": sum(hits) / len(hits),
            "first_fact": sum(hits[:QUESTIONS]) / QUESTIONS,
            "last_fact": sum(hits[-QUESTIONS:]) / QUESTIONS,
            "abstains": sum(unknown) / UNTOLD,
        }
        print(f"{way:11}", *(f"{name} {value:.3f}" for name, value in table[way].items()), sep="  ", flush=True)
    write_json(METRICS, {"sessions": SESSIONS} | table)


if __name__ == "__main__":
    main()
