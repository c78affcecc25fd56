"""How what minutes teach is measured."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks import learning
from benchmarks.speed.training import plain_model, plain_steps
from personacore.model.gpt import GPTConfig
from personacore.params import load_params
from personacore.training.batches import Batches

CONFIG = GPTConfig(vocab_size=16, n_layer=1, n_head=1, n_embd=8, block_size=4)


def test_the_plain_loop_warms_up_and_says_how_many_steps_were_made(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *rest: (rates.append(self.param_groups[0]["lr"]), step(self, *rest))[1]
    )
    params = dataclasses.replace(load_params().train, lr=1.0, warmup_steps=4, max_steps=6, batch_size=2, micro_batch_size=2)
    tokens = np.arange(40, dtype=np.uint16) % 16
    batches = Batches(tokens, np.arange(0, 30, 4), CONFIG.block_size, 2, 1)
    assert list(plain_steps(plain_model(CONFIG), params, batches)) == [1, 2, 3, 4, 5, 6]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_every_ablation_changes_our_recipe():
    for recipe in learning.ABLATIONS.values():
        assert set(recipe) <= set(learning.OURS)
        assert any(recipe[key] != learning.OURS[key] for key in recipe)


def test_recipes_are_scored_when_their_minutes_are_over(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "MACBOOK", dataclasses.replace(CONFIG, vocab_size=270))
    source = tmp_path / "text.txt"
    source.write_text("<|endoftext|>".join(f"The dog {number} ran and the cat {number} sat." for number in range(300)))
    text = learning.Text(str(source), tmp_path)
    plain = list(learning.plain(text, [0.002, 0.004]))
    ours = learning.scheduled(text, {**learning.OURS, "precision": "fp32"}, 0.002)
    assert 0 < plain[0]["steps"] < plain[1]["steps"]
    for point in (*plain, ours):
        assert point["tokens"] == point["steps"] * CONFIG.block_size * (32 if point in plain else 16)
        assert 0 < point["bits_per_byte"] < 10


def test_the_figure_is_drawn_from_any_points(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "CHART", tmp_path / "learning.png")
    point = {"minutes": 1.0, "bits_per_byte": 1.5, "steps": 4, "tokens": 64}
    learning.draw({"curves": {"ours": [point], "plain": [point]}, "ablations": {"float32": point}})
    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_a_text_that_cannot_be_used_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["learning", str(tmp_path / "missing.txt")])
    with pytest.raises(SystemExit, match=r"learning: .*missing\.txt"):
        learning.main()
