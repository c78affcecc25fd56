"""Any source ends as the same two files: normalized documents, split by document, described by the same facts."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personacore.corpus import download, sources
from personacore.corpus.documents import SEPARATOR, stream_documents
from personacore.corpus.sources import PinnedFile, bring_text, bring_tinystories, cached_name, is_validation, write_corpus
from personacore.errors import UserError

EXCERPT = Path(__file__).parents[2] / "shared/data/tinystories/excerpt.txt"
STORIES = [f"Story {number}.\nThe end." for number in range(400)]


def as_text(stories, newline="\n"):
    return "".join(f"{story}\n{SEPARATOR}\n" for story in stories).replace("\n", newline)


def documents(folder):
    return {split: list(stream_documents(folder / f"{split}.txt")) for split in ("train", "valid")}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "my stories.txt"
    path.write_text(as_text(STORIES), encoding="utf-8")
    return path


@pytest.fixture
def bring(tmp_path):
    """Bring a source to `corpus`, with `cache` beside it."""

    def bring(source, valid_fraction=0.1, seed=7):
        return bring_text(str(source), valid_fraction, seed, tmp_path / "corpus", tmp_path / "cache")

    return bring


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder served over HTTP on this machine, with its address and the paths that were asked for."""
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *args):
            self.server.paths.append(self.path)

        def log_message(self, *args):
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        server.folder, server.paths, server.url = folder, [], f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refusal(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_is_split_without_losing_or_reordering_a_document(bring, text, tmp_path):
    bring(text)
    split = documents(tmp_path / "corpus")
    assert sorted(split["train"] + split["valid"], key=STORIES.index) == STORIES
    assert all(part == sorted(part, key=STORIES.index) for part in split.values())
    assert 20 < len(split["valid"]) < 60


def test_the_facts_are_those_of_the_written_files(bring, text, tmp_path):
    facts = bring(text)
    split = documents(tmp_path / "corpus")
    assert facts == {
        "source": str(text),
        "train_documents": len(split["train"]),
        "train_bytes": sum(len(document.encode()) for document in split["train"]),
        "valid_documents": len(split["valid"]),
        "valid_bytes": sum(len(document.encode()) for document in split["valid"]),
        "sha256": hashlib.sha256(
            (tmp_path / "corpus/train.txt").read_bytes() + (tmp_path / "corpus/valid.txt").read_bytes()
        ).hexdigest(),
    }


def test_the_split_is_the_same_again_and_another_one_for_another_seed(bring, text):
    first, again, other = bring(text, seed=7), bring(text, seed=7), bring(text, seed=8)
    assert first == again
    assert first["sha256"] != other["sha256"]


def test_a_document_keeps_its_side_when_others_come_or_go(bring, text, tmp_path):
    bring(text)
    before = documents(tmp_path / "corpus")["valid"]
    text.write_text(as_text(["A new one.", *STORIES[::2]]), encoding="utf-8")
    bring(text)
    kept = [story for story in documents(tmp_path / "corpus")["valid"] if story in STORIES]
    assert kept == [story for story in before if story in STORIES[::2]]


def test_equal_documents_are_never_on_both_sides(bring, text, tmp_path):
    text.write_text(as_text(STORIES * 3), encoding="utf-8")
    bring(text)
    split = documents(tmp_path / "corpus")
    assert not set(split["train"]) & set(split["valid"])


def test_line_ends_and_byte_order_mark_change_nothing(bring, text):
    unix = bring(text)
    text.write_bytes(b"\xef\xbb\xbf" + as_text(STORIES, "\r\n").encode())
    assert bring(text) == unix


@given(story=st.text(), seed=st.integers(0), fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_larger_validation_share_only_adds_documents(story, seed, fractions):
    small, large = sorted(fractions)
    assert is_validation(story, small, seed) <= is_validation(story, large, seed)


def test_the_validation_share_is_what_was_asked_for():
    share = sum(is_validation(f"story {number}", 0.1, 7) for number in range(20_000)) / 20_000
    assert share == pytest.approx(0.1, abs=0.01)


def test_a_relative_path_and_a_home_path_are_found(bring, text, monkeypatch):
    monkeypatch.chdir(text.parent)
    monkeypatch.setenv("HOME", str(text.parent))
    assert bring(text.name)["sha256"] == bring(f"~/{text.name}")["sha256"] == bring(text)["sha256"]


@pytest.mark.parametrize("source", ["tinystorys", "absent/stories.txt", "ftp://example.org/stories.txt", "."])
def test_a_source_that_is_no_file_is_refused_with_what_could_be_given(bring, source):
    message = refusal(bring, source)
    assert message.startswith(f"data.source: {source} is not a file; give pocket, tinystories")


@pytest.mark.parametrize("content", ["One long text.\n\nWithout any separator.", f"One text.\n{SEPARATOR}\n"])
def test_a_text_without_separator_is_refused(bring, text, content):
    text.write_text(content, encoding="utf-8")
    assert refusal(bring, text).startswith(f"{text}: no {SEPARATOR} between documents")


@pytest.mark.parametrize(("fraction", "empty"), [(1e-9, "validation"), (1 - 1e-9, "training")])
def test_a_split_with_an_empty_side_is_refused_with_the_key_to_change(bring, text, tmp_path, fraction, empty):
    message = refusal(bring, text, fraction)
    assert f"data.valid_fraction {fraction} leaves none of the 400 documents for {empty}" in message
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no documents"),
        (as_text(STORIES).encode() + b"\xff", "not UTF-8"),
        (as_text(STORIES).encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_leaves_no_corpus(bring, text, tmp_path, content, expected):
    text.write_bytes(content)
    message = refusal(bring, text)
    assert message.startswith(f"{text}: ")
    assert expected in message
    assert not list(tmp_path.glob("corpus/*"))


def test_a_url_is_downloaded_once_and_split_like_the_file(bring, text, site, tmp_path):
    (site.folder / "stories.txt").write_bytes(text.read_bytes())
    url = f"{site.url}/stories.txt?download=true"
    facts = bring(url)
    assert facts == bring(url, seed=7) == bring(text) | {"source": url}
    assert site.paths == ["/stories.txt?download=true"]
    assert cached_name(url, tmp_path / "cache").read_bytes() == text.read_bytes()


def test_a_cached_download_that_was_damaged_is_brought_again(bring, text, site, tmp_path):
    (site.folder / "stories.txt").write_bytes(text.read_bytes())
    url = f"{site.url}/stories.txt"
    facts = bring(url)
    cached_name(url, tmp_path / "cache").write_text(as_text(STORIES[:10]), encoding="utf-8")
    assert bring(url) == facts
    assert len(site.paths) == 2


def test_a_url_that_is_not_there_is_refused_by_name(bring, site):
    assert refusal(bring, f"{site.url}/absent.txt").startswith(f"{site.url}/absent.txt: the server answers 404")


def test_names_in_the_cache_differ_by_url_and_stay_inside_it(tmp_path):
    urls = [
        "http://a/x.txt",
        "http://b/x.txt",
        "http://a/x.txt?v=2",
        "http://a/",
        "http://a/..",
        "http://a/%2e%2e%2fx",
        "http://a/" + "x" * 999,
    ]
    names = [cached_name(url, tmp_path) for url in urls]
    assert len(set(names)) == len(urls)
    for name in names:
        assert name.resolve().parent == tmp_path
        assert len(name.name) <= 200
    assert names[0].name.endswith("-x.txt")


@pytest.fixture
def small_tinystories(site, monkeypatch):
    """Two small files in the place of the official ones, on a mirror."""
    files = {}
    for split, stories in {"train": STORIES, "valid": ["Held out.", "Held out too."]}.items():
        path = sources.TINYSTORIES[split].path
        content = as_text(stories, "\r\n").encode()
        (site.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / path).write_bytes(content)
        files[split] = PinnedFile(path, len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(sources, "TINYSTORIES", files)
    monkeypatch.setenv("HF_ENDPOINT", f"{site.url}/")
    return files


def test_tinystories_keeps_its_own_split_and_is_downloaded_once(small_tinystories, site, tmp_path):
    facts = bring_tinystories(tmp_path / "corpus", tmp_path / "cache")
    assert documents(tmp_path / "corpus") == {"train": STORIES, "valid": ["Held out.", "Held out too."]}
    assert b"\r" not in (tmp_path / "corpus/train.txt").read_bytes()
    assert facts["source"] == "tinystories"
    assert (facts["train_documents"], facts["valid_documents"], facts["valid_bytes"]) == (400, 2, 22)
    assert bring_tinystories(tmp_path / "corpus", tmp_path / "cache") == facts
    assert site.paths == [f"/{file.path}" for file in small_tinystories.values()]


def test_tinystories_moves_to_another_mirror_with_what_it_has(small_tinystories, site, tmp_path, monkeypatch):
    bring_tinystories(tmp_path / "corpus", tmp_path / "cache")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    bring_tinystories(tmp_path / "corpus", tmp_path / "cache")
    assert len(site.paths) == 2


def test_a_mirror_with_other_text_is_refused_and_leaves_no_corpus(small_tinystories, site, tmp_path):
    path = site.folder / small_tinystories["valid"].path
    path.write_bytes(path.read_bytes().replace(b"Held", b"Hold"))
    assert "SHA-256" in refusal(bring_tinystories, tmp_path / "corpus", tmp_path / "cache")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.skipif(not EXCERPT.exists(), reason="the shared description of the official files is not on this machine")
def test_the_pinned_files_are_the_documented_ones():
    description = EXCERPT.with_name("SOURCES.md").read_text(encoding="utf-8")
    assert f"revision `{sources.TINYSTORIES_REVISION}`" in description
    for file in sources.TINYSTORIES.values():
        assert f"/resolve/{sources.TINYSTORIES_REVISION}/" in file.path
        assert f"| {Path(file.path).name} | {file.size:,} | {file.sha256} |" in description


def test_documents_drawn_elsewhere_are_described_by_the_same_facts(tmp_path):
    facts = write_corpus(tmp_path, "pocket", iter(["one", "two"]), iter(["three"]))
    assert list(facts) == ["source", "train_documents", "train_bytes", "valid_documents", "valid_bytes", "sha256"]
    assert facts["train_bytes"] == 6


@pytest.mark.skipif(not EXCERPT.exists(), reason="the TinyStories excerpt is not on this machine")
def test_real_tinystories_are_split_whole(bring, tmp_path):
    facts = bring(EXCERPT, 0.02)
    assert facts["train_documents"] + facts["valid_documents"] == 11_332
    assert sum((tmp_path / "corpus" / f"{split}.txt").stat().st_size for split in ("train", "valid")) == EXCERPT.stat().st_size
