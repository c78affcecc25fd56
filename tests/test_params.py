import dataclasses
import math
import re
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dumps_yaml, loads_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from personacore.errors import UserError
from personacore.model.gpt import PROJECTIONS
from personacore.params import GATES, Params, SleepParams, load_params
from personacore.yaml12 import read_yaml

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "params.yaml"


def params_with(folder: Path, **changes: object) -> Params:
    """The committed params with values changed by dotted key, as DVC would write the file."""
    values = read_yaml(COMMITTED)
    for path, value in changes.items():
        *sections, key = path.split(".")
        target = values
        for section in sections:
            target = target[section]
        target[key] = value
    file = folder / "params.yaml"
    file.write_text(dumps_yaml(values), encoding="utf-8")
    return load_params(file)


def error_of(folder: Path, **changes: object) -> str:
    with pytest.raises(UserError) as caught:
        params_with(folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scalar(folder: Path, text: str) -> object:
    file = folder / "scalar.yaml"
    file.write_text(f"key: {text}\n", encoding="utf-8")
    return read_yaml(file)["key"]


def test_the_committed_file_loads():
    params = load_params(COMMITTED)
    assert params.ablations.keys() >= {"baseline", "untied", "no_position", "half_depth"}


def test_every_committed_value_has_a_comment_on_its_line():
    sections = COMMITTED.read_text(encoding="utf-8").split("\nablations:")[0]
    bare = [line for line in sections.splitlines() if re.match(r" *\w+: +[^#\s]", line) and " # " not in line]
    assert not bare


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.lr=1e-5", 1e-05),
        ("train.lr=1E-5", 1e-05),
        ("train.lr=2", 2.0),
        ("train.lr=.5", 0.5),
        ("train.weight_decay=0", 0.0),
        ("tokenizer.vocab_size=1_000", 1000),
        ("model.tie_weights=false", False),
        ("model.tie_weights=True", True),
        ("model.position=none", "none"),
        ("data.source=no", "no"),
        ("data.source=017", "017"),
        ("data.source='1e-05'", "1e-05"),
        ("data.source='true'", "true"),
        ("data.source='null'", "null"),
        ("data.source='2024-01-01'", "2024-01-01"),
    ],
)
def test_what_dvc_exp_run_writes_is_read_as_meant(tmp_path, override, value):
    file = tmp_path / "params.yaml"
    file.write_text(COMMITTED.read_text(encoding="utf-8"), encoding="utf-8")
    apply_overrides(file, [override])
    found = load_params(file)
    for key in override.partition("=")[0].split("."):
        found = getattr(found, key)
    assert (type(found), found) == (type(value), value)


