"""The figures, drawn from metrics and curves alone, in mid-tones that read on light and dark pages alike."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, PercentFormatter

from personacore.files import atomic_write

INK = "#808690"  # at least 3.5 to 1 against white and against black
COLORS = ("#2f81d8", "#dd7a1f", "#2f9e5b", "#c2549b", "#8a6fd1", "#b08a00")
HEAT = LinearSegmentedColormap.from_list("heat", ("#b5651d", "#808690", "#2f81d8"))  # low to high
STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.labelcolor": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "legend.frameon": False,
    "font.size": 10,
    "svg.hashsalt": "personacore",
}


@contextmanager
def panels(path: Path, count: int, size: tuple[float, float]) -> Iterator[Sequence[Axes]]:
    """So many axes side by side; the PNG is written when the block ends, the same bytes for the same data."""
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=size, dpi=144, layout="constrained")
        yield canvas.subplots(1, count, squeeze=False)[0]
        image = io.BytesIO()
        canvas.savefig(image, format="png", metadata={"Software": None})
        with atomic_write(path) as temporary:
            temporary.write_bytes(image.getvalue())


@contextmanager
def figure(path: Path, title: str, x: str, y: str, size: tuple[float, float] = (7.0, 4.0)) -> Iterator[Axes]:
    """Axes of a figure with nothing else in it, as `panels` writes them."""
    with panels(path, 1, size) as (axes,):
        axes.set(title=title, xlabel=x, ylabel=y)
        yield axes


def plot_loss(path: Path, curve: pd.DataFrame, bits_per_byte: float, nats_per_token: float, floor: float | None) -> None:
    """Training and validation loss over steps, with the source's own entropy as the floor where it is known.

    `bits_per_byte` and `nats_per_token` of the finished model convert between the two axes.
    """
    with figure(path, "Pretraining", "optimizer step", "nats per token") as axes:
        trained = curve.dropna(subset="train_nats_per_token")
        valid = curve.dropna(subset="valid_nats_per_token")
        axes.plot(trained["step"], trained["train_nats_per_token"], lw=1, label="training batches")
        axes.plot(valid["step"], valid["valid_nats_per_token"], "o-", ms=4, label="validation")
        per_byte = bits_per_byte / nats_per_token
        if floor is not None:
            axes.axhline(floor / per_byte, color=COLORS[2], ls="--", label=f"the source's entropy, {floor:.3f} bits per byte")
        lowest = min(valid["valid_nats_per_token"].min(), floor / per_byte if floor is not None else math.inf)
        axes.set_ylim(0.8 * lowest, max(1.5 * lowest, min(6.0, valid["valid_nats_per_token"].max())))
        axes.secondary_yaxis("right", functions=(lambda nats: nats * per_byte, lambda bits: bits / per_byte)).set_ylabel(
            "bits per byte", color=INK
        )
        axes.legend()


def plot_ablations(path: Path, cohort: pd.DataFrame, floor: float | None) -> None:
    """Bits per byte of every ablation, beside the source's entropy where it is known."""
    with figure(
        path, "Ablations at one budget", "bits per byte on the validation file", "", (7.0, 1.4 + 0.5 * len(cohort))
    ) as axes:
        bars = axes.barh(cohort["name"], cohort["bits_per_byte"], color=COLORS[0], height=0.6)
        labels = [
            f"{bits:.3f}  ({count / 1e6:.2f}M)"
            for bits, count in zip(cohort["bits_per_byte"], cohort["parameters"], strict=True)
        ]
        axes.bar_label(bars, labels, padding=4)
        if floor is not None:
            axes.axvline(floor, color=COLORS[2], ls="--")
            axes.text(floor, -0.7, f"the source's entropy, {floor:.3f}", color=COLORS[2], ha="center", va="center")
            axes.set_title(axes.get_title(), pad=22)
        axes.set_xlim(0, cohort["bits_per_byte"].max() * 1.25)
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()


