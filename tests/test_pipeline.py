"""dvc.yaml says what each stage really imports, reads and writes."""

import ast
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from personacore import layout, provenance
from personacore.params import load_params
from personacore.yaml12 import read_yaml
from tools import deps
from tools.deps import data_dependencies, modules_of, params_of, rewrite, stage_bodies

ROOT = Path(__file__).resolve().parent.parent
STAGES = stage_bodies(read_yaml(ROOT / "dvc.yaml"))
NAMES = sorted(STAGES)
BENCHMARKS = [path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.py")]


def written(body: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """What a stage writes: the kind, the path, and whether DVC caches it."""
    for kind in ("outs", "metrics", "plots"):
        for entry in body.get(kind, []):
            path, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            yield kind, path, options.get("cache", True)


def test_every_stage_module_is_a_stage_and_every_stage_has_its_module():
    modules = {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert sorted(modules) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_is_run_as_its_module(name):
    command = STAGES[name]["cmd"].removeprefix("\\").replace("${LAUNCH:-python}", "python")
    assert command == f"python -m stages.{name}" + (" ${key}" if name in ("ablate", "chat") else "")


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_is_eighty_lines_or_fewer(name):
    assert len((ROOT / "stages" / f"{name}.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_declares_the_modules_it_imports_and_no_others(name):
    declared = list(STAGES[name]["deps"])
    assert declared == data_dependencies(declared) + modules_of(name), "run `make deps`"


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_declares_the_params_it_reads_and_no_others(name):
    assert STAGES[name].get("params", []) == params_of(name), "run `make deps`"


def test_make_deps_would_change_nothing():
    text = (ROOT / "dvc.yaml").read_text()
    assert rewrite(text) == text


def test_bytecode_that_lies_beside_package_data_is_no_dependency():
    py_compile.compile(str(ROOT / "personacore" / "corpus" / "dialogue" / "data" / "__init__.py"))
    assert not [file for file in modules_of("dialogues") if file.endswith(".pyc")]


def test_make_deps_repairs_the_lists_and_keeps_comments_and_data():
    text = (ROOT / "dvc.yaml").read_text()
    broken = text.replace("      - personacore/training/loop.py\n", "").replace("- stages/plot.py\n", "- stages/gone.py\n")
    assert broken != text
    assert rewrite(broken) == text


def test_an_undeclared_import_or_param_is_noticed(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    shutil.copytree(ROOT / "personacore", tmp_path / "personacore")
    for module in (provenance, deps):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    assert "personacore/tokenizer/usage.py" not in modules_of("compare") and params_of("compare") == ["ablations"]
    compare = tmp_path / "stages" / "compare.py"
    compare.write_text(compare.read_text() + "\nfrom personacore.tokenizer.usage import rank_frequency\n")
    assert "personacore/tokenizer/usage.py" in modules_of("compare")
    compare.write_text(compare.read_text() + "\n\ndef more(params):\n    return params.model.n_layer\n")
    assert params_of("compare") == ["ablations", "model"]


@pytest.mark.parametrize(
    ("line", "message"), [("print(params)", "hands on all of params"), ("params.modle", "params has no modle")]
)
def test_params_read_in_a_way_that_cannot_be_declared_are_an_error(tmp_path, monkeypatch, line, message):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "new.py").write_text(f"params = load_params()\n{line}\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=message):
        params_of("new")


def test_what_python_really_loads_is_declared():
    """The declared modules are found by reading the sources; here each stage is imported and Python asked what it loaded."""
    program = """
import importlib, sys
from pathlib import Path
root = Path(sys.argv[1])
for stage in sys.argv[2:]:
    for name in [name for name in sys.modules if name.startswith(("personacore", "stages"))]:
        del sys.modules[name]
    importlib.import_module(f"stages.{stage}")
    ours = [module for name, module in sys.modules.items() if name.startswith(("personacore", "stages"))]
    files = [Path(module.__file__) for module in ours if module.__file__]
    print(stage, *(file.relative_to(root).as_posix() for file in files if file.stat().st_size))
"""
    done = subprocess.run([sys.executable, "-c", program, ROOT, *NAMES], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name: set(files) for name, *files in map(str.split, done.stdout.splitlines())}
    assert sorted(loaded) == NAMES
    for name in NAMES:
        assert loaded[name] and loaded[name] <= set(STAGES[name]["deps"]), name


@pytest.mark.parametrize("name", ["download", "tokenizer", "encode", "compare", "plot"])
def test_stages_that_compute_no_tensors_depend_on_no_model_and_no_training(name):
    heavy = ("personacore/model", "personacore/training", "personacore/generation", "personacore/export")
    assert not [path for path in STAGES[name]["deps"] if path.startswith(heavy)]


def test_imports_are_absolute_so_that_they_can_be_followed():
    for file in [*ROOT.glob("personacore/**/*.py"), *ROOT.glob("stages/*.py")]:
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level], file


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_declares_every_result_that_its_module_names(name):
    tree = ast.parse((ROOT / "stages" / f"{name}.py").read_text())
    beside = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "with_name"}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in beside} & set(vars(layout))
    used = [path.as_posix() for path in map(vars(layout).get, names) if isinstance(path, Path) and path.parts[0] == "data"]
    declared = [*STAGES[name]["deps"], *(path for _, path, _ in written(STAGES[name]))]
    assert not [path for path in used if not any(path.startswith(each) or each.startswith(path) for each in declared)]


READERS = [
    "chat",
    "dialogues",
    "download",
    "evaluate",
    "recall",
    "sessions",
    "teach",
    "tour",
    "writing",
]  # conversations borrow the words of stories


def test_the_stories_of_the_grammar_belong_to_the_stages_that_read_them():
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("personacore/corpus/pocket/**/*.txt")}
    assert len(files) > 5
    assert [name for name in NAMES if files <= set(STAGES[name]["deps"])] == READERS


DRAWING = ("plot", "tour")  # the tour shows a figure


def test_drawing_otherwise_reruns_the_drawing_alone():
    assert [name for name in NAMES if "personacore/reporting/figures.py" in STAGES[name]["deps"]] == ["plot"]
    assert not [name for name in NAMES for dep in STAGES[name]["deps"] if dep.startswith("plots/") and name not in DRAWING]


@pytest.mark.parametrize("name", NAMES)
def test_results_for_people_are_gits_and_data_is_dvcs(name):
    for kind, path, cached in written(STAGES[name]):
        assert cached is path.startswith("data/"), path
        assert (kind == "metrics") is path.startswith("metrics/"), path
        assert (kind == "plots") is path.startswith("plots/"), path


def test_no_stage_keeps_old_outputs_because_that_switches_the_run_cache_off():
    assert "persist" not in (ROOT / "dvc.yaml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_input_is_written_by_another_stage(name):
    outputs = {path for other in NAMES if other != name for _, path, _ in written(STAGES[other])}
    for path in data_dependencies(list(STAGES[name]["deps"])):
        measured = path.startswith("metrics/speed/") or any(path in text for text in BENCHMARKS)
        by_hand = (measured or path.startswith("docs/")) and (ROOT / path).is_file()  # a benchmark's figures, or a text
        assert by_hand or path in outputs or any(output.startswith(f"{path}/") for output in outputs), path


@pytest.fixture
def clone(tmp_path):
    """The pipeline's two files in a folder of their own."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def ablations_of(folder: Path) -> dict[str, Any]:
    """The ablation stages as DVC itself resolves them."""
    stages = Repo.init(str(folder), no_scm=True).index.stages
    return {stage.name.partition("@")[2]: stage for stage in stages if stage.name.startswith("ablate@")}


def test_adding_an_ablation_to_params_is_enough(clone):
    params = read_yaml(clone / "params.yaml")
    params["ablations"]["wide"] = {"model": {"n_embd": 256}}
    (clone / "params.yaml").write_text(yaml.safe_dump(params))
    stages = ablations_of(clone)
    assert stages.keys() == params["ablations"].keys()
    wide = stages["wide"]
    assert wide.cmd == "${LAUNCH:-python} -m stages.ablate wide"
    assert {Path(out.fs_path).relative_to(clone).as_posix() for out in wide.outs} == {
        "metrics/ablations/wide.json",
        "plots/ablations/wide.csv",
    }
    assert load_params(clone / "params.yaml").ablated("wide").model.n_embd == 256


def test_an_ablation_is_rerun_for_its_own_entry_and_not_for_anothers(clone):
    for name, stage in ablations_of(clone).items():
        keys = {key for dep in stage.deps for key in getattr(dep, "params", [])}
        assert keys == {"ablation_steps", f"ablations.{name}", "model", "seed", "train"}


def test_the_launcher_stays_out_of_the_stage(clone):
    commands = {stage.name: stage.cmd for stage in Repo.init(str(clone), no_scm=True).index.stages}
    assert commands["train"] == "${LAUNCH:-python} -m stages.train"