def test_a_number_that_dvc_takes_for_text_is_refused(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(COMMITTED.read_text(encoding="utf-8"), encoding="utf-8")
    apply_overrides(file, ["seed=017"])
    with pytest.raises(UserError, match="seed: '017' is not a whole number"):
        load_params(file)


SCALARS = """
1e-05 1e5 017 -017 0o17 0x1F 1_000 1_000.5 1. .5 -.5 .inf 12:30
no yes on off y true TRUE tRue null ~ none
"""


@pytest.mark.parametrize("text", SCALARS.split())
def test_scalars_are_read_as_dvc_reads_them(tmp_path, text):
    found, expected = scalar(tmp_path, text), loads_yaml(f"key: {text}")["key"]
    assert (type(found), found) == (type(expected), expected)


@given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.text("017eE+-._:xaflnostruy# '\"", max_size=8))
@settings(max_examples=300)
def test_any_value_that_dvc_writes_is_read_back(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "written.yaml"
    file.write_text(dumps_yaml({"key": value}), encoding="utf-8")
    found = read_yaml(file)["key"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.n_heads", 4, "model.n_heads: unknown key; model has n_layer"),
        ("train.learning_rate", 0.1, "train.learning_rate: unknown key"),
        ("memories", {}, "memories: unknown key"),
        ("train.lr", "fast", "train.lr: 'fast' is not a number"),
        ("train.lr", True, "train.lr: True is not a number"),
        ("train.lr", math.inf, "train.lr: inf is not finite"),
        ("train.lr", math.nan, "train.lr: nan is not finite"),
        ("model.n_layer", 4.0, "model.n_layer: 4.0 is not a whole number"),
        ("model.n_layer", "4", "model.n_layer: '4' is not a whole number"),
        ("model.n_layer", True, "model.n_layer: True is not a whole number"),
        ("model.n_layer", None, "model.n_layer: None is not a whole number"),
        ("model.tie_weights", 1, "model.tie_weights: 1 is not true or false"),
        ("model.tie_weights", "yes", "model.tie_weights: 'yes' is not true or false"),
        ("model.position", "rotary", "model.position: 'rotary' is none of learned, none"),
        ("data.source", 7, "data.source: 7 is not text"),
        ("data", None, "data: None is not a section of keys"),
        ("train", [1], "train: [1] is not a section of keys"),
        ("evaluate.prompts", "Once", "evaluate.prompts: 'Once' is not a list"),
        ("evaluate.prompts", ["Once", 2], "evaluate.prompts[1]: 2 is not text"),
        ("ablations", None, "ablations: None is not a mapping"),
        ("memory.sleep.targets", "q_proj", "memory.sleep.targets: 'q_proj' is not a list"),
        ("memory.sleep.targets", ["q_proj", "lm_head"], "memory.sleep.targets[1]: 'lm_head' is none of q_proj, k_proj"),
        ("memory.gates.h3_greedy", 0.9, "memory.gates.h3_greedy: unknown key; memory.gates has in_context_recall,"),
        ("memory.gates.h2_greedy", "high", "memory.gates.h2_greedy: 'high' is not a number"),
        ("memory.gates", None, "memory.gates: None is not a mapping"),
        ("chat.arms.ewc.rank", 8, "chat.arms.ewc.rank: unknown key; chat.arms.ewc has steps, story_rows"),
        ("chat.arms.ewc.steps", 1.5, "chat.arms.ewc.steps: 1.5 is not a whole number"),
        ("chat.arms.ewc", {"steps": 200}, "chat.arms.ewc.story_rows is missing"),
        ("chat.arms.ewc", 200, "chat.arms.ewc: 200 is not a section of keys"),
        ("chat.arms", [], "chat.arms: [] is not a mapping"),
    ],
)
def test_an_unknown_key_or_a_wrong_type_is_named_by_its_path(tmp_path, key, value, message):
    assert error_of(tmp_path, **{key: value}).startswith(message)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**63),
        ("ablation_steps", 0),
        ("data.source", ""),
        ("data.train_documents", 1),
        ("data.valid_documents", 0),
        ("data.valid_fraction", 0),
        ("data.valid_fraction", 1),
        ("tokenizer.vocab_size", 263),
        ("tokenizer.vocab_size", 65537),
        ("model.n_layer", 0),
        ("model.n_head", 0),
        ("model.n_embd", 0),
        ("model.block_size", 1),
        ("model.dropout", 1),
        ("model.dropout", -0.1),
        ("train.max_steps", 0),
        ("train.batch_size", 0),
        ("train.micro_batch_size", 0),
        ("train.optimizer", "sgd"),
        ("train.lr", 0),
        ("train.muon_lr", -1),
        ("train.embedding_std", 0),
        ("train.min_lr_fraction", 1.1),
        ("train.warmup_steps", -1),
        ("train.warmup_steps", 10**9),
        ("train.weight_decay", -1),
        ("train.beta1", 1),
        ("train.beta2", -0.1),
        ("train.grad_clip", 0),
        ("train.eval_interval", 0),
        ("train.eval_documents", 0),
        ("train.log_interval", 0),
        ("train.checkpoint_seconds", 0),
        ("train.device", "tpu"),
        ("train.precision", "fp16"),
        ("evaluate.batch_tokens", 0),
        ("evaluate.warm_samples", 0),
        ("evaluate.sample_tokens", 0),
        ("evaluate.temperature", 0),
        ("evaluate.top_p", 0),
        ("evaluate.top_p", 1.1),
        ("export.dtype", "int8"),
        ("chat.arm", "none"),
        ("chat.warmup_steps", -1),
        ("chat.warmup_steps", 201),
        ("chat.shown_layers", -1),
        ("chat.arms.ewc.shown_weight", -1.0),
        ("chat.arms.ewc.steps", 0),
        ("chat.arms.ewc.story_rows", -1),
        ("chat.arms.ewc.ewc_strength", -0.5),
        ("chat.arms.ewc.distill_weight", 0.5),
        ("memory.protocol", "slow"),
        ("memory.people", 1),
        ("memory.rows.block", -1),
        ("memory.rows.block", 4),
        ("memory.sleep.targets", []),
        ("memory.sleep.warmup_steps", 0),
        ("memory.sleep.warmup_steps", 151),
    ],
)
def test_an_impossible_value_is_named_by_its_path(tmp_path, key, value):
    message = error_of(tmp_path, **{key: value})
    assert message.startswith(key)
    assert str(value) in message or value == ""


