import errno
import io
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personacore.corpus.documents import SEPARATOR, stream_documents, write_documents
from personacore.errors import UserError
from personacore.tokenizer import blocks
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.encode import EncodeCount, encode_corpus
from personacore.tokenizer.files import save_tokenizer
from personacore.tokenizer.pretokenize import split_words
from personacore.tokenizer.train import count_file, count_words, train_merges

pytest.importorskip("numba")
from personacore.tokenizer import compiled_words
from personacore.tokenizer.compiled_words import BlockEncoder, WordCounter, split_bytes

EXCERPT = Path(__file__).parents[2] / "shared/data/tinystories/excerpt.txt"
# Every class of ASCII, contractions in both cases, and beyond ASCII letters, digits, white space, marks and emoji.
ASCII = st.text(st.sampled_from([chr(code) for code in range(128)]))
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'RE", "'Ll", "'r", "'v", "'l", "'", "''"]
PIECES = st.lists(
    st.sampled_from([*CONTRACTIONS, "cat", *"aB12éßЖ日٣Ⅷ½“\u2019—🐈", "👍🏽", "e\u0301", "\ufeff"])
    | st.sampled_from([*" \n\t\r\x0b\x0c\x1c\x1d\x1e\x1f\x00\x7f\x85\xa0\u2003\u2028\u3000\u200b", "  ", "   ", "\n\n", "\r\n"])
    | st.sampled_from(["!", "?!", "...", "-", "<|endoftext|", "<|", "_"])
    | st.characters(exclude_categories=("Cs",))
).map("".join)
TEXTS = ASCII | PIECES | st.text(st.characters(exclude_categories=("Cs",)))
FILES = st.lists(PIECES | st.sampled_from(["\n", "\r\n", "\ufeff\n", " \x1c\x1f ", ""]), max_size=8).map(SEPARATOR.join)


@pytest.fixture(autouse=True)
def any_size_is_compiled(monkeypatch):
    monkeypatch.setattr(blocks, "COMPILED_BYTES", 0)


@pytest.fixture(scope="module")
def small_tokenizer() -> Tokenizer:
    texts = ["the cat's 日本 été, the dog  ran\n\nand we'll 🐈🐈 aaaaaaaa 12", "The end. “Ж”"] * 2
    return Tokenizer(train_merges(count_words(texts), 310))


def plain(monkeypatch):
    monkeypatch.setattr(blocks, "compiled_words", lambda: None)


def told(function, *given):
    """What a function returns or refuses."""
    try:
        return function(*given)
    except UserError as error:
        return str(error)


@given(TEXTS)
@example("'s't're've'm'll'd'S'T'RE 's 't  's\n's!'s1's")
@example("".join(map(chr, range(128))) * 2)
@settings(max_examples=1000)
def test_words_of_bytes_are_those_of_the_pattern(text):
    assert split_bytes(text.encode()) == [word.encode() for word in split_words(text)]


