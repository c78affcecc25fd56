import dataclasses
import errno
import stat

import pytest
import torch

from personacore.errors import UserError
from personacore.model import tensors as tensors_module
from personacore.model.adapter import load_adapter, save_adapter
from personacore.model.consolidated import Consolidated
from personacore.model.tensors import load_tensors, save_tensors
from tests.toys import TOY, assert_same_bits, logits_of, state_of, taught, toy_model, toy_rows, toy_tokens

BASE, TOKENIZER = "ba5e" * 16, "70ce" * 16
HASHES = {"base_sha256": BASE, "tokenizer_sha256": TOKENIZER}


def assert_refused(path, *words: str, base: str = BASE, tokenizer: str = TOKENIZER) -> None:
    with pytest.raises(UserError) as caught:
        load_adapter(path, base, tokenizer)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert all(word in message for word in words), message


def rewrite(path, tensors: dict | None = None, **description: object) -> None:
    """Save a memory again with other tensors, or another description, of which None leaves a key out."""
    save_adapter(path, taught(), HASHES)
    found, described = load_tensors(path)
    changed = {key: value for key, value in (described | description).items() if value is not None or key == "invocation"}
    save_tensors(path, found if tensors is None else tensors, changed)


def test_a_memory_comes_back_to_the_bit_with_its_origin(tmp_path):
    path, lora = tmp_path / "me.safetensors", taught(rank=5, alpha=0.1, targets=["v_proj", "fc_in"], invocation=3)
    save_adapter(path, lora, {**HASHES, "facts": 12, "rank": "not this"})
    found, description = load_adapter(path, BASE, TOKENIZER)
    assert (found.config, found.rank, found.alpha, found.people) == (TOY, 5, 0.1, None)
    assert found.targets == ("v_proj", "fc_in")
    assert_same_bits(state_of(found), state_of(lora))
    assert description == {
        **HASHES,
        "facts": 12,
        "schema": 5,
        "kind": "memory",
        "written_as": "lora",
        "rank": 5,
        "alpha": 0.1,
        "targets": ["v_proj", "fc_in"],
        "invocation": 3,
        "config": dataclasses.asdict(TOY),
    }
    model, tokens = toy_model(), toy_tokens()
    assert torch.equal(logits_of(model, found, tokens), logits_of(model, lora, tokens))
    save_adapter(tmp_path / "again", found, description)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_nobody_else_can_read_a_memory_even_while_it_is_written(tmp_path, monkeypatch):
    modes, write = [], tensors_module.save_file

    def watch(tensors, file, metadata):
        write(tensors, file, metadata)
        modes.append(stat.S_IMODE(file.stat().st_mode))

    monkeypatch.setattr(tensors_module, "save_file", watch)
    path = tmp_path / "me"
    path.touch(0o644)
    save_adapter(path, taught(), HASHES)
    assert [*modes, stat.S_IMODE(path.stat().st_mode)] == [0o600, 0o600]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("halfway"), KeyboardInterrupt()]
)
def test_a_failure_in_the_middle_keeps_the_memory_that_stood_there(tmp_path, monkeypatch, error):
    path = tmp_path / "me"
    save_adapter(path, taught(1), HASHES)
    before = path.read_bytes()

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr(tensors_module, "save_file", fail)
    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        save_adapter(path, taught(2), HASHES)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    path, broken = tmp_path / "me", taught(2)
    save_adapter(path, taught(1), HASHES)
    before = path.read_bytes()
    broken.pairs()["blocks.1.attn.k_proj"].b.data[0, 0] = float("inf")
    with pytest.raises(UserError, match=r"blocks\.1\.attn\.k_proj\.b is not finite"):
        save_adapter(path, broken, HASHES)
    for lora, provenance in ((taught(people=2), HASHES), (taught(), {"base_sha256": BASE})):
        with pytest.raises(ValueError, match="one person's adapter, and the hashes"):
            save_adapter(path, lora, provenance)
    assert path.read_bytes() == before


def test_a_memory_of_another_base_or_tokenizer_is_refused_with_both_fingerprints(tmp_path):
    path = tmp_path / "me"
    save_adapter(path, taught(), HASHES)
    start = "or start a new memory"
    assert_refused(path, "another model (ba5eba5eba5e)", "this one (dadadadadada)", "load the model", start, base="da" * 32)
    assert_refused(path, "another tokenizer (70ce70ce70ce)", "(dadadadadada)", "load the tokenizer", start, tokenizer="da" * 32)
    rewrite(path, base_sha256=None)
    assert_refused(path, "another model")


def test_a_file_that_is_no_memory_or_a_newer_one_is_refused(tmp_path):
    path = tmp_path / "me"
    assert_refused(path, "is missing", "start a new memory")
    rewrite(path, kind=None)
    assert_refused(path, "no memory file", "start a new memory")
    rewrite(path, schema=6)
    assert_refused(path, "schema 6", "update personacore")
    rewrite(path, schema=4)
    assert_refused(path, "schema 4", "start a new memory")
    path.write_bytes(b"\x80\x04\x95pickle....")
    assert_refused(path, "damaged", "restore a copy of it")


