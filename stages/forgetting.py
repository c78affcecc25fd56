"""Lay the arms side by side: metrics/forgetting.json and plots/forgetting.csv."""

import json
from pathlib import Path

from personacore.files import write_json
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage

COLUMNS = ("steps", "story_bits_per_byte_before", "story_bits_per_byte_after", "story_forgotten", "dialogue_nats_per_token")


def main(speed: Speed) -> None:
    params = load_params()
    arms = {name: json.loads(Path(f"metrics/chat/{name}.json").read_text()) for name in params.chat.arms}
    write_json("metrics/forgetting.json", {name: {key: facts[key] for key in COLUMNS} for name, facts in arms.items()})
    rows = [[name, *(facts[key] for key in COLUMNS)] for name, facts in arms.items()]
    write_csv("plots/forgetting.csv", ("arm", *COLUMNS), rows)


if __name__ == "__main__":
    run_stage("forgetting", main)
