"""How the growth of a cost is measured."""

from pathlib import Path

import pytest

from benchmarks import growth


def test_the_exponent_is_that_of_the_power_by_which_a_cost_grows():
    points = [{"size": float(size), "seconds": 3.0 * size**1.5} for size in (1, 10, 40, 1000)]
    assert growth.exponent(points) == pytest.approx(1.5)


def test_smaller_texts_are_beginnings_of_the_largest_in_whole_and_different_stories(tmp_path):
    small, large = (Path(file).read_text() for file in growth.draw_texts([2, 1], tmp_path))
    assert 1_000_000 <= len(small.encode()) < 1_010_000 and 2_000_000 <= len(large.encode()) < 2_010_000
    assert large.startswith(small) and small.endswith("<|endoftext|>")
    stories = large.split("<|endoftext|>")
    assert len(set(stories)) == len(stories)


def test_the_figure_is_drawn_from_any_points(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "CHART", tmp_path / "growth.png")
    points = [{"size": float(size), "seconds": 2.0 * size} for size in (1, 10)]
    growth.draw({name: {"points": points, "exponent": 1.0} for name in growth.WORK})
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
