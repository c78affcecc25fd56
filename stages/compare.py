"""Lay the ablations side by side: metrics/ablations.json and plots/ablations.csv."""

import json
from pathlib import Path

from personacore.errors import UserError
from personacore.files import write_json
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage

COLUMNS = ("parameters", "perplexity", "bits_per_byte", "steps")


def main(speed: Speed) -> None:
    params = load_params()
    cohort = {name: json.loads(Path(f"metrics/ablations/{name}.json").read_text()) for name in params.ablations}
    budgets = {facts["tokens"] for facts in cohort.values()}
    if len(budgets) > 1:
        raise UserError(
            f"ablations: the cohort trained on different numbers of tokens {sorted(budgets)}, so it cannot be compared"
        )
    write_json("metrics/ablations.json", {name: {key: facts[key] for key in COLUMNS} for name, facts in cohort.items()})
    rows = [[name, *(facts[key] for key in COLUMNS)] for name, facts in cohort.items()]
    write_csv("plots/ablations.csv", ("name", *COLUMNS), rows)


if __name__ == "__main__":
    run_stage("compare", main)
