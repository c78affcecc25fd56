"""Tensor files with their description inside: one safetensors file, whole or absent, that cannot run code on load."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from personacore.errors import UserError
from personacore.files import atomic_write

_KEY = "personacore"  # a single entry, because safetensors writes several in no stable order


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any], mode: int = 0o644) -> None:
    """Write tensors and a JSON description; equal input gives equal bytes.

    Raises:
        UserError: the disk is full; what stood under `path` is untouched.
    """
    detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_write(path, mode) as temporary:
            save_file(detached, temporary, metadata={_KEY: json.dumps(description, allow_nan=False)})
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise UserError(f"{path}: the disk is full; the state saved before is kept: free some space and rerun") from None
        raise


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of a file.

    Raises:
        UserError: the file is missing, truncated, or not one that `save_tensors` wrote.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            description = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}): delete it and rerun") from None
    except (KeyError, ValueError):
        raise UserError(f"{path} was not written by personacore: delete it and rerun") from None
    if not isinstance(description, dict):
        raise UserError(f"{path} was not written by personacore: delete it and rerun")
    return tensors, description
