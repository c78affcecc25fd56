import hashlib
import os
import subprocess

import pytest

from personacore import provenance
from personacore.provenance import code_version, digest_files, import_closure, made_by

PROJECT = {
    "app/__init__.py": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from app.types_only import Kind
def __getattr__(name):
    from app import on_demand
    return getattr(on_demand, name)
""",
    "app/types_only.py": "Kind = int",
    "app/on_demand.py": "import app.secret",
    "app/secret.py": "x = 1",
    "app/inner/__init__.py": "y = 2",
    "app/inner/leaf.py": "import os, json\nimport numpy as np\nfrom app.inner.words import WORDS",
    "app/inner/words.py": "WORDS = ['a']",
    "app/inner/words/list.txt": "a\nb\n",
    "app/late.py": "def f():\n    import app.inner.leaf\n    return app",
    "app/round.py": "from app import trip",
    "app/trip.py": "from app import round\nfrom app.empty import nothing",
    "app/empty/__init__.py": "",
    "app/unused.py": "import app.secret",
    "main.py": "from app.inner.leaf import WORDS\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project in the place of this one."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def closure(module: str) -> list[str]:
    return [path.relative_to(provenance.ROOT).as_posix() for path in import_closure(module)]


def test_the_closure_follows_imports_through_modules_and_their_packages(project):
    assert closure("main") == ["app/__init__.py", "app/inner/__init__.py", "app/inner/leaf.py", "app/inner/words.py", "main.py"]


def test_imports_inside_functions_count(project):
    assert "app/inner/leaf.py" in closure("app.late")


def test_what_only_type_checkers_or_a_missing_attribute_import_does_not_count(project):
    assert closure("app") == ["app/__init__.py"]


def test_asking_for_it_by_name_counts(project):
    assert {"app/on_demand.py", "app/secret.py"} <= set(closure("app.on_demand"))


def test_imports_may_go_round_in_a_circle(project):
    assert closure("app.round") == ["app/__init__.py", "app/round.py", "app/trip.py"]


def test_the_data_of_a_package_belongs_to_the_module_that_reads_it(project, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE_DATA", {"app/inner/words.py": "app/inner/words"})
    assert "app/inner/words/list.txt" in closure("main")
    assert "app/inner/words/list.txt" not in closure("app.round")


def test_the_digest_changes_with_contents_and_names(project):
    before = digest_files(import_closure("main"))
    assert digest_files(import_closure("main")) == before
    (project / "app" / "unused.py").write_text("edited = True")
    assert digest_files(import_closure("main")) == before
    (project / "app" / "inner" / "words.py").write_text("WORDS = ['b']")
    assert digest_files(import_closure("main")) != before
    twins = [project / "app" / name for name in ("types_only.py", "copy.py")]
    twins[1].write_bytes(twins[0].read_bytes())
    assert digest_files(twins[:1]) != digest_files(twins[1:])


def test_a_result_names_its_code_and_every_file_that_it_read(project):
    list_of_words = project / "app" / "inner" / "words" / "list.txt"
    assert made_by("main", list_of_words) == {
        "code": code_version("main"),
        "made_from": {str(list_of_words): hashlib.sha256(b"a\nb\n").hexdigest()},
    }


@pytest.mark.parametrize("name", ["export", "fisher", "gguf", "huggingface"])
def test_what_a_stage_makes_of_a_model_says_which_code_made_it(name):
    source = (provenance.ROOT / "stages" / f"{name}.py").read_text()
    assert source.count(f'made_by("stages.{name}"') == source.count("made_by(") > 0


def test_outside_git_the_version_is_unknown(project):
    assert code_version("main") == {"commit": "unknown", "dirty": False}


def test_without_the_git_program_the_version_is_unknown(project, monkeypatch):
    monkeypatch.setenv("PATH", str(project))
    assert code_version("main") == {"commit": "unknown", "dirty": False}


def test_the_version_is_the_commit_that_last_changed_the_code(project):
    author = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    elsewhere = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # as a hook has them

    def git(*arguments: str) -> str:
        settings = ["-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=project, env=elsewhere | author, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    first = git("rev-parse", "HEAD")
    assert code_version("main") == {"commit": first, "dirty": False}
    (project / "result.json").write_text("{}")
    (project / "app" / "unused.py").write_text("edited = True")
    git("add", ".")
    git("commit", "-m", "a result, and code that main never runs")
    assert code_version("main") == {"commit": first, "dirty": False}
    (project / "app" / "inner" / "words.py").write_text("WORDS = ['b']")
    assert code_version("main") == {"commit": first, "dirty": True}
    git("commit", "-am", "words")
    assert code_version("main") == {"commit": git("rev-parse", "HEAD"), "dirty": False}
