"""params.yaml as typed, frozen, validated sections.

Every error names the key by its path and says what it may be, so that `dvc exp run -S` of a wrong value ends in one line.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from personacore.errors import UserError
from personacore.typed import build, require
from personacore.yaml12 import read_yaml

GATES = (
    "in_context_recall",
    "in_context_abstention",
    "taught_greedy",
    "h1_greedy",
    "h2_greedy",
    "h2_sampled",
    "adapter_off",
    "wrong_user",
    "abstain_known_slot",
    "abstain_unseen_slot",
    "abstain_other_person",
    "sequential_100_accuracy",
    "first_fact",
    "backward_transfer",
    "story_drift",
    "dialogue_drift",
    "update_new",
    "update_old_leak",
    "forget_emission",
    "forget_abstain",
    "reversed_greedy",
)


@dataclass(frozen=True)
class DataParams:
    source: str
    train_documents: int
    valid_documents: int
    valid_fraction: float

    def __post_init__(self) -> None:
        require(bool(self.source), "data.source is empty: write pocket, tinystories, or the path or URL of a text")
        require(self.train_documents >= 2, f"data.train_documents: {self.train_documents} is below 2")
        require(self.valid_documents >= 1, f"data.valid_documents: {self.valid_documents} is below 1")
        require(0 < self.valid_fraction < 1, f"data.valid_fraction: {self.valid_fraction} is not between 0 and 1")


@dataclass(frozen=True)
class TokenizerParams:
    vocab_size: int

    def __post_init__(self) -> None:
        require(264 <= self.vocab_size <= 65536, f"tokenizer.vocab_size: {self.vocab_size} is not from 264 to 65536")


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
            require(getattr(self, name) >= 1, f"model.{name}: {getattr(self, name)} is below 1")
        require(self.n_embd % self.n_head == 0, f"model.n_head: {self.n_head} does not divide model.n_embd {self.n_embd}")
        require(self.block_size >= 2, f"model.block_size: {self.block_size} is below 2")
        require(0 <= self.dropout < 1, f"model.dropout: {self.dropout} is not from 0 to below 1")


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
            require(getattr(self, name) >= 1, f"train.{name}: {getattr(self, name)} is below 1")
        for name in ("embedding_std", "lr", "muon_lr", "grad_clip", "checkpoint_seconds"):
            require(getattr(self, name) > 0, f"train.{name}: {getattr(self, name)} is not above 0")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"train.{name}: {getattr(self, name)} is not from 0 to below 1")
        require(
            self.batch_size % self.micro_batch_size == 0,
            f"train.micro_batch_size: {self.micro_batch_size} does not divide train.batch_size {self.batch_size}",
        )
        require(
            0 <= self.warmup_steps <= self.max_steps,
            f"train.warmup_steps: {self.warmup_steps} is not from 0 to train.max_steps {self.max_steps}",
        )
        require(0 <= self.min_lr_fraction <= 1, f"train.min_lr_fraction: {self.min_lr_fraction} is not from 0 to 1")
        require(self.weight_decay >= 0, f"train.weight_decay: {self.weight_decay} is below 0")


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
            require(getattr(self, name) >= 1, f"evaluate.{name}: {getattr(self, name)} is below 1")
        require(self.temperature > 0, f"evaluate.temperature: {self.temperature} is not above 0")
        require(0 < self.top_p <= 1, f"evaluate.top_p: {self.top_p} is not above 0 and up to 1")


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
            require(getattr(self, name) >= 1, f"dialogues.{name}: {getattr(self, name)} is below 1")


@dataclass(frozen=True)
class ArmParams:
    """How the model learns to converse: what protects the old skill, and how much attention is shown; 0 where not used."""

    steps: int
    story_rows: int
    ewc_strength: float
    distill_weight: float
    shown_weight: float

    def check(self, where: str, warmup_steps: int) -> None:
        """Raise a UserError that names the wrong key, behind the path of the arm."""
        require(self.steps >= 1, f"{where}.steps: {self.steps} is below 1")
        for name in ("story_rows", "ewc_strength", "distill_weight", "shown_weight"):
            require(getattr(self, name) >= 0, f"{where}.{name}: {getattr(self, name)} is below 0")
        distills = self.distill_weight > 0
        require(not distills or self.story_rows > 0, f"{where}.distill_weight: {self.distill_weight} needs story_rows above 0")
        require(warmup_steps <= self.steps, f"chat.warmup_steps: {warmup_steps} is above {where}.steps {self.steps}")


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
    shown_layers: int
    fisher_documents: int
    arms: dict[str, ArmParams] = field(hash=False)

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_interval", "eval_documents", "fisher_documents"):
            require(getattr(self, name) >= 1, f"chat.{name}: {getattr(self, name)} is below 1")
        for name in ("lr", "muon_lr"):
            require(getattr(self, name) > 0, f"chat.{name}: {getattr(self, name)} is not above 0")
        for name in ("drill_rows", "warmup_steps", "shown_layers"):
            require(getattr(self, name) >= 0, f"chat.{name}: {getattr(self, name)} is below 0")
        for name, arm in self.arms.items():
            require(re.fullmatch(r"[a-z0-9_]+", name) is not None, f"chat.arms.{name}: use a-z, 0-9 and _ in names")
            arm.check(f"chat.arms.{name}", self.warmup_steps)
        require(self.arm in self.arms, f"chat.arm: {self.arm} is none of {', '.join(self.arms)}")


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
        require(self.block >= 0, f"memory.rows.block: {self.block} is below 0")
        for name in ("questions", "steps"):
            require(getattr(self, name) >= 1, f"memory.rows.{name}: {getattr(self, name)} is below 1")
        for name in ("claims", "pairs", "reversed"):
            require(getattr(self, name) >= 0, f"memory.rows.{name}: {getattr(self, name)} is below 0")
        require(self.lr > 0, f"memory.rows.lr: {self.lr} is not above 0")


@dataclass(frozen=True)
class SleepParams:
    rank: int
    alpha: float
    targets: tuple[Literal["q_proj", "k_proj", "v_proj", "c_proj", "fc_in", "fc_out"], ...]
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
            require(getattr(self, name) >= 1, f"memory.sleep.{name}: {getattr(self, name)} is below 1")
        for name in ("reversed", "open", "negatives", "generic_rows", "kl_weight"):
            require(getattr(self, name) >= 0, f"memory.sleep.{name}: {getattr(self, name)} is below 0")
        for name in ("near_misses", "stop_probability", "stop_unknown"):
            require(0 <= getattr(self, name) <= 1, f"memory.sleep.{name}: {getattr(self, name)} is not from 0 to 1")
        for name in ("alpha", "lr"):
            require(getattr(self, name) > 0, f"memory.sleep.{name}: {getattr(self, name)} is not above 0")
        require(len(self.targets) > 0, "memory.sleep.targets: [] names no projection")
        require(
            self.warmup_steps <= self.max_steps,
            f"memory.sleep.warmup_steps: {self.warmup_steps} is above memory.sleep.max_steps {self.max_steps}",
        )


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
    sleep: SleepParams
    gates: dict[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        for name in ("facts", "seeds", "questions", "draws", "sessions"):
            require(getattr(self, name) >= 1, f"memory.{name}: {getattr(self, name)} is below 1")
        require(self.people >= 2, f"memory.people: {self.people} is below 2, and one is asked with the memory of another")
        for name in self.gates:
            require(name in GATES, f"memory.gates.{name}: unknown key; memory.gates has {', '.join(GATES)}")
        for name in GATES:
            require(name in self.gates, f"memory.gates.{name} is missing")

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
        require(0 <= self.seed < 2**63, f"seed: {self.seed} is not from 0 to below 2^63")
        require(self.ablation_steps >= 1, f"ablation_steps: {self.ablation_steps} is below 1")
        for name in self.ablations:
            require(re.fullmatch(r"[a-z0-9_]+", name) is not None, f"ablations.{name}: use a-z, 0-9 and _ in names")
            self.ablated(name)

    def ablated(self, name: str) -> "Params":
        """These params with the overrides of one ablation and the cohort's budget, of which warm-up is as large a part.

        Raises:
            UserError: the ablation is unknown, or overrides anything but keys of `model` and `train`.
        """
        require(name in self.ablations, f"ablations.{name}: no such ablation; there are {', '.join(self.ablations)}")
        warmup_steps = math.ceil(self.train.warmup_steps * self.ablation_steps / self.train.max_steps)
        budget = {"max_steps": self.ablation_steps, "warmup_steps": warmup_steps}
        changed: dict[str, Any] = {"train": dataclasses.replace(self.train, **budget)}
        for section, overrides in self.ablations[name].items():
            where = f"ablations.{name}.{section}"
            require(section in ("model", "train"), f"{where}: an ablation may override model and train only")
            require("max_steps" not in overrides, f"{where}.max_steps: the budget of all ablations is ablation_steps")
            old = changed.get(section, getattr(self, section))
            try:
                changed[section] = build(type(old), dataclasses.asdict(old) | overrides, section)
            except UserError as error:
                raise UserError(f"ablations.{name}.{error}") from None
        return dataclasses.replace(self, ablations={}, **changed)


def load_params(path: str | Path = "params.yaml") -> Params:
    """The validated params of a file.

    Raises:
        UserError: a key is unknown, missing, of the wrong type or impossible; the message names it by its path.
    """
    params: Params = build(Params, read_yaml(path))
    block, n_layer = params.memory.rows.block, params.model.n_layer
    # Not a matter of the section itself: an ablation may have fewer layers, because it is never taught.
    require(block < n_layer, f"memory.rows.block: {block} is not below model.n_layer {n_layer}")
    return params
