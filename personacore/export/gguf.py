"""Files that llama.cpp loads: the weights under its names in several precisions, and the tokenizer in the same file.

Layers are those of `transformers`' GPT-2, whose matrices it turns around. Of llama.cpp's ways to split words "smollm" is the
nearest: every digit by itself, then GPT-2's pattern. White space of several characters before a digit is one word there.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType as FileType

from personacore.export.huggingface import CHAT_TEMPLATE, LAYERS, NORMS, peer_weights, spelled_tokens
from personacore.export.peft import peer_factors
from personacore.files import atomic_write
from personacore.model.gpt import GPT
from personacore.model.lora import LoRA
from personacore.tokenizer.bpe import Tokenizer

ARCHITECTURE = "gpt2"
PROVENANCE = "personacore.provenance"
PRECISIONS = {
    "f32": (FileType.ALL_F32, Kind.F32),
    "f16": (FileType.MOSTLY_F16, Kind.F16),
    "q8_0": (FileType.MOSTLY_Q8_0, Kind.Q8_0),
}
MODEL_NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"}
BLOCK_NAMES = dict(
    zip((*LAYERS, *NORMS), ("attn_qkv", "attn_output", "ffn_up", "ffn_down", "attn_norm", "ffn_norm"), strict=True)
)


def export_gguf(folder: Path, model: GPT, tokenizer: Tokenizer, provenance: Mapping[str, object] | None = None) -> None:
    """Write the model once in each precision, as `f32.gguf` and so on, with its provenance as JSON under PROVENANCE.

    Vectors and positions stay in float32, and matrices whose rows are no multiple of q8_0's blocks of 32 in float16.
    """
    for precision, (file_type, kind) in PRECISIONS.items():
        with atomic_write(folder / f"{precision}.gguf") as temporary:
            writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
            writer.add_file_type(file_type)
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            _describe(writer, model)
            _add_provenance(writer, provenance)
            _add_tokenizer(writer, tokenizer)
            for name, weight in peer_weights(model).items():
                _add_weight(writer, llama_name(name), weight.T.numpy() if _turned(name) else weight.numpy(), kind)
            _write(writer)


def export_gguf_adapter(path: Path, lora: LoRA, provenance: Mapping[str, object] | None = None) -> None:
    """Write a person's adapter for those models; llama.cpp's server lets it act from the token before its last invocation on.

    One scale serves every layer there, so that where parts of a matrix are stacked their factors b are larger instead.
    """
    with atomic_write(path, 0o600) as temporary:
        writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, lora.alpha)
        _add_provenance(writer, provenance)
        if lora.invocation is not None:
            invocation = gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS
            writer.add_key_value(invocation, [lora.invocation], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
        for name, factor in peer_factors(lora).items():
            layer, which = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
            stacked = factor.size(1) / lora.rank if which == "B" else 1.0
            writer.add_tensor(f"{llama_name(layer)}.weight.lora_{which.lower()}", (stacked * factor).numpy())
        _write(writer)


def llama_name(name: str) -> str:
    """What llama.cpp calls a weight or layer of `transformers`' GPT-2.

    >>> llama_name("transformer.wte.weight"), llama_name("transformer.h.3.attn.c_attn.bias"), llama_name("transformer.h.0.ln_2")
    ('token_embd.weight', 'blk.3.attn_qkv.bias', 'blk.0.ffn_norm')
    """
    name = name.removeprefix("transformer.")
    block, layers = "", MODEL_NAMES
    if name.startswith("h."):
        _, number, name = name.split(".", 2)
        block, layers = f"blk.{number}.", BLOCK_NAMES
    layer = next(layer for layer in layers if name == layer or name.startswith(f"{layer}."))
    return block + layers[layer] + name.removeprefix(layer)


def _turned(name: str) -> bool:
    """Whether `transformers` has this weight the other way round."""
    return any(name.endswith(f"{layer}.weight") for layer in LAYERS)


def _describe(writer: gguf.GGUFWriter, model: GPT) -> None:
    config = model.config
    writer.add_name("PersonaCore")
    writer.add_license("mit")
    writer.add_context_length(config.block_size)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(model.ln_f.eps)


def _add_provenance(writer: gguf.GGUFWriter, provenance: Mapping[str, object] | None) -> None:
    if provenance is not None:
        writer.add_string(PROVENANCE, json.dumps(provenance))


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    spelled, specials = spelled_tokens(tokenizer), list(tokenizer.specials)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(spelled + specials)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(spelled) + [gguf.TokenType.CONTROL] * len(specials))
    writer.add_token_merges([f"{spelled[left]} {spelled[right]}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_eos_token_id(tokenizer.end_of_text)
    writer.add_eot_token_id(tokenizer.specials["<|end|>"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_weight(writer: gguf.GGUFWriter, name: str, weight: np.ndarray, kind: Kind) -> None:
    if weight.ndim == 1 or name.startswith("position_embd"):
        kind = Kind.F32
    elif kind == Kind.Q8_0 and weight.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = Kind.F16
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(weight), kind), raw_dtype=kind)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
