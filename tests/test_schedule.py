from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personacore.training.schedule import cosine_with_warmup


@st.composite
def schedules(draw):
    max_steps = draw(st.integers(1, 500))
    return {
        "max_steps": max_steps,
        "warmup_steps": draw(st.integers(0, max_steps)),
        "min_fraction": draw(st.floats(0, 1)),
    }


@given(schedules())
def test_the_warm_up_climbs_in_equal_steps_to_the_peak(schedule):
    warmup = schedule["warmup_steps"]
    climbed = [cosine_with_warmup(step, **schedule) for step in range(warmup)]
    assert climbed == pytest.approx([(step + 1) / warmup for step in range(warmup)])


@given(schedules())
def test_after_the_warm_up_the_rate_only_falls_and_ends_at_the_least(schedule):
    first, last = schedule["warmup_steps"], schedule["max_steps"]
    fractions = [cosine_with_warmup(step, **schedule) for step in range(first, last + 1)]
    assert fractions[0] == pytest.approx(1)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(fractions))
    if first < last:
        assert fractions[-1] == pytest.approx(schedule["min_fraction"])


@given(schedules(), st.integers(0, 1000))
def test_the_rate_is_never_above_the_peak_nor_below_the_least(schedule, step):
    fraction = cosine_with_warmup(step, **schedule)
    least = 0 if step < schedule["warmup_steps"] else schedule["min_fraction"]
    assert least <= fraction + 1e-12
    assert fraction <= 1 + 1e-12


def test_half_way_down_the_cosine_lies_half_way_between_peak_and_least():
    assert cosine_with_warmup(60, max_steps=100, warmup_steps=20, min_fraction=0.2) == pytest.approx(0.6)
