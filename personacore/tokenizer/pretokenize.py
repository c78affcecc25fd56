"""Text to words: the pieces that byte-pair merges never cross."""

import regex

# GPT-2's pattern (openai/gpt-2, src/encoder.py): contractions, then letters or anything else with the space before them,
# then white space; of a run of spaces the last one belongs to the word behind it. But every digit is a word of its own,
# without a space: a number is then spelled the same way wherever it stands, and can be copied and remembered digit by digit.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_find_words = regex.compile(PATTERN).findall


def split_words(text: str) -> list[str]:
    """The words of `text` in order; joined they are `text` again.

    >>> split_words("It's  a 3-day trip!")
    ['It', "'s", ' ', ' a', ' ', '3', '-', 'day', ' trip', '!']
    """
    return _find_words(text)
