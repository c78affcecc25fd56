"""Teach the people of the evaluation, let the first seed's sleep, correct, make forget: data/memory and plots/teaching.csv."""

import dataclasses
import itertools

from tqdm import tqdm

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT, MEMORY
from personacore.memory.cohort import Pupil, Room, teach_cohort
from personacore.memory.people import UPDATED, correct_facts, draw_people, handwritten_people
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed, values = params.memory.scaled(), params.seed, Values()
    people = draw_people(memory.people, memory.facts, "evaluation", f"{seed}/people", values)
    told = {"taught": people, "updated": correct_facts(people, "evaluation", f"{seed}/correct", values)}
    told |= {
        "forgotten": [facts[UPDATED:] for facts in people],
        "handwritten": handwritten_people(memory.facts, "evaluation", f"{seed}/hand", values),
    }
    listed = {kind: [[dataclasses.astuple(fact) for fact in facts] for facts in who] for kind, who in told.items()}
    write_json(MEMORY / "people.json", listed)

    # Sleep takes far longer than teaching, so that it is measured on the first seed alone.
    pupils = []
    for number, (place, facts) in itertools.product(range(memory.seeds), enumerate(people)):
        corrected = () if number else tuple(told["updated"][place][:UPDATED])
        pupils.append(Pupil("taught", number, place, tuple(facts), corrected, sleeps=number == 0))
    pupils += [Pupil("handwritten", 0, place, tuple(facts), sleeps=True) for place, facts in enumerate(told["handwritten"])]
    curve: list[tuple[int, int, int, float]] = []
    awake, asleep, told_asleep = 0.0, 0.0, 0
    reports = teach_cohort(Room(*load_slim(CHAT_EXPORT), *load_teaching(CHAT_EXPORT)), pupils, MEMORY, seed)
    for report in tqdm(reports, "teach", len(pupils), unit="person", mininterval=1):
        pupil, sleep = report.pupil, report.sleep
        awake += report.seconds
        if sleep is not None:
            asleep, told_asleep = asleep + sleep.seconds, told_asleep + len(pupil.facts)
            came_of_it = f"{sleep.before:.3f} answered rightly before sleep, {sleep.after:.3f} after"
            tqdm.write(f"{pupil.kind} {pupil.place}: {sleep.facts} facts, {came_of_it}")
        if pupil.kind == "taught" and pupil.number == 0:
            steps = memory.rows.steps
            curve += [(pupil.place, n // steps, n % steps + 1, sure) for n, sure in enumerate(report.steps)]
    speed["seconds_per_fact"] = round(awake / sum(len(pupil.facts) for pupil in pupils), 3)
    speed["seconds_per_fact_asleep"] = round(asleep / told_asleep, 3)
    write_csv("plots/teaching.csv", ("person", "fact", "step", "probability"), curve)


if __name__ == "__main__":
    run_stage("teach", main)