def plot_ablation_curves(path: Path, curves: Mapping[str, pd.DataFrame]) -> None:
    """Training loss of every ablation over steps; all see the same batches."""
    with figure(path, "Ablations while they train", "optimizer step", "nats per token on the training batches") as axes:
        for name, curve in curves.items():
            trained = curve.dropna(subset="train_nats_per_token")
            axes.plot(trained["step"], trained["train_nats_per_token"], lw=1.2, label=name)
        axes.legend()


def plot_tokens_per_word(path: Path, shares: pd.DataFrame) -> None:
    """How many tokens the running words of the corpus take."""
    with figure(path, "Tokens per word", "tokens", "share of running words") as axes:
        bars = axes.bar(shares["tokens"].astype(str), shares["share_of_words"], width=0.6)
        axes.bar_label(bars, [f"{share:.1%}" for share in shares["share_of_words"]], padding=3)
        axes.grid(axis="x", visible=False)


def plot_vocabulary(path: Path, ranks: pd.DataFrame) -> None:
    """How often each id of the vocabulary occurs in the training tokens, by rank."""
    with figure(path, "Vocabulary: rank and frequency", "rank of the id", "occurrences in the training tokens") as axes:
        axes.loglog(ranks["rank"], ranks["count"], ".-", ms=4)


def plot_samples(path: Path, samples: pd.DataFrame) -> None:
    """How long the model's warm samples are."""
    with figure(path, "Length of the warm samples", "words", "samples") as axes:
        axes.hist(samples["words"], bins=24, rwidth=0.9)
        axes.axvline(samples["words"].mean(), color=COLORS[1], ls="--", label=f"mean {samples['words'].mean():.0f} words")
        axes.legend()


def plot_forgetting(path: Path, arms: pd.DataFrame) -> None:
    """What each arm forgot of stories against what it learned of conversations; arms of EWC are joined by strength."""
    with figure(
        path,
        "Learning to converse",
        "stories forgotten (share of bits per byte, linear within 1%)",
        "nats per token of answers",
    ) as axes:
        held = arms[arms["arm"].str.startswith("ewc")].sort_values("story_forgotten")
        axes.plot(held["story_forgotten"], held["dialogue_nats_per_token"], color=COLORS[1], linewidth=1, alpha=0.7)
        for place, row in enumerate(arms.itertuples()):
            label = f"{row.arm}, {row.steps:,} steps"
            color, marker = COLORS[place % len(COLORS)], "o" if place < len(COLORS) else "D"
            axes.scatter(row.story_forgotten, row.dialogue_nats_per_token, color=color, marker=marker, zorder=3, label=label)
        axes.set_xscale("symlog", linthresh=0.01)  # from a fraction of a percent to several times the base's loss
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(fontsize=8)


def plot_recall(path: Path, gates: pd.DataFrame) -> None:
    """Every gate's value with its interval, and the threshold it is held against."""
    shown = gates.iloc[::-1].reset_index(drop=True)
    with figure(path, "What memories answer", "share", "", size=(7.0, 1.5 + 0.24 * len(shown))) as axes:
        low, high = shown["value"] - shown["low"], shown["high"] - shown["value"]
        axes.errorbar(shown["value"], shown.index, xerr=[low.clip(0), high.clip(0)], fmt="o", capsize=3, label="measured")
        held = shown[shown["threshold"].notna()]
        axes.scatter(held["threshold"], held.index, marker="|", s=160, color=COLORS[1], label="gate", zorder=3)
        axes.set_yticks(shown.index, shown["gate"])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.05), ncol=2)  # what is right and what is wrong leave no room


def plot_teaching(path: Path, curve: pd.DataFrame) -> None:
    """How probable facts become while they are written: the mean, and the least known ones."""
    with figure(path, "Facts while they are written, by the less sure of two questions", "step", "probability") as axes:
        probability = curve.groupby("step")["probability"]
        axes.plot(probability.mean(), label="mean of all facts")
        axes.plot(probability.quantile(0.1), "--", color=COLORS[1], label="a tenth of the facts lies below")
        axes.plot(probability.min(), ":", color=COLORS[2], label="the least known fact")
        axes.set_ylim(-0.03, 1.03)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncol=3, fontsize=8)  # lines may lie anywhere


