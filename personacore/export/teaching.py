"""What the memories of an exported model are written with, in the same folder as the model."""

from pathlib import Path

from personacore.errors import UserError
from personacore.export.slim import CONFIG, CONVERSATIONS, TOKENIZER, WEIGHTS, check_file, read_config
from personacore.layout import CHAT_EXPORT
from personacore.memory.teaching import Teaching
from personacore.model.tensors import load_tensors
from personacore.params import RowsParams, SleepParams
from personacore.typed import build


def load_teaching(folder: Path) -> tuple[Teaching, dict[str, str]]:
    """How memories of the model of a folder are written, and what their files name it by: base_sha256 and tokenizer_sha256.

    Raises:
        UserError: the model tells stories and does not converse, or its conversations are missing or damaged.
    """
    description = read_config(folder / CONFIG)
    if not (memory := description.get("memory")):
        raise UserError(f"{folder} holds a model that cannot be taught: use {CHAT_EXPORT}, which `dvc repro export` makes")
    try:
        rows, sleep = (build(kind, memory[name], name) for name, kind in (("rows", RowsParams), ("sleep", SleepParams)))
    except (KeyError, TypeError, UserError) as error:
        raise UserError(f"{folder / CONFIG}: memory: {error}") from None
    check_file(folder, CONVERSATIONS, description)
    tensors, _ = load_tensors(folder / CONVERSATIONS)
    sha256 = description["sha256"]
    return Teaching(rows, sleep, tensors["rows"]), {"base_sha256": sha256[WEIGHTS], "tokenizer_sha256": sha256[TOKENIZER]}
