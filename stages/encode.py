"""Encode the corpus: data/tokens/{train,valid}.bin, metrics/encode.json and plots/vocabulary.csv."""

from personacore.files import write_json, write_text
from personacore.layout import TOKENIZER, TRAIN_TEXT, TRAIN_TOKENS, VALID_TEXT, VALID_TOKENS
from personacore.stage import Speed, run_stage
from personacore.tokenizer.encode import encode_corpus
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens
from personacore.tokenizer.usage import rank_frequency


def main(speed: Speed) -> None:
    facts: dict[str, object] = {}
    for split, text, tokens in (("train", TRAIN_TEXT, TRAIN_TOKENS), ("valid", VALID_TEXT, VALID_TOKENS)):
        count = encode_corpus(TOKENIZER, text, tokens)
        facts |= {
            f"{split}_documents": count.documents,
            f"{split}_tokens": count.tokens,
            f"{split}_bytes": count.bytes,
            f"{split}_used_ids": count.used_ids,
        }
    write_json("metrics/encode.json", facts)
    ranks = rank_frequency(open_tokens(TRAIN_TOKENS), load_tokenizer(TOKENIZER).vocab_size)
    write_text("plots/vocabulary.csv", "rank,count\n" + "".join(f"{rank},{count}\n" for rank, count in ranks))


if __name__ == "__main__":
    run_stage("encode", main)
