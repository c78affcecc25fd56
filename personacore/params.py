"""params.yaml as typed, frozen, validated sections.

Every error names the key by its path and says what it may be, so that `dvc exp run -S` of a wrong value ends in one line.
"""

import dataclasses
import math
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from personacore.errors import UserError


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)


@dataclass(frozen=True)
class DataParams:
    source: str
    train_documents: int
    valid_documents: int
    valid_fraction: float

    def __post_init__(self) -> None:
        _require(bool(self.source), "data.source is empty: write pocket, tinystories, or the path or URL of a text")
        _require(self.train_documents >= 2, f"data.train_documents: {self.train_documents} is below 2")
        _require(self.valid_documents >= 1, f"data.valid_documents: {self.valid_documents} is below 1")
        _require(0 < self.valid_fraction < 1, f"data.valid_fraction: {self.valid_fraction} is not between 0 and 1")


@dataclass(frozen=True)
class TokenizerParams:
    vocab_size: int

    def __post_init__(self) -> None:
        _require(264 <= self.vocab_size <= 65536, f"tokenizer.vocab_size: {self.vocab_size} is not from 264 to 65536")


@dataclass(frozen=True)
class ModelParams:
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    dropout: float
    tie_weights: bool
    position: Literal["learned", "none"]

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd"):
            _require(getattr(self, name) >= 1, f"model.{name}: {getattr(self, name)} is below 1")
        _require(self.n_embd % self.n_head == 0, f"model.n_head: {self.n_head} does not divide model.n_embd {self.n_embd}")
        _require(self.block_size >= 2, f"model.block_size: {self.block_size} is below 2")
        _require(0 <= self.dropout < 1, f"model.dropout: {self.dropout} is not from 0 to below 1")


@dataclass(frozen=True)
class TrainParams:
    max_steps: int
    batch_size: int
    micro_batch_size: int
    embedding_std: float
    optimizer: Literal["adamw", "muon"]
    lr: float
    muon_lr: float
    min_lr_fraction: float
    warmup_steps: int
    weight_decay: float
    beta1: float
    beta2: float
    grad_clip: float
    eval_interval: int
    eval_documents: int
    log_interval: int
    checkpoint_seconds: float
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "bf16", "fp32"]

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "micro_batch_size", "eval_interval", "eval_documents", "log_interval"):
            _require(getattr(self, name) >= 1, f"train.{name}: {getattr(self, name)} is below 1")
        for name in ("embedding_std", "lr", "muon_lr", "grad_clip", "checkpoint_seconds"):
            _require(getattr(self, name) > 0, f"train.{name}: {getattr(self, name)} is not above 0")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, f"train.{name}: {getattr(self, name)} is not from 0 to below 1")
        _require(
            self.batch_size % self.micro_batch_size == 0,
            f"train.micro_batch_size: {self.micro_batch_size} does not divide train.batch_size {self.batch_size}",
        )
        _require(
            0 <= self.warmup_steps <= self.max_steps,
            f"train.warmup_steps: {self.warmup_steps} is not from 0 to train.max_steps {self.max_steps}",
        )
        _require(0 <= self.min_lr_fraction <= 1, f"train.min_lr_fraction: {self.min_lr_fraction} is not from 0 to 1")
        _require(self.weight_decay >= 0, f"train.weight_decay: {self.weight_decay} is below 0")


@dataclass(frozen=True)
class EvaluateParams:
    batch_tokens: int
    warm_samples: int
    sample_tokens: int
    temperature: float
    top_p: float
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "warm_samples", "sample_tokens"):
            _require(getattr(self, name) >= 1, f"evaluate.{name}: {getattr(self, name)} is below 1")
        _require(self.temperature > 0, f"evaluate.temperature: {self.temperature} is not above 0")
        _require(0 < self.top_p <= 1, f"evaluate.top_p: {self.top_p} is not above 0 and up to 1")


@dataclass(frozen=True)
class ExportParams:
    dtype: Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class DialoguesParams:
    pretrain_documents: int
    held_out_documents: int
    characters: int

    def __post_init__(self) -> None:
        for name in ("pretrain_documents", "held_out_documents", "characters"):
            _require(getattr(self, name) >= 1, f"dialogues.{name}: {getattr(self, name)} is below 1")


@dataclass(frozen=True)
class ArmParams:
    """What protects the old skill while the model learns to converse; 0 where it is not used."""

    steps: int
    story_rows: int
    ewc_strength: float
    distill_weight: float

    def __post_init__(self) -> None:
        _require(self.steps >= 1, f"chat.arms: steps {self.steps} is below 1")
        for name in ("story_rows", "ewc_strength", "distill_weight"):
            _require(getattr(self, name) >= 0, f"chat.arms: {name} {getattr(self, name)} is below 0")
        _require(self.distill_weight == 0 or self.story_rows > 0, "chat.arms: distill_weight has no story_rows to distill on")