def test_words_around_every_character_are_those_of_the_pattern():
    text = "".join(f" {character}a{character}{character} " for character in map(chr, range(0x3100)))
    text += "".join(chr(code) for code in range(0x3100, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    assert split_bytes(text.encode()) == [word.encode() for word in split_words(text)]


def test_what_python_calls_white_space_is_that_of_the_pattern_and_four_separators():
    characters = "".join(map(chr, range(sys.maxunicode + 1)))
    assert {c for c in characters if c.isspace()} == {*regex.findall(r"\s", characters), *"\x1c\x1d\x1e\x1f"}


@given(FILES)
@settings(max_examples=300)
def test_counts_of_a_block_are_those_of_its_documents(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "block.txt"
    path.write_bytes(text.encode())
    counter = WordCounter(words=2, text_bytes=3)
    counter.count(text.encode())
    documents = told(lambda: list(stream_documents(path)))
    assert counter.counts() == count_words([] if isinstance(documents, str) else documents)


@given(FILES)
@settings(max_examples=300)
def test_ids_of_a_block_are_those_of_its_documents(tmp_path_factory, small_tokenizer, text):
    path = tmp_path_factory.getbasetemp() / "block.txt"
    path.write_bytes(text.encode())
    documents = told(lambda: list(stream_documents(path)))
    documents = [] if isinstance(documents, str) else documents
    expected = [number for one in documents for number in [*small_tokenizer.encode(one), small_tokenizer.end_of_text]]
    ids, count, text_bytes = BlockEncoder(small_tokenizer).encode(text.encode())
    assert ids.tolist() == expected
    assert (count, text_bytes) == (len(documents), sum(len(one.encode()) for one in documents))


@given(st.text("ab", max_size=60), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8, unique=True))
@settings(max_examples=300)
def test_ids_of_a_word_are_those_of_any_merges(text, pairs):
    name, merges = [97, 98], []
    for left, right in pairs:
        if max(left, right) < len(name):
            try:
                Tokenizer([*merges, (name[left], name[right])])
            except UserError:
                continue
            merges.append((name[left], name[right]))
            name.append(255 + len(merges))
    tokenizer = Tokenizer(merges)
    expected = [*tokenizer.encode(text), tokenizer.end_of_text] if text else []
    encoder = BlockEncoder(tokenizer)
    assert encoder.encode(text.encode())[0].tolist() == expected
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.uint16)
    end = compiled_words._merge_long(encoder._merges, ids, 0, len(ids))  # the way of long words
    assert ids[:end].tolist() == expected[:-1]


def test_a_long_word_has_the_ids_of_the_plain_path_many_times_as_fast_as_in_passes():
    rng = random.Random(3)
    parts = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 6))) for _ in range(300)]
    tokenizer = Tokenizer(train_merges(count_words(["".join(rng.choices(parts, k=9000))]), 900))
    encoder, word = BlockEncoder(tokenizer), "".join(rng.choices(parts, k=30000)).encode()
    assert encoder.encode(word)[0].tolist() == [*tokenizer.encode(word.decode()), tokenizer.end_of_text]
    seconds = []
    for merge in (compiled_words._merge, compiled_words._merge_long):
        ids = np.frombuffer(word, np.uint8).astype(np.uint16)
        began = time.perf_counter()
        merge(encoder._merges, ids, 0, len(ids))
        seconds.append(time.perf_counter() - began)
    assert seconds[1] < seconds[0] / 4


def test_words_beyond_what_is_remembered_have_the_same_ids(monkeypatch, small_tokenizer):
    monkeypatch.setattr(compiled_words, "ENCODED_WORDS", 3)
    monkeypatch.setattr(compiled_words, "ENCODED_BYTES", 12)
    text = "the cat and the dog and the cat and a verylongwordthatneverfits " * 3
    expected = [*small_tokenizer.encode(text), small_tokenizer.end_of_text]
    encoder = BlockEncoder(small_tokenizer)
    assert encoder.encode(text.encode())[0].tolist() == encoder.encode(text.encode())[0].tolist() == expected


def test_counters_add_up():
    one, other = WordCounter(words=2, text_bytes=2), WordCounter()
    one.count(b"a cat, a dog")
    other.count(b"a dog; cats and dogs and a bird")
    one.add(other)
    assert one.counts() == count_words(["a cat, a dog", "a dog; cats and dogs and a bird"])


@pytest.mark.parametrize("block_bytes", [7, 300, 2**20])
def test_files_are_counted_and_encoded_as_by_the_plain_path(tmp_path, monkeypatch, small_tokenizer, block_bytes):
    rng = random.Random(0)
    pieces = [
        "the cat",
        " ran",
        "\r\n",
        "\n",
        "日本 été",
        " 'll",
        "<|endoftext|",
        SEPARATOR,
        SEPARATOR + "\ufeff",
        " ",
        "12",
        "\x1c",
    ]
    (tmp_path / "corpus.txt").write_bytes("".join(rng.choices(pieces, k=3000)).encode())
    save_tokenizer(small_tokenizer, tmp_path / "tokenizer.json", {})
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block_bytes)

    def results(workers: int) -> tuple[object, ...]:
        count = encode_corpus(tmp_path / "tokenizer.json", tmp_path / "corpus.txt", tmp_path / "ids.bin", workers)
        return count, (tmp_path / "ids.bin").read_bytes(), count_file(tmp_path / "corpus.txt", workers)

    found = [results(workers) for workers in (1, 2, 3)]
    plain(monkeypatch)
    assert found == [results(1)] * 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n" + SEPARATOR.encode() + b" \x1f\r\n",
        b"One." + SEPARATOR.encode() + b"Two\xff." + SEPARATOR.encode(),
        b"One." + SEPARATOR.encode() + b"\xe6\x97" + SEPARATOR.encode(),
        b"One." + b"\xed\xa0\x80",
        b"a" * 320 + SEPARATOR.encode() + b"One.",
        b"a" * 400 + SEPARATOR.encode() + b"One." + b"\xff",
        b"One." + SEPARATOR.encode() + b"a" * 400,
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_plain_path_refuses_is_refused_in_its_words(tmp_path, monkeypatch, small_tokenizer, data, workers):
    monkeypatch.setattr("personacore.corpus.documents.MAX_DOCUMENT_BYTES", 300)
    monkeypatch.setattr("personacore.corpus.documents.CHUNK_BYTES", 100)
    monkeypatch.setattr(blocks, "MAX_DOCUMENT_BYTES", 300)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    path, target = tmp_path / "corpus.txt", tmp_path / "ids.bin"
    path.write_bytes(data)
    target.write_bytes(b"good")
    save_tokenizer(small_tokenizer, tmp_path / "tokenizer.json", {})
    found = told(encode_corpus, tmp_path / "tokenizer.json", path, target, workers), told(count_file, path, workers)
    plain(monkeypatch)
    assert found == (told(encode_corpus, tmp_path / "tokenizer.json", path, target, 1), told(count_file, path, 1))
    assert all(isinstance(message, str) for message in found)
    assert target.read_bytes() == b"good"


