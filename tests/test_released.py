"""The trained models that come with the repository."""

import hashlib
import json
import subprocess
from collections.abc import Iterator

import yaml

from tests.exported import ROOT

RELEASED = ROOT / "released" / "files" / "md5"


def test_the_models_that_come_with_the_repository_are_those_of_its_results():
    """`make release` renews them, before or after a commit of `dvc.lock`."""
    found = {path.parent.name + path.stem: path for path in RELEASED.rglob("*") if path.is_file()}
    assert found and set(found) in [objects(lock) for lock in locks()]
    assert all(hashlib.md5(path.read_bytes()).hexdigest() == name for name, path in found.items())


def locks() -> Iterator[str]:
    """The text of dvc.lock, and of the committed one where there is a history."""
    yield (ROOT / "dvc.lock").read_text()
    if (ROOT / ".git").exists():
        yield subprocess.run(["git", "show", "HEAD:dvc.lock"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def objects(lock: str) -> set[str]:
    """The names of all files of the exported folders, and of the lists of these files; empty where a list is not there."""
    folders = [out["md5"] for out in yaml.safe_load(lock)["stages"]["export"]["outs"]]
    lists = [RELEASED / each[:2] / each[2:] for each in folders]
    if not all(each.exists() for each in lists):
        return set()
    files = {entry["md5"] for each in lists for entry in json.loads(each.read_text())}
    return files | {each.removesuffix(".dir") for each in folders}
