import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personacore.evaluation.samples import write_samples
from personacore.evaluation.stories import copied_fraction, distinct_words, repeated_sentence_fraction
from personacore.generation.generate import generate
from personacore.generation.sampling import Sampling
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import Tokenizer

BYTES = Tokenizer([])
WARM = Sampling(1.0, top_p=0.95)


def toy_model() -> GPT:
    model = GPT(GPTConfig(vocab_size=264, n_layer=1, n_head=2, n_embd=16, block_size=16))
    model.reset_parameters(0)
    return model.eval()


def test_distinct_words_are_counted_over_all_texts_whatever_their_case():
    assert distinct_words(["Tom ran. TOM ran home!", "He didn't run; he ran."]) == 6
    assert distinct_words(["Ölaf ölaf", "123 4 --"]) == 1
    assert distinct_words([]) == 0


def test_repeated_sentences_are_counted_within_a_text_only():
    assert repeated_sentence_fraction(["One. Two. Three.", "One. Two."]) == 0
    assert repeated_sentence_fraction(["No! No! No! Yes."]) == 0.5
    assert repeated_sentence_fraction(["It rained.\nIt rained."]) == 0.5
    assert repeated_sentence_fraction(['"Help!" he cried. "Help!" he cried.']) == 0.5
    assert repeated_sentence_fraction(["no end", ""]) == 0


IDS = st.lists(st.integers(0, 2), max_size=30)


@given(st.lists(IDS, max_size=4), IDS, st.integers(1, 5), st.integers(1, 12))
@settings(max_examples=300)
def test_copied_ngrams_equal_those_found_by_comparing_all(samples, corpus, n, chunk):
    grams = [tuple(sample[start : start + n]) for sample in samples for start in range(len(sample) - n + 1)]
    known = {tuple(corpus[start : start + n]) for start in range(len(corpus) - n + 1)}
    expected = sum(gram in known for gram in grams) / len(grams) if grams else 0.0
    assert copied_fraction(samples, np.array(corpus, dtype="<u2"), n, chunk) == pytest.approx(expected)


def test_a_copy_is_found_across_chunks_and_in_a_file_on_disk(tmp_path):
    corpus = np.random.default_rng(0).integers(0, 4096, 5000).astype("<u2")
    corpus.tofile(tmp_path / "train.bin")
    stored = np.memmap(tmp_path / "train.bin", dtype="<u2", mode="r")
    for chunk in (100, 4096, 1 << 22):
        assert copied_fraction([corpus[90:130].tolist(), corpus[-20:].tolist()], stored, chunk=chunk) == 1
        assert copied_fraction([corpus[::-1].tolist()], stored, chunk=chunk) == 0


def test_samples_are_what_generate_writes():
    model = toy_model()
    samples = write_samples(model, BYTES, "Once", 3, sampling=WARM, max_new_tokens=20, seed=4)
    prompts = torch.tensor([[BYTES.end_of_text, *BYTES.encode("Once")]] * 3)
    forbidden = range(BYTES.end_of_text + 1, BYTES.vocab_size)
    steps = generate(model, prompts, max_new_tokens=20, sampling=WARM, seed=4, stop=BYTES.end_of_text, forbidden=forbidden)
    rows = torch.stack(list(steps), dim=1).tolist()
    ends = [row.index(BYTES.end_of_text) if BYTES.end_of_text in row else 20 for row in rows]
    assert [sample.text for sample in samples] == [BYTES.decode(row[:end]) for row, end in zip(rows, ends, strict=True)]
    assert [sample.tokens for sample in samples] == ends
    assert {sample.prompt for sample in samples} == {"Once"}
    assert {sample.kind for sample in samples} == {"temperature 1, top-p 0.95"}


def test_equal_seeds_give_equal_samples_and_the_rows_differ():
    first, again, other = (
        write_samples(toy_model(), BYTES, "", 6, sampling=WARM, max_new_tokens=12, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len({sample.text for sample in first}) == 6


def test_a_greedy_sample_says_so():
    (sample,) = write_samples(toy_model(), BYTES, "", 1, sampling=Sampling(0.0), max_new_tokens=3, seed=0)
    assert sample.kind == "greedy"


@pytest.mark.parametrize("preference", [5.0, -5.0])
def test_a_sample_is_finished_when_the_model_ended_it(preference):
    model = toy_model()
    with torch.no_grad():
        model.ln_f.bias.fill_(1.0)
        model.wte.weight[BYTES.end_of_text] = preference
    samples = write_samples(model, BYTES, "a", 4, sampling=WARM, max_new_tokens=5, seed=0)
    assert {(sample.finished, sample.tokens) for sample in samples} == {(True, 0) if preference > 0 else (False, 5)}
