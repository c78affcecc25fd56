"""PersonaCore beside its peers, in one run on one machine: metrics/speed/bench.json, and a table on the terminal.

python -m benchmarks.bench [KEY ...]    (after `dvc repro` and `pip install '.[bench]'`; about a quarter of an hour, with
nothing else running; `make bench` does all of it)

Every figure is a ratio, more is better: the median of pairs that ran by turns, with its lowest and highest.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed import text, training, writing
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT

RESULTS = Path("metrics/speed/bench.json")
REACH = {
    "training_vs_eager_fp32": 1.25,
    "pocket_training_vs_eager_fp32": 1.5,
    "evaluate_tokens_vs_training": 2.5,
    "generation_fp32_vs_uncached": 15,
    "generation_fp32_vs_transformers": 3,
    "generation_fp32_vs_llamacpp_f32": 1,
    "generation_fp32_vs_llamacpp_q8": 1,
    "batch_generation_vs_transformers": 3,
    "bpe_training_vs_tokenizers": 2,
    "encode_vs_tiktoken": 3,
    "encode_vs_tokenizers": 15,
}
Figures = dict[str, float | int]


def benchmarks() -> dict[str, Callable[[dict[str, Figures]], Figures]]:
    """What is measured for each key; an entry is given what was found before it."""
    pocket, macbook = training.pocket_config(), training.MACBOOK
    return {
        "training_vs_eager_fp32": lambda _: training.training(macbook, 32, 2, steps=1, repeats=3),
        "pocket_training_vs_eager_fp32": lambda _: training.training(pocket, 12, 2, steps=10, repeats=7),
        "evaluate_tokens_vs_training": lambda found: training.evaluation(
            pocket, float(found["pocket_training_vs_eager_fp32"]["ours_rate"])
        ),
        "generation_fp32_vs_uncached": lambda _: writing.uncached(macbook, repeats=3),
        "generation_fp32_vs_transformers": lambda _: writing.transformers(macbook, 1, repeats=5),
        "generation_fp32_vs_llamacpp_f32": lambda _: writing.llamacpp(macbook, "f32", repeats=5),
        "generation_fp32_vs_llamacpp_q8": lambda _: writing.llamacpp(macbook, "q8_0", repeats=5),
        "batch_generation_vs_transformers": lambda _: writing.transformers(macbook, 64, repeats=3, new_tokens=100),
        "bpe_training_vs_tokenizers": lambda _: text.learning(20, 8192, repeats=3),
        "encode_vs_tiktoken": lambda _: text.encoding(20, "tiktoken", 1, repeats=3),
        "encode_vs_tokenizers": lambda _: text.encoding(20, "tokenizers", 1, repeats=3),
    }


def loading() -> Figures:
    """Milliseconds from a folder to a model, and to its first token, beyond importing torch, in a process of their own."""
    program = (
        "import time, torch; began = time.perf_counter(); import personacore; "
        f"core = personacore.load({str(CHAT_EXPORT)!r}); loaded = time.perf_counter(); "
        "next(core.stream('Once')); print(1000 * (loaded - began), 1000 * (time.perf_counter() - loaded))"
    )
    lines = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(3)]
    load, first = (sorted(float(line.stdout.split()[place]) for line in lines)[1] for place in (0, 1))
    return {"load_ms": round(load, 1), "first_token_ms": round(first, 1), "repeats": 3}


def main() -> None:
    """Measure all keys, or those that are named, print them beside what is to be reached, and keep them."""
    wanted = sys.argv[1:] or list(REACH)
    if unknown := set(wanted) - set(REACH):
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(REACH)}")
    if "evaluate_tokens_vs_training" in wanted:
        wanted.append("pocket_training_vs_eager_fp32")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for key, measure in benchmarks().items():
        if key not in wanted:
            continue
        began = time.perf_counter()
        found[key] = {**measure(found), "reach": REACH[key]}
        figures = found[key]
        print(
            f"{key:36} {figures['value']:8.2f}  ({figures['low']:.2f} to {figures['high']:.2f})  reach {REACH[key]:g}  "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
    found["first_token_ms"] = loading()
    peers = {name: version(name) for name in ("torch", "transformers", "tokenizers", "tiktoken", "numpy", "llama-cpp-python")}
    write_json(RESULTS, {**found, "machine": platform.machine(), "cores": os.cpu_count(), "peers": peers})


if __name__ == "__main__":
    main()
