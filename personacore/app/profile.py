"""Profiles: small overlays that turn params.yaml from one scale to another."""

from collections.abc import MutableMapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from personacore.errors import UserError
from personacore.files import write_text
from personacore.params import load_params
from personacore.yaml12 import read_yaml


def apply_profile(name: str, profiles: Path, params: Path) -> list[str]:
    """Write the values of `profiles/NAME.yaml` into the params file, comments kept; a line for each value changed.

    Raises:
        UserError: there is no such profile, or the result would not be valid params; the file is then untouched.
    """
    known = sorted(file.stem for file in profiles.glob("*.yaml"))
    if name not in known:
        raise UserError(f"profile: there is no {name!r}; profiles/ holds {', '.join(known) or 'none'}")
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    read_yaml(params)  # says in one line what is wrong with the file
    document = yaml.load(params.read_text(encoding="utf-8"))
    changed = _overlay(document, read_yaml(profiles / f"{name}.yaml"), "")
    out = StringIO()
    yaml.dump(document, out)
    candidate = params.with_name(f".{params.name}.candidate")
    try:
        write_text(candidate, out.getvalue())
        load_params(candidate)
    finally:
        candidate.unlink(missing_ok=True)
    if changed:
        write_text(params, out.getvalue())
    return changed


def _overlay(target: MutableMapping[str, Any], values: MutableMapping[str, Any], where: str) -> list[str]:
    changed: list[str] = []
    for key, value in values.items():
        if key not in target:
            raise UserError(f"profile: {where}{key} is no key of params.yaml")
        if isinstance(value, dict) and isinstance(target[key], MutableMapping):
            changed += _overlay(target[key], value, f"{where}{key}.")
        elif target[key] != value:
            changed.append(f"{where}{key}: {target[key]} -> {value}")
            if isinstance(value, list) and isinstance(target[key], list):
                target[key][:] = value  # in place, so that it stays on the line of its comment
            else:
                target[key] = value
    return changed
