import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from personacore.reporting import figures

CURVE = pd.read_csv(
    io.StringIO(
        "step,train_nats_per_token,valid_nats_per_token\n0,,8.3\n20,6.1,\n40,4.0,\n40,,3.9\n60,2.5,\n80,1.9,\n80,,1.8\n"
    )
)
COHORT = pd.DataFrame({"name": ["baseline", "untied"], "bits_per_byte": [0.5, 0.52], "parameters": [1_000_000, 1_500_000]})
ARMS = pd.DataFrame(
    {
        "arm": ["naive", "ewc_weak", "ewc", "replay"],
        "steps": 150,
        "story_forgotten": [3.0, 1.5, 0.4, 0.02],
        "dialogue_nats_per_token": [1.1, 1.2, 1.6, 1.15],
    }
)
GATES = pd.DataFrame(
    {
        "gate": ["h2_greedy", "nouns_greedy"],
        "value": [0.9, 0.4],
        "low": [0.85, 0.3],
        "high": [0.93, 0.5],
        "threshold": [0.95, None],
    }
)
PROJECTIONS = [f"blocks.{layer}.{half}" for layer in (0, 1) for half in ("attn.q_proj", "attn.c_proj", "mlp.fc_in")]
MOVED = pd.DataFrame({"projection": PROJECTIONS, "share": [0.01, 0.02, 0.05, 0.03, 0.01, 0.07]})
FISHER = pd.DataFrame({"projection": PROJECTIONS, "fisher": [1e-3, 2e-4, 5e-3, 1e-2, 1e-5, 3e-4]})
SESSIONS = pd.DataFrame(
    {"sessions_held": [2, 2, 4, 4, 4, 4], "session_of_fact": [1, 2, 1, 2, 3, 4], "right": [1.0, 1.0, 0.5, 1.0, 1.0, 0.0]}
)
TEACHING = pd.DataFrame(
    {
        "person": [0, 0, 0, 0, 1, 1],
        "fact": [0, 0, 1, 1, 0, 0],
        "step": [1, 2, 1, 2, 1, 2],
        "probability": [0.1, 0.9, 0.0, 0.5, 0.2, 1.0],
    }
)
SLEPT = pd.DataFrame(
    {"h1_greedy": [0.9, 0.95], "h2_greedy": [0.85, 0.9], "abstain_known_slot": 1.0, "dialogue_drift": [0.1, -0.02]},
    index=["as it ships", "rank 1"],
)
FIGURES = {
    "loss": lambda path: figures.plot_loss(path, CURVE, bits_per_byte=0.45, nats_per_token=1.8, floor=0.375),
    "loss of a source without a floor": lambda path: figures.plot_loss(path, CURVE, 0.45, 1.8, None),
    "ablations": lambda path: figures.plot_ablations(path, COHORT, 0.375),
    "ablations without a floor": lambda path: figures.plot_ablations(path, COHORT, None),
    "a lone ablation": lambda path: figures.plot_ablations(path, COHORT[:1], 0.375),
    "ablation curves": lambda path: figures.plot_ablation_curves(path, {"baseline": CURVE, "untied": CURVE}),
    "tokens per word": lambda path: figures.plot_tokens_per_word(
        path, pd.DataFrame({"tokens": [1, 2, 3], "share_of_words": [0.8, 0.15, 0.05]})
    ),
    "vocabulary": lambda path: figures.plot_vocabulary(path, pd.DataFrame({"rank": [1, 2, 4], "count": [900, 400, 3]})),
    "forgetting": lambda path: figures.plot_forgetting(path, ARMS),
    "recall": lambda path: figures.plot_recall(path, GATES),
    "teaching": lambda path: figures.plot_teaching(path, TEACHING),
    "moved": lambda path: figures.plot_moved(path, MOVED, FISHER),
    "sessions": lambda path: figures.plot_sessions(path, SESSIONS),
    "a lone session": lambda path: figures.plot_sessions(path, SESSIONS[:1]),
    "sleep": lambda path: figures.plot_sleep(path, SLEPT),
    "a lone way to sleep": lambda path: figures.plot_sleep(path, SLEPT[:1]),
    "samples": lambda path: figures.plot_samples(path, pd.DataFrame({"words": [120, 130, 90, 150]})),
    "a lone sample": lambda path: figures.plot_samples(path, pd.DataFrame({"words": [120]})),
}


def luminance(color: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def rgb(code: str) -> tuple[float, ...]:
    return tuple(int(code[place : place + 2], 16) / 255 for place in (1, 3, 5))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("figures")
    paths = {name: folder / f"{name}.png" for name in FIGURES}
    for name, draw in FIGURES.items():
        draw(paths[name])
    return paths


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_transparent_png_with_something_on_it(drawn, name):
    with Image.open(drawn[name]) as image:
        assert image.format == "PNG"
        assert image.width >= 900
        pixels = np.asarray(image.convert("RGBA"))
    alpha = pixels[..., 3]
    assert alpha[0, 0] == 0
    assert 0.005 < (alpha > 0).mean() < 0.9


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_on_a_figure_vanishes_on_a_light_or_a_dark_page(drawn, name):
    with Image.open(drawn[name]) as image:
        pixels = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    for color in np.unique(pixels[pixels[:, 3] == 255][:, :3], axis=0):
        light = luminance(tuple(color / 255))
        assert 1.05 / (light + 0.05) > 2.5 and (light + 0.05) / 0.05 > 2.5, color


def test_every_color_stands_out_from_white_and_from_black():
    for code in (figures.INK, *figures.COLORS):
        light = luminance(rgb(code))
        assert 1.05 / (light + 0.05) >= 3, code
        assert (light + 0.05) / 0.05 >= 3, code
    light = luminance(rgb(figures.INK))
    assert min(1.05 / (light + 0.05), (light + 0.05) / 0.05) >= 3.5


def test_equal_data_gives_equal_bytes(drawn, tmp_path):
    for name in ("loss", "samples"):
        FIGURES[name](tmp_path / "again.png")
        assert (tmp_path / "again.png").read_bytes() == drawn[name].read_bytes()


def test_other_data_gives_another_figure(drawn, tmp_path):
    figures.plot_ablations(tmp_path / "other.png", COHORT.assign(bits_per_byte=[0.5, 0.9]), 0.375)
    assert (tmp_path / "other.png").read_bytes() != drawn["ablations"].read_bytes()


def test_a_figure_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        figures.plot_loss(path, CURVE.drop(columns="step"), 0.45, 1.8, None)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
