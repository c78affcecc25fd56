"""The exported model: that of the last `dvc repro`, else the one that comes with the repository, which `make test` unpacks."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXPORT = Path(os.environ.get("PERSONACORE_EXPORT", ROOT / "data" / "export" / "chat"))  # the page can be tried on another
LARGE = 1_000_000  # bytes; the smoke profile's model learns nothing

needs_a_model = pytest.mark.skipif(
    not (EXPORT / "config.json").exists() or (EXPORT / "model.safetensors").stat().st_size < LARGE,
    reason="needs data/export/chat: run `make model` first",
)
