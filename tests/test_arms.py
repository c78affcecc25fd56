"""What an arm adds to the loss, and a run of learning to converse, whole or interrupted."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from personacore.corpus.dialogue.files import write_conversations
from personacore.evaluation.loss import Loss
from personacore.layout import BASE, CALIBRATION, PRETRAIN, RESUME, TOKENIZER, TRAIN_TOKENS
from personacore.memory.arms import penalties
from personacore.memory.converse import converse
from personacore.memory.ewc import EWC
from personacore.model.files import load_model, save_model
from personacore.model.gpt import GPT, GPTConfig
from personacore.params import ArmParams, load_params
from personacore.tokenizer.files import save_tokenizer
from personacore.training.batches import Batches, row_starts
from personacore.training.checkpoint import copy_weights
from tests.exported import ROOT
from tests.talks import TALKS
from tests.toys import randomized, toy_model

NAIVE = ArmParams(steps=6, story_rows=0, ewc_strength=0.0, distill_weight=0.0, shown_weight=0.0)
PARAMS = load_params(ROOT / "params.yaml")
CHAT = dataclasses.replace(PARAMS.chat, batch_size=2, drill_rows=2, warmup_steps=1, eval_interval=2, eval_documents=4)
TRAIN = dataclasses.replace(PARAMS.train, device="cpu", precision="fp32", checkpoint_seconds=1e-9, log_interval=2)


@pytest.fixture
def stories() -> Batches:
    tokens = np.tile(np.arange(1, 14, dtype="<u2"), 9)
    return Batches(tokens, row_starts(tokens, 13, 8), 8, batch_size=3, seed=1)


def test_an_arm_adds_ewc_and_the_divergence_from_the_base_where_it_has_them(stories):
    model, base = (toy_model(seed=seed).requires_grad_() for seed in (1, 2))
    fisher = {name: torch.rand_like(parameter) for name, parameter in model.named_parameters()}
    assert penalties(NAIVE, model, base, fisher, stories) == []
    (held,) = penalties(dataclasses.replace(NAIVE, ewc_strength=3.0), model, base, fisher, stories)
    expected = EWC(model, fisher, 3.0)
    randomized(model, seed=4)
    assert held(0).item() == expected().item() > 0
    both = penalties(dataclasses.replace(NAIVE, ewc_strength=3.0, distill_weight=0.5), model, base, fisher, stories)
    assert len(both) == 2


@pytest.mark.parametrize("step", [0, 5])
def test_distillation_is_the_divergence_of_the_model_from_the_base_on_the_stories_of_the_step(stories, step):
    model, base = (toy_model(seed=seed) for seed in (1, 2))
    arm = dataclasses.replace(NAIVE, story_rows=3, distill_weight=0.5)
    (same,) = penalties(arm, base, base, {}, stories)
    assert same(step).item() == pytest.approx(0, abs=1e-6)
    (away,) = penalties(arm, model, base, {}, stories)
    inputs, _ = stories.rows(step, 0, 3)
    p, q = (each(inputs).double().softmax(-1) for each in (base, model))
    assert away(step).item() == pytest.approx(0.5 * (p * (p / q).log()).sum(-1).mean().item(), rel=1e-4)


@pytest.fixture
def clone(tokenizer, tmp_path, monkeypatch) -> Path:
    """A folder with a base, its tokens and conversations."""
    monkeypatch.chdir(tmp_path)
    save_tokenizer(tokenizer, TOKENIZER, {})
    model = GPT(GPTConfig(tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    save_model(BASE, model.config, dict(model.named_parameters()), {})
    TRAIN_TOKENS.parent.mkdir(parents=True)
    story = [*tokenizer.encode("The cat sat and was glad. "), tokenizer.end_of_text]
    np.array(story * 50, dtype="<u2").tofile(TRAIN_TOKENS)
    for file, talks in ((PRETRAIN, TALKS[:20]), (CALIBRATION, TALKS[20:])):
        write_conversations(file, talks)
    return tmp_path


def run(arm: ArmParams = NAIVE, chat=CHAT, seed: int = 3):
    done = converse("stages.chat", chat, TRAIN, arm, seed, Path("curve.csv"), Path("model.safetensors"))
    return done, Path("model.safetensors").read_bytes()


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(clone, monkeypatch):
    arm = dataclasses.replace(NAIVE, story_rows=1, distill_weight=0.5)
    done, whole = run(arm)
    done.forget_state()
    assert done.trained.steps_here == 6 and not list(RESUME.glob("*"))
    looks = iter(range(2))

    def interrupted(model, tokenizer, talks):
        if next(looks, None) is None:
            raise KeyboardInterrupt
        return Loss(1.0, 1, 1)

    with monkeypatch.context() as patched:
        patched.setattr("personacore.memory.converse.conversation_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(arm)
    again, broken = run(arm)
    assert 0 < again.trained.steps_here < 6 and broken == whole


def test_other_settings_begin_a_run_of_their_own(clone):
    folders = {
        run(*changed)[0].state_folder
        for changed in (
            (NAIVE,),
            (dataclasses.replace(NAIVE, steps=4),),
            (NAIVE, dataclasses.replace(CHAT, drill_rows=1)),
            (NAIVE, CHAT, 4),
        )
    }
    assert len(folders) == 4 and all(folder.parent == RESUME for folder in folders)


def test_the_last_weights_are_kept_and_not_those_of_the_least_loss(clone, monkeypatch):
    looks = []

    def worse(model, tokenizer, talks):
        looks.append(copy_weights(model))
        return Loss(float(len(looks)), 1, 1)

    monkeypatch.setattr("personacore.memory.converse.conversation_loss", worse)
    done, _ = run()
    kept = dict(load_model(Path("model.safetensors"))[0].named_parameters())
    assert done.trained.best_step == 0 and len(looks) == 4
    assert all(torch.equal(kept[name], weight) for name, weight in looks[-1].items())
    assert any(not torch.equal(kept[name], weight) for name, weight in looks[-2].items())
