"""What each part of teaching is worth: one param changed at a time, on CALIBRATION people.

python -m benchmarks.teaching [NAME ...]    (about a minute a variant and seed on two cores, after `dvc repro export`)

Writes metrics/teaching.json: the mean over seeds of each gate, and the seconds it took for a fact.
"""

import dataclasses
import statistics
import sys
import time

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.files import write_json
from personacore.layout import CALIBRATION, CHAT_EXPORT, PRETRAIN
from personacore.memory.comparison import measure
from personacore.memory.generic import generic_rows
from personacore.memory.people import draw_people
from personacore.memory.teach import teach_people
from personacore.params import load_params

PEOPLE, FACTS, SEEDS, TALKS = 2, 10, 3, 100
SHOWN = ("taught_greedy", "h1_greedy", "h2_greedy", "h2_sampled", "abstain_known_slot", "dialogue_drift", "seconds_per_fact")
MLP, ATTENTION = ("fc_in", "fc_out"), ("q_proj", "k_proj", "v_proj", "c_proj")
VARIANTS: dict[str, dict[str, object]] = {
    "as it ships": {},
    **{f"rank {rank}": {"rank": rank, "alpha": 2.0 * rank} for rank in (1, 2, 4, 16, 32)},
    "attention only": {"targets": ATTENTION},
    "MLP only": {"targets": MLP},
    **{f"KL weight {weight:g}": {"kl_weight": weight} for weight in (0.0, 5.0, 100.0)},
    "no negatives": {"negatives": 0},
    "unmatched negatives": {"near_misses": 0.0},
    **{f"{count} frames": {"frames": count} for count in (1, 4, 16)},
}


def main() -> None:
    """Teach in each way, print a line each, and keep the table."""
    names = sys.argv[1:] or list(VARIANTS)
    model, tokenizer = load_slim(CHAT_EXPORT)
    params = load_params().memory.sleep
    generic = generic_rows(read_conversations(PRETRAIN), tokenizer, model.config.block_size)
    people = draw_people(PEOPLE, FACTS, "calibration", "teaching", Values())
    talks, table = read_conversations(CALIBRATION)[:TALKS], {}
    for name in names:
        runs = []
        for seed in range(SEEDS):
            began = time.monotonic()
            lora, _ = teach_people(model, tokenizer, people, generic, dataclasses.replace(params, **VARIANTS[name]), seed)
            seconds = (time.monotonic() - began) / (PEOPLE * FACTS)
            memories = [lora.person(place).requires_grad_(False) for place in range(PEOPLE)]
            runs.append(measure(model, tokenizer, people, memories, talks) | {"seconds_per_fact": seconds})
        table[name] = {gate: round(statistics.mean(run[gate] for run in runs), 4) for gate in runs[0]}
        print(f"{name:20}", *(f"{gate} {table[name][gate]:.3f}" for gate in SHOWN), sep="  ", flush=True)
        write_json("metrics/teaching.json", {"people": PEOPLE, "facts": FACTS, "seeds": SEEDS, "variants": table})


if __name__ == "__main__":
    main()
