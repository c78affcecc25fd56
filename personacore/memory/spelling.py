"""What people type, in the marks that the model has read."""

from personacore.memory.memory import Memory

APOSTROPHES = "\u2018\u2019\u201b\u00b4`\u02b9\u02bc\u2032\uff07"  # typographic ones, accents and primes
QUOTES = "\u201c\u201d\u201e\u201f\u2033"
MARKS = str.maketrans(dict.fromkeys(APOSTROPHES, "'") | dict.fromkeys(QUOTES, '"'))


def plain(text: str) -> str:
    """The text with plain quotation marks, and one space between words.

    >>> plain(" My dog\\u2019s  name is Rex. ")
    "My dog's name is Rex."
    """
    return " ".join(text.translate(MARKS).split())


class TypedMemory(Memory):
    """A memory that reads what people type: typographic marks and stray white space mean what plain ones do."""

    def checked(self, text: str) -> str:
        """The text in plain marks, if it can be read.

        Raises:
            UserError: it is empty or too long.
        """
        return super().checked(plain(text))
