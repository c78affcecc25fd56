import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from personacore.corpus.documents import write_documents
from personacore.errors import UserError
from personacore.tokenizer import batches
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.encode import EncodeCount, encode_corpus
from personacore.tokenizer.files import load_tokenizer, save_tokenizer
from personacore.tokenizer.train import count_words, train_merges

STORIES = [
    "Once upon a time there was a cat.\nThe cat said: <|user|> is not a command.",
    "The dog was sad. Then the dog was happy.",
    "昔々、猫がいました。 👩‍👩‍👧",
]


@pytest.fixture
def tokenizer_path(tmp_path) -> Path:
    merges = train_merges(count_words(STORIES), 285)
    save_tokenizer(Tokenizer(merges), tmp_path / "tokenizer.json", {})
    return tmp_path / "tokenizer.json"


def test_each_document_is_followed_by_one_end_of_text(tokenizer_path, tmp_path):
    write_documents(tmp_path / "corpus.txt", STORIES)
    count = encode_corpus(tokenizer_path, tmp_path / "corpus.txt", tmp_path / "corpus.bin", workers=1)
    tokenizer = load_tokenizer(tokenizer_path)
    expected = [token_id for story in STORIES for token_id in [*tokenizer.encode(story), tokenizer.end_of_text]]
    assert np.fromfile(tmp_path / "corpus.bin", dtype="<u2").tolist() == expected
    assert count == EncodeCount(
        documents=3,
        tokens=len(expected),
        bytes=sum(len(story.encode()) for story in STORIES),
        used_ids=len(set(expected)),
    )


def test_bytes_and_counts_do_not_depend_on_the_number_of_workers(tokenizer_path, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_CHARACTERS", 200)
    rng = random.Random(0)
    write_documents(tmp_path / "corpus.txt", [" ".join(rng.choices(STORIES, k=rng.randint(1, 9))) for _ in range(100)])
    results = []
    for workers in (1, 2, 3):
        count = encode_corpus(tokenizer_path, tmp_path / "corpus.txt", tmp_path / "corpus.bin", workers)
        results.append((count, (tmp_path / "corpus.bin").read_bytes()))
    assert results[0] == results[1] == results[2]
    assert results[0][0].documents == 100


def test_a_failure_leaves_the_last_good_file_and_nothing_else(tokenizer_path, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_CHARACTERS", 10)
    target = tmp_path / "tokens" / "corpus.bin"
    target.parent.mkdir()
    target.write_bytes(b"good")
    (tmp_path / "corpus.txt").write_bytes(b"One day.<|endoftext|>Two days.<|endoftext|>\xff<|endoftext|>")
    with pytest.raises(UserError, match=r"corpus\.txt: byte 43 is not UTF-8"):
        encode_corpus(tokenizer_path, tmp_path / "corpus.txt", target, workers=1)
    assert [(file.name, file.read_bytes()) for file in target.parent.iterdir()] == [("corpus.bin", b"good")]


def test_a_missing_corpus_is_refused_by_name(tokenizer_path, tmp_path):
    with pytest.raises(UserError, match=r"absent\.txt: "):
        encode_corpus(tokenizer_path, tmp_path / "absent.txt", tmp_path / "corpus.bin", workers=1)


def test_a_vocabulary_beyond_uint16_is_refused(tmp_path):
    pairs = [(left, right) for left in range(256) for right in range(256)]
    save_tokenizer(Tokenizer(pairs[: 65536 - 264]), tmp_path / "largest.json", {})
    save_tokenizer(Tokenizer(pairs[: 65536 - 263]), tmp_path / "larger.json", {})
    write_documents(tmp_path / "corpus.txt", ["\xff"])
    encode_corpus(tmp_path / "largest.json", tmp_path / "corpus.txt", tmp_path / "corpus.bin", workers=1)
    assert np.fromfile(tmp_path / "corpus.bin", dtype="<u2").tolist() == [256 + 0xC3 * 256 + 0xBF, 65536 - 8]
    with pytest.raises(UserError, match=r"larger\.json: 65537 ids do not fit in uint16"):
        encode_corpus(tmp_path / "larger.json", tmp_path / "corpus.txt", tmp_path / "corpus.bin", workers=1)


PEAK_MEMORY = """
import resource, sys
from pathlib import Path
from personacore.tokenizer import blocks
from personacore.tokenizer.encode import encode_corpus

if __name__ == "__main__":
    blocks.COMPILED_BYTES = int(sys.argv[1])
    encode_corpus(*map(Path, sys.argv[2:]), workers=2)
    print(*(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


# On Linux a process starts with the peak of the one that started it, and that of pytest is large: a small one in between.
START = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"


@pytest.mark.parametrize("compiled_bytes", [0, sys.maxsize], ids=["compiled", "plain"])
def test_memory_does_not_grow_with_the_corpus(tokenizer_path, tmp_path, compiled_bytes):
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 9))) for _ in range(5000)]
    documents = [" ".join(rng.choices(words, k=2000)) for _ in range(830)]
    script = tmp_path / "peak_memory.py"
    script.write_text(PEAK_MEMORY)
    peaks = []
    for megabytes in (10, 100):
        corpus = tmp_path / f"{megabytes}.txt"
        write_documents(corpus, (document for _ in range(megabytes // 10) for document in documents))
        assert 0.9e6 * megabytes < corpus.stat().st_size < 1.1e6 * megabytes
        command = [sys.executable, "-c", START, script, str(compiled_bytes), tokenizer_path, corpus, tmp_path / "corpus.bin"]
        root = str(Path(__file__).parents[1])
        run = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True)
        peaks.append([int(peak) for peak in run.stdout.split()])
    (small, small_worker), (large, large_worker) = peaks
    assert large < 1.2 * small
    assert large_worker <= 1.2 * small_worker  # threads, which compiled code runs in, have no memory of their own
