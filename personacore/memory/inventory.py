"""What a memory says it knows."""

from collections.abc import Sequence

from personacore.corpus.dialogue import language
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_prompt
from personacore.memory.facts import Fact, plain_question, read_facts
from personacore.memory.write import fact_hash, name_of
from personacore.model.gpt import GPT
from personacore.model.rows import MemoryRows
from personacore.tokenizer.bpe import Tokenizer


def listed(model: GPT, tokenizer: Tokenizer, rows: MemoryRows) -> list[Fact]:
    """What the attached rows say that they hold, in the order in which it was told.

    Each fact is asked by its name what it is about, then for its value. It is left out where it misspells what it is about,
    which its number shows.
    """
    numbers = list(dict.fromkeys(fact for *_, fact in rows.spans))
    questions = [language.what_is(name_of(number)) for number in numbers]
    named = _begun(model, tokenizer, [(question, language.NAMING) for question in questions])
    keys = [language.sentence(said.strip().removesuffix(".")) for said in named]
    right = [key for key, number in zip(keys, numbers, strict=True) if fact_hash(tokenizer, key) == number]
    said = _begun(model, tokenizer, [(plain_question(key), f"{key} is") for key in right])
    read = [(key, read_facts(f"{key} is{value}") or []) for key, value in zip(right, said, strict=True)]
    return [fact for key, facts in read for fact in facts if len(facts) == 1 and fact.key == key and fact.value is not None]


def _begun(model: GPT, tokenizer: Tokenizer, begun: Sequence[tuple[str, str]]) -> list[str]:
    """How the model ends answers to questions, each of which begins so."""
    return answers(model, tokenizer, [encode_prompt(tokenizer, asked) + tokenizer.encode(start) for asked, start in begun])
