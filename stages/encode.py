"""Encode the corpus: data/tokens/{train,valid}.bin, metrics/encode.json and plots/vocabulary.csv."""

from pathlib import Path

from personacore.files import write_json, write_text
from personacore.stage import Speed, run_stage
from personacore.tokenizer.encode import encode_corpus
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.tokenizer.usage import rank_frequency

TOKENIZER, CORPUS, TOKENS = Path("data/tokenizer/tokenizer.json"), Path("data/corpus"), Path("data/tokens")


def main(speed: Speed) -> None:
    facts: dict[str, object] = {}
    for split in ("train", "valid"):
        count = encode_corpus(TOKENIZER, CORPUS / f"{split}.txt", TOKENS / f"{split}.bin")
        facts |= {
            f"{split}_documents": count.documents,
            f"{split}_tokens": count.tokens,
            f"{split}_bytes": count.bytes,
            f"{split}_used_ids": count.used_ids,
        }
    write_json("metrics/encode.json", facts)
    ranks = rank_frequency(open_tokens(TOKENS / "train.bin"), load_tokenizer(TOKENIZER).vocab_size)
    write_text("plots/vocabulary.csv", "rank,count\n" + "".join(f"{rank},{count}\n" for rank, count in ranks))


if __name__ == "__main__":
    run_stage("encode", main)
