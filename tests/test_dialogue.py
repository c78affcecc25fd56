import random
from itertools import combinations

import pytest

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Draw, draw_conversation
from personacore.corpus.dialogue.data import read_data
from personacore.corpus.dialogue.files import read_conversations, write_conversations
from personacore.corpus.dialogue.language import owner_of, read_fact, say_fact
from personacore.corpus.dialogue.splits import SPLITS, Splits, split_list, split_of
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.errors import UserError

VALUES = Values()


def conversations(split: str, count: int = 60) -> list[list[Turn]]:
    return [draw_conversation(f"test/{split}/{number}", Splits.all(split), 500, VALUES) for number in range(count)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, list[list[Turn]]]:
    """What the stage writes and the model reads, of every split."""
    folder = tmp_path_factory.mktemp("dialogues")
    for split in SPLITS:
        write_conversations(folder / f"{split}.jsonl", conversations(split))
    return {split: read_conversations(folder / f"{split}.jsonl") for split in SPLITS}


def test_the_grammar_is_as_large_as_it_has_to_be():
    attributes = read_data("attributes")
    frames = read_data("frames")
    assert len(attributes) >= 30 and sum(len(pairs) for pairs in language.slots().values()) >= 40
    for name, raw in attributes.items():
        for owner in (owner_of("", ""), owner_of("", "sister")):
            if owner.kind in raw["of"].split():
                fitting = [noun for noun in raw["nouns"] if language.fits(noun, owner)]
                assert len(set(fitting)) >= 6 or (owner.first and len(set(fitting)) >= 5), (name, owner.subject)
    assert len(set(frames["any"] + frames["nominal"])) >= 60
    assert len(set(frames["telling"])) >= 12
    sizes = [len(VALUES._parts[f"name_{part}"]) for part in ("start", "middle", "end")]
    assert sizes[0] * sizes[1] * sizes[2] + sizes[0] * sizes[1] ** 2 * sizes[2] >= 1_000_000


def test_the_splits_of_every_list_are_disjoint_and_complete():
    lists = {**VALUES.closed, "slots": language.slots()}
    lists |= {f"nouns {name}": attribute.nouns for name, attribute in language.attributes().items()}
    lists |= {f"asks {name}": attribute.asks for name, attribute in language.attributes().items()}
    lists |= {f"says {name}": attribute.says for name, attribute in language.attributes().items()}
    for kind in read_data("frames").keys() - {"openers"}:
        lists[f"frames {kind}"] = {split: getattr(frames, kind) for split, frames in language.frames().items()}
    for name, parts in lists.items():
        for one, other in combinations(SPLITS, 2):
            assert set(parts[one]).isdisjoint(parts[other]), name
        assert parts["pretrain"] and parts["evaluation"], name


