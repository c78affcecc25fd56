"""How cost grows with the text, the context and the model: metrics/speed/growth.json and docs/images/growth.png.

python -m benchmarks.growth [MEGABYTES ...]    (1 10 100 1000 where none are given; about ten minutes, of which stories for the
largest text take most, with nothing else running, after `dvc repro encode`)

Texts are drawn from the grammar of the corpus, no story twice, and all of them take the compiled path, which is otherwise that
of texts of 8 MiB or more. Each point is a process of its own, which does the work once before. The exponent is the slope of a
straight line through the points on logarithmic axes; 1 is linear. Memory is what the peak grows by beyond the smallest work's.
"""

import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.speed.training import MACBOOK
from personacore.corpus.stories import draw_stories
from personacore.files import write_json
from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.layout import TOKENIZER
from personacore.model.gpt import GPT, GPTConfig
from personacore.reporting.figures import panels
from personacore.tokenizer import blocks
from personacore.tokenizer.encode import encode_corpus
from personacore.tokenizer.train import count_file, train_merges
from personacore.training.loss import linear_cross_entropy

RESULTS, CHART = Path("metrics/speed/growth.json"), Path("docs/images/growth.png")
SHAPES = ((4, 4, 64), (4, 4, 128), (6, 6, 384), (8, 8, 512))  # layers, heads, width
CONTEXTS = (64, 128, 256, 512, 1024, 2048)
VOCABULARY, BATCH, NEW_TOKENS, SEED = 8192, 8, 128, 7
LEARNED = 4096  # ids
Point = dict[str, float]


def draw_texts(sizes: Sequence[int], folder: Path) -> list[str]:
    """Files of so many megabytes, the smaller ones being beginnings of the largest, in whole documents."""
    files, written = {size: folder / f"{size}.txt" for size in sorted(sizes)}, 0
    with ExitStack() as opened:
        open_files = {size: opened.enter_context(file.open("w", encoding="utf-8")) for size, file in files.items()}
        for story in draw_stories(SEED, "growth", max(sizes) * 2000, set()):  # more than are needed: a story has some 700 bytes
            for size, file in open_files.items():
                if written < size * 1_000_000:
                    file.write(f"{story.text}<|endoftext|>")
            written += len(story.text.encode()) + len("<|endoftext|>")
            if written >= max(sizes) * 1_000_000:
                break
    return [str(file) for file in files.values()]


def learn(file: str) -> float:
    """Merges from a file, on all cores."""
    blocks.COMPILED_BYTES = 0
    train_merges(count_file(Path(file)), LEARNED)
    return Path(file).stat().st_size / 1e6


def encode(file: str) -> float:
    """A file to ids, on all cores."""
    blocks.COMPILED_BYTES = 0
    encode_corpus(TOKENIZER, Path(file), Path(f"{file}.bin"))
    return Path(file).stat().st_size / 1e6


def write(context: str) -> float:
    """A text of so many tokens by the plain step with its cache, in the shape of the 13.9M model."""
    length = int(context)
    model = GPT(dataclasses.replace(MACBOOK, block_size=length)).eval().requires_grad_(False)
    _continue(model, length - 8)
    return length


def decode(shape: str) -> float:
    """A text of NEW_TOKENS tokens by the plain step of a model."""
    model = _model(shape).eval().requires_grad_(False)
    _continue(model, NEW_TOKENS)
    return model.parameter_count() / 1e6


def train(shape: str) -> float:
    """Two gradients of BATCH rows in float32."""
    model = _model(shape)
    tokens = torch.randint(VOCABULARY, (BATCH, model.config.block_size + 1))
    for _ in range(2):
        hidden = model.hidden(tokens[:, :-1]).flatten(0, 1)
        linear_cross_entropy(hidden, model.lm_head.weight, tokens[:, 1:].flatten(), 1 / tokens.numel()).backward()
    return model.parameter_count() / 1e6


def _model(shape: str) -> GPT:
    return GPT(GPTConfig(VOCABULARY, *map(int, shape.split(",")), block_size=MACBOOK.block_size))


def _continue(model: GPT, new_tokens: int) -> None:
    prompt = torch.ones(1, 8, dtype=torch.long)
    for _ in generate(model, prompt, max_new_tokens=new_tokens, sampling=Sampling(0.0), seed=0):
        pass


WORK: dict[str, tuple[Callable[[str], float], str]] = {
    "learning merges": (learn, "megabytes of text"),
    "encoding": (encode, "megabytes of text"),
    "writing": (write, "tokens of one text"),
    "training": (train, "million parameters"),
    "decoding": (decode, "million parameters"),
}


def measure(name: str, argument: str, smallest: str) -> Point:
    """How much of what, seconds, and megabytes of memory, in a process of its own."""
    program = [sys.executable, "-m", "benchmarks.growth", "--one", name, argument, smallest]
    return json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def one(name: str, argument: str, smallest: str) -> Point:
    """The same in this process, timed the second time, when all that is needed is loaded and compiled."""
    work, _ = WORK[name]
    work(smallest)
    before = _peak_megabytes()
    size = work(argument)
    grown, began = _peak_megabytes() - before, time.perf_counter()
    work(argument)
    return {"size": size, "seconds": time.perf_counter() - began, "megabytes": grown}


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def exponent(points: Sequence[Point]) -> float:
    """The slope of the line through sizes and seconds on logarithmic axes."""
    sizes, costs = ([point[name] for point in points] for name in ("size", "seconds"))
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def main() -> None:
    """Measure every point, keep them with their exponents, and draw them."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(*sys.argv[2:])))
        return
    costs: dict[str, Any] = {}
    found = {"machine": platform.machine(), "cores": os.cpu_count(), "costs": costs}
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "megabytes of text": draw_texts([int(each) for each in sys.argv[1:]] or [1, 10, 100, 1000], Path(folder)),
            "tokens of one text": list(map(str, CONTEXTS)),
            "million parameters": [",".join(map(str, shape)) for shape in SHAPES],
        }
        for name, (_, unit) in WORK.items():
            smallest = arguments[unit][0]
            points = [measure(name, argument, smallest) for argument in tqdm(arguments[unit], desc=name, disable=None)]
            costs[name] = {"unit": unit, "points": points, "exponent": round(exponent(points), 3)}
            memory = points[-1]["megabytes"]
            print(f"{name}: {unit} to the power of {costs[name]['exponent']}; {memory:.0f} MB more for the most", flush=True)
            write_json(RESULTS, found)  # each as soon as it is there
    draw(costs)


def draw(costs: Mapping[str, Any]) -> None:
    """A panel for each unit: seconds, and the exponent in words."""
    units = list(dict.fromkeys(unit for _, unit in WORK.values()))
    with panels(CHART, len(units), (11.0, 3.6)) as axes:
        for axis, unit in zip(axes, units, strict=True):
            axis.set(xlabel=unit, ylabel="seconds", xscale="log", yscale="log")
            for name, (_, own) in WORK.items():
                if own == unit:
                    sizes, seconds = ([point[key] for point in costs[name]["points"]] for key in ("size", "seconds"))
                    axis.plot(sizes, seconds, "o-", label=f"{name}: to the power of {costs[name]['exponent']:.2f}")
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main()
