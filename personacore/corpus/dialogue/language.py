"""How facts are said: owners, attributes, noun phrases, statements and answers.

A fact is a key ("Your sister's town") and a value ("Brindlemoor"); the assistant says it as "Your sister's town is
Brindlemoor." Whatever a question looks like, its answer begins with the key, so that what is looked up stands written out
before its value, in the same words each time.
"""

import dataclasses
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from personacore.corpus.dialogue.data import read_data
from personacore.corpus.dialogue.splits import SPLITS, Split, split_list, split_of

UNKNOWN = "unknown to me"
NAMING = "That is"  # before what a value is
FORGOTTEN = "forgotten"
NOTHING = "I know nothing about you yet."
PLAIN = 4  # how often the plainest frames stand in the list that is drawn from
QUESTION_WORDS = ("where", "what", "how", "when", "which", "who")

_MARK = re.compile(r"\{(a V|[A-Z])\}|\[([^|\]]*)\|([^\]]*)\]")


@dataclass(frozen=True)
class Owner:
    """Somebody or something with attributes: how a text refers to it, and how its facts are keyed.

    `teller` is whose it is: "" for the person who talks, else a name. `relation` is "" for the teller.
    """

    teller: str
    relation: str
    kind: str
    subject: str
    possessive: str
    object: str
    first: bool = False

    @property
    def key_start(self) -> str:
        """What the keys of its facts begin with.

        >>> owner_of("", "sister").key_start, owner_of("Tom", "").key_start, owner_of("", "parents").key_start
        ("Your sister's", "Tom's", "Your parents'")
        """
        whose = f"{self.teller}'s" if self.teller else "Your"
        return f"{whose} {possessive_of(self.relation)}" if self.relation else whose

    @property
    def plural(self) -> bool:
        """Whether it is several people."""
        return self.kind == "people"

    def called(self, subject: str, possessive: str, object_: str) -> "Owner":
        """The same owner in other words, such as pronouns."""
        return Owner(self.teller, self.relation, self.kind, subject, possessive, object_)


@dataclass(frozen=True)
class Attribute:
    """What can be known of an owner, and every way to say it, by split."""

    name: str
    of: tuple[str, ...]
    value: str
    nouns: dict[Split, tuple[str, ...]]
    asks: dict[Split, tuple[str, ...]]
    says: dict[Split, tuple[str, ...]]


@dataclass(frozen=True)
class Frames:
    """The frames of one split."""

    any: tuple[str, ...]
    nominal: tuple[str, ...]
    telling: tuple[str, ...]
    correcting: tuple[str, ...]
    verifying: tuple[str, ...]
    reversing: tuple[str, ...]
    combining: tuple[str, ...]
    forgetting: tuple[str, ...]
    repeating: tuple[str, ...]
    recounting: tuple[str, ...]

    def some(self, count: int) -> "Frames":
        """The first `count` frames of questions, of both kinds in their proportion, but one for every noun phrase at least."""
        share = count / (len(self.any) + len(self.nominal))
        most = max(1, round(share * len(self.any)))
        return dataclasses.replace(self, any=self.any[:most], nominal=self.nominal[: max(0, count - most)])


PRONOUNS = {
    "she": ("she", "her", "her"), "he": ("he", "his", "him"), "it": ("it", "its", "it"), "they": ("they", "their", "them"),
}  # fmt: skip
PLURAL_VERBS = {"am": "are", "was": "were"}  # the others are as with "I"


@lru_cache
def attributes() -> dict[str, Attribute]:
    """All attributes by name."""
    found = {}
    for name, raw in read_data("attributes").items():
        ways = {kind: split_list(f"{kind} {name}", raw[kind]) for kind in ("nouns", "asks", "says")}
        found[name] = Attribute(name, tuple(raw["of"].split()), raw["value"], **ways)
    return found


