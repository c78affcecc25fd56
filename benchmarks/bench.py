"""PersonaCore beside its peers, in one run on one machine: metrics/speed/bench.json, docs/images/bench.png and a table.

python -m benchmarks.bench [KEY ...]    (after `dvc repro` and `pip install '.[bench]'`; about a quarter of an hour, with
nothing else running; `make bench` does all of it)

Most figures are ratios of pairs that ran by turns: the median, with its lowest and highest. `training_gemm_fraction` and
`evaluate_tokens_vs_training` divide by a rate that was measured just before. More is better, except for
`generation_int8_bits_per_byte_loss`, a share by which the loss grows, and `first_token_ms`.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed import text, training, writing
from benchmarks.speed.chart import draw_chart
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT, SLIM
from personacore.params import load_params
from personacore.training.device import choose_precision

RESULTS, CHART = Path("metrics/speed/bench.json"), Path("docs/images/bench.png")
LOADS = 5
PRECISION = choose_precision("auto", training.CPU)
REACH = {  # a ratio; of the loss, how large it may be; of the first token, how many milliseconds loading may take before it
    "training_vs_eager_fp32": 2.2 if PRECISION == "bf16" else 1.25,
    "training_gemm_fraction": 0.75,
    "pocket_training_vs_eager_fp32": 1.5,
    "evaluate_tokens_vs_training": 2.5,
    "generation_fp32_vs_uncached": 15,
    "generation_fp32_vs_transformers": 3,
    "generation_fp32_vs_onnxruntime": 1,
    "generation_fp32_vs_llamacpp_f32": 1,
    "generation_int8_vs_onnxruntime_int8": 1.1,
    "generation_int8_vs_llamacpp_q8": 1.3,
    "generation_int8_bits_per_byte_loss": 0.002,
    "batch_generation_vs_transformers": 3,
    "bpe_training_vs_rustbpe": 1,
    "bpe_training_vs_tokenizers": 2,
    "encode_vs_tiktoken": 3,
    "encode_vs_tokenizers": 15,
    "first_token_ms": 150,
}
LARGE = "100_megabytes"
PEERS = ("torch", "numba", "transformers", "onnxruntime", "llama-cpp-python", "tokenizers", "rustbpe", "tiktoken", "numpy")
MICRO_BATCH = load_params().train.micro_batch_size
Figures = training.Figures


def benchmarks() -> dict[str, Callable[[dict[str, Figures]], Figures]]:
    """What is measured for each key; an entry is given what was found before it."""
    pocket, macbook = training.pocket_config(), training.MACBOOK

    def rate(found: dict[str, Figures], key: str) -> float:
        return float(found[key]["ours_rate"])

    return {
        "training_vs_eager_fp32": lambda _: training.training(macbook, PRECISION, 32, 32, steps=1, repeats=3),
        "training_gemm_fraction": lambda found: training.gemm_fraction(
            macbook, PRECISION, rate(found, "training_vs_eager_fp32"), batch_size=32
        ),
        "pocket_training_vs_eager_fp32": lambda _: training.training(pocket, "fp32", 12, MICRO_BATCH, steps=10, repeats=7),
        "evaluate_tokens_vs_training": lambda found: training.evaluation(pocket, rate(found, "pocket_training_vs_eager_fp32")),
        "generation_fp32_vs_uncached": lambda _: writing.uncached(macbook, repeats=3),
        "generation_fp32_vs_transformers": lambda _: writing.transformers(macbook, 1, repeats=5),
        "generation_fp32_vs_onnxruntime": lambda _: writing.onnxruntime(macbook, False, repeats=5),
        "generation_fp32_vs_llamacpp_f32": lambda _: writing.llamacpp(macbook, "f32", repeats=5),
        "generation_int8_vs_onnxruntime_int8": lambda _: writing.onnxruntime(macbook, True, repeats=5),
        "generation_int8_vs_llamacpp_q8": lambda _: writing.llamacpp(macbook, "q8_0", repeats=5),
        "generation_int8_bits_per_byte_loss": lambda _: writing.int8_loss(),
        "batch_generation_vs_transformers": lambda _: writing.transformers(macbook, 64, repeats=3, new_tokens=100),
        "bpe_training_vs_rustbpe": lambda _: learning("rustbpe"),
        "bpe_training_vs_tokenizers": lambda _: learning("tokenizers"),
        "encode_vs_tiktoken": lambda _: encoding("tiktoken"),
        "encode_vs_tokenizers": lambda _: encoding("tokenizers"),
        "first_token_ms": lambda _: first_token(),
    }


def learning(peer: str) -> Figures:
    """4,096 ids, which the pocket corpus supports, from 20 MB on all cores, and under LARGE from 100 MB."""
    return {**text.learning(20, peer, 4096, repeats=3), LARGE: text.learning(100, peer, 4096, repeats=3)}


def encoding(peer: str) -> Figures:
    """20 MB on one thread, and under LARGE 100 MB on all cores."""
    return {**text.encoding(20, peer, 1, repeats=3), LARGE: text.encoding(100, peer, os.cpu_count() or 1, repeats=3)}


def first_token() -> Figures:
    """Milliseconds from a folder to a model, and to its first token, beyond importing torch, in processes of their own."""
    slim, chat = ([_load_and_first(folder) for _ in range(LOADS)] for folder in (SLIM, CHAT_EXPORT))
    loads, firsts, threads = zip(*slim, strict=True)
    return {
        "value": statistics.median(firsts),
        "low": min(firsts),
        "high": max(firsts),
        "load_ms": statistics.median(loads),
        "chat_load_ms": statistics.median(load for load, *_ in chat),
        "repeats": LOADS,
        "threads": threads[0],
    }


def _load_and_first(folder: Path) -> tuple[float, float, int]:
    program = (
        "import time, torch; began = time.perf_counter(); import personacore; "
        f"core = personacore.load({str(folder)!r}); loaded = time.perf_counter(); "
        "next(core.stream('Once')); "
        "print(1000 * (loaded - began), 1000 * (time.perf_counter() - loaded), torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    load, first, threads = done.stdout.split()
    return round(float(load), 1), round(float(first), 1), int(threads)


def main() -> None:
    """Measure all keys, or those that are named, print them beside what is to be reached, and keep them."""
    wanted = sys.argv[1:] or list(REACH)
    if unknown := set(wanted) - set(REACH):
        raise SystemExit(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(REACH)}")
    needs = {"evaluate_tokens_vs_training": "pocket_training_vs_eager_fp32", "training_gemm_fraction": "training_vs_eager_fp32"}
    wanted += [needs[key] for key in wanted if key in needs]
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = {key: before[key] for key in REACH if key in before}
    found |= {"machine": platform.machine(), "cores": os.cpu_count(), "peers": {name: version(name) for name in PEERS}}
    for key, measure in benchmarks().items():
        if key not in wanted:
            continue
        began = time.perf_counter()
        found[key] = {**measure(found), "reach": REACH[key]}
        figures = found[key]
        spread = f"({figures['low']:.2f} to {figures['high']:.2f})" if "low" in figures else ""
        print(
            f"{key:36} {figures['value']:9.4g}  {spread:20} reach {REACH[key]:g}  {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        write_json(RESULTS, found)  # each as soon as it is there
    draw_chart(CHART, {key: found[key] for key in REACH if "ours_rate" in found.get(key, {})})


if __name__ == "__main__":
    main()