def test_the_generated_files_share_no_made_up_value_and_no_slot(files):
    said = {
        split: [read_fact(f"{text}.") for turns in files[split] for turn in turns for text in turn.assistant.split(". ")]
        for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        mine, theirs = ({fact[1] for fact in said[split] if fact and fact[1]} for split in (one, other))
        names = {value for value in mine & theirs if value[:1].isupper() and value not in ("", "I")}
        assert not names, (one, other)
        slots = [set(language.slots()[split]) for split in (one, other)]
        keys = [{fact[0] for fact in said[split] if fact} for split in (one, other)]
        for own, foreign, found in ((slots[0], slots[1], keys[0]), (slots[1], slots[0], keys[1])):
            for relation, name in foreign - own:
                assert language.key_of(owner_of("", relation), name) not in found
    counted = sum(len(turns) for turns in files["pretrain"])
    assert counted > 200


def test_a_conversation_is_the_same_for_the_same_seed_and_another_for_another():
    assert conversations("pretrain", 3) == conversations("pretrain", 3)
    assert len({str(turns) for turns in conversations("pretrain", 60)}) == 60


def test_what_is_asked_after_it_was_told_is_answered_with_the_last_value_told():
    for turns in conversations("pretrain", 200):
        known: dict[str, str] = {}
        for turn in turns:
            facts = [read_fact(part) for part in turn.assistant.rstrip(".").split(". ")]
            if turn.kind in ("tell", "correct"):
                assert None not in facts
                known.update(fact for fact in facts if fact)
                for _, value in facts:
                    assert value.casefold() in turn.user.casefold()
            elif turn.kind == "forget":
                known.pop(turn.assistant.removesuffix(" is forgotten."))
            elif turn.kind in ("ask", "unknown", "recount") and facts[0]:
                assert known.get(facts[0][0]) == facts[0][1], turn
            elif turn.kind == "verify" and ", so " in turn.assistant:
                said, _, verdict = turn.assistant.partition(", so ")
                key, value = read_fact(said)
                assert known[key] == value
                assert (value.casefold() in turn.user.casefold()) == (verdict == "yes.")


def test_every_template_is_filled_to_the_end():
    for split in SPLITS:
        for turns in conversations(split, 100):
            for turn in turns:
                assert not set("{}[]|~@<>") & set(turn.user + turn.assistant), turn
                assert turn.user[0].isupper() or not turn.user[0].isalpha()
                assert "  " not in turn.user


@pytest.mark.parametrize("teller", ["", "Tom"])
@pytest.mark.parametrize("relation", ["", "aunt", "dog", "car"])
def test_first_and_third_person_agree_with_their_verbs(teller, relation):
    owner = owner_of(teller, relation)
    filled = language.fill("{S} [live|lives] here", owner)
    assert filled == ("I live here" if owner.first else f"{owner.subject} lives here")


@pytest.mark.parametrize(("relation", "possessive"), [("parents", "my parents' town"), ("children", "my children's town")])
def test_several_people_agree_with_their_verbs_and_own_as_several_do(relation, possessive):
    owner = owner_of("", relation)
    assert language.fill("{S} [am|is] here, [live|lives] here and [was|was] there", owner).partition(" ")[2] == (
        f"{relation} are here, live here and were there"
    )
    assert language.fill("{P} town", owner) == possessive and owner.key_start in possessive.replace("my", "Your")
    assert not language.fits("~{H} {N} called {V}", owner)


def test_a_fact_reads_back_as_it_was_said():
    assert read_fact(say_fact("Your sister's town", "Brindlemoor")) == ("Your sister's town", "Brindlemoor")
    assert read_fact(say_fact("Tom's age", None)) == ("Tom's age", None)
    assert read_fact("I am glad.") is None


def test_questions_for_evaluation_use_evaluation_frames_only():
    draw = Draw(random.Random(1), Splits.all("evaluation"), VALUES, random_frame=0.0, own_question=0.0)
    others = [
        frame
        for split in ("pretrain", "calibration")
        for kind in ("any", "nominal")
        for frame in getattr(language.frames()[split], kind)
    ]
    for _ in range(200):
        topic = draw.topic(teller="")
        question = draw.question(topic)
        for phrase in draw_phrases(draw, topic):
            assert not any(question == language.sentence(frame.replace("{np}", phrase)) for frame in others)


def draw_phrases(draw: Draw, topic) -> set[str]:
    return {draw.noun_phrase(topic) for _ in range(20)}


def test_hashes_put_a_text_into_the_same_split_always_and_shares_are_as_promised():
    places = [split_of("value", f"word {number}") for number in range(4000)]
    assert [split_of("value", f"word {number}") for number in range(4000)] == places
    assert places.count("pretrain") / 4000 == pytest.approx(0.7, abs=0.03)
    assert places.count("evaluation") / 4000 == pytest.approx(0.15, abs=0.02)
    assert split_list("list", ["one"]) == {"pretrain": ("one",), "calibration": (), "evaluation": ()}


def test_a_file_that_holds_no_conversations_is_named_in_one_line(tmp_path):
    (tmp_path / "bad.jsonl").write_text("[1, 2]\n")
    with pytest.raises(UserError, match=r"bad.jsonl holds no conversations"):
        read_conversations(tmp_path / "bad.jsonl")
    with pytest.raises(UserError, match=r"none.jsonl is missing"):
        read_conversations(tmp_path / "none.jsonl")