@dataclass(frozen=True)
class ChatParams:
    arm: str
    batch_size: int
    drill_rows: int
    lr: float
    muon_lr: float
    warmup_steps: int
    eval_interval: int
    eval_documents: int
    fisher_documents: int
    arms: dict[str, ArmParams] = field(hash=False)

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_interval", "eval_documents", "fisher_documents"):
            _require(getattr(self, name) >= 1, f"chat.{name}: {getattr(self, name)} is below 1")
        for name in ("lr", "muon_lr"):
            _require(getattr(self, name) > 0, f"chat.{name}: {getattr(self, name)} is not above 0")
        for name in ("drill_rows", "warmup_steps"):
            _require(getattr(self, name) >= 0, f"chat.{name}: {getattr(self, name)} is below 0")
        for name in self.arms:
            _require(re.fullmatch(r"[a-z0-9_]+", name) is not None, f"chat.arms.{name}: use a-z, 0-9 and _ in names")
        _require(self.arm in self.arms, f"chat.arm: {self.arm} is none of {', '.join(self.arms)}")


@dataclass(frozen=True)
class RowsParams:
    block: int
    questions: int
    claims: int
    pairs: int
    reversed: int
    steps: int
    lr: float

    def __post_init__(self) -> None:
        _require(self.block >= 0, f"memory.rows.block: {self.block} is below 0")
        for name in ("questions", "steps"):
            _require(getattr(self, name) >= 1, f"memory.rows.{name}: {getattr(self, name)} is below 1")
        for name in ("claims", "pairs", "reversed"):
            _require(getattr(self, name) >= 0, f"memory.rows.{name}: {getattr(self, name)} is below 0")
        _require(self.lr > 0, f"memory.rows.lr: {self.lr} is not above 0")


@dataclass(frozen=True)
class TeachParams:
    rank: int
    alpha: float
    targets: tuple[str, ...]
    lr: float
    max_steps: int
    warmup_steps: int
    positives: int
    reversed: int
    open: int
    negatives: int
    near_misses: float
    frames: int
    generic_rows: int
    kl_weight: float
    check_interval: int
    stop_probability: float
    stop_unknown: float

    def __post_init__(self) -> None:
        for name in ("rank", "max_steps", "warmup_steps", "positives", "frames", "check_interval"):
            _require(getattr(self, name) >= 1, f"memory.teach.{name}: {getattr(self, name)} is below 1")
        for name in ("reversed", "open", "negatives", "generic_rows", "kl_weight"):
            _require(getattr(self, name) >= 0, f"memory.teach.{name}: {getattr(self, name)} is below 0")
        for name in ("near_misses", "stop_probability", "stop_unknown"):
            _require(0 <= getattr(self, name) <= 1, f"memory.teach.{name}: {getattr(self, name)} is not from 0 to 1")
        for name in ("alpha", "lr"):
            _require(getattr(self, name) > 0, f"memory.teach.{name}: {getattr(self, name)} is not above 0")


