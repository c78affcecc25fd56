import math
import random
from collections import Counter
from itertools import permutations

import pytest
import regex

from personacore.corpus.grammar import Choice, Grammar, Row, Slot, capitalize, walk, with_article
from personacore.corpus.markup import GrammarError, load_grammar, parse_line, parse_plots, parse_rows, parse_words
from personacore.corpus.stories import bring_stories, draw_stories, draw_story
from personacore.errors import UserError
from tools.check_grammar import check

WORDS = """
# people
girl (she): Mia, Eva
boy (he): Tom
child = girl + boy
size: big, tiny
fear: thunder : a hug, owls : a lamp
food: apple, bun,
  egg
end:
- {hero} ate <food.a>.
- <size.a> cloud came.
"""
PLOT = """== The owl
hero: girl
friend: child
fear: fear
spot = bed : soft | tree : tall

{hero} [hid|sat] by the {spot}. It was {spot.1}.

---
{^hero.he} feared {fear}, but {fear.1} helped. <^end>
"Look, {friend}!" said {hero.his} <size> {hero.girl}. {^friend.he} saw {friend} {friend.himself}.
"""


def tiny_grammar(words: str = WORDS, plots: str = PLOT) -> Grammar:
    grammar = Grammar()
    parse_words(words, grammar, "words.txt")
    parse_plots(plots, grammar, "plots.txt")
    return grammar


def with_beat(line: str) -> Grammar:
    return tiny_grammar(plots=f"== The owl\nhero: child\nfear: fear\n\n{line}\n")


# The engine, on a grammar small enough to know.


def test_a_line_is_text_mentions_draws_and_choices():
    nodes = parse_line("So {^hero.his} <size.a> [{toy}|[red |]hat] fell.")
    assert nodes == (
        "So ",
        Slot("hero", "his", True, False),
        " ",
        Slot("size", "a", False, True),
        " ",
        Choice(((Slot("toy", "", False, False),), (Choice((("red ",), ())), "hat"))),
        " fell.",
    )


@pytest.mark.parametrize(
    "line",
    ["a ] b", "a | b", "[a|b", "[a", "{hero", "hero}", "{Hero}", "{hero.}", "<size", "a > b", "[{Hero}|x]", "{he ro}", "{}"],
)
def test_unreadable_markup_is_refused_with_its_line(line):
    with pytest.raises(GrammarError) as caught:
        parse_line(line)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a: x\na: y\n", r"words\.txt:2: list 'a' is defined twice"),
        ("stray words\n", r"words\.txt:1: neither a list"),
        ("a:\n- {x\n", "unreadable markup"),
    ],
)
def test_a_word_file_that_cannot_be_read_is_named(words, message):
    with pytest.raises(GrammarError, match=message):
        parse_words(words, Grammar(), "words.txt")


@pytest.mark.parametrize(
    ("plots", "message"),
    [
        ("== A\nhero: nobody\n\nHi.\n", r"plots\.txt: A: unreadable role or unknown list: hero: nobody"),
        ("== A\nThere was a cat.\n\nHi.\n", r"plots\.txt: A: unreadable role"),
        ("== A\nhero: child\n\nHi.\n\n== A\nhero: child\n\nHo.\n", r"plots\.txt: plot 'A' is told twice"),
        ("== A\nhero: child\n\nHi {hero.\n", "unreadable markup"),
    ],
)
def test_a_plot_file_that_cannot_be_read_is_named(plots, message):
    with pytest.raises(GrammarError, match=message):
        tiny_grammar(plots=plots)


def test_a_union_may_stand_before_the_lists_it_joins():
    grammar = Grammar()
    parse_words("child = girl + boy\n", grammar, "first.txt")
    parse_words("girl (she): Mia\nboy (he): Tom\n", grammar, "second.txt")
    assert [row.columns[0] for row in grammar.lists["child"]] == ["Mia", "Tom"]


