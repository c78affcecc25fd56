"""The dialogue grammar's data files."""

from functools import lru_cache
from importlib import resources
from typing import Any

import yaml


@lru_cache
def read_data(name: str) -> Any:
    """The content of one of the YAML files here, every scalar as text."""
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=yaml.BaseLoader)
