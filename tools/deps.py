"""Rewrite the module and params lists of dvc.yaml from what each stage really imports and reads."""

import ast
import dataclasses
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from personacore.files import write_text
from personacore.params import Params
from personacore.provenance import ROOT, import_closure, module_file

PIPELINE = ROOT / "dvc.yaml"
SECTIONS = tuple(field.name for field in dataclasses.fields(Params))
ABLATED = ("ablation_steps", "ablations.${key}")  # what `Params.ablated` reads beside the sections it changes


def modules_of(stage: str) -> list[str]:
    """The files of this project that a stage runs or reads as package data, as paths from the root."""
    files = (file.relative_to(ROOT) for file in import_closure(f"stages.{stage}"))
    return [file.as_posix() for file in files if "__pycache__" not in file.parts]  # bytecode may lie beside data


def params_of(stage: str) -> list[str]:
    """The params a stage reads: the sections it takes from the variable `params`.

    Raises:
        ValueError: the stage hands on `params` itself, so that nobody can tell what is read of it.
    """
    file = module_file(f"stages.{stage}")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    taken = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "ablated":
            found |= set(ABLATED)
        if isinstance(node, ast.Name) and node.id == "params" and isinstance(node.ctx, ast.Load):
            if id(node) not in taken:
                raise ValueError(f"{file.name}:{node.lineno} hands on all of params: name the sections it needs")
            found.add(taken[id(node)])
    unknown = {name for name in found if name not in SECTIONS and name not in ABLATED}
    if unknown:
        raise ValueError(f"{file.name}: params has no {', '.join(sorted(unknown))}")
    return sorted(found)


def data_dependencies(declared: list[str]) -> list[str]:
    """The declared dependencies that are results of other stages or texts, not code."""
    return [entry for entry in declared if entry.startswith(("data/", "docs/", "metrics/", "plots/"))]


def stage_bodies(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """Each stage's declaration, that of a `foreach` stage being its template."""
    return {name: declared.get("do", declared) for name, declared in pipeline["stages"].items()}


def rewrite(text: str) -> str:
    """The text of dvc.yaml with every list of modules and params made right, comments kept."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 4096, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    pipeline = yaml.load(text)
    for name, body in stage_bodies(pipeline).items():
        body["deps"] = data_dependencies(list(body.get("deps", []))) + modules_of(name)
        body["params"] = params_of(name)
        if not body["params"]:
            del body["params"]
    out = StringIO()
    yaml.dump(pipeline, out)
    return out.getvalue()


def main() -> None:
    before = PIPELINE.read_text(encoding="utf-8")
    after = rewrite(before)
    write_text(PIPELINE, after)
    print(f"{Path(PIPELINE).name} {'rewritten' if after != before else 'was right already'}", file=sys.stderr)


if __name__ == "__main__":
    main()
