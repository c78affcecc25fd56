"""What the same minutes teach by our recipe and a plain one: metrics/speed/learning.json, docs/images/learning.png.

The model is that of the macbook profile, 13.9M parameters.

A fiftieth of the text is held out by document, and all of it is scored; tokenizer, shape and rows are the same for every
recipe. A recipe with a schedule is trained anew for each number of minutes, so that the schedule ends when they do; the plain
one has none and is scored on its way. Ablations change one thing of our recipe, for the fewest minutes.
"""

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.training import MACBOOK, plain_model, plain_steps
from personacore.corpus.sources import bring_text
from personacore.errors import UserError
from personacore.evaluation.loss import Loss, file_loss
from personacore.files import write_json
from personacore.layout import DOWNLOADS
from personacore.model.gpt import GPT
from personacore.params import load_params
from personacore.reporting.figures import figure
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.encode import encode_corpus
from personacore.tokenizer.files import load_tokenizer, save_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.tokenizer.train import count_file, train_merges
from personacore.training.batches import Batches, row_starts
from personacore.training.device import choose_precision
from personacore.training.loop import train

RESULTS, CHART = Path("metrics/speed/learning.json"), Path("docs/images/learning.png")
VALID_FRACTION, SEED, CPU = 0.02, 7, torch.device("cpu")
OURS: Mapping[str, object] = {
    "optimizer": "muon", "lr": 3e-3, "muon_lr": 0.02, "embedding_std": 0.05, "min_lr_fraction": 0.05,
    "batch_size": 16, "micro_batch_size": 8, "warmup_steps": 25, "precision": "auto",
}  # fmt: skip
ABLATIONS: Mapping[str, Mapping[str, object]] = {
    "AdamW for all weights at 0.002": {"optimizer": "adamw", "lr": 2e-3},
    "AdamW for all weights at 0.0003": {"optimizer": "adamw", "lr": 3e-4},
    "a constant rate after the warm-up": {"min_lr_fraction": 1.0},
    "float32": {"precision": "fp32"},
    "32 rows a step": {"batch_size": 32, "micro_batch_size": 16, "warmup_steps": 12},
    "token vectors of deviation 0.02": {"embedding_std": 0.02},
}
PLAIN: Mapping[str, object] = {"lr": 3e-4, "warmup_steps": 100, "batch_size": 32, "micro_batch_size": 32, "embedding_std": 0.02}
WARM, TIMED_ROWS = 1, 128  # steps before the clock, and rows by which the rate of a recipe is measured
Point = dict[str, float | int]


class Text:
    """A text split and encoded in a folder, and what a model makes of its held-out part."""

    def __init__(self, source: str, folder: Path) -> None:
        facts = bring_text(source, VALID_FRACTION, SEED, folder, DOWNLOADS)
        self.size = int(facts["train_bytes"]) + int(facts["valid_bytes"])
        merges = train_merges(count_file(folder / "train.txt"), MACBOOK.vocab_size)
        save_tokenizer(Tokenizer(merges), folder / "tokenizer.json", {})
        for split in ("train", "valid"):
            encode_corpus(folder / "tokenizer.json", folder / f"{split}.txt", folder / f"{split}.bin")
        self.tokenizer = load_tokenizer(folder / "tokenizer.json")
        self.train, self.valid = (open_tokens(folder / f"{split}.bin") for split in ("train", "valid"))

    def batches(self, batch_size: int) -> Batches:
        """Rows for training, the same for all recipes but for how many a step has."""
        starts = row_starts(self.train, self.tokenizer.end_of_text, MACBOOK.block_size)
        return Batches(self.train, starts, MACBOOK.block_size, batch_size, SEED)

    def point(self, model: GPT, seconds: float, steps: int, batch_size: int) -> Point:
        """What is known of a model after so long."""
        with torch.no_grad():
            loss = file_loss(model.eval(), self.tokenizer, self.valid, 8192)
        return {
            "minutes": round(seconds / 60, 2),
            "bits_per_byte": round(loss.bits_per_byte, 4),
            "steps": steps,
            "tokens": steps * batch_size * MACBOOK.block_size,
        }


