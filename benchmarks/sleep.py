"""What each part of sleep is worth: one param changed at a time, on CALIBRATION people.

python -m benchmarks.sleep [NAME ...]    (half an hour on two cores, after `dvc repro export`)

Everybody's facts are given rather than listed, and every adapter is kept, so that variants differ in one thing alone. As many
run at once as there are cores. Writes metrics/sleep.json, unless variants are named: the mean over seeds of each gate, and the
seconds it took for a fact.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.layout import CALIBRATION, CHAT_EXPORT
from personacore.memory.cohort import Room, each_in
from personacore.memory.comparison import measure
from personacore.memory.facts import Fact
from personacore.memory.people import draw_people
from personacore.memory.teach import teach_people
from personacore.memory.write import new_rows, write_facts
from personacore.model.adapter import load_adapter, save_adapter
from personacore.model.consolidated import Consolidated

PEOPLE, FACTS, SEEDS, TALKS = 2, 10, 3, 100
SHOWN = ("taught_greedy", "h1_greedy", "h2_greedy", "h2_sampled", "abstain_known_slot", "dialogue_drift", "seconds_per_fact")
MLP, ATTENTION = ("fc_in", "fc_out"), ("q_proj", "k_proj", "v_proj", "c_proj")
VARIANTS: dict[str, dict[str, object]] = {
    "as it ships": {},
    **{f"rank {rank}": {"rank": rank, "alpha": 2.0 * rank} for rank in (1, 4, 32)},
    "attention only": {"targets": ATTENTION},
    "MLP only": {"targets": MLP},
    **{f"KL weight {weight:g}": {"kl_weight": weight} for weight in (0.0, 5.0, 100.0)},
    "no negatives": {"negatives": 0},
    "unmatched negatives": {"near_misses": 0.0},
    **{f"{count} frames beside random words": {"frames": count} for count in (1, 16, 64)},
}


def sleep(
    people: Sequence[Sequence[Fact]],
    files: Sequence[Path],
    talks: Sequence[Sequence[Turn]],
    room: Room,
    variant: tuple[str, int],
) -> dict[str, float]:
    """What the memories in these files answer after they slept in a variant, named with its seed."""
    name, seed = variant
    params = dataclasses.replace(room.teaching.sleep, **VARIANTS[name])
    began = time.monotonic()
    lora, _ = teach_people(room.model, room.tokenizer, people, room.teaching.generic, params, seed, values=False)
    seconds = (time.monotonic() - began) / (PEOPLE * FACTS)
    rows = [load_adapter(file, **room.identity)[0] for file in files]
    memories = [Consolidated(each, lora.person(place).requires_grad_(False)) for place, each in enumerate(rows)]
    return measure(room.model, room.tokenizer, people, memories, talks) | {"seconds_per_fact": seconds}


def main() -> None:
    """Let the same rows sleep in each way, print a line each, and keep the table."""
    names = sys.argv[1:] or list(VARIANTS)
    model, tokenizer = load_slim(CHAT_EXPORT)
    teaching, identity = load_teaching(CHAT_EXPORT)
    room = Room(model, tokenizer, teaching, identity)
    people = draw_people(PEOPLE, FACTS, "calibration", "sleep", Values())
    talks, table = read_conversations(CALIBRATION)[:TALKS], {}
    new = new_rows(model, tokenizer, teaching.rows)
    rows = [write_facts(model, tokenizer, new, facts, teaching.rows, "sleep").requires_grad_(False) for facts in people]
    table["rows alone"] = measure(model, tokenizer, people, rows, talks)
    print(f"{'rows alone':20}", *_shown(table["rows alone"]), sep="  ", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{place}.safetensors") for place in range(PEOPLE)]
        for file, each in zip(files, rows, strict=True):
            save_adapter(file, each, {**identity, "facts": FACTS})
        variants = [(name, seed) for name in names for seed in range(SEEDS)]
        slept = each_in(room, partial(sleep, people, files, talks), variants)
        for name in names:
            runs = [next(slept) for _ in range(SEEDS)]
            table[name] = {gate: round(statistics.mean(run[gate] for run in runs), 4) for gate in runs[0]}
            print(f"{name:20}", *_shown(table[name]), sep="  ", flush=True)
    if not sys.argv[1:]:
        write_json("metrics/sleep.json", {"people": PEOPLE, "facts": FACTS, "seeds": SEEDS, "variants": table})


def _shown(found: dict[str, float]) -> list[str]:
    return [f"{gate} {found[gate]:.3f}" for gate in SHOWN if gate in found]


if __name__ == "__main__":
    main()
