"""One fact a session, without what ours does between sessions: four simpler ways beside it, on CALIBRATION facts.

python -m benchmarks.sessions    (about a quarter of an hour on two cores, after `dvc repro export`)

- read_out: ours. What the memory says with confidence is read out and taught again with the new fact.
- unfiltered: the same without the confidence, so that whatever it says is taught again.
- sequential: the adapter goes on with the new fact alone.
- sum: every fact has an adapter of its own; they are added up.
- joint: all facts at once, in one session, which none of the others can know; what there is to reach.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim, load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT
from personacore.memory.facts import Fact
from personacore.memory.people import Questions, draw_sessions
from personacore.memory.recall import Asker, abstains
from personacore.memory.sessions import STEPS, hold_sessions
from personacore.memory.teach import teach_people
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import TeachParams
from personacore.tokenizer.bpe import Tokenizer

METRICS = Path("metrics/session_ways.json")
SESSIONS, QUESTIONS, UNTOLD = 10, 4, 40


def in_turn(
    model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, params: TeachParams, on: bool
) -> Iterator[LoRA]:
    """The adapter of each fact, which goes `on` from the one before or begins anew."""
    lora: LoRA | None = None
    for number, fact in enumerate(facts):
        start = LoRA.stack([lora]) if on and lora is not None else None
        budget = params if start is None else dataclasses.replace(params, max_steps=min(STEPS, params.max_steps))
        lora = teach_people(model, tokenizer, [[fact]], generic, budget, number, start)[0].person(0)
        yield lora


def written(way: str, model: GPT, tokenizer: Tokenizer, facts: Sequence[Fact], generic: Tensor, params: TeachParams) -> LoRA:
    """The adapter that is left after all sessions."""
    match way:
        case "sequential":
            return list(in_turn(model, tokenizer, facts, generic, params, on=True))[-1]
        case "sum":
            return LoRA.concatenate(list(in_turn(model, tokenizer, facts, generic, params, on=False)))
        case "joint":
            return teach_people(model, tokenizer, [facts], generic, params, 0)[0].person(0)
    left: list[LoRA] = []
    confidence = {"confidence": 0.0} if way == "unfiltered" else {}
    hold_sessions(model, tokenizer, facts, generic, params, 0, lambda _, lora, __: left.append(lora), **confidence)
    return left[-1]


def main() -> None:
    """Hold the sessions in each way, ask for all facts, print, and keep the table."""
    model, tokenizer = load_slim(CHAT_EXPORT)
    params, generic, _ = load_teaching(CHAT_EXPORT)
    values, table = Values(), {}
    facts = draw_sessions(SESSIONS, "calibration", "session ways", values)
    for way in ("joint", "read_out", "unfiltered", "sequential", "sum"):
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
