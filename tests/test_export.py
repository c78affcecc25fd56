import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import personacore
from personacore.errors import UserError
from personacore.export.slim import export_slim
from personacore.export.teaching import load_teaching
from personacore.files import sha256_of
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import save_tokenizer
from tests.exported import ROOT
from tests.toys import randomized, toy_teaching

MERGES = [(104, 101), (32, 116), (257, 256)]  # "he", " t", " the"
TOY = GPTConfig(vocab_size=264 + len(MERGES), n_layer=2, n_head=2, n_embd=8, block_size=16)
IDENTIFIED = {"base_sha256": "model.safetensors", "tokenizer_sha256": "tokenizer.json"}
FILES = {"config.json", "model.safetensors", "tokenizer.json"}


def toy_model(config: GPTConfig = TOY) -> GPT:
    return randomized(GPT(config), 0.5).eval()


def export(folder: Path, model: GPT, dtype: str = "float32", merges=MERGES) -> Path:
    tokenizer = folder / "source" / "tokenizer.json"
    save_tokenizer(Tokenizer(merges), tokenizer, {"made_from": "nothing"})
    export_slim(folder / "slim", model.config, dict(model.named_parameters()), tokenizer, dtype, {"code": {"commit": "abc"}})
    shutil.rmtree(tokenizer.parent)
    return folder / "slim"


@pytest.fixture
def slim(tmp_path) -> Path:
    return export(tmp_path, toy_model())


def edit_config(slim: Path, **changes: object) -> None:
    config = json.loads((slim / "config.json").read_text())
    (slim / "config.json").write_text(json.dumps(config | changes))


def sign(slim: Path) -> None:
    """Make the recorded digests those of the files, so that only what is inside can be wrong."""
    edit_config(slim, sha256={name: sha256_of(slim / name) for name in FILES - {"config.json"}})


def assert_refused(slim: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        personacore.load(slim)
    message = str(caught.value)
    assert "\n" not in message and str(slim) in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "config",
    [TOY, dataclasses.replace(TOY, tie_weights=False), dataclasses.replace(TOY, position="none")],
    ids=["tied", "untied", "none"],
)
def test_a_copied_folder_needs_nothing_else(tmp_path, monkeypatch, config):
    model = toy_model(config)
    shutil.move(export(tmp_path, model), tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    core = personacore.load("elsewhere")
    tokens = torch.tensor([core.tokenizer.encode("the tent")])
    assert torch.equal(core.model(tokens), model(tokens))
    assert core.tokenizer.merges == tuple(MERGES)
    assert not core.model.training
    assert not any(parameter.requires_grad for parameter in core.model.parameters())


def test_the_folder_holds_three_plain_files_and_says_where_they_come_from(slim):
    assert {entry.name for entry in slim.iterdir()} == FILES
    config = json.loads((slim / "config.json").read_text())
    assert config["model"] == dataclasses.asdict(TOY)
    assert config["provenance"] == {"code": {"commit": "abc"}}
    assert config["sha256"] == {name: sha256_of(slim / name) for name in FILES - {"config.json"}}


def test_exporting_again_gives_the_same_bytes(tmp_path):
    first = {entry.name: entry.read_bytes() for entry in export(tmp_path, toy_model()).iterdir()}
    assert {entry.name: entry.read_bytes() for entry in export(tmp_path, toy_model()).iterdir()} == first


def test_bfloat16_halves_the_file_and_loads_as_the_rounded_weights(tmp_path):
    model = toy_model(dataclasses.replace(TOY, n_embd=64))
    full = (export(tmp_path / "full", model) / "model.safetensors").stat().st_size
    slim = export(tmp_path, model, "bfloat16")
    assert (slim / "model.safetensors").stat().st_size < 0.55 * full
    loaded = personacore.load(slim).model
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter.bfloat16().float())


