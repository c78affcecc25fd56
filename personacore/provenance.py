"""What a result was made from: the modules behind it, and the commit that last changed them."""

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from personacore.files import sha256_of

ROOT = Path(__file__).resolve().parent.parent

# Files that a module reads as its own data; imports cannot tell.
PACKAGE_DATA = {
    "personacore/corpus/markup.py": "personacore/corpus/pocket",
    "personacore/corpus/dialogue/data/__init__.py": "personacore/corpus/dialogue/data",
    "personacore/memory/people.py": "personacore/memory/questions",
}


def module_file(name: str) -> Path | None:
    """The file of one of this project's modules or packages, by dotted name."""
    base = ROOT.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def import_closure(name: str) -> list[Path]:
    """Every file of this project that importing a module runs or reads, sorted, without running any of it."""
    found: set[Path] = set()
    pending = [name]
    while pending:
        current = pending.pop()
        file = module_file(current)
        if file is None or file in found:
            continue
        if file.stat().st_size:  # an empty __init__.py decides nothing
            found.add(file)
        parts = current.split(".")
        pending += [".".join(parts[:end]) for end in range(1, len(parts))]
        pending += _imports(ast.parse(file.read_text(encoding="utf-8")))
    data = [ROOT / PACKAGE_DATA[key] for key in (path.relative_to(ROOT).as_posix() for path in found) if key in PACKAGE_DATA]
    found.update(entry for folder in data for entry in folder.rglob("*") if entry.is_file())
    return sorted(found)


def _imports(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif not _runs_on_demand(node):
        for child in ast.iter_child_nodes(node):
            yield from _imports(child)


def _runs_on_demand(node: ast.AST) -> bool:
    """Whether importing the module leaves this part of it alone: what only type checkers or a missing attribute run."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef) and node.name == "__getattr__"


def digest_files(files: Iterable[Path]) -> str:
    """One SHA-256 over the names and contents of files of this project."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def code_version(module: str) -> dict[str, object]:
    """The commit that last changed the code behind a module, and whether that code has been edited since.

    The commit of the code, not of the whole tree: committing a result then does not change what the result says.
    Outside a git checkout the commit is `unknown`.
    """
    files = [file.relative_to(ROOT).as_posix() for file in import_closure(module)]
    commit = _git("log", "-1", "--format=%H", "--", *files)
    return {"commit": commit or "unknown", "dirty": bool(_git("status", "--porcelain", "--", *files))}


def made_by(module: str, *files: Path) -> dict[str, object]:
    """What a result says of itself: the version of the code that made it, and the SHA-256 of each file that it read."""
    return {"code": code_version(module), "made_from": {str(file): sha256_of(file) for file in files}}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
