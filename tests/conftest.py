import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from hypothesis import settings

from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import save_tokenizer
from personacore.tokenizer.train import count_words, train_merges
from personacore.yaml12 import read_yaml

if TYPE_CHECKING:
    from personacore.core import Core
    from personacore.model.gpt import GPT

ROOT = Path(__file__).resolve().parent.parent

# Toy models are several times faster on one thread. Torch reads this when it is first imported, which is after here.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, however busy the machine: what fails here fails everywhere, and again.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

LONGEST = ("test_readme.py", "test_remembers.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes go first, so that no process is left alone with one in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Trained on conversations, unless a module has another."""
    from tests.talks import trained_tokenizer  # here, so that torch is imported after the line above

    return trained_tokenizer()


@pytest.fixture
def model() -> "GPT":
    """A tiny one that has learned nothing, unless a module has another."""
    from tests.talks import untrained_model

    return untrained_model()


@pytest.fixture
def tiny_rows() -> Iterator[None]:
    from tests.toys import tiny_rows

    with tiny_rows():
        yield


@pytest.fixture(scope="session")
def core(tmp_path_factory) -> "Core":
    """A model that reads two statements, says where somebody lives, and is never changed."""
    from tests.talking import talking_core

    return talking_core(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="session")
def taught(core, tmp_path_factory) -> Callable[[Path, str], Path]:
    """Puts a memory of that model which was taught a town in a new file: it is taught once, and copied."""
    from tests.talking import SAYS
    from tests.toys import tiny_rows

    folder = tmp_path_factory.mktemp("taught")
    with tiny_rows():
        for town, (statement, _) in SAYS.items():
            core.memory(folder / town).teach(statement)
    return lambda path, town: shutil.copy(folder / town, path)


@pytest.fixture
def workspace(monkeypatch) -> Callable[..., Path]:
    """Fills a folder with what the train stage reads, tiny, and moves there; stages run from it as from a clone."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def fill(folder: Path, *, dropout: float = 0.0, **train: object) -> Path:
        rng = random.Random(5)
        words = ["the", "cat", "dog", "sat", "ran", "home", "and", "was", "glad", "."]
        stories = [" ".join(rng.choices(words, k=rng.randint(5, 30))) for _ in range(60)]
        tokenizer = Tokenizer(train_merges(count_words(stories), 274))
        (folder / "data" / "tokens").mkdir(parents=True)
        (folder / "data" / "tokenizer").mkdir()
        save_tokenizer(tokenizer, folder / "data" / "tokenizer" / "tokenizer.json", {})
        for split, part in (("train", stories[:50]), ("valid", stories[50:])):
            ids = [number for story in part for number in [*tokenizer.encode(story), tokenizer.end_of_text]]
            np.array(ids, dtype="<u2").tofile(folder / "data" / "tokens" / f"{split}.bin")
        params = read_yaml(ROOT / "params.yaml")
        params["model"] |= {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "dropout": dropout}
        params["train"] |= {"batch_size": 4, "micro_batch_size": 2, "warmup_steps": 5, "eval_interval": 10, "log_interval": 3}
        params["train"] |= {"device": "cpu", "precision": "fp32"} | train
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        monkeypatch.chdir(folder)
        return folder

    return fill
