"""One run of learning to converse, from the base and the conversations to a model file, resumable at any moment."""

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from personacore.corpus.dialogue.files import read_conversations
from personacore.evaluation.conversations import conversation_loss
from personacore.files import sha256_of
from personacore.layout import BASE, CALIBRATION, FISHER, PRETRAIN, RESUME, TOKENIZER, TRAIN_TOKENS
from personacore.memory.arms import penalties
from personacore.memory.ewc import load_fisher
from personacore.model.files import build_model, load_model, save_model
from personacore.model.gpt import GPT
from personacore.params import ArmParams, ChatParams, TrainParams
from personacore.provenance import code_version, digest_files, import_closure
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.training.attention import ShownAttention
from personacore.training.batches import Batches, Rows, row_starts
from personacore.training.checkpoint import copy_weights
from personacore.training.conversations import ConversationRows
from personacore.training.device import choose_device, choose_precision
from personacore.training.drills import DrillRows
from personacore.training.loop import Trained, train, write_curve

HEAD = 0  # of each layer that is shown where to look
KEPT, SPREAD = 0.3, 2.0  # of what unused token vectors have in common, and of what tells them apart


@torch.no_grad()
def set_apart(model: GPT, unused: np.ndarray) -> None:
    """Make the vectors of tokens that pretraining never met differ again, in place.

    The output layer pushes all of them the same way, step after step, until they are hardly different from one another:
    nothing could then be copied that is spelled with them. What stays of that push keeps them out of stories.
    """
    if len(unused):
        places = torch.from_numpy(unused)
        vectors = model.wte.weight[places]
        common = vectors.mean(0)
        model.wte.weight[places] = KEPT * common + SPREAD * (vectors - common)


@dataclass(frozen=True)
class Conversed:
    """A finished run: the model, its tokenizer, the training record, and where its resume state is."""

    model: GPT
    tokenizer: Tokenizer
    trained: Trained
    state_folder: Path

    def forget_state(self) -> None:
        """Delete the resume state; called once every result is written."""
        shutil.rmtree(self.state_folder, ignore_errors=True)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is not above `most`, or 1."""
    return max((part for part in range(1, most + 1) if number % part == 0), default=1)


def converse(
    name: str, chat: ChatParams, base_train: TrainParams, arm: ArmParams, seed: int, curve: Path, file: Path
) -> Conversed:
    """Train the base on conversations as the arm says, into a model `file`.

    `base_train` gives what a chat run shares with pretraining: the optimizer and its constants. `name` is the stage's module.
    """
    tokenizer = load_tokenizer(TOKENIZER)
    base, _ = load_model(BASE)
    model, _ = load_model(BASE)
    set_apart(model, np.setdiff1d(np.arange(tokenizer.vocab_size), open_tokens(TRAIN_TOKENS)))
    block_size = base.config.block_size
    tokens = open_tokens(TRAIN_TOKENS)
    starts = row_starts(tokens, tokenizer.end_of_text, block_size)
    stories = Batches(tokens, starts, block_size, arm.story_rows, seed + 1) if arm.story_rows else None
    beside: list[Rows] = [stories] if stories and not arm.distill_weight else []
    if chat.drill_rows:
        beside.append(DrillRows(tokenizer, block_size, chat.drill_rows, seed))
    conversations = ConversationRows(read_conversations(PRETRAIN), tokenizer, block_size, chat.batch_size, seed, beside)
    rows = conversations.batch_size
    held_out = read_conversations(CALIBRATION)[: chat.eval_documents]
    device = choose_device(base_train.device)
    precision = choose_precision(base_train.precision, device)
    train_params = dataclasses.replace(
        base_train,
        max_steps=arm.steps,
        batch_size=rows,
        # On a CPU about four parts: several rows make larger products, several parts are shared out among the cores.
        micro_batch_size=_divisor(rows, rows // 4 if device.type == "cpu" else base_train.micro_batch_size),
        lr=chat.lr,
        muon_lr=chat.muon_lr,
        warmup_steps=chat.warmup_steps,
        eval_interval=chat.eval_interval,
        eval_documents=chat.eval_documents,
    )
    made_from = (BASE, TOKENIZER, TRAIN_TOKENS, PRETRAIN, CALIBRATION, *((FISHER,) if arm.ewc_strength else ()))
    inputs = {str(path): sha256_of(path) for path in made_from}
    described = [name, digest_files(import_closure(name)), dataclasses.asdict(train_params), dataclasses.asdict(arm)]
    described += [chat.batch_size, chat.drill_rows, chat.shown_layers]
    described += [seed, inputs, device.type, precision]
    identity = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    folder = RESUME / identity[:16]
    layers = range(base.config.n_layer)[-chat.shown_layers :] if chat.shown_layers else ()
    shown = ShownAttention.of(tokenizer, layers, HEAD, arm.shown_weight) if layers and arm.shown_weight else None
    fisher = load_fisher(FISHER)[0] if arm.ewc_strength else {}
    for each in (base, model):
        each.to(device)
    trained = train(
        model,
        train_params,
        conversations,
        lambda current: conversation_loss(current, tokenizer, held_out),
        device=device,
        precision=precision,
        state_file=folder / "state.safetensors",
        identity=identity,
        extra_penalties=penalties(arm, model, base, fisher, stories),
        shown=shown,
        log=lambda line: print(line, flush=True),
        on_row=lambda curve_rows: write_curve(curve, curve_rows),
    )
    # The last weights, not those of the lowest loss: rows are drawn anew for each step, so that nothing is overfitted, and
    # where the schedule ends, stories are best too.
    weights = copy_weights(model)
    save_model(file, base.config, weights, {"code": code_version(name), "made_from": inputs, "seed": seed})
    return Conversed(build_model(base.config, weights, file), tokenizer, trained, folder)