def test_lists_hold_rows_with_columns_and_the_pronoun_of_their_list():
    lists = tiny_grammar().lists
    assert lists["girl"] == (Row(("Mia",), "she"), Row(("Eva",), "she"))
    assert lists["child"] == lists["girl"] + lists["boy"]
    assert [row.columns for row in lists["food"]] == [("apple",), ("bun",), ("egg",)]
    assert lists["fear"][0] == Row(("thunder", "a hug"))
    assert parse_rows("a : b | c", separator="|") == (Row(("a", "b")), Row(("c",)))


def test_words_agree_with_the_pronoun_of_their_list():
    forms = ("", "he", "him", "his", "himself", "girl")
    assert [Row(("Mia",), "she").form(form) for form in forms] == ["Mia", "she", "her", "her", "herself", "girl"]
    assert [Row(("Tom",), "he").form(form) for form in forms] == ["Tom", "he", "him", "his", "himself", "boy"]
    assert [Row(("cup",), "it").form(form) for form in forms[1:5]] == ["it", "it", "its", "itself"]


def test_articles_follow_the_sound():
    words = ("apple", "egg", "umbrella", "hour", "honest man", "unicorn", "useful rope", "one-eyed cat", "dog", "yak")
    assert [with_article(word).split()[0] for word in words] == ["an"] * 5 + ["a"] * 5


def test_capital_letters_touch_the_first_letter_only():
    assert [capitalize(text) for text in ("the Owl", "Mia", "")] == ["The Owl", "Mia", ""]


def test_stories_are_told_as_written():
    stories = {tiny_grammar().sample(random.Random(number)).text for number in range(3000)}
    assert "Mia hid by the bed. It was soft.\nShe feared owls, but a lamp helped. A tiny cloud came." in stories
    assert "Eva sat by the tree. It was tall.\nShe feared thunder, but a hug helped. Eva ate an egg." in stories
    assert '"Look, Tom!" said her big girl. He saw Tom himself.' in {story.partition("\n")[2] for story in stories}


def test_two_roles_are_never_the_same_word():
    grammar = tiny_grammar(plots="== A\nhero: child\nfriend: child\nrival: child\n\n{hero} {friend} {rival}\n")
    stories = {grammar.sample(random.Random(number)).text for number in range(200)}
    assert stories == {" ".join(names) for names in permutations(["Mia", "Eva", "Tom"])}


def test_a_beat_after_a_break_starts_a_paragraph_and_others_follow_a_space():
    grammar = tiny_grammar(plots="== A\nhero: child\n\nOne.\n\nTwo.\n\n---\nThree.\n\n---\n\nFour.\n")
    assert grammar.sample(random.Random(0)).text == "One. Two.\nThree.\nFour."


def test_equal_seeds_tell_equal_stories_and_a_plot_can_be_asked_for():
    grammar = tiny_grammar(plots="== A\nhero: child\n\n{hero} sat.\n\n== B\nhero: child\n\n{hero} ran.\n")
    stories = [grammar.sample(random.Random(3)) for _ in range(2)]
    assert stories[0] == stories[1]
    for number in range(10):
        story = grammar.sample(random.Random(number), plot="B")
        assert story.plot == "B" and story.text.endswith("ran.")
        assert story.bits == pytest.approx(math.log2(3))  # the plot was not drawn


UNAMBIGUOUS = """== A
hero: child
friend: child

[{hero}|{friend}] sat[ by {friend}|].

{hero} saw <food.a> and <size.a> <food>.

== B
hero: girl

<^end> [One|Two [or <size>|]].
"""


def test_bits_are_the_information_of_the_draws():
    """Every story, by the draws that lead to it: the shares 2^-bits add up to one, and stories come as often as they say."""
    grammar, count = tiny_grammar(plots=UNAMBIGUOUS), 40_000
    rng = random.Random(1)
    told = [grammar.sample(rng) for _ in range(count)]
    shares = {(story.plot, story.text, story.bits): 2.0**-story.bits for story in told}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
    found = Counter((story.plot, story.text, story.bits) for story in told)
    assert len(found) == len({story.text for story in told})
    surprise = sum((found[key] - count * share) ** 2 / (count * share) for key, share in shares.items())
    freedom = len(shares) - 1
    assert abs(surprise - freedom) < 5 * math.sqrt(2 * freedom)  # chi-squared, five deviations