@dataclass(frozen=True)
class MemoryParams:
    protocol: Literal["quick", "full"]
    people: int
    facts: int
    seeds: int
    questions: int
    draws: int
    sessions: int
    rows: RowsParams
    teach: TeachParams
    gates: dict[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        for name in ("facts", "seeds", "questions", "draws", "sessions"):
            _require(getattr(self, name) >= 1, f"memory.{name}: {getattr(self, name)} is below 1")
        _require(self.people >= 2, f"memory.people: {self.people} is below 2, and one is asked with the memory of another")

    def scaled(self) -> "MemoryParams":
        """These params as the protocol has them: a fifth of the people and one seed when it is quick."""
        return self if self.protocol == "full" else dataclasses.replace(self, people=max(2, self.people // 5), seeds=1)


@dataclass(frozen=True)
class Params:
    """All of params.yaml."""

    seed: int
    data: DataParams
    tokenizer: TokenizerParams
    model: ModelParams
    train: TrainParams
    ablation_steps: int
    evaluate: EvaluateParams
    ablations: dict[str, dict[str, Any]] = field(hash=False)
    export: ExportParams
    dialogues: DialoguesParams
    chat: ChatParams
    memory: MemoryParams

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63, f"seed: {self.seed} is not from 0 to below 2^63")
        _require(self.ablation_steps >= 1, f"ablation_steps: {self.ablation_steps} is below 1")
        for name in self.ablations:
            _require(re.fullmatch(r"[a-z0-9_]+", name) is not None, f"ablations.{name}: use a-z, 0-9 and _ in names")
            self.ablated(name)

    def ablated(self, name: str) -> "Params":
        """These params with the overrides of one ablation and the cohort's budget, of which warm-up is as large a part.

        Raises:
            UserError: the ablation is unknown, or overrides anything but keys of `model` and `train`.
        """
        _require(name in self.ablations, f"ablations.{name}: no such ablation; there are {', '.join(self.ablations)}")
        warmup_steps = math.ceil(self.train.warmup_steps * self.ablation_steps / self.train.max_steps)
        budget = {"max_steps": self.ablation_steps, "warmup_steps": warmup_steps}
        changed: dict[str, Any] = {"train": dataclasses.replace(self.train, **budget)}
        for section, overrides in self.ablations[name].items():
            where = f"ablations.{name}.{section}"
            _require(section in ("model", "train"), f"{where}: an ablation may override model and train only")
            _require("max_steps" not in overrides, f"{where}.max_steps: the budget of all ablations is ablation_steps")
            old = changed.get(section, getattr(self, section))
            try:
                changed[section] = _build(type(old), dataclasses.asdict(old) | overrides, section)
            except UserError as error:
                raise UserError(f"ablations.{name}.{error}") from None
        return dataclasses.replace(self, ablations={}, **changed)


class _Loader(yaml.SafeLoader):
    """PyYAML with the number and bool rules of YAML 1.2 as ruamel.yaml has them, which is what DVC reads and writes with."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own class attribute)
        first: [(tag, rule) for tag, rule in rules if not tag.endswith((":float", ":bool", ":int", ":timestamp"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node; a key that stands twice is an error, where PyYAML would take the last."""
        keys: list[Any] = []
        for key, _ in node.value:
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} stands twice", key.start_mark)
            keys.append(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"(?:[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)  # YAML 1.2: 017 is seventeen


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file.

    Raises:
        UserError: the file is missing, is not YAML, or holds something else than a mapping.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run from the folder that holds it") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    _require(isinstance(values, dict), f"{path} holds no mapping of sections")
    return values


def load_params(path: str | Path = "params.yaml") -> Params:
    """The validated params of a file.

    Raises:
        UserError: a key is unknown, missing, of the wrong type or impossible; the message names it by its path.
    """
    return _build(Params, read_yaml(path), "")


def _build(kind: type, values: object, where: str) -> Any:
    """An instance of the dataclass `kind` from a plain mapping; `where` is the path of keys so far."""
    prefix = f"{where}." if where else ""
    _require(isinstance(values, Mapping), f"{where or 'params'}: {values!r} is not a section of keys")
    fields = {entry.name: entry.type for entry in dataclasses.fields(kind)}
    for name in values:
        _require(name in fields, f"{prefix}{name}: unknown key; {where or 'params'} has {', '.join(fields)}")
    for name in fields:
        _require(name in values, f"{prefix}{name} is missing")
    return kind(**{name: _coerce(values[name], fields[name], f"{prefix}{name}") for name in fields})


def _coerce(value: object, kind: Any, where: str) -> Any:
    """`value` as the annotated type, with the one conversion that loses nothing: whole numbers to floats."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if get_origin(kind) is Literal:
        _require(value in get_args(kind), f"{where}: {value!r} is none of {', '.join(get_args(kind))}")
        return value
    if isinstance(kind, types.GenericAlias):
        container, item = get_origin(kind), get_args(kind)[-2 if get_origin(kind) is tuple else -1]
        if container is tuple:
            _require(isinstance(value, list), f"{where}: {value!r} is not a list")
            return tuple(_coerce(entry, item, f"{where}[{n}]") for n, entry in enumerate(value))
        _require(isinstance(value, dict), f"{where}: {value!r} is not a mapping")
        if item is float:
            return {str(name): _coerce(entry, float, f"{where}.{name}") for name, entry in value.items()}
        if dataclasses.is_dataclass(item):
            return {str(name): _build(item, entry, f"{where}.{name}") for name, entry in value.items()}
        return {str(name): _coerce_plain(entry, f"{where}.{name}") for name, entry in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    _require(type(value) is kind, f"{where}: {value!r} is not {names[kind]}")
    _require(kind is not float or math.isfinite(value), f"{where}: {value!r} is not finite")
    return value


def _coerce_plain(value: object, where: str) -> dict[str, Any]:
    _require(isinstance(value, dict), f"{where}: {value!r} is not a mapping of sections to overrides")
    for section, overrides in value.items():
        _require(isinstance(overrides, dict), f"{where}.{section}: {overrides!r} is not a mapping of keys to values")
    return value
