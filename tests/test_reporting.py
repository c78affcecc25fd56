import dataclasses

import pytest

from personacore.evaluation.samples import Sample
from personacore.reporting.samples import samples_page
from personacore.reporting.speed import COMPARED, bench_rows, speed_chapter


def test_the_page_shows_every_sample_with_its_prompt_and_marks_unfinished_ones():
    prompted = Sample("Once upon", " a time.\nThe end.", "greedy", 9, True)
    unprompted = Sample("", "A dog ran and", "temperature 0.8, top-p 0.95", 5, False)
    others = [unprompted, dataclasses.replace(unprompted, text="A cat.", finished=True)]
    page = samples_page([dataclasses.asdict(prompted)], [dataclasses.asdict(sample) for sample in others])
    assert "**Once upon** (greedy)\n\n> Once upon a time.\n>\n> The end.\n" in page
    assert "> A dog ran and …\n" in page
    assert "> A cat.\n" in page


@pytest.fixture
def bench():
    found = {key: {"value": 2.0, "low": 1.5, "high": 2.5, "reach": 1.0} for key in COMPARED}
    return found | {
        "generation_int8_bits_per_byte_loss": {"value": 0.001, "low": 0.0, "high": 0.0015, "reach": 0.002},
        "first_token_ms": {"value": 5.0, "load_ms": 100.0, "reach": 150},
        "machine": "x86_64",
        "cores": 2,
        "peers": {"torch": "2.13.0"},
    }


def test_a_goal_is_called_missed_where_more_was_wanted_and_where_less_was(bench):
    assert not any("missed" in goal for *_, goal in bench_rows(bench))
    bench["encode_vs_tiktoken"]["value"] = 0.5
    bench["generation_int8_bits_per_byte_loss"]["value"] = 0.003
    bench["first_token_ms"]["load_ms"] = 151.0
    missed = [key for key, *_, goal in bench_rows(bench) if "missed" in goal]
    assert missed == ["`encode_vs_tiktoken`", "`generation_int8_bits_per_byte_loss`", "`first_token_ms`"]


def test_the_speed_chapter_shows_every_curve_each_ablation_and_each_exponent(bench):
    ours, plain = ({"minutes": 5.02, "bits_per_byte": loss, "steps": 10, "tokens": 1000} for loss in (1.0, 1.25))
    learning = {"text": "a.txt", "text_bytes": 9_000, "precision": "bf16", "machine": "arm64", "cores": 8}
    learning |= {"recipes": {"ours": {"lr": 0.003}, "plain": {"batch_size": 32}}}
    learning |= {"curves": {"ours": [ours], "plain": [plain]}, "ablations": {"float32": plain}}
    points = [{"size": size, "seconds": size, "megabytes": 1.0} for size in (1.0, 10.0)]
    growth = {"machine": "x86_64", "cores": 4, "costs": {"encoding": {"unit": "megabytes", "exponent": 1.0, "points": points}}}
    chapter = speed_chapter(learning, bench, growth)
    assert "| ours | 5.02 | 1.0000 | 10 | 1,000 |\n| plain | 5.02 | 1.2500 | 10 | 1,000 |" in chapter
    assert "| float32 | 1.2500 | 10 | 1,000 | +25.0% |" in chapter
    assert "| encoding | 1 to 10 megabytes | 10 | 1.00 | 1 |" in chapter
    assert "arm64, 8 cores" in chapter and "x86_64, 2 cores" in chapter and "x86_64, 4 cores" in chapter


def test_what_was_not_measured_yet_is_left_out(bench):
    some = {"peers": bench["peers"], "first_token_ms": bench["first_token_ms"]}
    assert [key for key, *_ in bench_rows(some)] == ["`first_token_ms`"]
