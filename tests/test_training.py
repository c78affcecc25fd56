import csv
import dataclasses
import errno
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch.nn import functional

from personacore.errors import UserError
from personacore.evaluation.loss import document_loss
from personacore.model import tensors
from personacore.model.files import build_model
from personacore.model.gpt import GPT, GPTConfig
from personacore.model.targets import IGNORED
from personacore.params import load_params
from personacore.training.batches import Batches, row_starts
from personacore.training.distributed import World
from personacore.training.loop import COLUMNS, train, write_curve
from personacore.training.schedule import cosine_with_warmup

END = 15
CONFIG = GPTConfig(vocab_size=16, n_layer=2, n_head=2, n_embd=8, block_size=8)
PARAMS = dataclasses.replace(
    load_params(Path(__file__).parent.parent / "params.yaml").train,
    max_steps=12,
    batch_size=8,
    micro_batch_size=8,
    optimizer="adamw",
    lr=0.02,
    warmup_steps=3,
    min_lr_fraction=0.05,
    eval_interval=4,
    log_interval=1,
    checkpoint_seconds=1e-9,
)

LONG = dataclasses.replace(PARAMS, max_steps=200, eval_interval=10, log_interval=100, lr=0.05)  # long enough to overfit


@pytest.fixture(autouse=True)
def _one_thread():
    """Tensors this small take longer to share out than to compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def documents(count: int, seed: int) -> list[np.ndarray]:
    """Documents of random ids, the low ones the likelier: how likely can be learned, and the rest only by heart."""
    rng = np.random.default_rng(seed)
    likely = 0.7 ** np.arange(END)
    lengths = rng.integers(3, 12, count)
    return [np.append(rng.choice(END, length, p=likely / likely.sum()), END).astype("<u2") for length in lengths]


def corpus(seed: int = 1) -> Batches:
    tokens = np.concatenate(documents(30, seed))
    return Batches(tokens, row_starts(tokens, END, CONFIG.block_size), CONFIG.block_size, PARAMS.batch_size, seed)


def fresh(config: GPTConfig = CONFIG) -> GPT:
    model = GPT(config)
    model.reset_parameters(3)
    return model


def scored(valid: list[np.ndarray]):
    """What measures a model on these documents."""
    return lambda model: document_loss(model, valid, END)


def run(params=PARAMS, model=None, valid=None, batches=None, **options):
    """A tiny run on the CPU in float32."""
    place = {"device": torch.device("cpu"), "precision": "fp32"}
    return train(model or fresh(), params, batches or corpus(), scored(valid or documents(6, seed=2)), **place, **options)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def assert_close_weights(found: GPT, wanted: GPT, tolerance: float) -> None:
    """Whether two models agree in every weight that has a say.

    A key's bias adds the same to all scores of a query, so its gradient is rounding, which Adam makes a whole step of.
    """
    for (name, ours), theirs in zip(found.named_parameters(), wanted.parameters(), strict=True):
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def valid_losses(trained) -> dict[int, float]:
    return {row[0]: row[2] for row in trained.rows if row[2] is not None}


def test_a_run_with_adamw_is_a_plain_loop_of_pytorch():
    trained_model, plain, batches = fresh(), fresh(), corpus()
    trained = run(dataclasses.replace(PARAMS, micro_batch_size=4), trained_model)
    spared = [parameter for name, parameter in plain.named_parameters() if parameter.ndim == 1 or name == "wpe.weight"]
    decayed = [parameter for name, parameter in plain.named_parameters() if parameter.ndim == 2 and name != "wpe.weight"]
    groups = [{"params": decayed, "weight_decay": PARAMS.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PARAMS.lr, betas=(PARAMS.beta1, PARAMS.beta2))
    losses = []
    for step in range(PARAMS.max_steps):
        inputs, targets = batches.rows(step, 0, PARAMS.batch_size)
        loss = functional.cross_entropy(plain(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), PARAMS.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = PARAMS.lr * cosine_with_warmup(step, max_steps=12, warmup_steps=3, min_fraction=0.05)
        optimizer.step()
        losses.append(loss.item())
    assert [row[1] for row in trained.rows[1:]] == pytest.approx(losses, abs=1e-5)
    assert_close_weights(trained_model, plain, 1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loss_falls(optimizer):
    params = dataclasses.replace(PARAMS, optimizer=optimizer, max_steps=60, eval_interval=60)
    losses = [row[1] for row in run(params).rows[1:]]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.4


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulation_changes_nothing_beyond_rounding(optimizer):
    runs, models = [], []
    for micro in (8, 4, 1):
        models.append(fresh())
        penalty = lambda step, model=models[-1]: 0.05 * sum(p.square().sum() for p in model.parameters())  # noqa: E731
        params = dataclasses.replace(PARAMS, optimizer=optimizer, micro_batch_size=micro, lr=1e-3, muon_lr=1e-3)
        runs.append(run(params, models[-1], extra_penalties=[penalty]))
    for other, model in zip(runs[1:], models[1:], strict=True):
        assert np.array([row[1] for row in other.rows[1:]]) == pytest.approx([row[1] for row in runs[0].rows[1:]], abs=1e-5)
        assert list(valid_losses(other).values()) == pytest.approx(list(valid_losses(runs[0]).values()), abs=1e-5)
        assert_close_weights(model, models[0], 1e-5)


def test_what_stands_behind_the_last_target_that_counts_changes_nothing():
    class Padded:
        """The rows of the corpus, each with less and less that counts at its end, and anything behind that."""

        batch_size, seed = PARAMS.batch_size, 1

        def __init__(self, filler: int) -> None:
            self.filler, self.corpus = filler, corpus()

        def rows(self, step, first, count):
            inputs, targets = (part.clone() for part in self.corpus.rows(step, first, count))
            for row in range(count):
                inputs[row, 7 - (first + row) % 6 :] = self.filler
                targets[row, 7 - (first + row) % 6 :] = IGNORED
            return inputs, targets

        def scored(self, step):
            return int((self.rows(step, 0, self.batch_size)[1] != IGNORED).sum())

    models = [fresh() for _ in range(3)]
    for model, filler, micro in zip(models, (3, 9, 9), (8, 8, 1), strict=True):
        params = dataclasses.replace(PARAMS, micro_batch_size=micro)
        run(params, model, batches=Padded(filler))
    assert same(models[0].state_dict(), models[1].state_dict())
    assert_close_weights(models[2], models[0], 1e-4)


def test_a_run_in_parts_is_the_same_to_the_bit_on_any_number_of_cores():
    before, runs = torch.get_num_threads(), []
    for cores in (1, 2, 3):
        torch.set_num_threads(cores)
        model = fresh()
        params = dataclasses.replace(PARAMS, micro_batch_size=2)
        runs.append(run(params, model, extra_penalties=[lambda step, model=model: model.wte.weight.square().mean()]))
    torch.set_num_threads(before)
    assert all(same(other.weights, runs[0].weights) and other.rows == runs[0].rows for other in runs[1:])


def test_the_gradients_of_two_processes_add_up_to_that_of_one_penalties_included():
    params = dataclasses.replace(PARAMS, max_steps=1, warmup_steps=0, micro_batch_size=2)

    def gradients(rank: int, size: int) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}

        class Witness(World):
            def sum_(self, tensor):
                return tensor

            def sum_gradients(self, model):
                found.update({name: parameter.grad.clone() for name, parameter in model.named_parameters()})

        model = fresh()
        run(params, model, world=Witness(rank, size), extra_penalties=[lambda step: 0.5 * model.ln_f.weight.square().sum()])
        return found

    first, second, alone = gradients(0, 2), gradients(1, 2), gradients(0, 1)
    for name, gradient in alone.items():
        torch.testing.assert_close(first[name] + second[name], gradient, rtol=0, atol=1e-6)
    assert (alone["ln_f.weight"] > 0.5).all()  # 1 by the penalty, and little by the loss


def test_a_penalty_pulls_the_weights_where_it_points():
    pulled, free = fresh(), fresh()
    run(model=free)
    run(model=pulled, extra_penalties=[lambda step: 100 * pulled.wte.weight.square().sum()])
    assert pulled.wte.weight.norm() < 0.5 * free.wte.weight.norm()


def test_gradients_are_clipped_to_the_norm_of_the_params():
    params = dataclasses.replace(PARAMS, max_steps=1, warmup_steps=0, grad_clip=1e-12, weight_decay=0.0)
    model = fresh()  # Adam divides by the gradient's size, but not below its epsilon of 1e-8
    run(params, model)
    assert_close_weights(model, fresh(), 1e-5)


def test_the_weights_returned_are_those_of_the_best_validation():
    valid = documents(6, seed=2)  # of these the model learns how likely each id is, before it learns the others by heart
    model = fresh()
    trained = run(LONG, model, valid)
    losses = valid_losses(trained)
    assert sorted(losses) == list(range(0, 201, 10))
    assert trained.best_loss == min(losses.values()) == losses[trained.best_step]
    assert 0 < trained.best_step < 200
    assert document_loss(build_model(CONFIG, trained.weights, Path()), valid, END).nats_per_token == trained.best_loss
    assert document_loss(model, valid, END).nats_per_token == losses[200] > trained.best_loss


def test_the_curve_holds_the_mean_loss_since_the_row_before():
    every = run(PARAMS).rows
    thinned = run(dataclasses.replace(PARAMS, log_interval=3, eval_interval=6)).rows
    assert [row[0] for row in thinned] == [0, 3, 6, 9, 12]
    assert [row[2] is None for row in thinned] == [False, True, False, True, False]
    for index in range(1, 5):
        means = [row[1] for row in every[3 * index - 2 : 3 * index + 1]]
        assert thinned[index][1] == pytest.approx(np.mean(means))


def test_the_whole_curve_is_handed_on_each_time_it_grows():
    seen, lines = [], []
    trained = run(on_row=lambda rows: seen.append(len(rows)), log=lines.append)
    assert seen == [*range(14)]
    assert len(lines) == len(trained.rows) == 13
    assert all(f"/{PARAMS.max_steps}" in line and "tok/s" in line and "eta" in line for line in lines)
    fractions = [row[3] for row in trained.rows]
    assert all(f"lr {fraction:4.0%} of peak" in line for line, fraction in zip(lines, fractions, strict=True))
    assert trained.tokens == PARAMS.max_steps * PARAMS.batch_size * CONFIG.block_size


def test_the_curve_file_is_csv_with_empty_fields_where_nothing_was_measured(tmp_path):
    write_curve(tmp_path / "new" / "curve.csv", [[0, None, 2.5, 0.1], [20, 1.2345678, None, 1.0]])
    with (tmp_path / "new" / "curve.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [list(COLUMNS), ["0", "", "2.5", "0.1"], ["20", "1.23457", "", "1"]]


def test_dropout_takes_a_seed_of_any_size():
    tokens = np.concatenate(documents(30, 1))
    starts = row_starts(tokens, END, CONFIG.block_size)
    batches = Batches(tokens, starts, CONFIG.block_size, PARAMS.batch_size, seed=2**70)
    model = fresh(dataclasses.replace(CONFIG, dropout=0.2))
    place = {"device": torch.device("cpu"), "precision": "fp32"}
    trained = train(model, PARAMS, batches, scored(documents(6, seed=2)), **place)
    assert math.isfinite(trained.best_loss)


def test_in_bf16_the_curve_stays_near_that_of_float32():
    place = {"device": torch.device("cpu"), "precision": "bf16"}
    model = fresh()
    rounded = train(model, PARAMS, corpus(), scored(documents(6, seed=2)), **place)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert [row[1] for row in rounded.rows[1:]] == pytest.approx([row[1] for row in run().rows[1:]], abs=0.02)


class Poison:
    """A penalty that is harmless for a number of steps and not a number, or without a gradient, after them."""

    def __init__(self, model: GPT, after: int, value: float = math.nan) -> None:
        self.weight, self.after, self.value, self.calls = model.ln_f.weight, after, value, 0

    def __call__(self, step: int) -> torch.Tensor:
        self.calls += 1
        harm = self.value if math.isnan(self.value) else self.weight.sub(self.weight).sum().sqrt()  # value 0, slope NaN
        return 0 * self.weight.sum() + (harm if self.calls > self.after else 0)


@pytest.mark.parametrize("value", [math.nan, 0.0], ids=["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_ends_the_run_with_the_last_good_state_kept(tmp_path, value):
    model, state = fresh(), tmp_path / "state.safetensors"
    with pytest.raises(UserError) as raised:
        run(model=model, state_file=state, extra_penalties=[Poison(model, after=7, value=value)])
    assert str(raised.value).startswith("training diverged: training loss nan at step 7; the last good state is kept in ")
    assert str(state) in str(raised.value) and "Lower train.lr" in str(raised.value) and "\n" not in str(raised.value)
    saved, described = tensors.load_tensors(state)
    assert described["step"] == 6
    assert all(tensor.isfinite().all() for tensor in saved.values())
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    continued = run(state_file=state)
    assert same(continued.weights, run().weights)


def test_a_run_that_is_continued_after_its_best_validation_still_returns_the_best(tmp_path):
    whole, model, state = run(LONG), fresh(), tmp_path / "state.safetensors"
    with pytest.raises(UserError, match="diverged"):
        run(LONG, model, state_file=state, extra_penalties=[Poison(model, after=whole.best_step + 5)])
    continued = run(LONG, state_file=state)
    assert 0 < continued.best_step == whole.best_step < LONG.max_steps - continued.steps_here
    assert same(continued.weights, whole.weights)


def test_without_a_saved_state_none_is_claimed_to_be_kept(tmp_path):
    model = fresh()
    params = dataclasses.replace(PARAMS, checkpoint_seconds=3600.0)
    with pytest.raises(UserError, match=r"training loss nan at step 2\. Lower train\.lr"):
        run(params, model, state_file=tmp_path / "state", extra_penalties=[Poison(model, after=2)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lr", [1e6, 3e38])
def test_an_update_that_ruins_the_weights_is_never_saved(tmp_path, lr):
    state = tmp_path / "state.safetensors"
    params = dataclasses.replace(PARAMS, lr=lr, warmup_steps=0, eval_interval=100)
    with pytest.raises(UserError, match="training diverged: training loss nan at step 1; the last good state is kept"):
        run(params, state_file=state)
    saved, described = tensors.load_tensors(state)
    assert described["step"] == 0
    assert all(saved[f"model.{name}"].equal(parameter) for name, parameter in fresh().named_parameters())


def test_a_validation_loss_that_is_not_finite_ends_the_run():
    model = fresh()
    with torch.no_grad():
        model.wte.weight[3, 0] = math.nan
    with pytest.raises(UserError, match=r"training diverged: validation loss nan at step 0\."):
        run(model=model)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
    ids=["OSError", "SafetensorError"],
)
def test_a_full_disk_ends_in_one_line_with_the_state_before_intact(tmp_path, monkeypatch, error):
    state, write, written = tmp_path / "state.safetensors", tensors.save_file, []

    def fill_up(content, path, metadata):
        written.append(path)
        if len(written) > 5:
            Path(path).write_bytes(b"half of it")
            raise error
        write(content, path, metadata=metadata)

    with monkeypatch.context() as patched:
        patched.setattr(tensors, "save_file", fill_up)
        with pytest.raises(UserError) as raised:
            run(state_file=state)
    assert str(raised.value) == f"{state}: the disk is full; the state saved before is kept: free some space and rerun"
    assert list(tmp_path.iterdir()) == [state]
    assert tensors.load_tensors(state)[1]["step"] == 4
    assert same(run(state_file=state).weights, run().weights)


def test_a_batch_that_does_not_split_over_the_processes_is_refused():
    alone = type("Alone", (World,), {"sum_": lambda self, tensor: tensor})
    with pytest.raises(UserError, match=r"train\.batch_size 8 does not split into 3 processes"):
        run(world=alone(rank=0, size=3))
