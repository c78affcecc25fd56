"""The recall protocol: made-up people, what they are asked, and which answers pass."""

import dataclasses
from contextlib import contextmanager

import pytest

from benchmarks.in_context import variants
from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import Draw
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.errors import UserError
from personacore.evaluation.intervals import mean_with_interval, share_with_interval
from personacore.evaluation.loss import Loss
from personacore.generation.answers import GREEDY
from personacore.memory import recall
from personacore.memory.facts import Fact, holds, read_facts, topic_of
from personacore.memory.people import (
    UPDATED,
    Questions,
    correct_facts,
    draw_people,
    handwritten,
    handwritten_people,
    in_context,
    statements,
)
from personacore.memory.recall import (
    DRAWN,
    Asker,
    Case,
    Outcomes,
    ask_changed,
    ask_handwritten,
    ask_in_context,
    ask_taught,
    asks_for,
    check_absent,
    read_statements,
)
from personacore.tokenizer.bpe import Tokenizer

VALUES = Values()
DOG = Fact("Your dog's name", "Biscuit")
JOB = Fact("Your job", "baker")


@pytest.fixture
def tokenizer() -> Tokenizer:
    """Text as bytes: what is asked matters here, not how short its tokens are."""
    return Tokenizer([])


def test_people_of_the_evaluation_tell_what_the_model_has_never_met():
    people = draw_people(5, 8, "evaluation", "seed", VALUES)
    assert people == draw_people(5, 8, "evaluation", "seed", VALUES)
    slots = set(language.slots()["evaluation"])
    for facts in people:
        assert len({fact.key for fact in facts}) == len({fact.value for fact in facts}) == 8
        for fact in facts:
            topic = topic_of(fact.key)
            if topic.noun in language.attributes() and topic.owner.kind in language.attributes()[topic.noun].of:
                assert (topic.owner.relation, topic.noun) in slots


def test_no_question_of_any_tier_holds_a_value(tokenizer):
    facts = draw_people(1, 10, "evaluation", "seed", VALUES)[0]
    questions, asker = Questions(facts, "seed", "evaluation", VALUES), Asker(None, tokenizer)
    for tier in ("taught", "h1", "h2", "nouns"):
        lessons = questions.tier(tier, 3)
        assert [right for _, right in lessons] == [fact.sentence for fact in facts for _ in range(3)]
        asker.forbid(lessons, facts)
    with pytest.raises(UserError, match="holds the taught value 'Biscuit'"):
        asker.forbid([("Is Biscuit my dog?", DOG.sentence)], [DOG])
    assert not holds("What is my age?", "ag")


def test_what_was_not_told_is_asked_about_others_and_other_slots():
    questions = Questions([DOG, JOB], "seed", "evaluation", VALUES)
    for kind in ("known_slot", "unseen_slot", "other_person"):
        lessons = questions.untold(kind, 20)
        assert len(lessons) == 20 and all(answer.endswith(f"{language.UNKNOWN}.") for _, answer in lessons)
    assert all(not answer.startswith("Your") for _, answer in lessons)


def test_a_conversation_about_something_else_says_nothing_of_what_was_told():
    facts = draw_people(1, 10, "evaluation", "seed", VALUES)[0]
    questions = Questions(facts, "seed", "evaluation", VALUES)
    talks = [questions.elsewhere(2) for _ in range(100)]
    said = [turn for talk in talks for turn in talk]
    assert len(said) == 200 and {"tell", "unknown"} <= {turn.kind for turn in said}
    for fact in facts:
        assert not any(fact.key in turn.assistant or holds(turn.user, fact.value) for turn in said)


def test_claims_are_right_and_wrong_and_pairs_ask_for_every_fact(tokenizer):
    questions = Questions([DOG, JOB], "seed", "evaluation", VALUES)
    claims = questions.verified()
    for fact, claimed, denied in zip([DOG, JOB], claims[::2], claims[1::2], strict=True):
        assert holds(claimed[0], fact.value) and claimed[1] == f"{fact.sentence[:-1]}, so yes."
        assert not holds(denied[0], fact.value) and denied[1] == f"{fact.sentence[:-1]}, so no."
    pairs = questions.combined()
    assert [right for _, right in pairs] == [f"{DOG.sentence} {JOB.sentence}", f"{JOB.sentence} {DOG.sentence}"]
    Asker(None, tokenizer).forbid(pairs, [DOG, JOB])


def test_conversations_before_teaching_ask_by_turns_for_what_was_told_and_was_not():
    talks = in_context(20, "seed", VALUES)
    assert [talk[-1].kind for talk in talks[1::2]] == ["ask"] * 10
    assert sum(talk[-1].kind == "unknown" for talk in talks[::2]) >= 8