@lru_cache
def frames() -> dict[Split, Frames]:
    """All frames by split; in PRETRAIN the plainest stand several times, as people use them more often."""
    texts = {kind: listed for kind, listed in read_data("frames").items() if kind != "openers"}
    parts = {kind: split_list(f"frame {kind}", listed) for kind, listed in texts.items()}
    plain = {kind: tuple(dict.fromkeys(text[1:] for text in listed if text[0] == "!")) for kind, listed in texts.items()}
    more = {split: PLAIN - 1 if split == "pretrain" else 0 for split in SPLITS}
    return {split: Frames(**{kind: parts[kind][split] + more[split] * plain[kind] for kind in texts}) for split in SPLITS}


@lru_cache
def teaching_frames() -> tuple[Frames, Frames]:
    """The PRETRAIN frames in two parts: those that memories are taught with, and those that no teaching uses."""
    parts = {kind: split_list(f"teaching {kind}", texts) for kind, texts in vars(frames()["pretrain"]).items()}
    used = Frames(**{kind: part["pretrain"] for kind, part in parts.items()})
    return used, Frames(**{kind: part["calibration"] + part["evaluation"] for kind, part in parts.items()})


@lru_cache
def openers() -> tuple[str, ...]:
    """What may stand before a question or a statement, as often as listed."""
    return tuple(read_data("frames")["openers"])


@lru_cache
def relations() -> dict[str, tuple[str, str]]:
    """The kind (person, people, pet, thing) and the pronouns (she, he, they, it, either) of each relation."""
    raw = read_data("owners")
    return {word: (kind, pronoun) for kind, groups in raw.items() for pronoun, words in groups.items() for word in words}


