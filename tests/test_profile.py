import dataclasses
from pathlib import Path

import pytest

from personacore.app.profile import apply_profile
from personacore.errors import UserError
from personacore.params import Params, load_params

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "profiles"
MACBOOK = {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "tie_weights": True, "position": "learned"}


@pytest.fixture
def params(tmp_path) -> Path:
    """A copy of the committed file."""
    copy = tmp_path / "params.yaml"
    copy.write_bytes((ROOT / "params.yaml").read_bytes())
    return copy


def overlay(folder: Path, text: str) -> Path:
    (folder / "profiles").mkdir()
    (folder / "profiles" / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "profiles"


def comments(path: Path) -> list[str]:
    return [line.partition("#")[2] for line in path.read_text(encoding="utf-8").splitlines()]


def applied(name: str, path: Path) -> Params:
    apply_profile(name, PROFILES, path)
    return load_params(path)


@pytest.mark.parametrize("name", sorted(file.stem for file in PROFILES.glob("*.yaml")))
def test_every_profile_gives_valid_params_and_keeps_all_comments(params, name):
    before = comments(params)
    applied(name, params)
    assert comments(params) == before
    assert [entry.name for entry in params.parent.iterdir()] == ["params.yaml"]


def test_macbook_is_the_headline_model(params):
    found = applied("macbook", params)
    assert (found.data.source, found.tokenizer.vocab_size) == ("tinystories", 8192)
    assert dataclasses.asdict(found.model).items() >= MACBOOK.items()


def test_the_committed_params_are_the_pocket_profile(params):
    assert apply_profile("pocket", PROFILES, params) == []


@pytest.mark.parametrize("name", ["macbook", "quick", "smoke"])
def test_pocket_undoes_every_other_profile(params, name):
    committed = load_params(params)
    assert applied(name, params) != committed
    assert applied("pocket", params) == committed


def test_only_the_lines_of_changed_values_change(params, tmp_path):
    before = params.read_text(encoding="utf-8").splitlines()
    changes = apply_profile("mine", overlay(tmp_path, "model:\n  n_layer: 12\ntrain: {lr: 1e-05}\n"), params)
    after = params.read_text(encoding="utf-8").splitlines()
    differing = [line.strip() for line, old in zip(after, before, strict=True) if line != old]
    assert [line.partition(" #")[0].strip() for line in differing] == ["n_layer: 12", "lr: 1e-05"]
    assert [change.partition(":")[0] for change in changes] == ["model.n_layer", "train.lr"]
    assert changes[0].endswith(" -> 12")
    assert load_params(params).train.lr == 1e-05


def test_applying_a_profile_twice_changes_nothing_more(params):
    apply_profile("macbook", PROFILES, params)
    once = params.read_bytes()
    assert apply_profile("macbook", PROFILES, params) == []
    assert params.read_bytes() == once


def test_a_file_that_is_the_profile_already_is_not_touched(params, tmp_path):
    before = params.stat()
    layers = load_params(params).model.n_layer
    assert apply_profile("mine", overlay(tmp_path, f"model:\n  n_layer: {layers}\n"), params) == []
    assert params.stat().st_mtime_ns == before.st_mtime_ns


def test_an_unknown_profile_is_refused_with_the_known_ones(params):
    with pytest.raises(UserError, match=r"no 'laptop'; profiles/ holds .*macbook, pocket"):
        apply_profile("laptop", PROFILES, params)
    with pytest.raises(UserError, match=r"no '\.\./params'"):
        apply_profile("../params", PROFILES, params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  heads: 2\n", r"profile: model\.heads is no key of params\.yaml"),
        ("memories:\n  rank: 8\n", r"profile: memories is no key of params\.yaml"),
        ("model:\n  n_head: 9973\n", r"model\.n_head: 9973 does not divide model\.n_embd"),
        ("model:\n  n_layer: many\n", r"model\.n_layer: 'many' is not a whole number"),
        ("model: 3\n", r"model: 3 is not a section of keys"),
        ("- 1\n", r"mine\.yaml holds no mapping"),
        ("model: [\n", r"mine\.yaml is not readable YAML"),
    ],
)
def test_a_wrong_profile_is_refused_and_the_file_left_as_it_was(params, tmp_path, text, message):
    before = params.read_bytes()
    with pytest.raises(UserError, match=message):
        apply_profile("mine", overlay(tmp_path, text), params)
    assert params.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["params.yaml", "profiles"]


@pytest.mark.parametrize(("content", "message"), [("seed: [", "not readable YAML"), ("seed: 1\nseed: 2\n", "stands twice")])
def test_params_that_cannot_be_read_are_refused_by_name(params, content, message):
    params.write_text(content)
    with pytest.raises(UserError, match=rf"params\.yaml .*{message}"):
        apply_profile("macbook", PROFILES, params)
