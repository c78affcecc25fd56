"""Draw every figure: plots/*.png, from metrics and curves alone."""

import json
from pathlib import Path

import pandas as pd

from personacore.params import load_params
from personacore.reporting import figures
from personacore.stage import Speed, run_stage

PLOTS, METRICS = Path("plots"), Path("metrics")


def main(speed: Speed) -> None:
    params = load_params()
    corpus, evaluation = (json.loads((METRICS / name).read_text()) for name in ("corpus.json", "evaluate.json"))
    floor = corpus.get("source_bits_per_byte")
    curves = {name: pd.read_csv(PLOTS / "ablations" / f"{name}.csv") for name in params.ablations}
    bits, nats = evaluation["bits_per_byte"], evaluation["nats_per_token"]
    figures.plot_loss(PLOTS / "loss.png", pd.read_csv(PLOTS / "train.csv"), bits, nats, floor)
    figures.plot_ablations(PLOTS / "ablations.png", pd.read_csv(PLOTS / "ablations.csv"), floor)
    figures.plot_ablation_curves(PLOTS / "ablation_curves.png", curves)
    figures.plot_tokens_per_word(PLOTS / "tokens_per_word.png", pd.read_csv(PLOTS / "tokens_per_word.csv"))
    figures.plot_vocabulary(PLOTS / "vocabulary.png", pd.read_csv(PLOTS / "vocabulary.csv"))
    figures.plot_forgetting(PLOTS / "forgetting.png", pd.read_csv(PLOTS / "forgetting.csv"))
    figures.plot_recall(PLOTS / "recall.png", pd.read_csv(PLOTS / "recall.csv"))
    figures.plot_teaching(PLOTS / "teaching.png", pd.read_csv(PLOTS / "teaching.csv"))
    figures.plot_moved(PLOTS / "moved.png", pd.read_csv(PLOTS / "moved.csv"), pd.read_csv(PLOTS / "fisher.csv"))
    figures.plot_sessions(PLOTS / "sessions.png", pd.read_csv(PLOTS / "sessions.csv"))
    slept = json.loads((METRICS / "sleep.json").read_text())["variants"]
    figures.plot_sleep(PLOTS / "sleep.png", pd.DataFrame.from_dict(slept, orient="index"))
    figures.plot_samples(PLOTS / "samples.png", pd.read_csv(PLOTS / "samples.csv"))


if __name__ == "__main__":
    run_stage("plot", main)
