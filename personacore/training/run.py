"""One training run of the pipeline, from token files to a model file, resumable at any moment."""

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from personacore.evaluation.loss import document_loss, split_documents
from personacore.files import sha256_of
from personacore.layout import RESUME, TOKENIZER, TRAIN_TOKENS, VALID_TOKENS
from personacore.model.files import build_model, save_model
from personacore.model.gpt import GPT, GPTConfig
from personacore.params import ModelParams, TrainParams
from personacore.provenance import code_version, digest_files, import_closure
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.training.batches import Batches, row_starts
from personacore.training.device import choose_device, choose_precision
from personacore.training.distributed import join_world
from personacore.training.loop import Trained, train, write_curve


@dataclass(frozen=True)
class Run:
    """A finished run: the best model, its tokenizer, the training record, and the facts for metrics/train.json."""

    model: GPT
    tokenizer: Tokenizer
    trained: Trained
    facts: dict[str, object]
    leads: bool
    state_folder: Path

    def forget_state(self) -> None:
        """Delete the resume state; called once every result is written."""
        shutil.rmtree(self.state_folder, ignore_errors=True)

    def speed(self) -> dict[str, object]:
        """The machine-bound figures, of the steps that this process made."""
        steps, seconds = self.trained.steps_here, self.trained.seconds
        rate = self.trained.tokens / self.facts["steps"] * steps / seconds
        return {"train_seconds": round(seconds, 3), "steps_here": steps, "tokens_per_second": round(rate, 1)}


def pretrain(
    name: str, model: ModelParams, params: TrainParams, seed: int, *, curve_file: Path, model_file: Path | None = None
) -> Run:
    """Train a model of these params on the encoded corpus, with its curve in `curve_file` as it goes.

    `name` is the stage's module: its code, the params and the token files decide whether an interrupted run is continued.
    The state for that lives in `.resume/`, which no stage declares, because a stage's outputs are deleted before it runs.
    """
    tokenizer = load_tokenizer(TOKENIZER)
    tokens = open_tokens(TRAIN_TOKENS)
    valid = split_documents(open_tokens(VALID_TOKENS), tokenizer.end_of_text, params.eval_documents)
    config = GPTConfig(vocab_size=tokenizer.vocab_size, **dataclasses.asdict(model))
    device = choose_device(params.device)
    precision = choose_precision(params.precision, device)
    starts = row_starts(tokens, tokenizer.end_of_text, config.block_size)
    inputs = {str(path): sha256_of(path) for path in (TOKENIZER, TRAIN_TOKENS, VALID_TOKENS)}
    identity = _identity(name, dataclasses.asdict(model), dataclasses.asdict(params), seed, inputs, device.type, precision)
    folder = RESUME / identity[:16]
    with join_world(device) as world:
        log = (lambda line: print(line, flush=True)) if world.leads else (lambda line: None)
        fresh = GPT(config)
        fresh.reset_parameters(seed, params.embedding_std)
        log(f"{fresh.parameter_count():,} parameters on {device.type} in {precision}, {len(starts):,} rows an epoch")
        trained = train(
            fresh,
            params,
            Batches(tokens, starts, config.block_size, params.batch_size, seed),
            lambda model: document_loss(model, valid[world.rank :: world.size], tokenizer.end_of_text),
            device=device,
            precision=precision,
            world=world,
            state_file=folder / "state.safetensors",
            identity=identity,
            log=log,
            on_row=(lambda rows: write_curve(curve_file, rows)) if world.leads else (lambda rows: None),
        )
        if world.leads and model_file is not None:
            save_model(model_file, config, trained.weights, {"code": code_version(name), "made_from": inputs, "seed": seed})
    facts = {
        "steps": params.max_steps,
        "tokens": trained.tokens,
        "epochs": params.max_steps * params.batch_size / len(starts),
        "parameters": fresh.parameter_count(),
        "best_step": trained.best_step,
        "valid_nats_per_token": trained.best_loss,
        "device": device.type,
        "precision": precision,
    }
    best = build_model(config, trained.weights, folder / "state.safetensors")
    return Run(best, tokenizer, trained, facts, world.leads, folder)


def _identity(name: str, *parts: object) -> str:
    code = digest_files(import_closure(name))
    return hashlib.sha256(json.dumps([name, code, *parts], sort_keys=True).encode()).hexdigest()
