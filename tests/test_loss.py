import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personacore.evaluation.loss import Loss, document_loss, split_documents, windows
from personacore.model.gpt import GPT, GPTConfig
from tests.toys import randomized

END = 30
TOY = GPTConfig(vocab_size=31, n_layer=2, n_head=2, n_embd=8, block_size=8)


def toy_model(config: GPTConfig = TOY) -> GPT:
    return randomized(GPT(config), 0.4).eval()


def toy_documents(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.append(rng.integers(0, END, length - 1), END).astype("<u2") for length in lengths]


def one_token_at_a_time(model: GPT, document: np.ndarray) -> float:
    """The definition: each token from what stands before it, in windows of a block that move by half a block."""
    block, half = model.config.block_size, model.config.block_size // 2
    text = [END, *document.tolist()]
    nats = 0.0
    for place in range(1, len(text)):
        begin = 0
        while place > begin + block:
            begin += half
        logits = model(torch.tensor([text[begin:place]]))[0, -1]
        nats -= logits.double().log_softmax(0)[text[place]].item()
    return nats


@pytest.mark.parametrize(
    "changes", [{}, {"block_size": 7}, {"position": "none", "tie_weights": False}], ids=["toy", "odd block", "no position"]
)
@torch.no_grad()
def test_the_loss_equals_that_of_one_token_at_a_time(changes):
    model = toy_model(dataclasses.replace(TOY, **changes))
    for length in (1, 2, 7, 8, 9, 12, 13, 16, 17, 40):
        documents = toy_documents([length])
        loss = document_loss(model, documents, END)
        assert loss.nats == pytest.approx(one_token_at_a_time(model, documents[0]), rel=1e-5)
        assert loss.tokens == length


@torch.no_grad()
def test_documents_add_up_whatever_the_batch():
    model, documents = toy_model(), toy_documents([5, 8, 1, 30, 17, 9, 2, 8, 64])
    expected = sum(one_token_at_a_time(model, document) for document in documents)
    for batch_tokens in (1, 7, 16, 50, 10_000):
        loss = document_loss(model, documents, END, batch_tokens)
        assert loss.nats == pytest.approx(expected, rel=1e-5)
        assert loss.tokens == 144


def test_the_order_of_documents_does_not_matter():
    model, documents = toy_model(), toy_documents([5, 8, 30, 17])
    assert document_loss(model, documents[::-1], END).nats == pytest.approx(document_loss(model, documents, END).nats, rel=1e-6)


def test_the_same_sweep_gives_the_same_digits():
    model, documents = toy_model(), toy_documents([5, 8, 30, 17])
    assert document_loss(model, documents, END) == document_loss(model, documents, END)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary():
    model = toy_model()
    with torch.no_grad():
        model.wte.weight.zero_()
    loss = document_loss(model, toy_documents([9, 20]), END)
    assert loss.nats_per_token == pytest.approx(math.log(31))
    assert loss.perplexity == pytest.approx(31)


def test_bytes_are_those_of_the_text_without_its_end():
    token_bytes = [*range(1, 31), 13]  # the end of the text would count 13
    documents = [np.array([0, 4, 9, END], dtype="<u2"), np.array([END], dtype="<u2"), np.array([29] * 20 + [END], dtype="<u2")]
    loss = document_loss(toy_model(), documents, END, token_bytes=token_bytes)
    assert loss.bytes == (1 + 5 + 10) + 0 + 20 * 30
    assert loss.tokens == 4 + 1 + 21
    assert loss.bits_per_byte == pytest.approx(loss.nats / math.log(2) / loss.bytes)


def test_the_three_measures_agree_on_a_coin_a_byte():
    loss = Loss(nats=math.log(2) * 800, tokens=400, bytes=800)
    assert loss.bits_per_byte == pytest.approx(1)
    assert loss.nats_per_token == pytest.approx(2 * math.log(2))
    assert loss.perplexity == pytest.approx(4)


def test_a_model_is_left_in_the_mode_it_was_in_and_scored_without_dropout():
    model, documents = toy_model(dataclasses.replace(TOY, dropout=0.5)).train(), toy_documents([5, 20])
    assert document_loss(model, documents, END) == document_loss(model.eval(), documents, END)
    document_loss(model.train(), documents, END)
    assert model.training


@given(st.integers(1, 200), st.integers(2, 40))
@settings(max_examples=200)
def test_windows_score_every_token_once_with_half_a_block_before_it(length, block_size):
    scored = []
    for window in windows(length, block_size):
        assert 0 <= window.begin <= window.scored < window.end <= length
        assert window.end - window.begin <= block_size
        # What stands before a token, the <|endoftext|> before the document included.
        assert window.begin == 0 or window.scored - window.begin + 1 >= block_size // 2
        scored += range(window.scored, window.end)
    assert scored == list(range(length))


def test_a_token_file_is_split_after_each_end_of_text():
    tokens = np.array([1, 2, END, END, 3, END, 4], dtype="<u2")
    assert [document.tolist() for document in split_documents(tokens, END)] == [[1, 2, END], [END], [3, END]]
    assert [document.tolist() for document in split_documents(tokens, END, limit=1)] == [[1, 2, END]]
    assert split_documents(np.array([1, 2], dtype="<u2"), END) == []
