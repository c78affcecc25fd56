"""Reading a file of token ids."""

from pathlib import Path

import numpy as np

from personacore.errors import UserError


def open_tokens(path: str | Path) -> np.ndarray:
    """The ids of a token file as a read-only memory map of little-endian uint16.

    Raises:
        UserError: the file is missing, empty, or cut in the middle of an id.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise UserError(f"{path} is missing or empty: run `dvc repro encode`")
    if path.stat().st_size % 2:
        raise UserError(f"{path} ends in half a token: delete it and run `dvc repro encode`")
    return np.memmap(path, dtype="<u2", mode="r")