def test_a_memory_cut_anywhere_is_refused_with_advice_that_does_not_lose_it(tmp_path):
    path = tmp_path / "me"
    save_adapter(path, taught(), HASHES)
    data = path.read_bytes()
    for length in (0, 1, 8, 300, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert_refused(path, "damaged", "restore a copy of it")
        with pytest.raises(UserError) as caught:
            load_adapter(path, BASE, TOKENIZER)
        assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"written_as": "poetry"},
        {"written_as": None},
        {"written_as": "rows"},
        {"rank": 0},
        {"rank": 2.5},
        {"rank": "3"},
        {"rank": None},
        {"rank": 10**400},
        {"alpha": -1},
        {"alpha": []},
        {"targets": ["q_proj", "wte"]},
        {"targets": [["q_proj"]]},
        {"targets": 3},
        {"invocation": "user"},
        {"invocation": -1},
        {"config": 3},
        {"config": {"n_layer": 1}},
        {"config": dataclasses.asdict(TOY) | {"n_embd": -8}},
        {"config": dataclasses.asdict(TOY) | {"depth": 2}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_description_of_no_possible_adapter_is_refused(tmp_path, change):
    rewrite(tmp_path / "me", **change)
    assert_refused(tmp_path / "me", "no adapter is like this", "restore a copy of it")


def test_tensors_that_do_not_fit_the_description_are_refused_by_name(tmp_path):
    path, tensors, name = tmp_path / "me", state_of(taught()), "blocks.1.mlp.fc_in.a"
    rewrite(path, {key: value for key, value in tensors.items() if key != name})
    assert_refused(path, f"tensor {name} is missing where (3, 8) is expected")
    rewrite(path, tensors | {"extra": torch.zeros(1)})
    assert_refused(path, "tensor extra is (1,) where none is expected")
    rewrite(path, tensors | {name: torch.zeros(8, 3)})
    assert_refused(path, f"tensor {name} is (8, 3) where (3, 8) is expected")
    rewrite(path, rank=4)
    assert_refused(path, "is (3, 8) where (4, 8) is expected")
    for bad in (float("nan"), float("inf")):
        rewrite(path, tensors | {name: torch.full((3, 8), bad)})
        assert_refused(path, f"tensor {name} is not finite")


def test_rows_come_back_to_the_bit_with_their_origin(tmp_path):
    path, rows = tmp_path / "me", toy_rows()
    save_adapter(path, rows, {**HASHES, "facts": 2})
    found, description = load_adapter(path, BASE, TOKENIZER)
    assert found.spans == rows.spans and description["facts"] == 2 and description["written_as"] == "rows"
    assert torch.equal(found.vectors, rows.vectors)
    save_adapter(tmp_path / "again", found, description)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_rows_come_back_to_the_bit_with_what_sleep_has_made_of_them(tmp_path):
    path, both = tmp_path / "me", Consolidated(toy_rows(), taught(invocation=1))
    save_adapter(path, both, {**HASHES, "facts": 2})
    found, description = load_adapter(path, BASE, TOKENIZER)
    assert isinstance(found, Consolidated) and found.rows.spans == both.rows.spans and description["facts"] == 2
    for ours, theirs in zip(state_of(both).values(), state_of(found).values(), strict=True):
        assert torch.equal(ours, theirs)
    save_adapter(tmp_path / "again", found, description)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    tensors, _ = load_tensors(path)
    save_tensors(path, {name: tensor for name, tensor in tensors.items() if name != "rows.vectors"}, description)
    assert_refused(path, "no adapter is like this")


@pytest.mark.parametrize("change", [
    {"width": 0}, {"width": "8"}, {"block": -1}, {"sign": None}, {"end": 1.5}, {"naming": None},
])  # fmt: skip
def test_a_description_of_no_possible_rows_is_refused(tmp_path, change):
    save_adapter(tmp_path / "me", toy_rows(), HASHES)
    tensors, described = load_tensors(tmp_path / "me")
    save_tensors(tmp_path / "me", tensors, {key: value for key, value in (described | change).items() if value is not None})
    assert_refused(tmp_path / "me", "no adapter is like this", "restore a copy of it")


@pytest.mark.parametrize("name, tensor, words", [
    ("lengths", torch.tensor([2, 4]), "not as many rows"),
    ("lengths", torch.tensor([5, 0]), "one row or more"),
    ("lengths", torch.tensor([5]), "of one count"),
    ("lengths", torch.tensor([10**15, 0]), "not as many rows"),
    ("keys", torch.tensor([[7.9, 1.0, 0.0], [2.0, 3.0, 0.0]]), "no whole numbers"),
    ("keys", torch.tensor([[7, 8, 7], [7, 8, 7]]), "a key stands twice"),
    ("keys", torch.zeros(2, dtype=torch.int64), "no adapter is like this"),
    ("keys", torch.tensor([[7, 8, 7], [6, 8, 9]]), "a fact has no key"),
    ("vectors", torch.zeros(5, 10**6), "are not 8 wide"),
    ("vectors", torch.full((5, 8), float("nan")), "vectors is not finite"),
])  # fmt: skip
def test_rows_that_do_not_fit_their_keys_are_refused(tmp_path, name, tensor, words):
    save_adapter(tmp_path / "me", toy_rows(), HASHES)
    tensors, described = load_tensors(tmp_path / "me")
    save_tensors(tmp_path / "me", tensors | {name: tensor}, described)
    assert_refused(tmp_path / "me", words)
