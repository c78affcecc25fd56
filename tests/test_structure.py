"""Dependencies between the parts of the package go one way, and importing the package itself costs next to nothing."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "personacore"


def imported_parts(package: Path, file: Path) -> Iterator[str]:
    """The parts of a package that one of its files imports anywhere, if only for type checkers."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: an import by a relative name is not followed"
            names = [f"{node.module}.{name}" for name in names]
        yield from (name.split(".")[1] for name in names if name.startswith(f"{package.name}."))


def dependencies(package: Path) -> dict[str, set[str]]:
    """What each part of a package, a folder or module right below it, imports of the others."""
    found: dict[str, set[str]] = {}
    for file in package.rglob("*.py"):
        part = file.relative_to(package).parts[0].removesuffix(".py")
        found.setdefault(part, set()).update(imported_parts(package, file))
    return {part: others - {part} for part, others in found.items()}


def test_no_part_of_the_package_imports_one_that_imports_it():
    found = dependencies(PACKAGE)
    assert "model" in found["generation"]
    TopologicalSorter(found).prepare()


def test_a_cycle_is_found_through_functions_and_through_a_third_part(tmp_path):
    files = {
        "a/deep/x.py": "def f():\n    from p.b import y",
        "b/y.py": "import p.c",
        "c.py": "from p import a",
    }
    for name, text in files.items():
        file = tmp_path / "p" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with pytest.raises(CycleError):
        TopologicalSorter(dependencies(tmp_path / "p")).prepare()


@pytest.mark.parametrize(("given", "found"), [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_the_package_says_how_long_threads_may_spin_before_torch_is_imported(given, found):
    code = "import os, sys, personacore; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules or 'numpy' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{found} False\n"
