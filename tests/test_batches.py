from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from personacore.errors import UserError
from personacore.training.batches import Batches, row_starts

END = 9
documents = st.lists(st.lists(st.integers(0, END - 1), max_size=40), min_size=1, max_size=12)


def joined(stories, whole=True) -> np.ndarray:
    """A token file's content; without `whole` its last <|endoftext|> is missing."""
    ids = [token for story in stories for token in [*story, END]]
    return np.array(ids if whole else ids[:-1], dtype="<u2")


def batches_of(tokens, block_size=4, batch_size=3, seed=1) -> Batches:
    return Batches(tokens, row_starts(tokens, END, block_size), block_size, batch_size, seed)


def numbered(count: int) -> np.ndarray:
    """Documents of 7 ids, no id twice, so that a row tells where it is from."""
    return np.where(np.arange(count * 8) % 8 == 7, END, 10 + np.arange(count * 8)).astype("<u2")


@given(documents, st.integers(1, 12), st.booleans())
def test_every_token_is_in_some_row_of_an_epoch(stories, block_size, whole):
    tokens = joined(stories, whole)
    assume(len(tokens) > block_size)
    starts = row_starts(tokens, END, block_size)
    covered = {place for start in starts.tolist() for place in range(start, start + block_size + 1)}
    assert covered == set(range(len(tokens)))


@given(documents, st.integers(1, 12))
def test_every_token_but_the_first_is_a_target_of_an_epoch(stories, block_size):
    tokens = joined(stories)
    assume(len(tokens) > block_size)
    batches = batches_of(tokens, block_size, batch_size=1)
    targets = torch.cat([batches.rows(step, 0, 1)[1].flatten() for step in range(len(batches.starts))])
    expected, seen = (np.bincount(part, minlength=END + 1) for part in (tokens[1:], targets.numpy()))
    assert (seen >= expected).all()


@given(documents, st.integers(1, 12))
def test_every_document_is_read_from_the_end_of_text_before_it(stories, block_size):
    tokens = joined(stories)
    assume(len(tokens) > block_size)
    last = len(tokens) - block_size - 1
    before = [0, *(np.flatnonzero(tokens == END)[:-1]).tolist()]
    assert {min(place, last) for place in before} <= set(row_starts(tokens, END, block_size).tolist())


@given(documents, st.integers(1, 12))
def test_no_row_is_taken_twice_in_an_epoch(stories, block_size):
    tokens = joined(stories)
    assume(len(tokens) > block_size)
    starts = row_starts(tokens, END, block_size).tolist()
    assert starts == sorted(set(starts))
    assert starts[0] >= 0 and starts[-1] + block_size < len(tokens)


def test_each_epoch_is_a_permutation_of_its_own():
    batches = batches_of(numbered(25), batch_size=1)
    count = len(batches.starts)
    epochs = [[batches.rows(step, 0, 1)[0].tolist()[0] for step in range(e * count, (e + 1) * count)] for e in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert len({str(row) for row in epochs[0]}) == count
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_targets_are_the_inputs_one_place_on():
    tokens = numbered(5)
    inputs, targets = batches_of(tokens).rows(step=0, first=0, count=3)
    assert inputs.shape == targets.shape == (3, 4)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs[:, 1:].equal(targets[:, :-1])
    following = dict(pairwise(tokens.tolist()))
    for place, wanted in zip(inputs[:, -1].tolist(), targets[:, -1].tolist(), strict=True):
        assert place == END or following[place] == wanted


@given(st.integers(0, 30), st.integers(0, 2**40))
def test_a_row_depends_on_its_place_alone(step, seed):
    tokens = numbered(7)  # 14 rows, so that some batches of 5 reach into the next epoch
    whole = batches_of(tokens, batch_size=5, seed=seed).rows(step, 0, 5)
    other = batches_of(tokens, batch_size=5, seed=seed)
    parts = [other.rows(step, first, 1) for first in (4, 3, 2, 1, 0)][::-1]
    assert whole[0].equal(torch.cat([inputs for inputs, _ in parts]))
    assert whole[1].equal(torch.cat([targets for _, targets in parts]))


def test_another_seed_gives_another_order():
    first, second = (batches_of(numbered(25), batch_size=40, seed=seed).rows(0, 0, 40)[0] for seed in (1, 2))
    assert not first.equal(second)


def test_a_corpus_shorter_than_a_block_is_refused():
    tokens = joined([[1, 2, 3]])
    assert row_starts(tokens, END, block_size=3).tolist() == [0]
    with pytest.raises(UserError, match=r"has 4 tokens, fewer than one row of model\.block_size \+ 1 = 5"):
        row_starts(tokens, END, block_size=4)