def plain(text: Text, minutes: Sequence[float]) -> Iterator[Point]:
    """The plain recipe's loop, scored when so many minutes are over; scoring is not counted."""
    params = dataclasses.replace(load_params().train, **PLAIN, max_steps=sys.maxsize)
    model = plain_model(MACBOOK)
    model.reset_parameters(SEED, params.embedding_std)
    steps = enumerate(plain_steps(model, params, text.batches(params.batch_size)), 1)
    elapsed = 0.0
    for each in minutes:
        began = time.perf_counter() - elapsed
        while elapsed < 60 * each:
            step, _ = next(steps)
            elapsed = time.perf_counter() - began
        yield text.point(model, elapsed, step, params.batch_size)


def scheduled(text: Text, recipe: Mapping[str, object], minutes: float) -> Point:
    """A recipe of the training loop that ends when about so many minutes are over."""
    tried = dataclasses.replace(load_params().train, **recipe, eval_interval=sys.maxsize, log_interval=sys.maxsize)
    batches = text.batches(tried.batch_size)

    def steps(count: int) -> tuple[GPT, float]:
        model = GPT(MACBOOK)
        model.reset_parameters(SEED, tried.embedding_std)
        params = dataclasses.replace(tried, max_steps=count, warmup_steps=min(count, tried.warmup_steps))
        nothing = Loss(nats=1.0, tokens=1, bytes=1)
        precision = choose_precision(params.precision, CPU)
        return model, train(model, params, batches, lambda _: nothing, device=CPU, precision=precision).seconds

    steps(WARM)
    timed = TIMED_ROWS // tried.batch_size
    count = max(1, int(60 * minutes * timed / steps(timed)[1]))
    model, seconds = steps(count)
    return text.point(model, seconds, count, tried.batch_size)


def draw(found: Mapping[str, Any]) -> None:
    """Both curves, and each ablation as a cross."""
    with figure(CHART, "What minutes teach 13.9M parameters", "minutes", "bits per byte of unseen stories") as axes:
        for name, points in found["curves"].items():
            axes.plot([point["minutes"] for point in points], [point["bits_per_byte"] for point in points], "o-", label=name)
        for name, point in found["ablations"].items():
            axes.plot(point["minutes"], point["bits_per_byte"], "x", label=f"ours, but {name}")
        axes.set_xlim(left=0)
        axes.legend(fontsize=8)


def measure(source: str, minutes: Sequence[float]) -> None:
    """Run every recipe, print what came of it, and keep each point as soon as it is there."""
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "precision": choose_precision("auto", CPU),
        "recipes": {"plain": PLAIN, "ours": OURS, "ablations": ABLATIONS},
        "curves": {"ours": [], "plain": []},
        "ablations": {},
    }

    def keep(name: str, point: Point) -> None:
        print(f"{name}: {point['bits_per_byte']:.4f} bits per byte after {point['minutes']} minutes", flush=True)
        write_json(RESULTS, found)

    with tempfile.TemporaryDirectory() as folder:
        text = Text(source, Path(folder))
        found |= {"text": Path(source).name, "text_bytes": text.size}
        for each in minutes:
            found["curves"]["ours"].append(scheduled(text, OURS, each))
            keep("ours", found["curves"]["ours"][-1])
        for point in plain(text, minutes):
            found["curves"]["plain"].append(point)
            keep("plain", point)
        for change, recipe in ABLATIONS.items():
            found["ablations"][change] = scheduled(text, {**OURS, **recipe}, minutes[0])
            keep(f"ours, but {change}", found["ablations"][change])
    draw(found)


def main() -> None:
    """The command line; a failure is one line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.splitlines()[0])
    parser.add_argument("text", metavar="TEXT", help="path or URL of a text, its documents separated by <|endoftext|>")
    hours = "an hour and a half, with nothing else running"
    parser.add_argument(
        "minutes", nargs="*", type=float, default=[5.0, 10.0, 20.0], help=f"default: 5 10 20, which take {hours}"
    )
    arguments = parser.parse_args()
    try:
        measure(arguments.text, sorted(arguments.minutes))
    except UserError as error:
        raise SystemExit(f"learning: {error}") from None


if __name__ == "__main__":
    main()
