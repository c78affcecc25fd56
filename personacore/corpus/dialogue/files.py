"""Conversations in files: a JSON line each, with what is said, what is answered, and what sort of turn it is."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from personacore.corpus.dialogue.turns import Turn
from personacore.errors import UserError
from personacore.files import write_text


def write_conversations(path: Path, conversations: Iterable[Sequence[Turn]]) -> None:
    """Write conversations atomically, one a line."""
    lines = (json.dumps([dataclasses.astuple(turn) for turn in turns], ensure_ascii=False) for turns in conversations)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_conversations(path: Path) -> list[list[Turn]]:
    """The conversations of a file.

    Raises:
        UserError: the file is missing or not one that `write_conversations` wrote.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [[Turn(*turn) for turn in json.loads(line)] for line in lines]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro dialogues`") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} holds no conversations ({error}): run `dvc repro -f dialogues`") from None
