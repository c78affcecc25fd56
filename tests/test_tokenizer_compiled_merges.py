import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personacore.corpus.documents import stream_documents
from personacore.errors import UserError
from personacore.tokenizer import blocks
from personacore.tokenizer.train import count_words, train_merges

pytest.importorskip("numba")

EXCERPT = Path(__file__).parents[2] / "shared/data/tinystories/excerpt.txt"
WORDS = st.dictionaries(st.text("ab \né", min_size=1, max_size=30).map(str.encode), st.integers(1, 9))


def by_both(counts: dict[bytes, int], vocab_size: int) -> list[object]:
    """What the compiled and the plain path learn or refuse."""
    found: list[object] = []
    for least in (0, sys.maxsize):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "COMPILED_BYTES", least)
            try:
                found.append(train_merges(counts, vocab_size))
            except UserError as error:
                found.append(str(error))
    return found


@given(WORDS, st.integers(264, 340))
@settings(max_examples=500)
def test_merges_and_refusals_are_those_of_the_plain_path(counts, vocab_size):
    compiled, plain = by_both(counts, vocab_size)
    assert compiled == plain


@given(st.lists(st.tuples(st.sampled_from("aab"), st.integers(1, 400)), min_size=1, max_size=5), st.integers(264, 300))
@settings(max_examples=100)
def test_merges_of_long_runs_are_those_of_the_plain_path(runs, vocab_size):
    compiled, plain = by_both({"".join(letter * length for letter, length in runs).encode(): 2}, vocab_size)
    assert compiled == plain


def test_merges_of_many_pairs_are_those_of_the_plain_path():
    rng = random.Random(0)
    counts = {bytes(rng.choices(range(256), k=rng.randint(1, 12))): rng.randint(1, 3) for _ in range(5000)}
    compiled, plain = by_both(counts, 1500)
    assert compiled == plain and len(plain) == 1236


def test_no_words_give_no_merges():
    assert by_both({}, 264) == [[], []]
    compiled, plain = by_both({}, 300)
    assert compiled == plain and "set 264 or less" in plain


@pytest.mark.skipif(not EXCERPT.exists(), reason="the TinyStories excerpt is not here")
def test_merges_of_real_stories_are_those_of_the_plain_path():
    compiled, plain = by_both(count_words(list(stream_documents(EXCERPT))[:3000]), 3000)
    assert compiled == plain


def test_without_numba_the_plain_path_learns(monkeypatch):
    monkeypatch.setattr(blocks, "COMPILED_BYTES", 0)
    monkeypatch.delitem(sys.modules, "personacore.tokenizer.compiled_merges", raising=False)
    monkeypatch.delattr("personacore.tokenizer.compiled_merges", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert blocks.compiled_merges() is None
    assert train_merges({b"ab": 2, b"cd": 3}, 266) == [(99, 100), (97, 98)]
