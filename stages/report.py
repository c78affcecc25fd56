"""Write docs/REPORT.md and docs/samples.md; every number in them is read from metrics/."""

import json
from pathlib import Path

from personacore.files import write_text
from personacore.layout import SAMPLES
from personacore.params import load_params
from personacore.reporting.conversation import CONVERSATION_METRICS
from personacore.reporting.memory import MEMORY_METRICS
from personacore.reporting.report import report_page
from personacore.reporting.samples import samples_page
from personacore.reporting.speed import SPEED_METRICS
from personacore.stage import Speed, run_stage

NAMES = ("corpus", "tokenizer", "encode", "train", "evaluate", "ablations", *CONVERSATION_METRICS, *MEMORY_METRICS)


def main(speed: Speed) -> None:
    params = load_params()
    metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text()) for name in NAMES}
    speeds = {name: json.loads(Path(f"metrics/speed/{name}.json").read_text()) for name in SPEED_METRICS}
    memory = params.memory.scaled()
    page = report_page(metrics, speeds, params.model, params.train, params.evaluate, params.ablations, params.chat, memory)
    write_text("docs/REPORT.md", page)
    samples = json.loads(SAMPLES.read_text())
    write_text("docs/samples.md", samples_page(samples["prompted"], samples["unprompted"]))


if __name__ == "__main__":
    run_stage("report", main)