def test_what_is_held_out_of_a_conversation_is_each_part_in_turn():
    found = variants()
    assert found["nothing"] == Splits.all("pretrain") and found["everything"] == Splits.all("calibration")
    for part in ("values", "frames", "nouns", "slots"):
        assert found[part] == dataclasses.replace(found["nothing"], **{part: "calibration"})
    frames = [frame.lstrip("!") for frame in language.frames()["calibration"].telling]
    for talk in in_context(20, "seed", VALUES, splits=found["frames"]):
        assert all(any(frame.partition("{s}")[0].lower() in turn.user.lower() for frame in frames) for turn in talk[:-1])


def test_hand_written_questions_are_hundreds_and_hold_no_answer():
    written = handwritten()
    assert sum(map(len, written.values())) >= 300
    assert len({question for questions in written.values() for question in questions}) == sum(map(len, written.values()))
    people = handwritten_people(10, "evaluation", "seed", VALUES)
    assert [fact.key for facts in people for fact in facts] == list(written)
    for frames in language.frames().values():
        templates = {frame.partition("{np}")[0] for frame in frames.any if len(frame.partition("{np}")[0]) > 25}
        assert not [q for questions in written.values() for q in questions if any(q.startswith(start) for start in templates)]


def test_hand_written_statements_hold_their_values_word_by_word():
    assert len(statements()) >= 80 and sum(not facts for facts in statements().values()) >= 5
    for statement, facts in statements().items():
        assert all(holds(statement, value) for value in facts.values()), statement
        assert all(read_facts(Fact(key, value).sentence) == [Fact(key, value)] for key, value in facts.items())
        assert {topic_of(key).noun for key in facts} <= {*language.attributes()}


def test_a_statement_counts_as_read_when_all_its_facts_are_and_no_others():
    outcomes = Outcomes()
    plain = "My dog is called Biscuit."
    dog = Fact("Your dog's name", "Biscuit")
    read_statements(outcomes, lambda statement: [dog] if statement == plain else [dog, Fact("Your age", "9")])
    hits = outcomes.hits["statements_read"]
    assert hits.pop(plain) == [True] and len(hits) == len(statements()) - 1
    assert not any(hit for each in hits.values() for hit in each)
    assert outcomes.transcript[0]["said"] == dog.sentence


def test_an_interval_is_over_facts_not_questions():
    same = share_with_interval({str(number): [True] * 10 for number in range(5)})
    assert (same["value"], same["high"], same["asked"], same["facts"]) == (1.0, 1.0, 50, 5)
    assert same["low"] == pytest.approx(0.4782, abs=1e-4)  # of 5 in 5, by the tables of Clopper and Pearson
    none = share_with_interval({str(number): [False] for number in range(5)})
    assert (none["low"], none["high"]) == (0, pytest.approx(0.5218, abs=1e-4))
    split = share_with_interval({"a": [True] * 100, "b": [False] * 100})
    assert split["low"] == 0 and split["high"] == 1


def test_a_mean_has_an_interval_over_facts():
    assert mean_with_interval([-0.5] * 4) == {"value": -0.5, "low": -0.5, "high": -0.5, "facts": 4}
    spread = mean_with_interval([-1.0, 0.0, 0.0, 0.0])
    assert spread["low"] < spread["value"] == -0.25 < spread["high"]


class Scripted(Asker):
    """Answers as told instead of asking a model."""

    def __init__(self, tokenizer, answer) -> None:
        super().__init__(None, tokenizer)
        self.answer, self.ways = answer, []

    def ask(self, lessons, lora, *, draws=1, sampling=GREEDY, context=None, **_):
        self.ways.append((draws, sampling, context))
        return [[self.answer(right, lora)] * draws for _, right in lessons]

    def fits(self, turns):
        return len(turns) < 4


def gates_of(tokenizer, answer) -> dict[str, float]:
    outcomes = Outcomes()
    case = Case("p", [DOG, JOB], Questions([DOG, JOB], "seed", "evaluation", VALUES), "mine", "theirs", [])
    ask_taught(Scripted(tokenizer, answer), outcomes, case, count=2, draws=2, seed=1)
    return {name: gate["value"] for name, gate in outcomes.gates({}).items()}


def test_a_memory_that_is_right_passes_every_tier_and_every_control(tokenizer):
    gates = gates_of(tokenizer, lambda right, lora: right if lora == "mine" else "I do not know.")
    controls = {"adapter_off", "wrong_user", "shuffled_values", "intrusion"}
    assert controls | {"verified_greedy", "combined_greedy", "reversed_greedy", "h2_sampled"} < set(gates)
    assert {name: value for name, value in gates.items() if value != (name not in controls)} == {}


