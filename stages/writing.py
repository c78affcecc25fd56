"""Compare ways to write facts, on CALIBRATION people: metrics/writing.json, plots/moved.csv and data/writing."""

import numpy as np

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.layout import CALIBRATION, CHAT_EXPORT, WRITING
from personacore.memory.comparison import WRITERS, compare
from personacore.memory.people import draw_people
from personacore.model.adapter import save_adapter
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage

PEOPLE, TALKS = 4, 100


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed = params.memory, params.seed
    model, tokenizer = load_slim(CHAT_EXPORT)
    teaching, identity = load_teaching(CHAT_EXPORT)
    people = draw_people(PEOPLE, memory.facts, "calibration", f"{seed}/writing", Values())
    talks = read_conversations(CALIBRATION)[:TALKS]
    table = {}
    for name, writer in WRITERS.items():
        memories, found = compare(model, tokenizer, people, talks, teaching, writer)
        speed[f"{name}_seconds_per_fact"] = found.pop("seconds_per_fact")
        table[name] = found
        print(name, *(f"{gate} {value}" for gate, value in found.items()), sep="\n  ", flush=True)
        for place, each in enumerate(memories):
            save_adapter(WRITING / name / f"{place}.safetensors", each, {**identity, "facts": memory.facts})
        if name == "lora":
            shares = [(each, float(np.mean([lora.moved(model)[each] for lora in memories]))) for each in memories[0].pairs()]
            write_csv("plots/moved.csv", ("projection", "share"), shares)
    write_json("metrics/writing.json", {"people": PEOPLE, "facts": memory.facts, "ways": table})


if __name__ == "__main__":
    run_stage("writing", main)