def test_what_the_grammar_tells_it_can_read():
    grammar = tiny_grammar()
    plot = grammar.plots["The owl"]
    for number in range(200):
        text = grammar.sample(random.Random(number)).text
        first, second = text.split("\n")
        bindings = [bound for end, bound in grammar.match((plot.beats[0],), plot, first, 0, {}) if end == len(first)]
        assert len(bindings) == 1
        readings = [bound for end, bound in grammar.match((plot.beats[1],), plot, second, 0, bindings[0]) if end == len(second)]
        assert len(readings) == 1 and readings[0].items() >= bindings[0].items()


def test_a_reading_is_of_one_binding():
    grammar = tiny_grammar()
    plot, (mia, _eva) = grammar.plots["The owl"], grammar.lists["girl"]
    line = parse_line("{hero} and {hero.his} {fear}")
    assert not list(grammar.match(line, plot, "Mia and his owls", 0, {}))
    assert not list(grammar.match(line, plot, "Eva and her owls", 0, {"hero": mia}))
    assert not list(grammar.match(line, plot, "Mia and her socks", 0, {"hero": mia}))
    ((end, bound),) = grammar.match(line, plot, "Mia and her owls.", 0, {"hero": mia})
    assert end == len("Mia and her owls") and bound["fear"].columns == ("owls", "a lamp")
    assert list(grammar.match(line, plot, "Eva and her owls", 0, None)) == [(16, None)]  # whoever it is


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{nobody} sat.", "unknown role {nobody}"),
        ("[{nobody}|x] sat.", "unknown role {nobody}"),
        ("<nothing> sat.", "unknown list <nothing>"),
        ("{hero.1} sat.", "{hero.1} has no such form"),
        ("{hero.she} sat.", "{hero.she} has no such form"),
        ("<size.1> sat.", "<size.1> has no such form"),
        ("<end.a> sat.", "<end.a> is a list of phrases"),
        ("[a|b|a] sat.", "two equal options"),
        ("A cat.\nA cat.", "two equal options"),
    ],
)
def test_check_finds_what_is_wrong_in_a_plot(line, problem):
    assert any(problem in found and "The owl" in found for found in check(with_beat(line)))


def test_check_finds_what_is_wrong_in_lists_and_phrases():
    assert check(tiny_grammar()) == []
    assert check(tiny_grammar(WORDS + "more = girl + nothing\n")) == ["list more: joins unknown lists among girl, nothing"]
    assert check(tiny_grammar(WORDS + "empty:\n")) == ["list empty: empty"]
    assert check(tiny_grammar(WORDS + "twice: a, b, a\n")) == ["list twice: repeated: a"]
    borrowed = tiny_grammar(WORDS + "deep:\n- <deeper>\ndeeper:\n- {cook} ate.\n", "== A\nhero: child\n\n<deep>\n")
    assert check(tiny_grammar(plots="== A\na: girl\nb: girl\nc: child\n\n{a} {c}\n")) == [
        f"plot A: {{{role}}} may find all its words taken by other roles" for role in "ab"
    ]
    assert check(borrowed) == ["plot A, phrase deeper: unknown role {cook}"]


# The grammar that ships.


@pytest.fixture(scope="module")
def stories():
    return [draw_story(f"test/{number}") for number in range(3000)]


def test_the_shipped_grammar_has_nothing_wrong_with_it():
    assert check(load_grammar()) == []


def test_it_has_forty_plots_or_more_and_tells_all_of_them(stories):
    plots = load_grammar().plots
    assert len(plots) >= 40
    assert {story.plot for story in stories} == set(plots)


