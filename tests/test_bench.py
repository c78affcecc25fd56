"""How two ways to do the same are compared."""

import itertools
import time

import pytest
import torch

from benchmarks.speed.chart import draw_chart
from benchmarks.speed.pairs import seconds, threads, versus
from benchmarks.speed.text import excerpt
from benchmarks.speed.writing import at_best


def test_a_ratio_says_how_many_times_faster_ours_is_and_each_rate_in_units_of_work():
    found = versus(lambda: 1.0, lambda: 3.0, repeats=3, per=6)
    assert (found["value"], found["low"], found["high"]) == (3.0, 3.0, 3.0)
    assert (found["ours_rate"], found["theirs_rate"], found["repeats"]) == (6.0, 2.0, 3)


def test_the_first_run_of_each_is_not_counted_and_the_median_is_of_neighbours():
    ours, theirs = iter([99.0, 1.0, 2.0, 4.0]), iter([99.0, 2.0, 2.0, 12.0])
    found = versus(lambda: next(ours), lambda: next(theirs), repeats=3)
    assert (found["low"], found["value"], found["high"]) == (1.0, 2.0, 3.0)


def test_work_that_does_not_time_itself_is_timed():
    assert 0.05 <= seconds(lambda: time.sleep(0.05)) < 5 and seconds(lambda: 2.5) == 2.5


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_each_side_is_timed_in_its_own_better_count_of_threads():
    with threads(2):
        found = at_best(lambda: float(torch.get_num_threads()), lambda count: lambda: 6.0 / torch.get_num_threads(), 3, per=6)
    assert (found["threads"], found["their_threads"]) == (1, 2)
    assert (found["value"], found["ours_rate"], found["theirs_rate"]) == (3.0, 6.0, 2.0)


def test_the_chart_is_drawn_from_any_ratios(tmp_path):
    draw_chart(tmp_path / "chart.png", {"a_vs_b": {"value": 2.0, "low": 1.5, "high": 2.5, "reach": 3}})
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_an_excerpt_ends_with_the_first_document_that_makes_it_large_enough(tmp_path, monkeypatch):
    documents = [f"{number} " * 100_000 for number in range(10)]
    monkeypatch.setattr("benchmarks.speed.text.stream_documents", lambda path: iter(documents))
    taken = excerpt(tmp_path, 1).read_text().split("<|endoftext|>")[:-1]
    sizes = list(itertools.accumulate(map(len, taken)))
    assert sizes[-1] >= 1_000_000 > sizes[-2] and taken == documents[: len(taken)]
