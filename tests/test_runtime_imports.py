"""What the runtime must never do: lean on a peer that tests compare it with, or run code that it reads from a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(file for folder in ("personacore", "stages", "tools") for file in (ROOT / folder).rglob("*.py"))
ORACLES = {"tiktoken", "tokenizers", "transformers", "peft", "openai"}
CODE_IN_FILES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__", "execfile", "torch.load", "torch.save", "torch.jit.load", "torch.hub.load"}


def imported(tree: ast.AST) -> set[str]:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """The forbidden imports and calls in a module."""
    yield from imported(tree) & (ORACLES | CODE_IN_FILES)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization"):
            yield from (f"torch.{alias.name}" for alias in node.names if alias.name in ("load", "save"))
        if isinstance(node, ast.Call):
            if (called := ast.unparse(node.func)) in CALLS:
                yield called
            if called == "importlib.import_module" and not isinstance(node.args[0], ast.Constant):
                yield called
            if called in ("yaml.unsafe_load", "yaml.full_load"):
                yield called
            if any(option.arg == "allow_pickle" and ast.unparse(option.value) != "False" for option in node.keywords):
                yield "allow_pickle"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_runtime_code_uses_no_oracle_and_runs_nothing_from_files(file):
    assert list(forbidden(ast.parse(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import tokenizers",
        "from transformers.models import gpt2",
        "def f():\n    import tiktoken as t",
        "import pickle",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "torch.save(1, 'x')",
        "eval('1')",
        "exec(text)",
        "np.load(path, allow_pickle=True)",
        "yaml.unsafe_load(text)",
    ],
)
def test_the_guard_sees_each_of_them(code):
    assert list(forbidden(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["model.eval()", "import torch", "import regex\nregex.compile('a')", "from personacore import tokenizer"]
)
def test_the_guard_lets_others_pass(code):
    assert not list(forbidden(ast.parse(code)))


def test_the_guard_looks_at_the_whole_runtime():
    assert {"personacore/core.py", "stages/train.py", "tools/deps.py"} <= {file.relative_to(ROOT).as_posix() for file in FILES}