def test_a_model_that_converses_brings_what_its_memories_are_written_with(tmp_path, slim):
    with pytest.raises(UserError, match="cannot be taught"):
        load_teaching(slim)
    tokenizer, model, folder = Tokenizer(MERGES), toy_model(), tmp_path / "chat"
    teaching = toy_teaching(tokenizer, block_size=TOY.block_size)
    export_slim(folder, model.config, dict(model.named_parameters()), slim / "tokenizer.json", "float32", {}, teaching)
    found, identity = load_teaching(folder)
    assert (found.rows, found.sleep) == (teaching.rows, teaching.sleep) and torch.equal(found.generic, teaching.generic)
    assert identity == {name: sha256_of(folder / file) for name, file in IDENTIFIED.items()}
    data = bytearray((folder / "conversations.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "conversations.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"conversations[.]safetensors is damaged"):
        load_teaching(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["memory"]["rows"]["steps"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"memory: rows[.]steps is missing"):
        load_teaching(folder)


WITHOUT = """
import sys
sys.modules |= dict.fromkeys(("yaml", "personacore.memory", "personacore.corpus", "torch._dynamo"))  # cannot be imported
import personacore
print(len(personacore.load(sys.argv[1]).complete("a", max_new_tokens=3, seed=1)))
"""


def test_loading_a_model_waits_for_nothing_that_only_teaching_or_tracing_needs(slim):
    done = subprocess.run([sys.executable, "-c", WITHOUT, slim], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_a_missing_folder_says_what_to_do(tmp_path):
    assert_refused(tmp_path / "nowhere", "make model", "--model")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_refused_by_name(slim, name):
    (slim / name).unlink()
    assert_refused(slim, f"{name} is missing")


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(slim, name, share):
    data = (slim / name).read_bytes()
    (slim / name).write_bytes(data[: int(share * len(data))])
    assert_refused(slim, name)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_one_flipped_bit_is_refused_by_name(slim, name):
    data = bytearray((slim / name).read_bytes())
    data[-9] ^= 1
    (slim / name).write_bytes(data)
    assert_refused(slim, name, "damaged")


def test_a_file_of_another_export_is_refused_by_name(slim, tmp_path):
    other = export(tmp_path / "other", toy_model(), merges=[*MERGES[:2], (116, 104)])
    shutil.copy(other / "tokenizer.json", slim)
    assert_refused(slim, "tokenizer.json", "another export")


def test_weights_of_another_shape_are_refused_by_name(slim):
    edit_config(slim, model=dataclasses.asdict(TOY) | {"n_embd": 16})
    assert_refused(slim, "model.safetensors", "shape")
    edit_config(slim, model=dataclasses.asdict(TOY) | {"n_layer": 3})
    assert_refused(slim, "model.safetensors", "blocks.2", "missing")
    edit_config(slim, model=dataclasses.asdict(TOY) | {"n_head": 3})
    assert_refused(slim, "n_head 3 does not divide n_embd 8")


def test_a_tokenizer_of_another_size_is_refused(slim):
    save_tokenizer(Tokenizer(MERGES[:2]), slim / "tokenizer.json", {})
    sign(slim)
    assert_refused(slim, "266", "267")


def test_a_damaged_tokenizer_is_refused_by_name_even_if_its_digest_fits(slim):
    (slim / "tokenizer.json").write_text("{}")
    sign(slim)
    assert_refused(slim, "tokenizer.json")


def test_a_newer_schema_asks_for_an_upgrade(slim):
    edit_config(slim, schema=4)
    assert_refused(slim, "config.json", "schema 4", "upgrade")


def test_an_older_schema_asks_for_another_export(slim):
    edit_config(slim, schema=2)
    assert_refused(slim, "config.json", "schema 2", "dvc repro export")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        "\x00",
        '{"schema": "1"}',
        '{"schema": true}',
        '{"schema": 0}',
        '{"schema": 2}',
        '{"schema": 2, "model": [], "sha256": {}}',
    ],
)
def test_a_config_that_describes_no_model_is_refused_by_name(slim, content):
    (slim / "config.json").write_text(content)
    assert_refused(slim, "config.json")


@pytest.mark.parametrize("change", [{"depth": 3}, {"n_layer": None}, {"n_layer": "2"}, {"n_embd": 8.0}], ids=str)
def test_a_config_of_no_possible_model_is_refused_by_name(slim, change):
    edit_config(slim, model=dataclasses.asdict(TOY) | change)
    assert_refused(slim)


def test_a_config_that_is_not_utf8_is_refused_by_name(slim):
    (slim / "config.json").write_bytes(b'{"schema": 2, "x": "\xff"}')
    assert_refused(slim, "config.json")


def test_an_export_that_was_interrupted_is_not_taken_for_whole(slim, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("personacore.export.slim.save_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        export(slim.parent, toy_model())
    assert_refused(slim, "config.json is missing")
