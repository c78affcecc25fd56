"""Teach the people of the evaluation, correct them, make them forget: data/memory and plots/teaching.csv."""

import dataclasses
import itertools
import time

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim, load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT, MEMORY
from personacore.memory.people import UPDATED, correct_facts, draw_people, handwritten_people
from personacore.memory.write import erase, new_rows, write_facts
from personacore.model.adapter import save_adapter
from personacore.model.rows import MemoryRows
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed, values = params.memory.scaled(), params.seed, Values()
    model, tokenizer = load_slim(CHAT_EXPORT)
    options, identity = load_teaching(CHAT_EXPORT)
    people = draw_people(memory.people, memory.facts, "evaluation", f"{seed}/people", values)
    told = {"taught": people, "updated": correct_facts(people, "evaluation", f"{seed}/correct", values)}
    told |= {
        "forgotten": [facts[UPDATED:] for facts in people],
        "handwritten": handwritten_people(memory.facts, "evaluation", f"{seed}/hand", values),
    }
    listed = {kind: [[dataclasses.astuple(fact) for fact in facts] for facts in who] for kind, who in told.items()}
    write_json(MEMORY / "people.json", listed)
    new = new_rows(model, tokenizer, options)

    def keep(rows: MemoryRows, kind: str, number: int, place: int) -> None:
        file = MEMORY / kind / f"{number}_{place}.safetensors"
        save_adapter(file, rows, {**identity, "facts": len(rows.facts)})

    began = time.monotonic()
    curve: list[tuple[int, int, int, float]] = []
    taught: list[MemoryRows] = []  # of the first seed
    for number, (place, facts) in itertools.product(range(memory.seeds), enumerate(people)):
        steps: list[float] = []
        name = f"{seed + number}/{place}"
        rows, sure = write_facts(model, tokenizer, new, facts, options, name, lambda _, p, to=steps: to.append(p))
        keep(rows, "taught", number, place)
        print(f"person {place}, seed {number}: {min(sure):.3f} sure of the least known fact", flush=True)
        if number == 0:
            taught.append(rows)
            curve += [(place, n // options.steps, n % options.steps + 1, probability) for n, probability in enumerate(steps)]
    speed["seconds_per_fact"] = round((time.monotonic() - began) / (memory.seeds * memory.people * memory.facts), 3)
    write_csv("plots/teaching.csv", ("person", "fact", "step", "probability"), curve)
    for place, rows in enumerate(taught):
        corrected = told["updated"][place][:UPDATED]
        keep(write_facts(model, tokenizer, rows, corrected, options, f"{seed}/{place}/corrected")[0], "updated", 0, place)
        for fact in corrected:
            rows = erase(rows, tokenizer, fact.key)
        keep(rows, "forgotten", 0, place)
    for place, facts in enumerate(told["handwritten"]):
        keep(write_facts(model, tokenizer, new, facts, options, f"{seed}/{place}/hand")[0], "handwritten", 0, place)


if __name__ == "__main__":
    run_stage("teach", main)
