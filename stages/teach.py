"""Teach the people of the evaluation, let them sleep, correct them, make them forget: data/memory and plots/teaching.csv."""

import dataclasses
import itertools
import time

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT, MEMORY
from personacore.memory.people import UPDATED, correct_facts, draw_people, handwritten_people
from personacore.memory.sleep import Slept, consolidate
from personacore.memory.write import erase, new_rows, write_facts
from personacore.model.adapter import save_adapter
from personacore.model.consolidated import Taught, rows_of, with_rows
from personacore.model.rows import MemoryRows
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed, values = params.memory.scaled(), params.seed, Values()
    model, tokenizer = load_slim(CHAT_EXPORT)
    teaching, identity = load_teaching(CHAT_EXPORT)
    options = teaching.rows
    people = draw_people(memory.people, memory.facts, "evaluation", f"{seed}/people", values)
    told = {"taught": people, "updated": correct_facts(people, "evaluation", f"{seed}/correct", values)}
    told |= {
        "forgotten": [facts[UPDATED:] for facts in people],
        "handwritten": handwritten_people(memory.facts, "evaluation", f"{seed}/hand", values),
    }
    listed = {kind: [[dataclasses.astuple(fact) for fact in facts] for facts in who] for kind, who in told.items()}
    write_json(MEMORY / "people.json", listed)
    new = new_rows(model, tokenizer, options)

    def keep(taught: Taught, kind: str, number: int, place: int) -> None:
        file = MEMORY / kind / f"{number}_{place}.safetensors"
        save_adapter(file, taught, {**identity, "facts": len(rows_of(taught).facts)})

    def rest(rows: MemoryRows, kind: str, number: int, place: int) -> Slept:
        slept = consolidate(model, tokenizer, rows, teaching)
        keep(slept.memory, kind, number, place)
        right = f"{slept.before:.3f} answered rightly before, {slept.after:.3f} after"
        print(f"{kind} {place}, seed {number}: {len(slept.facts)} facts, {right}", flush=True)
        return slept

    began, asleep = time.monotonic(), 0.0
    curve: list[tuple[int, int, int, float]] = []
    taught: list[tuple[MemoryRows, Taught]] = []  # of the first seed, awake and rested
    for number, (place, facts) in itertools.product(range(memory.seeds), enumerate(people)):
        steps: list[float] = []
        name = f"{seed + number}/{place}"
        rows = write_facts(model, tokenizer, new, facts, options, name, lambda _, p, to=steps: to.append(p))
        slept = rest(rows, "taught", number, place)
        asleep += slept.seconds
        if number == 0:
            taught.append((rows, slept.memory))
            curve += [(place, n // options.steps, n % options.steps + 1, probability) for n, probability in enumerate(steps)]
    told_in_all = memory.seeds * memory.people * memory.facts
    speed["seconds_per_fact"] = round((time.monotonic() - began - asleep) / told_in_all, 3)
    speed["seconds_per_fact_asleep"] = round(asleep / told_in_all, 3)
    write_csv("plots/teaching.csv", ("person", "fact", "step", "probability"), curve)
    for place, (rows, rested) in enumerate(taught):
        corrected = told["updated"][place][:UPDATED]
        changed = write_facts(model, tokenizer, rows, corrected, options, f"{seed}/{place}/corrected")
        keep(with_rows(rested, changed), "updated", 0, place)
        for fact in corrected:
            rows = erase(rows, tokenizer, fact.key)
        keep(rows, "forgotten", 0, place)
    for place, facts in enumerate(told["handwritten"]):
        rest(write_facts(model, tokenizer, new, facts, options, f"{seed}/{place}/hand"), "handwritten", 0, place)


if __name__ == "__main__":
    run_stage("teach", main)
