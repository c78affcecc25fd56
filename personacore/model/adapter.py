"""Memory files: one person's memory, rows or a low-rank adapter or both, and what it was taught on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from personacore.errors import UserError
from personacore.model.consolidated import Consolidated
from personacore.model.gpt import GPTConfig
from personacore.model.lora import LoRA
from personacore.model.rows import SHAPE as ROW_SHAPE
from personacore.model.rows import Key, MemoryRows
from personacore.model.tensors import load_tensors, save_tensors

SCHEMA = 5
LORA_SHAPE = ("rank", "alpha", "targets", "invocation")
Adapter = LoRA | MemoryRows | Consolidated
KINDS = {LoRA: "lora", MemoryRows: "rows", Consolidated: "rows and lora"}
_MEND = "restore a copy of it, or start a new memory"


def save_adapter(path: Path, adapter: Adapter, provenance: Mapping[str, object]) -> None:
    """Write one person's adapter, readable by that user only; `provenance` holds base_sha256, tokenizer_sha256 and more.

    Raises:
        UserError: the disk is full, or a tensor is not finite; what stood under `path` is untouched.
    """
    parts = [adapter.rows, adapter.lora] if isinstance(adapter, Consolidated) else [adapter]
    if (
        any(isinstance(part, LoRA) and part.people is not None for part in parts)
        or not {"base_sha256", "tokenizer_sha256"} <= provenance.keys()
    ):
        raise ValueError("a memory file holds one person's adapter, and the hashes of its base and tokenizer")
    tensors = adapter.state_dict()
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():  # it could not be loaded again
            raise UserError(f"{path}: tensor {name} is not finite, the file is left as it was: say it in other words")
    shape: dict[str, object] = {}
    for part in parts:
        shape |= _lora_shape(part) if isinstance(part, LoRA) else part.shape()
    kind = KINDS[type(adapter)]
    save_tensors(path, tensors, {**provenance, "schema": SCHEMA, "kind": "memory", "written_as": kind, **shape}, mode=0o600)


def _lora_shape(lora: LoRA) -> dict[str, object]:
    return {name: getattr(lora, name) for name in LORA_SHAPE} | {"config": dataclasses.asdict(lora.config)}


def load_adapter(path: Path, base_sha256: str, tokenizer_sha256: str) -> tuple[Adapter, dict[str, Any]]:
    """The memory of a file and the file's description, if it was taught on this base with this tokenizer.

    Raises:
        UserError: the file is missing, damaged, no memory, of a newer schema, or of another base or tokenizer.
    """
    try:
        tensors, description = load_tensors(path)
    except UserError as error:  # a stage would write its file again, but nothing writes this one
        raise UserError(f"{str(error).removesuffix(': delete it and rerun')}: {_MEND}") from None
    if description.get("kind") != "memory":
        raise UserError(f"{path} is no memory file: give the path of one, or start a new memory")
    if (schema := description.get("schema")) != SCHEMA:
        older = isinstance(schema, int) and schema < SCHEMA
        advice = "start a new memory" if older else "update personacore"
        raise UserError(f"{path} has schema {schema!r}, and this version reads {SCHEMA}: {advice}")
    for key, here, what in (("base_sha256", base_sha256, "model"), ("tokenizer_sha256", tokenizer_sha256, "tokenizer")):
        if (there := str(description.get(key))) != here:
            differ = f"this memory belongs to another {what} ({there[:12]}), not to this one ({here[:12]})"
            raise UserError(f"{path}: {differ}: load the {what} it was taught on, or start a new memory in another file")
    try:
        adapter = _empty(tensors, description)
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise UserError(f"{path}: no adapter is like this ({' '.join(str(error).split())}): {_MEND}") from None
    needed, given = ({name: tuple(value.shape) for name, value in each.items()} for each in (adapter.state_dict(), tensors))
    for name in sorted(needed | given):
        if given.get(name) != needed.get(name):
            there, here = given.get(name, "missing"), needed.get(name, "none")
            raise UserError(f"{path}: tensor {name} is {there} where {here} is expected: {_MEND}")
        if not tensors[name].isfinite().all():
            raise UserError(f"{path}: tensor {name} is not finite: {_MEND}")
    adapter.load_state_dict(tensors)
    return adapter, description


def _empty(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> Adapter:
    """An adapter of the described shape, whose tensors are still to be loaded.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError, ArithmeticError: there is no such adapter.
    """

    def lora() -> LoRA:
        return LoRA(GPTConfig(**description["config"]), **{key: description[key] for key in LORA_SHAPE})

    def rows(prefix: str) -> MemoryRows:
        parts = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        return MemoryRows(**{key: description[key] for key in ROW_SHAPE}, spans=_spans(parts, description["width"]))

    match description["written_as"]:
        case "lora":
            return lora()
        case "rows":
            return rows("")
        case "rows and lora":
            return Consolidated(rows("rows."), lora())
    raise ValueError(f"written_as: {description['written_as']!r}")


def _spans(tensors: Mapping[str, Tensor], width: int) -> dict[Key, int]:
    """How many rows each key has, once the tensors are known to be of one table: only then is room made for it.

    Raises:
        ValueError: they are not.
    """
    keys, lengths, vectors = (tensors[name] for name in ("keys", "lengths", "vectors"))
    if keys.dtype != torch.int64 or lengths.dtype != torch.int64 or keys.shape != (len(lengths), 3):
        raise ValueError("keys and lengths are no whole numbers of one count")
    if vectors.dim() != 2 or vectors.size(1) != width:
        raise ValueError(f"the rows are not {width!r} wide")
    if int(lengths.sum()) != len(vectors) or len(set(map(tuple, keys.tolist()))) != len(keys):
        raise ValueError("there are not as many rows as the keys have, or a key stands twice")
    found = dict(zip(map(tuple, keys.tolist()), lengths.tolist(), strict=True))
    if {fact for *_, fact in found} != {fact for first, _, fact in found if first == fact}:
        raise ValueError("a fact has no key of its own")
    return found
