"""The exported model that comes with the repository, which `make test` unpacks."""

import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ROOT / "data" / "export" / "chat"


def _is_the_released_one() -> bool:
    """Whether README and tests speak of this model, and not of another that was made here since."""
    config = EXPORT / "config.json"
    found = hashlib.md5(config.read_bytes()).hexdigest() if config.exists() else "none"
    return (ROOT / "released" / "files" / "md5" / found[:2] / found[2:]).is_file()


needs_a_model = pytest.mark.skipif(not _is_the_released_one(), reason="needs the released model: run `make model`")
