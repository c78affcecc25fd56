"""Rewrite the tables of numbers in README.md from metrics/.

`python -m tools.readme`, after `dvc repro`, `python -m benchmarks.typed` and `make bench`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from personacore.files import write_text
from personacore.reporting.speed import bench_rows

README, METRICS = Path("README.md"), Path("metrics")
MEASURED, STAGES = "| | |\n|---|---|\n", "| stage | makes | seconds |\n|---|---|---|\n"
BESIDE = "| `bench.json` | what | value | goal |\n|---|---|---|---|\n"
Read = Callable[[str], Mapping[str, Any]]  # the metrics of a name


def measured(read: Read) -> Iterator[tuple[str, str]]:
    """What is measured, and its value."""
    evaluate, corpus, recall, typed = (read(name) for name in ("evaluate", "corpus", "recall", "typed"))
    shipped = read("forgetting")["conversational"]

    def gate(name: str, asked: bool = True) -> str:
        found = recall[name]
        of = f" of {found['asked']:,}" if asked and "asked" in found else ""
        if found.get("threshold") is None:
            return f"{found['value']:.1%}{of}"
        return f"{found['value']:.1%}{of} (goal {100 * found['threshold']:g}%{'' if found['passed'] else ', missed'})"

    def right(which: str) -> str:
        told, untold = (round(typed[f"{which}{kind}_right"] * typed[f"{kind}_asked"]) for kind in ("told", "untold"))
        return f"{told} and {untold}"

    yield f"bits per byte on {evaluate['scored_bytes']:,} bytes of unseen stories", f"{evaluate['bits_per_byte']:.3f}"
    yield "the entropy of the source, which no model can beat", f"{corpus['source_bits_per_byte']:.3f}"
    straight = f"{evaluate['consistent_fraction']:.1%} of {evaluate['warm_samples']} (goal 80%)"
    yield "stories of its own that keep every name, pronoun and thing straight", straight
    for words, name in (
        ("taught facts after sleep, asked in frames that are not used in teaching, without context", "h1_greedy"),
        ("the same in frames that the model has never met", "h2_greedy"),
    ):
        yield words, f"{gate(name)}; {recall[f'awake_{name}']['value']:.1%} before sleep"
    yield "the same, drawn at temperature 0.8 instead of greedily", gate("h2_sampled")
    yield "greedily again, after two turns about something else", gate("conversation_greedy")
    off, wrong = (f"{recall[name]['value']:.1%}" for name in ("adapter_off", "wrong_user"))
    yield "right answers in those frames without the memory's file; with somebody else's", f"{off}; {wrong}"
    yield "says that it does not know what it was never told", gate("abstain_known_slot")
    corrected = f"{gate('update_new', False)}; {gate('update_old_leak', False)}"
    yield "the new value after a correction; the old one", corrected
    yield "a value that it was made to forget", gate("forget_emission")
    yield "100 facts told one a session, asked for after the last", gate("sequential_100_accuracy", False)
    yield "questions written by hand, without a look at the grammar", gate("handwritten_greedy")
    yield "statements written by hand: all of their facts are read, and no others", gate("statements_read")
    asked = "ten facts typed, then forty hand-written questions about them and ten about others (`python -m benchmarks.typed`)"
    yield asked, f"{right('')} right; after sleep {right('rested_')}"
    yield 'what a value is to oneself, such as "Who is Ottoline?"', gate("reversed_greedy")
    yield "facts told and asked in one conversation, before any teaching", gate("in_context_recall")
    yield "what was not told in that conversation, and is said to be unknown", gate("in_context_abstention")
    lost = shipped["story_forgotten"]
    grown = f"{lost:+.1%} (goal at most +2%{', missed' * (lost > 0.02)})"
    yield "bits per byte of stories after learning to converse, beside those before", grown
    worse = "how much worse with a memory: stories; conversations of somebody else; those that do not ask for what it knows"
    drift = f"{gate('dialogue_drift')}; {recall['dialogue_drift_elsewhere']['value']:.1%}"
    yield worse, f"{recall['story_drift']['value']:g}, bit for bit; {drift}"


def stages(read: Read) -> Iterator[tuple[str, str, float]]:
    """Stages, what they make, and the seconds that they took together."""
    corpus, talks, train, chat = (read(name) for name in ("corpus", "dialogues", "train", "forgetting"))
    arms = [f"chat_{name}" for name in chat if name != "conversational"]
    ablations = [f"ablate_{name}" for name in read("ablations")]
    conversed = f"the model that converses, {read('chat/conversational')['steps']:,} steps"
    held_out = talks["calibration_documents"] + talks["evaluation_documents"]
    stories = f"{corpus['train_documents']:,} + {corpus['valid_documents']:,} stories"
    drawn = f"{stories}, {talks['pretrain_documents']:,} + {held_out:,} conversations"
    learned = f"byte-level BPE of {read('tokenizer')['vocab_size']:,} ids; the stories as uint16 ids"
    for names, makes, timed in (
        ("download, dialogues", drawn, ("download", "dialogues")),
        ("tokenizer, encode", learned, ("tokenizer", "encode")),
        ("train", f"{train['parameters']:,} parameters, {train['steps']:,} steps", ("train",)),
        (
            "evaluate",
            f"loss of the whole validation file, {read('evaluate')['warm_samples']} scored samples, what is said again",
            ("evaluate",),
        ),
        ("ablate", f"ablations of {read('ablations')['baseline']['steps']:,} steps, all together", ablations),
        ("fisher, chat", f"what stories need; {len(arms)} arms of learning to converse, side by side", ["fisher", *arms]),
        ("chat@conversational", conversed, ("chat_conversational",)),
        (
            "teach, sessions, recall",
            "memories of made-up people, and what they answer in another process",
            ("teach", "sessions", "recall"),
        ),
        ("writing", "rows, with and without sleep, low-rank adapters and a closed form on the same people", ("writing",)),
        (
            "export, huggingface, gguf, compare, forgetting, plot, report, tour",
            "files to load, tables, figures, report, notebook",
            ("export", "huggingface", "gguf", "compare", "forgetting", "plot", "report", "tour"),
        ),
    ):
        yield names, makes, sum(read(f"speed/{name}")["wall_seconds"] for name in timed)


def rewrite(text: str, read: Read) -> str:
    """The README with its tables, and the sum of the stages' seconds, as the metrics have them."""
    timed = list(stages(read))
    text = replaced(text, MEASURED, list(measured(read)))
    text = replaced(text, STAGES, [(names, makes, f"{seconds:.0f}") for names, makes, seconds in timed])
    text = replaced(text, BESIDE, list(bench_rows(read("speed/bench"))))
    return re.sub(r"[\d,]+ s in all", f"{sum(seconds for *_, seconds in timed):,.0f} s in all", text)


def replaced(text: str, head: str, rows: Sequence[Sequence[str]]) -> str:
    """The text with these rows in the table that begins with `head`.

    >>> print(replaced("| a |\\n|---|\\n| 1 |\\n| 2 |\\n\\nend", "| a |\\n|---|\\n", [("3",)]))
    | a |
    |---|
    | 3 |
    <BLANKLINE>
    end
    """
    before, rest = text.split(head)
    behind = rest[rest.index("\n\n") :]
    return before + head + "\n".join(f"| {' | '.join(row)} |" for row in rows) + behind


def read_metrics(name: str) -> Mapping[str, Any]:
    """The committed metrics of a name."""
    return json.loads((METRICS / f"{name}.json").read_text())


def main() -> None:
    """Rewrite the file in place."""
    write_text(README, rewrite(README.read_text(encoding="utf-8"), read_metrics))


if __name__ == "__main__":
    main()
