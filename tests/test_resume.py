"""Interrupt the train stage with SIGKILL wherever it stands, run it again: the results are those of an uninterrupted run."""

import dataclasses
import multiprocessing
import random
import runpy
import signal
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch

from personacore.errors import UserError
from personacore.evaluation.loss import document_loss
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.tensors import load_tensors, save_tensors
from personacore.params import load_params
from personacore.training import run
from personacore.training.batches import Batches, row_starts
from personacore.training.loop import Trained, train

RESULTS = ("data/models/base/model.safetensors", "plots/train.csv", "metrics/train.json")
KILLS = 8
ROOT = Path(__file__).resolve().parent.parent


def start_stage() -> BaseProcess:
    """`python -m stages.train` in this folder, as a fork of a process that has done the slow imports once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "personacore.training.run", "torch._dynamo"])
    process = context.Process(target=runpy.run_module, args=("stages.train",), kwargs={"run_name": "__main__"})
    process.start()
    return process


def run_to_the_end() -> None:
    process = start_stage()
    process.join()
    assert process.exitcode == 0


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def saved_states(folder: Path) -> list[Path]:
    return list(folder.glob(".resume/*/state.safetensors"))


def wait_for_save(folder: Path, process: BaseProcess) -> None:
    def written() -> list[int]:
        return [state.stat().st_mtime_ns for state in saved_states(folder)]

    before = written()
    while process.is_alive() and written() == before:
        time.sleep(0.0005)


@pytest.mark.parametrize(("optimizer", "dropout"), [("muon", 0.2), ("adamw", 0.0)])
def test_a_run_killed_many_times_ends_as_if_it_had_never_been(tmp_path, workspace, optimizer, dropout):
    options = {"optimizer": optimizer, "dropout": dropout, "max_steps": 120, "checkpoint_seconds": 1e-9}
    whole = workspace(tmp_path / "whole", **options)
    run_to_the_end()
    broken = workspace(tmp_path / "broken", **options)
    rng, steps = random.Random(optimizer), []
    for _ in range(KILLS):
        process = start_stage()
        for _ in range(2):  # the first save is of the state it began with, the second of one step more
            wait_for_save(broken, process)
        time.sleep(rng.uniform(0, 0.01))  # any moment from here: in a step, in a save, in a validation
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL  # and not done already
        steps.append(load_tensors(saved_states(broken)[0])[1]["step"])
    assert steps == sorted(set(steps)) and 0 < steps[0] < steps[-1] < 120
    run_to_the_end()
    assert results(broken) == results(whole)
    assert not saved_states(broken)


@pytest.fixture
def small_run(tmp_path):
    """A function that trains a tiny model for some steps, with its state in one file."""
    tokens = np.tile(np.array([1, 2, 3, 4, 5, 6, 15], dtype="<u2"), 20)
    params = dataclasses.replace(load_params(ROOT / "params.yaml").train, batch_size=4, micro_batch_size=4, warmup_steps=0)

    def train_small(max_steps: int = 4, width: int = 8, **options) -> Trained:
        config = GPTConfig(vocab_size=16, n_layer=1, n_head=2, n_embd=width, block_size=4)
        model = GPT(config)
        model.reset_parameters(1)
        batches = Batches(tokens, row_starts(tokens, 15, 4), 4, params.batch_size, seed=1)
        valid = partial(document_loss, documents=[tokens[:7]], end_of_text=15)
        options = {"device": torch.device("cpu"), "precision": "fp32", "state_file": tmp_path / "state.safetensors"} | options
        return train(model, dataclasses.replace(params, max_steps=max_steps), batches, valid, **options)

    return train_small


def test_a_finished_run_is_not_trained_again(small_run):
    lines: list[str] = []
    first, second = small_run(), small_run(log=lines.append)
    assert second.steps_here == 0 and lines == ["resuming from step 4 of 4"]
    assert (second.rows, second.best_step, second.best_loss) == (first.rows, first.best_step, first.best_loss)
    assert all(second.weights[name].equal(weight) for name, weight in first.weights.items())


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_state_is_refused_by_name(tmp_path, small_run, kept):
    small_run()
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[: int(kept * state.stat().st_size)])
    with pytest.raises(UserError, match=r"state\.safetensors is damaged .*: delete it and rerun"):
        small_run()


def test_the_state_of_another_run_is_refused_by_name(small_run):
    small_run(identity="one")
    with pytest.raises(UserError, match=r"state\.safetensors is the state of another run: delete it and rerun"):
        small_run(identity="two")


def test_a_state_that_does_not_fit_the_model_is_refused_by_name(small_run):
    small_run(width=8)
    with pytest.raises(UserError, match=r"state\.safetensors does not fit this run .*: delete it and rerun") as raised:
        small_run(width=16)
    assert "\n" not in str(raised.value)


def test_another_file_in_the_place_of_the_state_is_refused_by_name(tmp_path, small_run):
    save_tensors(tmp_path / "state.safetensors", {"weight": torch.zeros(2)}, {"identity": ""})
    with pytest.raises(UserError, match=r"state\.safetensors does not fit this run .*weight.*: delete it and rerun"):
        small_run()


def test_a_change_of_params_inputs_seed_or_code_begins_a_run_of_its_own(tmp_path, workspace, monkeypatch):
    workspace(tmp_path)
    params = load_params()
    seen: list[tuple[Path, str]] = []

    def stop(*_: object, state_file: Path, identity: str, **__: object) -> None:
        seen.append((state_file, identity))
        raise InterruptedError

    monkeypatch.setattr(run, "train", stop)

    def begin(name="stages.train", model=params.model, train=params.train, seed=1) -> None:
        with pytest.raises(InterruptedError):
            run.pretrain(name, model, train, seed, curve_file=tmp_path / "curve.csv")

    begin()
    begin()
    assert seen[0] == seen[1]
    begin(train=dataclasses.replace(params.train, lr=1e-5))
    begin(model=dataclasses.replace(params.model, n_layer=1))
    begin(seed=2)
    begin(name="stages.ablate")
    (tmp_path / "data/tokens/valid.bin").write_bytes((tmp_path / "data/tokens/train.bin").read_bytes())
    begin()
    monkeypatch.setattr(run, "digest_files", lambda files: "edited")
    begin()
    assert len({state for state, _ in seen}) == len({identity for _, identity in seen}) == 7
    assert all(state.parent.parent == Path(".resume") for state, _ in seen)
