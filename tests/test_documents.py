"""Corpus files are split into the same documents however they are stored, in bounded memory, or refused in one line."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personacore.corpus import documents
from personacore.corpus.documents import SEPARATOR, DocumentCount, normalize, stream_documents, write_documents
from personacore.errors import UserError

TEXTS = st.text(st.sampled_from("aé😀 \n\r\ufeff<|endoftext>"), max_size=30)


@pytest.fixture
def corpus(tmp_path):
    """Write bytes or text as a corpus file."""

    def write(content):
        path = tmp_path / "corpus.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def refusal(path):
    with pytest.raises(UserError) as caught:
        list(stream_documents(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_the_official_format_gives_its_stories_in_order(corpus):
    path = corpus("One day.\nIt rained.\n<|endoftext|>\nTwo.\n<|endoftext|>\n")
    assert list(stream_documents(path)) == ["One day.\nIt rained.", "Two."]


@pytest.mark.parametrize("content", ["a<|endoftext|>b", "a\n\n<|endoftext|>\n\nb\n\n", "a\n<|endoftext|>b<|endoftext|>"])
def test_the_separator_counts_wherever_it_stands(corpus, content):
    assert list(stream_documents(corpus(content))) == ["a", "b"]


def test_windows_line_ends_become_unix_ones(corpus):
    path = corpus("a\r\nb\r\n<|endoftext|>\r\nc\r\r\nd\r\n<|endoftext|>\r\n")
    assert list(stream_documents(path)) == ["a\nb", "c\nd"]


def test_byte_order_marks_are_dropped_even_where_files_were_joined(corpus):
    assert list(stream_documents(corpus("\ufeffa\n<|endoftext|>\n\ufeffb\n"))) == ["a", "b"]


def test_blank_documents_are_skipped(corpus):
    assert list(stream_documents(corpus("<|endoftext|>\n \n<|endoftext|>a<|endoftext|><|endoftext|>\t\n"))) == ["a"]


def test_spaces_inside_the_line_are_part_of_the_document(corpus):
    assert list(stream_documents(corpus("  a \n<|endoftext|>b"))) == ["  a ", "b"]


@given(texts=st.lists(TEXTS, max_size=8), chunk=st.integers(1, 40))
def test_the_split_does_not_depend_on_where_chunks_end(tmp_path_factory, texts, chunk):
    content = SEPARATOR.join(texts)
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_bytes(content.encode("utf-8"))
    expected = [text for text in map(normalize, content.split(SEPARATOR)) if text and not text.isspace()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "CHUNK_BYTES", chunk)
        if expected:
            assert list(stream_documents(path)) == expected
        else:
            refusal(path)


@given(texts=st.lists(TEXTS.map(normalize).filter(lambda text: text.strip() and SEPARATOR not in text), min_size=1))
def test_what_is_written_reads_back_as_it_was_counted(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    count = write_documents(path, texts)
    assert list(stream_documents(path)) == texts
    assert count == DocumentCount(len(texts), sum(len(text.encode("utf-8")) for text in texts))


def test_documents_are_written_in_the_official_format(tmp_path):
    count = write_documents(tmp_path / "new" / "train.txt", iter(["é", "two"]))
    assert (tmp_path / "new" / "train.txt").read_bytes() == "é\n<|endoftext|>\ntwo\n<|endoftext|>\n".encode()
    assert count == DocumentCount(documents=2, bytes=5)


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    def failing():
        yield "new"
        raise UserError("source.txt: broken")

    path = tmp_path / "train.txt"
    write_documents(path, ["old"])
    with pytest.raises(UserError):
        write_documents(path, failing())
    assert list(stream_documents(path)) == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_refused_by_name(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.txt")


def test_a_folder_is_refused_by_name(tmp_path):
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", "\r\n<|endoftext|>\n\n<|endoftext|>\n"])
def test_a_corpus_without_documents_is_refused(corpus, content):
    assert "no documents" in refusal(corpus(content))


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_a_byte_that_is_not_utf8_is_named_by_its_place_in_the_file(corpus, monkeypatch, chunk):
    monkeypatch.setattr(documents, "CHUNK_BYTES", chunk)
    content = "a\n<|endoftext|>\n<|endoftext|>é".encode() + b"\xe9 latin-1"
    assert f"byte {content.index(0xE9)} is not UTF-8" in refusal(corpus(content))


def test_utf16_is_refused(corpus):
    assert "byte 0 is not UTF-8" in refusal(corpus("a<|endoftext|>b".encode("utf-16")))


def test_a_document_may_be_as_large_as_the_limit_and_no_larger(corpus, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 1000)
    monkeypatch.setattr(documents, "CHUNK_BYTES", 64)
    for end in ("", SEPARATOR + "b"):
        assert next(stream_documents(corpus("x" * 1000 + end))) == "x" * 1000
        message = refusal(corpus("a" + SEPARATOR + "x" * 1001 + end))
        assert "document at byte 14" in message
        assert "1,000 bytes" in message
        assert f"{SEPARATOR} is probably missing" in message


def test_a_gigabyte_without_separator_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "corpus.txt"
    with path.open("wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    assert "67,108,864 bytes" in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * documents.MAX_DOCUMENT_BYTES


def test_memory_does_not_grow_with_the_corpus(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "CHUNK_BYTES", 2**16)
    story = "Once upon a time there was a small cat who lived in a big house. " * 10

    def peak_of_copying(stories):
        path = corpus(f"{story}\n{SEPARATOR}\n" * stories)
        tracemalloc.start()
        count = write_documents(tmp_path / "copy.txt", stream_documents(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count.documents == stories
        return peak

    small, large = peak_of_copying(1_000), peak_of_copying(10_000)
    assert large < 1.2 * small < 2**20
