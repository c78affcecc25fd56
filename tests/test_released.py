"""The trained models that come with the repository."""

import hashlib
import json
import subprocess

import pytest
import yaml

from tests.exported import ROOT

RELEASED = ROOT / "released" / "files" / "md5"


def test_the_models_that_come_with_the_repository_are_those_of_its_results():
    """`make release` renews them, together with the commit of `dvc.lock`."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository's history, not a zip of it")
    committed = subprocess.run(["git", "show", "HEAD:dvc.lock"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {out["md5"] for out in yaml.safe_load(committed)["stages"]["export"]["outs"]}
    listed = {entry["md5"] for each in folders for entry in json.loads((RELEASED / each[:2] / each[2:]).read_text())}
    found = {path.parent.name + path.stem: path for path in RELEASED.rglob("*") if path.is_file()}
    assert listed | {each.removesuffix(".dir") for each in folders} == set(found)
    assert all(hashlib.md5(path.read_bytes()).hexdigest() == name for name, path in found.items())