def test_answers_are_drawn_and_conversations_stand_before_questions_where_a_gate_says_so(tokenizer):
    asker, questions = Scripted(tokenizer, lambda right, lora: right), Questions([DOG, JOB], "seed", "evaluation", VALUES)
    ask_taught(asker, Outcomes(), Case("p", [DOG, JOB], questions, "mine", "theirs", []), count=2, draws=3, seed=1)
    assert [way for way in asker.ways if way[0] > 1] == [(3, DRAWN, None)]
    (*_, talks), *others = [way for way in asker.ways if way[2] is not None]
    assert not others and len(talks) == 4 and all(len(turns) >= 1 for turns in talks)


def test_a_correction_is_right_when_the_new_value_is_said_and_leaks_when_the_old_one_is(tokenizer):
    new = Fact(DOG.key, "Rex")
    case = Case("p", [new], Questions([new], "seed", "evaluation", VALUES), "mine", "theirs", [])
    for answer, right, leak in ((new.sentence, 1, 0), (DOG.sentence, 0, 1), (f"{DOG.key} is unknown to me.", 0, 0)):
        outcomes = Outcomes()
        ask_changed(Scripted(tokenizer, lambda *_, answer=answer: answer), outcomes, "update", [DOG], case, draws=2, seed=1)
        gates = outcomes.gates({})
        assert (gates["update_new"]["value"], gates["update_old_leak"]["value"]) == (right, leak)


def test_in_context_a_told_value_must_be_said_and_an_untold_one_be_called_unknown(tokenizer):
    told = [Turn("My dog is Biscuit.", DOG.sentence, "tell"), Turn("Who is my dog?", DOG.sentence, "ask")]
    untold = [told[0], Turn("What am I?", Fact(JOB.key, None).sentence, "unknown")]
    for answer, right, unknown in (("as told", 1, 1), (DOG.sentence, 1, 0), (Fact(JOB.key, None).sentence, 0, 1)):
        outcomes = Outcomes()
        asker = Scripted(tokenizer, lambda right, _, answer=answer: right if answer == "as told" else answer)
        ask_in_context(asker, outcomes, [told, untold])
        gates = outcomes.gates({})
        assert (gates["in_context_recall"]["value"], gates["in_context_abstention"]["value"]) == (right, unknown)
        assert asker.ways[0][2] == [told[:1], untold[:1]]


def test_handwritten_questions_that_hold_a_value_are_not_asked(tokenizer):
    key, questions = next((key, asks) for key, asks in handwritten().items() if len(asks) > 1)
    word = max(questions[0].strip("?.").split(), key=len)
    asked = []
    for value in (word, "Wexmouth"):
        fact, outcomes = Fact(key, value), Outcomes()
        case = Case("p", [fact], Questions([fact], "seed", "evaluation", VALUES), "mine", "theirs", [])
        ask_handwritten(Scripted(tokenizer, lambda right, _: right), outcomes, case)
        asked.append(outcomes.gates({})["handwritten_greedy"]["asked"])
    assert asked[0] < asked[1] == len(questions)


def test_drift_is_what_is_lost_with_the_memory_over_without(tokenizer, monkeypatch):
    acting = []

    class Mine:
        @contextmanager
        def attached(self, model):
            acting.append(model)
            yield
            acting.pop()

    asks = [Turn("Who is my dog?", Fact(DOG.key, None).sentence, "unknown")]
    monkeypatch.setattr(recall, "document_loss", lambda *_: Loss(nats=10.0, tokens=5, bytes=5))
    monkeypatch.setattr(
        recall, "conversation_loss", lambda model, tokenizer, talks: Loss(len(talks) * (12.0 if acting else 10.0), 5, 5)
    )
    found = recall.drift("model", tokenizer, [(Mine(), [DOG])], ["story"], [asks, []], {"dialogue_drift": 0.1})
    assert {name: gate["value"] for name, gate in found.items()} == pytest.approx(
        {"story_drift": 0, "dialogue_drift": 0.2, "dialogue_drift_elsewhere": 0.2}
    )
    assert found["dialogue_drift"]["passed"] is False and "threshold" not in found["story_drift"]


def test_a_value_that_can_be_read_in_a_memorys_file_stops_everything(tmp_path):
    file = tmp_path / "me.safetensors"
    file.write_bytes(b"\0Biscuit\0")
    check_absent(file, [JOB, Fact("Your age", "4")])
    with pytest.raises(UserError, match="holds the taught value 'Biscuit'"):
        check_absent(file, [DOG])


