"""A run over two processes is the run of one, but for the order in which floats are added."""

import csv
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from personacore.model.tensors import load_tensors
from personacore.training.distributed import World, join_world

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def curve(folder: Path) -> list[list[float]]:
    """The curve's numbers, with -1 where nothing was measured."""
    with (folder / "plots" / "train.csv").open(newline="") as file:
        return [[float(value or -1) for value in row] for row in list(csv.reader(file))[1:]]


def test_two_processes_draw_the_loss_curve_of_one(tmp_path, workspace):
    options = {"max_steps": 30, "batch_size": 8, "micro_batch_size": 4}
    alone = workspace(tmp_path / "alone", **options)
    runpy.run_module("stages.train", run_name="__main__")
    pair = workspace(tmp_path / "pair", **options)
    loopback = os.environ | {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else os.environ
    done = subprocess.run([*LAUNCH, "-m", "stages.train"], capture_output=True, text=True, env=loopback, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step     30/30") == 1  # one process writes the log and the files
    assert len(curve(pair)) == len(curve(alone)) > 10
    for ours, theirs in zip(curve(pair), curve(alone), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    ours, theirs = (json.loads((folder / "metrics" / "train.json").read_text()) for folder in (pair, alone))
    assert ours == pytest.approx(theirs, abs=1e-4)
    ours, theirs = (load_tensors(folder / "data/models/base/model.safetensors")[0] for folder in (pair, alone))
    torch.testing.assert_close(ours["wte.weight"], theirs["wte.weight"], rtol=0, atol=1e-3)


def test_without_a_launcher_one_process_is_the_whole_world(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_world(torch.device("cpu")) as world:
        assert world == World(rank=0, size=1) and world.leads


def test_alone_sums_change_nothing():
    model = nn.Linear(2, 2)
    model.weight.grad = torch.ones(2, 2)
    World().sum_gradients(model)
    assert model.weight.grad.equal(torch.ones(2, 2)) and model.bias.grad is None
    assert World().sum_(torch.tensor(3.0)).item() == 3.0