def test_values_that_exclude_each_other_are_both_named(tmp_path):
    changes = {"model.n_embd": 384, "model.n_head": 5}
    assert error_of(tmp_path, **changes) == "model.n_head: 5 does not divide model.n_embd 384"
    changes = {"train.batch_size": 32, "train.micro_batch_size": 5}
    assert error_of(tmp_path, **changes) == "train.micro_batch_size: 5 does not divide train.batch_size 32"
    changes = {"model.n_layer": 2, "memory.rows.block": 2}
    assert error_of(tmp_path, **changes) == "memory.rows.block: 2 is not below model.n_layer 2"
    changes = {"chat.warmup_steps": 10, "chat.arms.replay.steps": 9}
    assert error_of(tmp_path, **changes) == "chat.warmup_steps: 10 is above chat.arms.replay.steps 9"
    changes = {"memory.sleep.max_steps": 4, "memory.sleep.warmup_steps": 5}
    assert error_of(tmp_path, **changes) == "memory.sleep.warmup_steps: 5 is above memory.sleep.max_steps 4"


def test_steps_of_warm_up_may_be_all_there_are(tmp_path):
    changes = {"memory.sleep.max_steps": 5, "memory.sleep.warmup_steps": 5, "chat.warmup_steps": 200}
    assert params_with(tmp_path, **changes).memory.sleep.max_steps == 5


def test_the_projections_that_sleep_may_change_are_those_of_the_model(tmp_path):
    assert params_with(tmp_path, **{"memory.sleep.targets": list(PROJECTIONS)}).memory.sleep.targets == PROJECTIONS
    assert get_args(get_type_hints(SleepParams)["targets"]) == (Literal[PROJECTIONS], ...)


def test_every_gate_of_the_evaluation_is_there_and_no_other(tmp_path):
    gates = read_yaml(COMMITTED)["memory"]["gates"]
    assert tuple(gates) == GATES
    del gates["first_fact"]
    assert error_of(tmp_path, **{"memory.gates": gates}) == "memory.gates.first_fact is missing"


def test_a_missing_key_is_named_by_its_path(tmp_path):
    values = read_yaml(COMMITTED)
    del values["model"]["n_head"]
    file = tmp_path / "params.yaml"
    file.write_text(dumps_yaml(values), encoding="utf-8")
    with pytest.raises(UserError, match=r"^model\.n_head is missing$"):
        load_params(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no mapping"),
        (b"- 1\n", "holds no mapping"),
        (b"seed: [1\n", "not readable YAML"),
        (b"seed: \xff\n", "not readable YAML"),
        (b"seed: !!python/object/apply:os.getcwd []\n", "not readable YAML"),
        (b"seed: 1\nseed: 2\n", "the key seed stands twice.* line 2"),
    ],
)
def test_a_file_that_is_no_params_file_is_refused_by_name(tmp_path, content, message):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_params(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml is missing"):
        load_params(tmp_path / "nowhere.yaml")


def test_an_ablation_changes_what_it_names_and_the_budget_only(tmp_path):
    ablations = {"baseline": {}, "odd": {"model": {"n_layer": 1}, "train": {"lr": 1}}}
    params = params_with(tmp_path, ablations=ablations, ablation_steps=50, **{"train.warmup_steps": 100})
    budget = dataclasses.replace(params.train, max_steps=50, warmup_steps=math.ceil(100 * 50 / params.train.max_steps))
    baseline, odd = params.ablated("baseline"), params.ablated("odd")
    assert baseline == dataclasses.replace(params, ablations={}, train=budget)
    assert odd.model == dataclasses.replace(params.model, n_layer=1)
    assert odd.train == dataclasses.replace(budget, lr=1.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model": {"n_layer": 0}}, "ablations.x.model.n_layer: 0 is below 1"),
        ({"model": {"n_layer": "two"}}, "ablations.x.model.n_layer: 'two' is not a whole number"),
        ({"model": {"layers": 2}}, "ablations.x.model.layers: unknown key"),
        ({"model": {"n_embd": 384, "n_head": 5}}, "ablations.x.model.n_head: 5 does not divide model.n_embd 384"),
        ({"train": {"lr": 0}}, "ablations.x.train.lr: 0.0 is not above 0"),
        ({"train": {"max_steps": 5}}, "ablations.x.train.max_steps: the budget"),
        ({"data": {"source": "pocket"}}, "ablations.x.data: an ablation may override model and train only"),
        ({"model": 3}, "ablations.x.model: 3 is not a mapping"),
        (None, "ablations.x: None is not a mapping"),
    ],
)
def test_a_wrong_override_of_an_ablation_is_named_by_its_path(tmp_path, overrides, message):
    assert error_of(tmp_path, ablations={"baseline": {}, "x": overrides}).startswith(message)


def test_an_ablation_needs_a_name_that_can_be_a_file(tmp_path):
    assert error_of(tmp_path, ablations={"../x": {}}).startswith("ablations.../x: use a-z")


def test_an_unknown_ablation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"ablations\.nothing: no such ablation; there are .*baseline"):
        load_params(COMMITTED).ablated("nothing")


def test_params_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_params(COMMITTED).model.n_layer = 1
