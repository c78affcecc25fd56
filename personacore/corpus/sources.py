"""Where a corpus comes from: the TinyStories files on the hub, or any text given by path or URL."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from personacore.corpus.documents import SEPARATOR, stream_documents, write_documents
from personacore.corpus.download import fetch
from personacore.errors import UserError
from personacore.files import sha256_of, write_text

HUB = "https://huggingface.co"
TINYSTORIES_REVISION = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"


class PinnedFile(NamedTuple):
    """A file of a dataset revision: its path on the hub, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


TINYSTORIES = {
    "train": PinnedFile(
        f"datasets/roneneldan/TinyStories/resolve/{TINYSTORIES_REVISION}/TinyStoriesV2-GPT4-train.txt",
        2_227_753_162,
        "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
    ),
    "valid": PinnedFile(
        f"datasets/roneneldan/TinyStories/resolve/{TINYSTORIES_REVISION}/TinyStoriesV2-GPT4-valid.txt",
        22_502_601,
        "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
    ),
}


def bring_tinystories(folder: Path, cache: Path) -> dict[str, str | int]:
    """Write TinyStories V2 (Eldan and Li, 2023) with its own split to `folder`, and return the facts of `write_corpus`.

    The originals stay in `cache`; the environment variable HF_ENDPOINT names a mirror of the hub to bring them from.
    """
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    originals = {}
    for split, file in TINYSTORIES.items():
        # Named after the hub, so that a transfer begun at one mirror is finished at another.
        originals[split] = cached_name(f"{HUB}/{file.path}", cache)
        fetch(f"{hub}/{file.path}", originals[split], size=file.size, sha256=file.sha256)
    return write_corpus(folder, "tinystories", stream_documents(originals["train"]), stream_documents(originals["valid"]))


def bring_text(source: str, valid_fraction: float, seed: int, folder: Path, cache: Path) -> dict[str, str | int]:
    """Split the text at a path or an http(s) URL by document into `folder`, and return the facts of `write_corpus`.

    A URL is downloaded to `cache` once; deleting it there brings the current version. Raises UserError for text that
    cannot be used, and for a split with an empty side.
    """
    path = _download_once(source, cache) if _is_url(source) else Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"data.source: {source} is not a file; give pocket, tinystories, the path of a text or an http(s) URL")
    _check_split(path, valid_fraction, seed)
    return write_corpus(
        folder,
        source,
        (text for text in stream_documents(path) if not is_validation(text, valid_fraction, seed)),
        (text for text in stream_documents(path) if is_validation(text, valid_fraction, seed)),
    )


def write_corpus(folder: Path, source: str, train: Iterable[str], valid: Iterable[str]) -> dict[str, str | int]:
    """Write `train.txt` and `valid.txt` of normalized documents; return what `metrics/corpus.json` says of any source.

    Bytes are those of the documents alone; `sha256` is that of the training file followed by the validation file.
    """
    train_path, valid_path = folder / "train.txt", folder / "valid.txt"
    train_count = write_documents(train_path, train)
    valid_count = write_documents(valid_path, valid)
    digest = hashlib.sha256()
    for path in (train_path, valid_path):
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return {
        "source": source,
        "train_documents": train_count.documents,
        "train_bytes": train_count.bytes,
        "valid_documents": valid_count.documents,
        "valid_bytes": valid_count.bytes,
        "sha256": digest.hexdigest(),
    }


def is_validation(text: str, valid_fraction: float, seed: int) -> bool:
    """Whether a document is held out: by a hash of seed and text, so that equal documents are always on the same side."""
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big") < valid_fraction * 2**64


def cached_name(url: str, cache: Path) -> Path:
    """Where a URL is kept: its hash tells URLs apart, its last part tells people what the file is."""
    basename = re.sub(r"[^\w.-]", "_", urlsplit(url).path.rpartition("/")[2])
    return cache / f"{hashlib.sha256(url.encode('utf-8')).hexdigest()[:16]}-{basename[-100:]}"


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _download_once(url: str, cache: Path) -> Path:
    """The cached file of `url`, trusted only with the SHA-256 that was noted when it was downloaded."""
    target = cached_name(url, cache)
    note = target.with_name(f"{target.name}.sha256")
    if not (target.is_file() and note.is_file() and note.read_text(encoding="utf-8").strip() == sha256_of(target)):
        fetch(url, target)
        write_text(note, f"{sha256_of(target)}\n")
    return target


def _check_split(path: Path, valid_fraction: float, seed: int) -> None:
    """Refuse a split with an empty side, reading only until both sides have a document."""
    found = {"training": 0, "validation": 0}
    for text in stream_documents(path):
        found["validation" if is_validation(text, valid_fraction, seed) else "training"] += 1
        if all(found.values()):
            return
    count = sum(found.values())
    if count == 1:
        raise UserError(f"{path}: no {SEPARATOR} between documents; a corpus needs two or more to hold some out")
    empty = min(found, key=found.get)
    raise UserError(f"{path}: data.valid_fraction {valid_fraction} leaves none of the {count} documents for {empty}; change it")
