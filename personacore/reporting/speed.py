"""The report's chapter on speed: what `benchmarks` measured, of each as much as there is."""

from collections.abc import Iterator, Mapping
from typing import Any

from personacore.reporting.markdown import table

SPEED_METRICS = ("learning", "bench", "growth")
COMPARED = {
    "training_vs_eager_fp32": "training 13.9M parameters, against a plain fp32 loop",
    "training_gemm_fraction": "the same, as a share of the machine's rate in matrix products alone",
    "pocket_training_vs_eager_fp32": "training in the pocket's shapes, against the same loop",
    "evaluate_tokens_vs_training": "the validation sweep against training, pocket's shapes",
    "generation_fp32_vs_uncached": "one text, compiled steps against the plain model without a cache",
    "generation_fp32_vs_transformers": "one text against `transformers`",
    "generation_fp32_vs_onnxruntime": "one text against ONNX Runtime",
    "generation_fp32_vs_llamacpp_f32": "one text against llama.cpp, f32",
    "generation_int8_vs_onnxruntime_int8": "one text in int8 against ONNX Runtime's int8",
    "generation_int8_vs_llamacpp_q8": "one text in int8 against llama.cpp's Q8_0",
    "batch_generation_vs_transformers": "64 texts at once, compiled steps against `transformers`",
    "bpe_training_vs_rustbpe": "learning 4,096 ids from 20 MB, against `rustbpe`",
    "bpe_training_vs_tokenizers": "the same against `tokenizers`",
    "encode_vs_tiktoken": "encoding 20 MB on one thread, against `tiktoken`",
    "encode_vs_tokenizers": "the same against `tokenizers`",
}


def speed_chapter(learning: Mapping[str, Any], bench: Mapping[str, Any], growth: Mapping[str, Any]) -> str:
    """The chapter as Markdown."""
    return f"""## Speed

Measured by benchmarks that are run by hand. Ratios carry over to other machines better than seconds do.

{_learning(learning)}

{_bench(bench)}

{_growth(growth)}"""


def bench_rows(bench: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Each key of bench.json, what it compares, its value with the lowest and highest, and its goal."""
    for key, what in COMPARED.items():
        if not (found := bench.get(key)):
            continue
        yield f"`{key}`", what, _spread(found), f"≥ {found['reach']:g}{', missed' * (found['value'] < found['reach'])}"
        if large := found.get("100_megabytes"):
            yield "", "the same with 100 MB (the corpus repeated) on all cores", _spread(large), ""
    if loss := bench.get("generation_int8_bits_per_byte_loss"):
        goal = f"≤ {loss['reach']:.1%}{', missed' * (loss['value'] > loss['reach'])}"
        what = "bits per byte of the whole validation file in int8, more than in fp32"
        spread = f"{loss['value']:.3%} ({loss['low']:.3%} to {loss['high']:.3%})"
        yield "`generation_int8_bits_per_byte_loss`", what, spread, goal
    if first := bench.get("first_token_ms"):
        goal = f"load ≤ {first['reach']} ms{', missed' * (first['load_ms'] > first['reach'])}"
        what = "loading a folder, beyond importing torch; then the first token"
        yield "`first_token_ms`", what, f"{first['load_ms']:.0f} ms, then {first['value']:.0f} ms", goal


def _spread(found: Mapping[str, Any]) -> str:
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _machine(found: Mapping[str, Any]) -> str:
    return f"{found['machine']}, {found['cores']} cores"


def _learning(learning: Mapping[str, Any]) -> str:
    recipes, curves = learning["recipes"], learning["curves"]
    points = [(name, point) for name, curve in curves.items() for point in curve]
    reached = [(name, f"{point['minutes']:g}", *_point(point)) for name, point in points]
    first = curves["ours"][0]
    changed = [
        (name, *_point(point), f"{point['bits_per_byte'] / first['bits_per_byte'] - 1:+.1%}")
        for name, point in (("ours", first), *learning["ablations"].items())
    ]
    return f"""**What the same minutes teach** (`python -m benchmarks.learning TEXT`, {_machine(learning)}). The 13.9M model
on `{learning["text"]}`, {learning["text_bytes"]:,} bytes, of which a fiftieth is held out. The plain recipe is a loop of PyTorch's own
layers in float32 with AdamW and a constant learning rate ({_recipe(recipes["plain"])}); ours runs in {learning["precision"]}
({_recipe(recipes["ours"])}). Each of our rows is a run of its own, whose schedule ends with its minutes.

{table(("recipe", "minutes", "bits per byte of unseen stories", "steps", "tokens"), reached)}

![What minutes teach](images/learning.png)

Ablations, {round(first["minutes"]):g} minutes each, one seed: ours with one thing changed.

{table(("ours, but", "bits per byte", "steps", "tokens", ""), changed)}"""


def _point(point: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{point['bits_per_byte']:.4f}", f"{point['steps']:,}", f"{point['tokens']:,}"


def _recipe(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}` {value}" for key, value in recipe.items())


def _bench(bench: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in bench["peers"].items())
    return f"""**Against other implementations** (`make bench`, {_machine(bench)}), each pair run alternately: how many times as fast,
the median with the lowest and highest. Versions: {versions}. Why goals are missed is in docs/EXPERIMENTS.md.

{table(("`bench.json`", "what", "value", "goal"), bench_rows(bench))}

![Against other implementations](images/bench.png)"""


def _growth(growth: Mapping[str, Any]) -> str:
    rows = []
    for name, found in growth["costs"].items():
        smallest, largest = found["points"][0], found["points"][-1]
        span = f"{smallest['size']:,.3g} to {largest['size']:,.4g} {found['unit']}"
        rows.append((name, span, f"{largest['seconds']:,.3g}", f"{found['exponent']:.2f}", f"{largest['megabytes']:,.0f}"))
    return f"""**How cost grows** (`python -m benchmarks.growth`, {_machine(growth)}). Time grows as a power of the size; an exponent
of 1 is linear. Memory is what the largest takes more than the smallest.

{table(("", "range", "seconds at the largest", "exponent", "extra MB"), rows)}

![How cost grows](images/growth.png)"""
