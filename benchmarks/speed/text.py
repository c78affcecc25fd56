"""Tokenizers beside `tokenizers` and `tiktoken`: learning merges from a file, and encoding a file into uint16."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
import tiktoken
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from benchmarks.speed.pairs import versus
from personacore.corpus.documents import stream_documents
from personacore.export.huggingface import byte_letters, tokenizer_file
from personacore.files import write_json
from personacore.layout import TOKENIZER, TRAIN_TEXT
from personacore.tokenizer.bpe import Tokenizer as ByteTokenizer
from personacore.tokenizer.encode import encode_corpus
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.pretokenize import PATTERN
from personacore.tokenizer.train import count_file, train_merges

END = "<|endoftext|>"

Encoder = Callable[[list[str]], Iterable[Sequence[int] | np.ndarray]]


def excerpt(folder: Path, megabytes: int) -> Path:
    """The first megabytes of the corpus, in whole documents; a smaller corpus is taken again and again."""
    file, size = folder / "text.txt", 0
    with file.open("w", encoding="utf-8") as out:
        for document in chain.from_iterable(stream_documents(TRAIN_TEXT) for _ in count()):
            size += out.write(document + END)
            if size >= megabytes * 1_000_000:
                break
    return file


def learning(megabytes: int, peer: str, vocab_size: int, repeats: int) -> dict[str, float | int]:
    """From a file to merges, over `tokenizers` or `rustbpe`, on all cores each."""
    with tempfile.TemporaryDirectory() as folder:
        file = excerpt(Path(folder), megabytes)

        def rustbpe() -> None:
            from rustbpe import Tokenizer as RustTokenizer

            documents = iter(file.read_text(encoding="utf-8").split(END))
            RustTokenizer().train_from_iterator(documents, vocab_size=vocab_size - 8, pattern=PATTERN)

        def tokenizers() -> None:
            learner = Tokenizer(models.BPE())
            split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
            learner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
            alphabet = sorted(byte_letters())
            trainer = trainers.BpeTrainer(vocab_size=vocab_size - 8, initial_alphabet=alphabet, show_progress=False)
            learner.train_from_iterator(file.read_text(encoding="utf-8").split(END), trainer)

        theirs = {"rustbpe": rustbpe, "tokenizers": tokenizers}[peer]
        return versus(lambda: _learn(file, vocab_size), theirs, repeats, per=megabytes)


def _learn(file: Path, vocab_size: int) -> None:
    train_merges(count_file(file), vocab_size)


def encoding(megabytes: int, peer: str, workers: int, repeats: int) -> dict[str, float | int]:
    """From a file to a file of uint16 ids, over `tiktoken` or `tokenizers` with the same merges.

    Theirs takes one document after another, or with more workers than one all of them in a batch on as many threads.
    """
    tokenizer = load_tokenizer(TOKENIZER)
    with tempfile.TemporaryDirectory() as folder:
        file, ids = excerpt(Path(folder), megabytes), Path(folder) / "ids.bin"
        encoded = _tiktoken(tokenizer, workers) if peer == "tiktoken" else _tokenizers(tokenizer, Path(folder), workers)

        def theirs() -> None:
            documents = file.read_text(encoding="utf-8").split(END)
            found = [np.append(one, tokenizer.end_of_text) for one in encoded(documents)]
            np.concatenate(found).astype("<u2").tofile(ids)

        found = versus(lambda: _encode(file, ids, workers), theirs, repeats, per=megabytes)
    return {**found, "threads": workers}


def _encode(file: Path, ids: Path, workers: int) -> None:
    encode_corpus(TOKENIZER, file, ids, workers)


def _tiktoken(tokenizer: ByteTokenizer, workers: int) -> Encoder:
    ranks = {tokenizer.token_bytes(number): number for number in range(tokenizer.end_of_text)}
    encoding = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    encode = partial(encoding.encode_to_numpy, disallowed_special=())

    def encoded(documents: list[str]) -> Iterable[np.ndarray]:
        if workers == 1:
            return map(encode, documents)
        with ThreadPoolExecutor(workers) as pool:  # it lets go of the interpreter
            return pool.map(encode, documents, chunksize=256)

    return encoded


def _tokenizers(tokenizer: ByteTokenizer, folder: Path, workers: int) -> Encoder:
    write_json(folder / "tokenizer.json", dict(tokenizer_file(tokenizer)))
    peer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if workers > 1:  # on all cores
        return lambda documents: (one.ids for one in peer.encode_batch_fast(documents, add_special_tokens=False))
    return lambda documents: (peer.encode(document, add_special_tokens=False).ids for document in documents)