def plot_moved(path: Path, moved: pd.DataFrame, fisher: pd.DataFrame) -> None:
    """Where a low-rank memory changed the weights, beside where stories need them: blocks by projections."""
    with panels(path, 2, size=(9.0, 3.2)) as (left, right):
        _heat_map(
            left, moved.set_index("projection")["share"], "Where low-rank memories moved the weights", PercentFormatter(1.0)
        )
        logs = fisher.set_index("projection")["fisher"].map(math.log10)
        _heat_map(right, logs, "What stories need: log10 of the Fisher", "%.1f")


def plot_sleep(path: Path, variants: pd.DataFrame) -> None:
    """What is answered after sleep with one setting changed, and how much conversations drift: variants by gates."""
    shown = variants.iloc[::-1]
    with panels(path, 2, size=(9.0, 1.2 + 0.25 * len(shown))) as (left, right):
        for gate, marker in (("h1_greedy", "o"), ("h2_greedy", "s"), ("abstain_known_slot", "^")):
            left.plot(shown[gate], shown.index, marker, ms=5, alpha=0.8, label=gate)
        left.set_title("Right answers after sleep", fontsize=10)
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncol=3, fontsize=8)
        right.plot(shown["dialogue_drift"], shown.index, "o", ms=5)
        right.set_title("Drift of conversations, linear within 10%", fontsize=10)
        right.set_xscale("symlog", linthresh=0.1)  # a setting may ruin what it should only keep from drifting
        right.tick_params(labelleft=False)
        for axes in (left, right):
            axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _heat_map(axes: Axes, values: pd.Series, title: str, form: Formatter | str) -> None:
    """Values of `blocks.N.half.projection` as a map."""
    parts = values.index.str.split(".")
    table = pd.DataFrame({"block": parts.str[1].astype(int), "projection": parts.str[3], "value": values.to_numpy()})
    order = list(dict.fromkeys(table["projection"]))
    grid = table.pivot(index="block", columns="projection", values="value")[order]
    image = axes.imshow(grid, cmap=HEAT, aspect="auto")
    axes.figure.colorbar(image, ax=axes, format=form)
    axes.set_xticks(range(len(order)), order, rotation=30)
    axes.set_yticks(range(len(grid)), grid.index)
    axes.set_ylabel("block")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=False)


def plot_sessions(path: Path, sessions: pd.DataFrame) -> None:
    """What is known of facts told one a session: all of them on the way, and each one by when it was told."""
    with panels(path, 2, size=(9.0, 3.6)) as (left, right):
        held = sessions.groupby("sessions_held")["right"]
        first = sessions[sessions["session_of_fact"] == 1].set_index("sessions_held")["right"]
        left.plot(held.mean().index, held.mean(), "o-", label="all that was told")
        left.plot(first.index, first, "s--", color=COLORS[1], label="the first fact")
        left.set_ylim(-0.03, 1.03)
        left.yaxis.set_major_formatter(PercentFormatter(1.0))
        left.set_xlabel("sessions held")
        left.set_ylabel("right answers")
        left.set_title("One fact a session", fontsize=10)
        left.legend(fontsize=8)
        every = max(1, int(sessions["sessions_held"].min()))
        grid = sessions.assign(told=(sessions["session_of_fact"] - 1) // every).pivot_table("right", "sessions_held", "told")
        image = right.imshow(grid, vmin=0, vmax=1, cmap=HEAT, aspect="auto", origin="lower")
        right.set_yticks(range(len(grid)), grid.index)
        right.set_xticks(range(grid.shape[1]), [f"{int(told) * every + 1}" for told in grid.columns])
        right.set_xlabel("told from session")
        right.set_ylabel("sessions held")
        right.set_title("Right answers, by when a fact was told", fontsize=10)
        right.grid(visible=False)
        right.figure.colorbar(image, ax=right)