class Broken(io.BytesIO):
    def read(self, size=-1):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("compiled", [True, False])
def test_a_disk_that_fails_while_it_is_read_is_told_by_the_name_of_the_file(tmp_path, monkeypatch, small_tokenizer, compiled):
    save_tokenizer(small_tokenizer, tmp_path / "tokenizer.json", {})
    path, opened = tmp_path / "corpus.txt", Path.open
    path.write_text("One.")
    monkeypatch.setattr(Path, "open", lambda file, *mode: Broken() if file == path else opened(file, *mode))
    if not compiled:
        plain(monkeypatch)
    expected = f"{path}: Input/output error; a corpus is a readable text file"
    assert told(count_file, path, 1) == told(encode_corpus, tmp_path / "tokenizer.json", path, tmp_path / "ids", 1) == expected


def test_a_huge_document_is_left_to_the_plain_path(tmp_path, monkeypatch):
    monkeypatch.setattr("personacore.corpus.documents.MAX_DOCUMENT_BYTES", 300)
    monkeypatch.setattr("personacore.corpus.documents.CHUNK_BYTES", 100)
    monkeypatch.setattr(blocks, "MAX_DOCUMENT_BYTES", 300)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10)
    (tmp_path / "corpus.txt").write_bytes(b"a" * 295 + SEPARATOR.encode())
    assert count_file(tmp_path / "corpus.txt", 1) == {b"a" * 295: 1}


def test_without_numba_the_plain_path_does_it(tmp_path, monkeypatch, small_tokenizer):
    monkeypatch.delitem(sys.modules, "personacore.tokenizer.compiled_words")
    monkeypatch.delattr("personacore.tokenizer.compiled_words")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert blocks.compiled_words() is None
    write_documents(tmp_path / "corpus.txt", ["The cat."])
    save_tokenizer(small_tokenizer, tmp_path / "tokenizer.json", {})
    assert count_file(tmp_path / "corpus.txt", 1) == count_words(["The cat."])
    count = encode_corpus(tmp_path / "tokenizer.json", tmp_path / "corpus.txt", tmp_path / "ids.bin", 1)
    ids = [*small_tokenizer.encode("The cat."), small_tokenizer.end_of_text]
    assert count == EncodeCount(1, len(ids), 8, len(set(ids)))
    assert np.fromfile(tmp_path / "ids.bin", "<u2").tolist() == ids


def test_a_small_file_is_not_worth_compiling_for(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "COMPILED_BYTES", 100)
    (tmp_path / "small.txt").write_bytes(b"a" * 99)
    (tmp_path / "large.txt").write_bytes(b"a" * 100)
    assert [blocks.is_large(tmp_path / name) for name in ("small.txt", "large.txt", "absent.txt")] == [False, True, False]


@pytest.mark.skipif(not EXCERPT.exists(), reason="the TinyStories excerpt is not here")
def test_real_stories_are_counted_as_by_the_plain_path():
    assert count_file(EXCERPT, 2) == count_words(stream_documents(EXCERPT))


@pytest.mark.skipif(not EXCERPT.exists(), reason="the TinyStories excerpt is not here")
def test_real_stories_are_encoded_as_by_the_plain_path(tmp_path):
    tokenizer = Tokenizer(train_merges(count_file(EXCERPT, 1), 4096))
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json", {})
    encode_corpus(tmp_path / "tokenizer.json", EXCERPT, tmp_path / "ids.bin", 2)
    expected = [number for one in stream_documents(EXCERPT) for number in [*tokenizer.encode(one), tokenizer.end_of_text]]
    assert (tmp_path / "ids.bin").read_bytes() == np.array(expected, "<u2").tobytes()
