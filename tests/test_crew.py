"""The parts of a step at once: results are those of one core, and the number of threads is as it was."""

import subprocess
import sys
import threading

import pytest
import torch

from personacore.training.crew import Crew


@pytest.fixture(params=[1, 2, 4])
def cores(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_from_as_many_threads_as_there_are_cores(cores):
    crew, together = Crew(4), threading.Barrier(min(cores, 4))

    def part(number: int) -> tuple[int, int]:
        together.wait(timeout=10)  # broken if fewer parts than cores are at work at once
        return number, torch.get_num_threads()

    with crew.at_work([]) as run_all:
        assert list(run_all(part, range(4))) == [(number, 1) for number in range(4)]
    assert torch.get_num_threads() == cores


def test_a_single_part_has_all_cores(cores):
    with Crew(1).at_work([]) as run_all:
        assert list(run_all(lambda _: torch.get_num_threads(), [0])) == [cores]


def test_what_fails_in_a_part_fails_outside_and_leaves_the_threads_as_they_were(cores):
    with pytest.raises(ZeroDivisionError), Crew(2).at_work([]) as run_all:
        list(run_all(lambda number: 1 / number, [1, 0]))
    assert torch.get_num_threads() == cores


def test_parts_that_use_the_same_parameter_never_wait_for_each_other_forever():
    program = """
import torch
from personacore.training.crew import Crew
torch.set_num_threads(2)
parameter, anchor = torch.nn.Parameter(torch.zeros(64, 64)), torch.zeros(64, 64)
def part(number):
    for _ in range(30_000):
        parameter[0:3] if number else parameter - anchor
with Crew(2).at_work([parameter]) as run_all:
    list(run_all(part, range(2)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
