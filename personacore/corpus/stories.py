"""The built-in corpus: stories drawn from the grammar, every one different."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from personacore.corpus.grammar import Story
from personacore.corpus.markup import load_grammar
from personacore.corpus.sources import write_corpus
from personacore.errors import UserError
from personacore.processes import ordered_map

CHUNK = 256  # stories that a process draws at a time


def draw_story(key: str) -> Story:
    """The story that a key stands for; the same key always tells the same story."""
    return load_grammar().sample(random.Random(key))


def draw_all(keys: Sequence[str]) -> list[Story]:
    """The stories that keys stand for."""
    return [draw_story(key) for key in keys]


def draw_stories(seed: int, split: str, count: int, seen: set[bytes], workers: int | None = None) -> Iterator[Story]:
    """`count` stories of a split, none of them in `seen` (digests of texts), to which they are added.

    Raises:
        UserError: the grammar keeps telling the same stories, so that `count` different ones are not to be had.
    """
    found = 0
    keys = [f"{seed}/{split}/{number}" for number in range(2 * count + 100)]
    chunks = (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))
    with tqdm(total=count, desc=f"{split} stories", unit="story", mininterval=1) as bar:
        for story in chain.from_iterable(ordered_map(draw_all, chunks, workers)):
            digest = hashlib.blake2b(story.text.encode(), digest_size=16).digest()
            if digest in seen:
                continue
            seen.add(digest)
            yield story
            found += 1
            bar.update()
            if found == count:
                return
    raise UserError(f"data.{split}_documents: the grammar has no {count} different stories; ask for fewer")


def bring_stories(seed: int, train_documents: int, valid_documents: int, folder: Path) -> dict[str, str | int | float]:
    """Draw both splits into `folder` and describe them as metrics/corpus.json does.

    `source_bits_per_byte` is the information of the draws behind the validation stories over their bytes: no model of
    this source can score below it, but for what chance or an ambiguous grammar gives away.
    """
    seen: set[bytes] = set()
    bits = {"train": 0.0, "valid": 0.0}

    def texts(split: str, count: int) -> Iterator[str]:
        for story in draw_stories(seed, split, count, seen):
            bits[split] += story.bits
            yield story.text

    facts = write_corpus(folder, "pocket", texts("train", train_documents), texts("valid", valid_documents))
    return facts | {
        "source_bits_per_byte": bits["valid"] / facts["valid_bytes"],
        "train_source_bits_per_byte": bits["train"] / facts["train_bytes"],
        "plots": len(load_grammar().plots),
    }
