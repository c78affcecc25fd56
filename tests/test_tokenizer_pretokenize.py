import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from personacore.tokenizer.pretokenize import PATTERN, split_words

# The oracles' Unicode tables are older than the `regex` package's, so characters that Python does not know are left out.
KNOWN_CHARACTERS = st.characters(exclude_categories=("Cs", "Cn", "Co"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("She's here, we'll go", ["She", "'s", " here", ",", " we", "'ll", " go"]),
        ("SHE'S", ["SHE", "'", "S"]),  # the contractions are lower case only
        ("a  b", ["a", " ", " b"]),
        ("end \n\n", ["end", " \n\n"]),
        ("one\r\ntwo", ["one", "\r", "\n", "two"]),
        ("room 101b", ["room", " ", "1", "0", "1", "b"]),
        ('"Hi!" he', ['"', "Hi", '!"', " he"]),
        ("été, 日本語", ["été", ",", " 日本語"]),
    ],
)
def test_words_are_those_of_gpt2s_pattern_but_for_digits(text, words):
    assert split_words(text) == words


@given(st.text())
def test_joined_words_are_the_text(text):
    assert "".join(split_words(text)) == text


@given(st.text(KNOWN_CHARACTERS))
def test_words_are_where_the_tokenizers_library_puts_them(text):
    spans = [span for _, span in Split(Regex(PATTERN), "isolated").pre_tokenize_str(text)]
    assert split_words(text) == [text[start:end] for start, end in spans]
