"""Check that a finished pipeline left every result it promises: files, keys, finite values, readable figures."""

import json
import math
import sys
from pathlib import Path

from matplotlib import image

from personacore.params import load_params

KEYS = {
    "corpus": ("source", "train_documents", "train_bytes", "valid_documents", "valid_bytes", "sha256"),
    "tokenizer": ("vocab_size", "live_ids", "live_fraction", "valid_bytes_per_token"),
    "encode": ("train_tokens", "valid_tokens"),
    "train": ("steps", "tokens", "parameters", "best_step", "valid_nats_per_token"),
    "sessions": ("sessions", "read_out_precision", "read_out_recall"),
    "writing": ("people", "facts", "ways"),
    "evaluate": ("perplexity", "scored_tokens", "scored_bytes", "nats_per_token", "bits_per_byte", "parameters"),
}
ARM_KEYS = ("story_bits_per_byte_before", "story_bits_per_byte_after", "dialogue_nats_per_token")
GATE_KEYS = ("value", "low", "high", "threshold", "passed")
ABLATION_KEYS = ("parameters", "perplexity", "bits_per_byte", "steps")
FILES = (
    "data/tokenizer/vocab.txt",
    "data/models/base/model.safetensors",
    "data/export/chat/config.json",
    "data/export/slim/config.json",
    "data/recall/transcript.jsonl",
    "docs/REPORT.md",
    "docs/samples.md",
    "docs/tour.ipynb",
    "data/export/huggingface/config.json",
    "data/export/peft/adapter_config.json",
    "data/export/gguf/f32.gguf",
    "data/export/gguf/adapter.gguf",
)


def problems(root: Path) -> list[str]:
    """What is missing or not a finite number, a line each."""
    found = [f"{name} is missing" for name in FILES if not (root / name).is_file()]
    metrics = {
        name: json.loads((root / f"metrics/{name}.json").read_text()) for name in (*KEYS, "ablations", "forgetting", "recall")
    }
    params = load_params(root / "params.yaml")
    keys = {**KEYS, "corpus": (*KEYS["corpus"], *(("source_bits_per_byte",) if params.data.source == "pocket" else ()))}
    entries = [(f"metrics/{name}.json", metrics[name], wanted) for name, wanted in keys.items()]
    entries += [
        (f"metrics/ablations.json: {name}", metrics["ablations"].get(name, {}), ABLATION_KEYS) for name in params.ablations
    ]
    entries += [
        (f"metrics/forgetting.json: {name}", metrics["forgetting"].get(name, {}), ARM_KEYS) for name in params.chat.arms
    ]
    entries += [(f"metrics/recall.json: {name}", metrics["recall"].get(name, {}), GATE_KEYS) for name in params.memory.gates]
    for where, values, wanted in entries:
        found += [f"{where}: {key} is missing" for key in wanted if key not in values]
        found += [
            f"{where}: {key} is {value}"
            for key, value in values.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
    if metrics["tokenizer"]["live_fraction"] < 0.99:
        found.append(f"metrics/tokenizer.json: live_fraction is {metrics['tokenizer']['live_fraction']}, below 0.99")
    figures = sorted((root / "plots").glob("*.png"))
    found += [f"{file} is blank" for file in figures if image.imread(file).std() == 0]
    return found if figures else [*found, "plots/ holds no figure"]


if __name__ == "__main__":
    lines = problems(Path.cwd())
    print("\n".join(lines) or "every promised result is there")
    sys.exit(bool(lines))
