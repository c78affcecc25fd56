import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as PeerTokenizer

from personacore.corpus.documents import stream_documents, write_documents
from personacore.errors import UserError
from personacore.tokenizer import batches
from personacore.tokenizer.bpe import MAX_TOKEN_BYTES, Tokenizer
from personacore.tokenizer.pretokenize import PATTERN
from personacore.tokenizer.train import MIN_PAIR_COUNT, count_file, count_words, train_merges

EXCERPT = Path(__file__).parents[2] / "shared/data/tinystories/excerpt.txt"
STORIES = [
    "Once upon a time there was a little cat. The cat's name was Tom.\nTom liked to run, run, run!",
    'One day, Tom saw a big dog. "Don\'t be afraid," said the dog.  They played all day and they were happy.',
    "Es war einmal ein Mädchen, das hieß Änne; 昔々、あるところに。 Жил кот, жил кот.",
    "Whaaaaaat? Noooooo!!!!! ======== 1000000 zzzzzzzzzzzzz 🐈🐈🐈🐈 👩‍👩‍👧 👩‍👩‍👧",
]
RUNS = st.lists(st.tuples(st.sampled_from("aab \né日"), st.integers(1, 20)), min_size=1).map(
    lambda runs: "".join(character * length for character, length in runs)
)


def train(documents: list[str], vocab_size: int) -> Tokenizer:
    return Tokenizer(train_merges(count_words(documents), vocab_size))


def merged_bytes(tokenizer: Tokenizer) -> list[tuple[bytes, bytes]]:
    return [(tokenizer.token_bytes(left), tokenizer.token_bytes(right)) for left, right in tokenizer.merges]


def peer_merges(documents: list[str], vocab_size: int) -> list[tuple[bytes, bytes]]:
    """The merges of `tokenizers`' own trainer; it counts no specials, we count eight."""
    peer = PeerTokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 8,
        min_frequency=MIN_PAIR_COUNT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(documents, trainer)
    byte_of = {character: byte for byte, character in gpt2_bytes_to_unicode().items()}
    merges = json.loads(peer.to_str())["model"]["merges"]
    return [tuple(bytes(byte_of[character] for character in part) for part in pair) for pair in merges]


def gpt2_bytes_to_unicode() -> dict[int, str]:
    """GPT-2's table of one visible character for each byte."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


@pytest.mark.parametrize("vocab_size", [264, 270, 300, 330])
def test_merges_equal_those_of_the_tokenizers_trainer(vocab_size):
    assert merged_bytes(train(STORIES, vocab_size)) == peer_merges(STORIES, vocab_size)


@given(st.lists(RUNS, min_size=5, max_size=30), st.integers(264, 400))
@settings(max_examples=60)
def test_merges_equal_those_of_the_tokenizers_trainer_on_long_runs(documents, vocab_size):
    counts = count_words(documents)
    try:
        merges = train_merges(counts, vocab_size)
    except UserError as error:
        vocab_size = supported_size(error)
        merges = train_merges(counts, vocab_size)
    assert merged_bytes(Tokenizer(merges)) == peer_merges(documents, vocab_size)


@pytest.mark.skipif(not EXCERPT.exists(), reason="the TinyStories excerpt is not here")
@pytest.mark.parametrize(("documents", "vocab_size"), [(2000, 1024), (2000, 3000), (None, 8192)])
def test_merges_of_real_stories_equal_those_of_the_tokenizers_trainer(documents, vocab_size):
    stories = list(stream_documents(EXCERPT))[:documents]
    assert merged_bytes(train(stories, vocab_size)) == peer_merges(stories, vocab_size)


def test_the_most_frequent_pair_comes_first():
    assert train_merges({b"ab": 2, b"cd": 3}, 266) == [(ord("c"), ord("d")), (ord("a"), ord("b"))]


def test_a_pair_that_occurs_once_is_never_merged():
    assert train_merges({b"ab": 2, b"cd": 1}, 265) == [(ord("a"), ord("b"))]
    with pytest.raises(UserError, match="set 265 or less"):
        train_merges({b"ab": 2, b"cd": 1}, 266)


def test_ties_go_to_the_smaller_ids_with_printable_bytes_before_others():
    counts = {b"\x00\x00": 5, b" t": 5, b"zz": 5, b"za": 5}
    pairs = [bytes(pair) for pair in train_merges(counts, 268)]
    assert pairs == [b"za", b"zz", b"\x00\x00", b" t"]


def test_merges_do_not_depend_on_the_order_of_the_words():
    counts = list(count_words(STORIES).items())
    merges = train_merges(dict(counts), 320)
    for seed in range(5):
        random.Random(seed).shuffle(counts)
        assert train_merges(dict(counts), 320) == merges


def test_a_pair_is_merged_from_the_left_in_a_run():
    assert train_merges({b"aaaaa": 2}, 266) == [(97, 97), (256, 97)]


def supported_size(error: UserError) -> int:
    return int(str(error).split("; set ")[1].split()[0])


def test_a_corpus_that_runs_out_of_merges_says_which_vocabulary_it_supports():
    counts = count_words(STORIES)
    with pytest.raises(
        UserError, match=r"tokenizer\.vocab_size: 8192 is more than this corpus supports; set \d+ or less"
    ) as caught:
        train_merges(counts, 8192)
    size = supported_size(caught.value)
    assert Tokenizer(train_merges(counts, size)).vocab_size == size
    with pytest.raises(UserError, match=f"set {size} or less"):
        train_merges(counts, size + 1)


def test_a_vocabulary_of_bytes_and_specials_alone_is_possible_and_a_smaller_one_is_not():
    assert train_merges({}, 264) == []
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size: 263"):
        train_merges({}, 263)


def test_no_token_grows_beyond_the_limit():
    with pytest.raises(UserError, match="more than this corpus supports") as caught:
        train_merges({b"a" * 10_000: 2}, 8192)
    tokenizer = Tokenizer(train_merges({b"a" * 10_000: 2}, supported_size(caught.value)))
    assert max(map(len, map(tokenizer.token_bytes, range(tokenizer.vocab_size)))) == MAX_TOKEN_BYTES


def test_counting_a_file_on_two_processes_equals_counting_its_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_CHARACTERS", 100)
    write_documents(tmp_path / "corpus.txt", STORIES * 5)
    assert count_file(tmp_path / "corpus.txt", workers=2) == count_words(STORIES * 5)
    assert count_file(tmp_path / "corpus.txt", workers=1) == count_words(STORIES * 5)
