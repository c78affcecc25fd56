"""The slim export: a folder with weights, config and tokenizer that needs nothing else to write stories."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from personacore.errors import UserError
from personacore.files import sha256_of, write_json
from personacore.model.files import build_model
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.tensors import load_tensors, save_tensors
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import load_tokenizer

if TYPE_CHECKING:
    from personacore.memory.teaching import Teaching

SCHEMA = 3
WEIGHTS, TOKENIZER, CONFIG, CONVERSATIONS = "model.safetensors", "tokenizer.json", "config.json", "conversations.safetensors"


def export_slim(
    folder: Path,
    config: GPTConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Path,
    dtype: str,
    provenance: Mapping[str, object],
    teaching: "Teaching | None" = None,
) -> None:
    """Write the folder; `dtype` is float32 or bfloat16. The config is written last, so a folder with one is whole.

    A model that converses comes with what its memories are written with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    save_tensors(folder / WEIGHTS, {name: tensor.to(kind) for name, tensor in weights.items()}, {"schema": SCHEMA})
    (folder / TOKENIZER).write_bytes(tokenizer.read_bytes())
    files, memory = [WEIGHTS, TOKENIZER], None
    if teaching is not None:
        save_tensors(folder / CONVERSATIONS, {"rows": teaching.generic}, {"schema": SCHEMA})
        files.append(CONVERSATIONS)
        memory = {"rows": dataclasses.asdict(teaching.rows), "sleep": dataclasses.asdict(teaching.sleep)}
    description = {
        "schema": SCHEMA,
        "model": dataclasses.asdict(config),
        "dtype": dtype,
        "memory": memory,
        "sha256": {name: sha256_of(folder / name) for name in files},
        "provenance": dict(provenance),
    }
    write_json(folder / CONFIG, description)


def load_slim(folder: Path) -> tuple[GPT, Tokenizer]:
    """The model, in evaluation mode, and the tokenizer of an exported folder.

    Raises:
        UserError: a file is missing, damaged, changed since the export, or of a newer schema.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of an exported model: run `make model`, or name one with --model")
    description = read_config(folder / CONFIG)
    for name in (WEIGHTS, TOKENIZER):
        check_file(folder, name, description)
    try:
        config = GPTConfig(**description["model"])
    except TypeError as error:
        raise UserError(f"{folder / CONFIG}: model: {error}") from None
    weights, _ = load_tensors(folder / WEIGHTS)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if tokenizer.vocab_size != config.vocab_size:
        raise UserError(f"{folder}: the tokenizer has {tokenizer.vocab_size} ids but the model {config.vocab_size}")
    return build_model(config, weights, folder / WEIGHTS).requires_grad_(False), tokenizer


def check_file(folder: Path, name: str, description: Mapping[str, Mapping[str, object]]) -> None:
    """Raise a UserError unless a file is the one that was exported."""
    if not (folder / name).is_file():
        raise UserError(f"{folder / name} is missing: export the model again with `dvc repro export`")
    if sha256_of(folder / name) != description["sha256"].get(name):
        raise UserError(f"{folder / name} is damaged or of another export: export the model again with `dvc repro export`")


def read_config(path: Path) -> dict[str, dict[str, object]]:
    """What the export says of itself.

    Raises:
        UserError: the file is missing, damaged or of another schema.
    """
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: export the model again with `dvc repro export`") from None
    except (ValueError, UnicodeDecodeError):
        raise UserError(f"{path} is not readable JSON: export the model again with `dvc repro export`") from None
    schema = description.get("schema") if isinstance(description, dict) else None
    if not isinstance(schema, int) or schema < 1:
        raise UserError(f"{path} does not describe an exported model")
    if schema != SCHEMA:
        older = schema < SCHEMA
        advice = "export the model again with `dvc repro export`" if older else "upgrade personacore"
        raise UserError(
            f"{path} has schema {schema}, {'older' if older else 'newer'} than this personacore's {SCHEMA}: {advice}"
        )
    for key in ("model", "sha256"):
        if not isinstance(description.get(key), dict):
            raise UserError(f"{path}: {key} is missing or no mapping: export the model again with `dvc repro export`")
    return description