def test_nobody_tells_of_something_whose_name_is_a_value(monkeypatch):
    keys = iter(["Your job", "Your baker hat", "Your town"])
    monkeypatch.setattr(Draw, "topic", lambda self, teller: topic_of(next(keys)))
    monkeypatch.setattr(Draw, "value", lambda self, topic: "baker" if topic.noun == "job" else "Wexmouth")
    assert draw_people(1, 2, "evaluation", "seed", VALUES) == [[JOB, Fact("Your town", "Wexmouth")]]


def test_questions_that_all_hold_a_value_are_refused(tokenizer):
    questions = Questions([JOB, Fact("Your baker hat", "red")], "seed", "evaluation", VALUES)
    with pytest.raises(UserError, match="every question for Your baker hat holds a value that was told"):
        questions.tier("h2", 1)


def test_answers_that_do_not_come_from_the_memory_or_mix_values_up_are_found(tokenizer):
    gates = gates_of(tokenizer, lambda right, lora: right)
    assert gates["adapter_off"] == gates["wrong_user"] == 1
    exchange = {DOG.sentence: Fact(DOG.key, JOB.value).sentence, JOB.sentence: Fact(JOB.key, DOG.value).sentence}
    gates = gates_of(tokenizer, lambda right, lora: exchange.get(right, DOG.sentence))
    assert (gates["shuffled_values"], gates["intrusion"], gates["h2_greedy"], gates["abstain_known_slot"]) == (1, 1, 0, 0)


def test_an_old_value_in_any_words_is_a_leak(tokenizer):
    questions = Questions([JOB], "seed", "evaluation", VALUES)
    case = Case("p", [JOB], questions, "mine", "theirs", [])
    for answer, leaks, abstains in (
        ("That dog is Biscuit, I think.", 1.0, 0.0),
        (f"{DOG.key} is unknown to me.", 0.0, 1.0),
        ("Your cat's name is unknown to me.", 0.0, 0.0),  # of something else: nothing shows that this was forgotten
    ):
        outcomes = Outcomes()
        ask_changed(Scripted(tokenizer, lambda *_, answer=answer: answer), outcomes, "forget", [DOG], case, draws=2, seed=1)
        gates = outcomes.gates({})
        assert (gates["forget_emission"]["value"], gates["forget_abstain"]["value"]) == (leaks, abstains)


def test_a_gate_is_passed_from_the_right_side():
    outcomes = Outcomes()
    for number in range(10):
        outcomes.add("h2_greedy", str(number), number > 0)
        outcomes.add("adapter_off", str(number), False)
        outcomes.add("nouns_greedy", str(number), True)
    gates = outcomes.gates({"h2_greedy": 0.95, "adapter_off": 0.0})
    assert (gates["h2_greedy"]["value"], gates["h2_greedy"]["passed"]) == (0.9, False)
    assert gates["adapter_off"]["passed"] and "threshold" not in gates["nouns_greedy"]


def test_a_list_with_one_value_left_neither_repeats_it_nor_hangs():
    seasons = [Fact(f"Your {relation}favorite season", "autumn") for relation in ("", "sister's ", "uncle's ")]
    corrected = correct_facts([seasons], "evaluation", "seed", VALUES)[0]
    assert len({fact.value for fact in corrected[:UPDATED]} | {"autumn"}) == UPDATED + 1
    with pytest.raises(UserError, match=r"memory\.facts: there are too few values of type season"):
        every = [Fact("Your age", season) for season in ("spring", "summer", "autumn", "winter")]
        correct_facts([[Fact("Your favorite season", "none"), *every]], "evaluation", "seed", VALUES)


def test_conversations_that_ask_for_what_a_memory_knows_are_told_from_others():
    facts = [Fact("Your town", "Wex"), Fact("Your dog's age", "4")]

    def talk(*said: tuple[str, str]) -> list[Turn]:
        return [Turn(user, assistant, "") for user, assistant in said]

    assert asks_for(talk(("Hi.", "Hello."), ("Where do I live?", "Your town is unknown to me.")), facts)
    assert asks_for(talk(("Both?", "Your job is unknown to me. Your dog's age is unknown to me.")), facts)
    assert asks_for(talk(("What is Wex?", "That is unknown to me.")), facts)
    assert not asks_for(talk(("I live in Bath.", "Your town is Bath."), ("What is Bath?", "That is your town.")), facts)
    assert not asks_for(
        talk(("Where is Tom?", "Tom's town is unknown to me."), ("What is Wexford?", "That is unknown to me.")), facts
    )
