"""A low-rank adapter as a folder that `peft` puts onto the model of `export_huggingface`.

Query, key and value are one matrix there: their factors a are stacked, and their factors b stand on the diagonal of one. It
acts from the last invocation on (aLoRA), ours from the first: the same for one question, which is what a memory is asked.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from personacore.export.huggingface import LAYERS, PROVENANCE
from personacore.files import atomic_write, write_json
from personacore.model.lora import LoRA, Pair


def export_peft(folder: Path, lora: LoRA, base: str, provenance: Mapping[str, object] | None = None) -> None:
    """Write one person's adapter for the model that `peft` knows as `base`, and its provenance; the config is written last."""
    (folder / "adapter_config.json").unlink(missing_ok=True)
    with atomic_write(folder / "adapter_model.safetensors", 0o600) as temporary:
        save_file(peer_factors(lora), temporary, metadata={"format": "pt"})
    ranks = {layer: lora.rank * len(_there(lora, parts)) for layer, parts in LAYERS.items() if _there(lora, parts)}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "rank_pattern": ranks,
        "alpha_pattern": {layer: lora.scale * rank for layer, rank in ranks.items()},
        "target_modules": list(ranks),
        "fan_in_fan_out": True,  # GPT-2's matrices are transposed
        "alora_invocation_tokens": None if lora.invocation is None else [lora.invocation],
        "bias": "none",
        "lora_dropout": 0.0,
    }
    if provenance is not None:
        write_json(folder / PROVENANCE, provenance)
    write_json(folder / "adapter_config.json", config)


def peer_factors(lora: LoRA) -> dict[str, Tensor]:
    """The factors as `peft` names them."""
    pairs, found = lora.pairs(), {}
    for number in range(lora.config.n_layer):
        for layer, parts in LAYERS.items():
            if not (there := _there(lora, parts)):
                continue
            name = f"base_model.model.transformer.h.{number}.{layer}"
            mine = {part: pairs[f"blocks.{number}.{part}"] for part in there}
            found[f"{name}.lora_A.weight"] = torch.cat([pair.a for pair in mine.values()])
            found[f"{name}.lora_B.weight"] = _spread(mine, parts, lora.config.n_embd) if len(parts) > 1 else mine[parts[0]].b
    return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def _there(lora: LoRA, parts: tuple[str, ...]) -> list[str]:
    return [part for part in parts if part.split(".")[1] in lora.targets]


def _spread(mine: dict[str, Pair], parts: tuple[str, ...], width: int) -> Tensor:
    """The factors b (width, rank) of parts of one matrix, each in its own rows and columns; zeros for a part without."""
    spread = torch.zeros(len(parts) * width, sum(pair.b.size(1) for pair in mine.values()))
    column = 0
    for place, part in enumerate(parts):
        if part in mine:
            b = mine[part].b
            spread[place * width : (place + 1) * width, column : column + b.size(1)] = b
            column += b.size(1)
    return spread