def test_a_word_that_a_story_is_about_is_never_drawn_in_passing():
    grammar = load_grammar()
    subjects = {row.columns[0] for plot in grammar.plots.values() for rows in plot.roles.values() for row in rows}
    trees = [*grammar.phrases.values(), *(beat for plot in grammar.plots.values() for beat in plot.beats)]
    passing = {node.source for node in walk(trees) if isinstance(node, Slot) and node.fresh} & grammar.lists.keys()
    assert subjects and passing
    assert {key: found for key in passing if (found := subjects & {row.columns[0] for row in grammar.lists[key]})} == {}


def test_its_vocabulary_is_three_thousand_words_or_more(stories):
    assert len({word.lower() for story in stories for word in regex.findall(r"\p{L}+(?:'\p{L}+)?", story.text)}) >= 3000


def test_its_stories_have_500_to_1000_characters(stories):
    assert sum(500 <= len(story.text) <= 1000 for story in stories) >= 0.98 * len(stories)


def test_its_stories_are_all_different_and_carry_their_information(stories):
    assert len({story.text for story in stories}) == len(stories)
    bits, size = (sum(values) for values in zip(*((story.bits, len(story.text.encode())) for story in stories), strict=True))
    assert bits / size >= 0.30


def test_its_stories_are_clean_text(stories):
    for story in stories:
        assert not regex.search(r"[{}<>\[\]|^]|  | [.,!?]|\n\n|^\s|\s$|[.!?,]{2}|\b(a|the) \1\b", story.text), story.text
        assert story.text.count('"') % 2 == 0, story.text
        assert story.text.endswith((".", "!", "?", '"')), story.text
        for sentence in regex.split(r"(?<=[.!?]) |\n", story.text):
            assert regex.match(r'"?\p{Lu}', sentence) or '"' in sentence, sentence


def test_speech_stands_in_quotes(stories):
    assert sum('"' in story.text for story in stories) >= 0.9 * len(stories)


def test_a_key_always_tells_the_same_story():
    assert draw_story("7/train/12") == draw_story("7/train/12") != draw_story("7/train/13")


def test_a_corpus_is_the_same_for_any_number_of_workers_and_its_splits_share_nothing():
    corpora = []
    for workers in (1, 2):
        seen: set[bytes] = set()
        corpora.append({split: [s.text for s in draw_stories(5, split, 100, seen, workers)] for split in ("train", "valid")})
        assert len(seen) == 200
    assert corpora[0] == corpora[1]
    assert not set(corpora[0]["train"]) & set(corpora[0]["valid"])


def test_a_story_that_was_told_before_is_not_told_again():
    seen: set[bytes] = set()
    first = [story.text for story in draw_stories(5, "train", 20, seen, 1)]
    again = [story.text for story in draw_stories(5, "train", 20, seen, 1)]
    assert not set(first) & set(again)


def test_more_stories_than_there_are_is_an_error_that_names_the_key(monkeypatch):
    grammar = tiny_grammar(plots=UNAMBIGUOUS)
    monkeypatch.setattr("personacore.corpus.stories.load_grammar", lambda: grammar)
    with pytest.raises(UserError, match=r"data\.train_documents: the grammar has no 1000 different stories"):
        list(draw_stories(5, "train", 1000, set(), workers=1))


def test_the_corpus_knows_its_own_entropy(tmp_path):
    facts = bring_stories(5, 40, 20, tmp_path)
    stories = list(draw_stories(5, "valid", 20, set(), 1))
    size = sum(len(story.text.encode()) for story in stories)
    assert facts["source"] == "pocket"
    assert (facts["train_documents"], facts["valid_documents"], facts["valid_bytes"]) == (40, 20, size)
    assert facts["source_bits_per_byte"] == pytest.approx(sum(story.bits for story in stories) / size)
    texts = [text.strip("\n") for text in (tmp_path / "valid.txt").read_text(encoding="utf-8").split("<|endoftext|>")]
    assert texts == [*(story.text for story in stories), ""]
