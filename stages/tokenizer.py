"""Train the tokenizer: data/tokenizer, metrics/tokenizer.json and plots/tokens_per_word.csv."""

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.documents import stream_documents
from personacore.files import sha256_of, write_json, write_text
from personacore.layout import PRETRAIN, TOKENIZER, TRAIN_TEXT, VALID_TEXT, VOCABULARY
from personacore.params import load_params
from personacore.stage import Speed, run_stage
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import save_tokenizer, write_vocabulary
from personacore.tokenizer.train import count_file, count_words, train_merges
from personacore.tokenizer.usage import bytes_per_token, tokens_per_word


def main(speed: Speed) -> None:
    params = load_params()
    counts = count_file(TRAIN_TEXT)
    for turns in read_conversations(PRETRAIN):
        counts.update(count_words(text for turn in turns for text in (turn.user, turn.assistant)))
    tokenizer = Tokenizer(train_merges(counts, params.tokenizer.vocab_size))
    # The commit of the code is left out: equal merges are then equal bytes, and what stands on them is not made again.
    save_tokenizer(tokenizer, TOKENIZER, {"made_from": {str(path): sha256_of(path) for path in (TRAIN_TEXT, PRETRAIN)}})
    write_vocabulary(tokenizer, VOCABULARY)
    shares = tokens_per_word(tokenizer, counts)
    lines = "".join(f"{tokens},{share:.6g}\n" for tokens, share in shares.items())
    write_text("plots/tokens_per_word.csv", f"tokens,share_of_words\n{lines}")
    facts = {
        "vocab_size": tokenizer.vocab_size,
        "live_ids": tokenizer.vocab_size,  # the tokenizer numbers only ids that it can decode
        "live_fraction": tokenizer.vocab_size / params.tokenizer.vocab_size,
        "merges": len(tokenizer.merges),
        "distinct_words": len(counts),
        "whole_word_fraction": shares.get(1, 0.0),
        "valid_bytes_per_token": bytes_per_token(tokenizer, stream_documents(VALID_TEXT)),
    }
    write_json("metrics/tokenizer.json", facts)


if __name__ == "__main__":
    run_stage("tokenizer", main)
