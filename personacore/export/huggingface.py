"""A folder that `transformers` loads: the weights under GPT-2's names, and the tokenizer as `tokenizers` reads it.

`transformers` keeps query, key and value in one matrix and every matrix transposed; its `gelu_new` is GELU by tanh.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from personacore.files import atomic_write, write_json, write_text
from personacore.model.gpt import GPT
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.pretokenize import PATTERN

LAYERS = {  # of a block there, and what they are made of here
    "attn.c_attn": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "attn.c_proj": ("attn.c_proj",),
    "mlp.c_fc": ("mlp.fc_in",),
    "mlp.c_proj": ("mlp.fc_out",),
}
NORMS = ("ln_1", "ln_2")
CHAT_TEMPLATE = (
    "<|endoftext|>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


PROVENANCE = "provenance.json"  # a file of its own: those that read the others warn of keys they do not know


def export_huggingface(
    folder: Path, model: GPT, tokenizer: Tokenizer, card: str, provenance: Mapping[str, object] | None = None
) -> None:
    """Write config, weights, tokenizer, generation settings, the model card and the provenance; the config is written last."""
    (folder / "config.json").unlink(missing_ok=True)
    with atomic_write(folder / "model.safetensors") as temporary:
        save_file(peer_weights(model), temporary, metadata={"format": "pt"})
    write_json(folder / "tokenizer.json", tokenizer_file(tokenizer))
    end, turn = tokenizer.end_of_text, tokenizer.specials["<|end|>"]
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": model.config.block_size,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    generation = {"bos_token_id": end, "eos_token_id": [end, turn], "pad_token_id": end, "max_length": model.config.block_size}
    write_json(folder / "generation_config.json", {**generation, "do_sample": True, "temperature": 0.8, "top_p": 0.95})
    write_text(folder / "README.md", card)
    if provenance is not None:
        write_json(folder / PROVENANCE, provenance)
    write_json(folder / "config.json", peer_config(model, end))


def peer_config(model: GPT, end_of_text: int) -> dict[str, object]:
    """The `config.json` of a GPT-2 of this shape."""
    config = model.config
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": model.ln_f.eps,
        "tie_word_embeddings": config.tie_weights,
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), config.dropout),
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float32",
    }


def peer_weights(model: GPT) -> dict[str, Tensor]:
    """The weights as `transformers` names and lays them out; a model without positions has zeros for them."""
    positions = model.wpe.weight if model.wpe is not None else torch.zeros(model.config.block_size, model.config.n_embd)
    found = {
        "transformer.wte.weight": model.wte.weight,
        "transformer.wpe.weight": positions,
        "transformer.ln_f.weight": model.ln_f.weight,
        "transformer.ln_f.bias": model.ln_f.bias,
    }
    if not model.config.tie_weights:
        found["lm_head.weight"] = model.lm_head.weight
    for number, block in enumerate(model.blocks):
        for name, named in LAYERS.items():
            parts = [block.get_submodule(part) for part in named]
            found[f"transformer.h.{number}.{name}.weight"] = torch.cat([part.weight for part in parts]).T
            found[f"transformer.h.{number}.{name}.bias"] = torch.cat([part.bias for part in parts])
        for name in NORMS:
            norm = getattr(block, name)
            found |= {f"transformer.h.{number}.{name}.{kind}": getattr(norm, kind) for kind in ("weight", "bias")}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


def tokenizer_file(tokenizer: Tokenizer) -> Mapping[str, object]:
    """The `tokenizer.json` of `tokenizers`: byte-level BPE over the same words, with the same ids."""
    spelled = spelled_tokens(tokenizer)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": name, **flags, "special": True} for name, number in tokenizer.specials.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(spelled)},
            "merges": [[spelled[left], spelled[right]] for left, right in tokenizer.merges],
        },
    }


def spelled_tokens(tokenizer: Tokenizer) -> list[str]:
    """Every token but the specials, by id, in the letters that stand for its bytes."""
    letters = byte_letters()
    return ["".join(letters[byte] for byte in tokenizer.token_bytes(number)) for number in range(tokenizer.end_of_text)]


def byte_letters() -> list[str]:
    """The letter that stands for each byte in GPT-2's vocabularies: printable bytes for themselves, others from 256 on.

    >>> byte_letters()[ord("A")], byte_letters()[ord(" ")]
    ('A', 'Ġ')
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]
