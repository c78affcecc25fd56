"""Teach the people of the evaluation, correct them, make them forget: data/memory and plots/teaching.csv."""

import dataclasses
from collections.abc import Sequence

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim, load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT, MEMORY
from personacore.memory.facts import Fact
from personacore.memory.inventory import read_out
from personacore.memory.people import UPDATED, correct_facts, draw_people, handwritten_people
from personacore.memory.teach import Taught, teach_people
from personacore.model.adapter import save_adapter
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage
from personacore.tokenizer.bpe import Tokenizer

CURVE = ("taught", "person", "step", "mean_probability", "least_probability", "unknown_probability")


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed, values = params.memory.scaled(), params.seed, Values()
    model, tokenizer = load_slim(CHAT_EXPORT)
    _, generic, sha256 = load_teaching(CHAT_EXPORT)
    identity = {"base_sha256": sha256["model.safetensors"], "tokenizer_sha256": sha256["tokenizer.json"]}
    people = draw_people(memory.people, memory.facts, "evaluation", f"{seed}/people", values)
    told = {"taught": people, "updated": correct_facts(people, "evaluation", f"{seed}/correct", values)}
    told |= {
        "forgotten": [facts[UPDATED:] for facts in people],
        "handwritten": handwritten_people(memory.facts, "evaluation", f"{seed}/hand", values),
    }
    listed = {kind: [[dataclasses.astuple(fact) for fact in facts] for facts in who] for kind, who in told.items()}
    write_json(MEMORY / "people.json", listed)
    seconds: list[float] = []
    curve: list[tuple[str, int, int, float, float, float]] = []

    def learn(kind: str, who: list[list[Fact]], number: int, start: LoRA | None = None) -> LoRA:
        def look(step: int, results: Sequence[Taught]) -> None:
            for place, each in enumerate(results):
                sure = each.probabilities or (1.0,)
                curve.append((f"{kind} {number}", place, step, sum(sure) / len(sure), min(sure), each.unknown))
            least = min(row[4] for row in curve[-len(results) :])
            print(f"{kind} {number}: step {step:4d}, {least:.3f} sure of the least known fact", flush=True)

        lora, results = teach_people(model, tokenizer, who, generic, memory.teach, seed + number, start, look)
        for place, facts in enumerate(who):
            file = MEMORY / kind / f"{number}_{place}.safetensors"
            save_adapter(file, lora.person(place), {**identity, "facts": len(facts)})
        seconds.append(results[0].seconds / max(1, sum(len(facts) for facts in who)))
        return lora

    for number in range(memory.seeds):
        taught = learn("taught", people, number)
        if number == 0:
            # As a memory changes: what it can read out of itself, with the correction, or without what is to be forgotten.
            known = [_known(model, tokenizer, taught.person(place), len(facts)) for place, facts in enumerate(people)]
            corrected = [{fact.key: fact for fact in facts[:UPDATED]} for facts in told["updated"]]
            learn("updated", [list((old | new).values()) for old, new in zip(known, corrected, strict=True)], number, taught)
            left = [[f for f in old.values() if f.key not in new] for old, new in zip(known, corrected, strict=True)]
            learn("forgotten", left, number)
            learn("handwritten", told["handwritten"], number)
    speed["seconds_per_fact_in_batch"] = round(sum(seconds) / len(seconds), 3)
    learn("single", [people[0][:1]], 0)
    speed["seconds_per_fact"] = round(seconds[-1], 3)
    write_csv("plots/teaching.csv", CURVE, curve)


def _known(model: GPT, tokenizer: Tokenizer, lora: LoRA, count: int) -> dict[str, Fact]:
    with lora.attached(model):
        return read_out(model, tokenizer, count)


if __name__ == "__main__":
    run_stage("teach", main)
