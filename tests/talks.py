"""Conversations, a tokenizer that was trained on them and a tiny model that has learned nothing, for tests of what talks."""

from functools import cache

from personacore.corpus.dialogue.conversation import draw_conversation
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.values import Values
from personacore.memory.facts import Fact
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges

VALUES = Values()
TALKS = [draw_conversation(f"memory/{number}", Splits.all("pretrain"), 300, VALUES) for number in range(30)]
DOG = Fact("Your dog's name", "Biscuit")
JOB = Fact("Your job", "baker")


@cache
def trained_tokenizer() -> Tokenizer:
    return Tokenizer(
        train_merges(count_words(text for turns in TALKS for turn in turns for text in (turn.user, turn.assistant)), 600)
    )


def untrained_model() -> GPT:
    model = GPT(GPTConfig(trained_tokenizer().vocab_size, n_layer=2, n_head=2, n_embd=32, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    return model.eval()
