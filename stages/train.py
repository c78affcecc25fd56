"""Pretrain the base: data/models/base, metrics/train.json and plots/train.csv."""

from pathlib import Path

from personacore.files import write_json
from personacore.layout import BASE
from personacore.params import load_params
from personacore.stage import Speed, run_stage
from personacore.training.run import pretrain


def main(speed: Speed) -> None:
    params = load_params()
    run = pretrain(
        "stages.train",
        params.model,
        params.train,
        params.seed,
        curve_file=Path("plots/train.csv"),
        model_file=BASE,
    )
    if run.leads:
        write_json("metrics/train.json", run.facts)
        speed.update(run.speed())
        run.forget_state()


if __name__ == "__main__":
    run_stage("train", main)