@lru_cache
def slots() -> dict[Split, tuple[tuple[str, str], ...]]:
    """Every pair of a relation ("" for oneself) and an attribute, by split."""
    kinds = {"": "person"} | {relation: kind for relation, (kind, _) in relations().items()}
    pairs = [(relation, a.name) for relation, kind in kinds.items() for a in attributes().values() if kind in a.of]
    parts: dict[Split, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for relation, name in pairs:
        parts[split_of("slot", f"{relation}'s {name}")].append((relation, name))
    return {split: tuple(pairs) for split, pairs in parts.items()}


def owner_of(teller: str, relation: str) -> Owner:
    """The owner that a teller ("" or a name) calls by a relation ("" for the teller)."""
    if not relation:
        return (
            Owner(teller, "", "person", teller, f"{teller}'s", teller)
            if teller
            else Owner("", "", "person", "I", "my", "me", True)
        )
    words = f"{teller}'s {relation}" if teller else f"my {relation}"
    kind = relations()[relation][0] if relation in relations() else "thing"
    return Owner(teller, relation, kind, words, possessive_of(words), words)


def possessive_of(words: str) -> str:
    """The words with an apostrophe, and with an s unless they are a relation's plural.

    >>> possessive_of("my sister"), possessive_of("my parents"), possessive_of("Iris")
    ("my sister's", "my parents'", "Iris's")
    """
    several = relations().get(words.rpartition(" ")[2], ("", ""))[0] == "people"
    return f"{words}'" if several and words.endswith("s") else f"{words}'s"


def pronoun_of(owner: Owner, rng: random.Random) -> Owner:
    """The owner as a second mention calls it."""
    if owner.first:
        return owner
    kind = relations()[owner.relation][1] if owner.relation in relations() else "either"
    return owner.called(*PRONOUNS[rng.choice(("she", "he")) if kind == "either" else kind])


def fits(template: str, owner: Owner) -> bool:
    """Whether the template may speak of this owner: `~` keeps it from "I", `@` keeps it for "I", and `{N}` needs one noun."""
    if template[0] in "~@" and owner.first == (template[0] == "~"):
        return False
    return "{N}" not in template or (bool(owner.relation) and not owner.plural)


def fill(template: str, owner: Owner, value: str = "") -> str:
    """The template about an owner.

    >>> fill("{S} [live|lives] in {V}", owner_of("", "sister"), "Brindlemoor")
    'my sister lives in Brindlemoor'
    >>> fill("{S} [am|is] afraid of {V}", owner_of("", "parents"), "snakes")
    'my parents are afraid of snakes'
    >>> fill("~{H} {N} called {V}", owner_of("", "aunt"), "Ottoline")
    'I have an aunt called Ottoline'
    """

    def write(mark: re.Match[str]) -> str:
        if mark.group(1) is None:
            if owner.plural:
                return PLURAL_VERBS.get(mark.group(2), mark.group(2))
            return mark.group(2) if owner.first else mark.group(3)
        return {
            "S": owner.subject,
            "P": owner.possessive,
            "O": owner.object,
            "V": value,
            "a V": with_article(value),
            "H": f"{owner.teller} has" if owner.teller else "I have",
            "N": with_article(owner.relation),
        }[mark.group(1)]

    return _MARK.sub(write, template.lstrip("~@"))


def with_article(noun: str) -> str:
    """The noun with its indefinite article.

    >>> with_article("aunt"), with_article("boss")
    ('an aunt', 'a boss')
    """
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def sentence(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]


def is_nominal(noun_phrase: str) -> bool:
    """Whether "What is ...?" can ask for it: "my job" and not "what I work as"."""
    return noun_phrase.split(" ", 1)[0] not in QUESTION_WORDS


def noun_phrases(attribute: Attribute, owner: Owner, split: Split) -> list[str]:
    """Every noun phrase of one split for an attribute of an owner."""
    return [fill(noun, owner) for noun in attribute.nouns[split] if fits(noun, owner)]


def free_noun_phrases(noun: str, owner: Owner) -> list[str]:
    """Noun phrases for something that is no attribute, such as "my locker code"."""
    return [f"{owner.possessive} {noun}", f"the {noun} of {owner.object}" if not owner.first else f"my own {noun}"]


def free_clauses(noun: str, owner: Owner) -> list[str]:
    """The same as clauses.

    >>> free_clauses("locker code", owner_of("", "sister"))[:2]
    ['which locker code my sister has', 'what my sister has as locker code']
    """
    plain_verb = owner.first or owner.plural
    has = "have" if plain_verb else "has"

    def does(*verbs: str) -> list[str]:
        return [verb if plain_verb else f"{verb}s" for verb in verbs]

    found = [f"which {noun} {owner.subject} {has}", f"what {owner.subject} {has} as {noun}"]
    found += [f"what {owner.subject} {verb} as {noun}" for verb in does("use", "keep", "pick", "want")]
    # With verbs that attributes have, so that it is the noun that says what is asked for.
    found += [f"the {noun} {owner.subject} {verb}" for verb in does("play", "speak", "wear", "like", "take")]
    return [*found, f"what {owner.possessive} {noun} is"]


def key_of(owner: Owner, attribute: str) -> str:
    """The key of a fact.

    >>> key_of(owner_of("", "sister"), "town")
    "Your sister's town"
    """
    return f"{owner.key_start} {attribute}"


def say_fact(key: str, value: str | None) -> str:
    """The assistant's sentence for a key; None for a value that it does not know."""
    return f"{key} is {UNKNOWN if value is None else value}."


def lowered(key: str) -> str:
    """The key inside a sentence: "your dog's name", "Tom's dog's name"."""
    return key[0].lower() + key[1:] if key.startswith("Your ") else key


def what_is(name: str) -> str:
    """The plainest question what something stands for."""
    return f"What is {name}?"


def say_name(key: str | None) -> str:
    """What a value is: its key, or that it is unknown."""
    return f"{NAMING} {UNKNOWN if key is None else lowered(key)}."


def say_facts(facts: Sequence[tuple[str, str | None]]) -> str:
    """The assistant's sentences for several keys."""
    return " ".join(say_fact(key, value) for key, value in facts)


def read_fact(text: str) -> tuple[str, str | None] | None:
    """The key and value of one sentence as `say_fact` writes it, or None for any other text.

    >>> read_fact("Your dog's name is Biscuit."), read_fact("Your job is unknown to me."), read_fact("You are welcome.")
    (("Your dog's name", 'Biscuit'), ('Your job', None), None)
    """
    key, between, value = text.rstrip(".").partition(" is ")
    if not between or not (key.startswith("Your ") or "'s " in key):
        return None
    return key, None if value == UNKNOWN else value
