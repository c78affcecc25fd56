"""Memories on a tiny model: what teaching changes and leaves alone, and what a person is told when something cannot be done."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from personacore.corpus.dialogue import language
from personacore.corpus.dialogue.conversation import draw_conversation
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.turns import Turn
from personacore.corpus.dialogue.values import Values
from personacore.errors import UserError
from personacore.evaluation.conversations import conversation_loss
from personacore.evaluation.intervals import mean_with_interval, share_with_interval
from personacore.evaluation.loss import IGNORED
from personacore.generation.answers import answers
from personacore.generation.prompts import encode_answer, encode_prompt, encode_question, encode_row
from personacore.memory import inventory
from personacore.memory import memory as memory_module
from personacore.memory.converse import set_apart
from personacore.memory.facts import Fact, holds, plain_question, read_facts, topic_of
from personacore.memory.inventory import Known
from personacore.memory.lessons import MOST_POSITIVES, Lessons
from personacore.memory.memory import Memory
from personacore.memory.people import (
    UPDATED,
    Questions,
    correct_facts,
    draw_people,
    handwritten,
    handwritten_people,
    in_context,
)
from personacore.memory.recall import Asker, Case, Outcomes, ask_changed, ask_taught
from personacore.memory.scoring import answer_log_probabilities, pad_lessons
from personacore.memory.teach import teach_people
from personacore.model.gpt import GPT, GPTConfig
from personacore.params import load_params
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.train import count_words, train_merges
from personacore.training.conversations import ConversationRows

PARAMS = load_params(Path(__file__).parent.parent / "params.yaml").memory.teach
QUICK = dataclasses.replace(PARAMS, max_steps=30, warmup_steps=2, lr=0.02, negatives=4, reversed=2, open=2, check_interval=10)
VALUES = Values()
TALKS = [draw_conversation(f"memory/{number}", Splits.all("pretrain"), 300, VALUES) for number in range(30)]
DOG = Fact("Your dog's name", "Biscuit")
JOB = Fact("Your job", "baker")
SHA256 = {"model.safetensors": "a" * 64, "tokenizer.json": "b" * 64}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(
        train_merges(count_words(text for turns in TALKS for turn in turns for text in (turn.user, turn.assistant)), 600)
    )


@pytest.fixture
def model(tokenizer) -> GPT:
    model = GPT(GPTConfig(tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=32, block_size=128))
    model.reset_parameters(1, embedding_std=0.1)
    return model.eval()


@pytest.fixture
def generic(tokenizer) -> torch.Tensor:
    return torch.from_numpy(np.stack([encode_row(tokenizer, turns, 128)[0] for turns in TALKS[:4]]))


@pytest.fixture
def memory(model, tokenizer, generic, tmp_path) -> Memory:
    return Memory(model, tokenizer, QUICK, generic, SHA256, tmp_path / "me.safetensors")


def probabilities(model: GPT, tokenizer: Tokenizer, facts: list[Fact]) -> torch.Tensor:
    lessons = [(f"What is {fact.key.replace('Your', 'my')}?", fact.sentence) for fact in facts]
    with torch.no_grad():
        return answer_log_probabilities(model, *pad_lessons(tokenizer, lessons)).exp()


# Conversations as tokens


def test_a_row_holds_whole_turns_and_only_answers_count(tokenizer):
    turns = [Turn("Hello!", "Hi.", "small talk"), Turn("x " * 200, "Too long.", "small talk")]
    inputs, targets = encode_row(tokenizer, turns, 64)
    question, answer = encode_question(tokenizer, "Hello!"), encode_answer(tokenizer, "Hi.")
    assert inputs[: 1 + len(question) + len(answer)].tolist() == [tokenizer.end_of_text, *question, *answer]
    assert targets[targets != IGNORED].tolist() == answer
    assert (inputs[1 + len(question) + len(answer) :] == tokenizer.end_of_text).all()


def test_names_of_specials_that_somebody_types_are_ordinary_text(tokenizer):
    ids = encode_prompt(tokenizer, "<|end|><|assistant|>")
    assert [number for number in ids if number in tokenizer.specials.values()] == [
        tokenizer.specials[name] for name in ("<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>")
    ]


def test_the_rows_of_a_step_depend_on_seed_and_step_alone_and_count_what_they_score(tokenizer):
    first, again = (ConversationRows(TALKS, tokenizer, 128, 4, seed=3) for _ in range(2))
    for step in (9, 2, 9):
        assert all(torch.equal(a, b) for a, b in zip(first.rows(step, 0, 4), again.rows(step, 0, 4), strict=True))
    inputs, targets = first.rows(2, 0, 4)
    assert first.scored(2) == int((targets != IGNORED).sum()) > 0
    assert torch.equal(first.rows(2, 1, 2)[0], inputs[1:3])
    other = ConversationRows(TALKS, tokenizer, 128, 4, seed=4).rows(2, 0, 4)[0]
    assert not torch.equal(other, inputs)


def test_the_loss_of_conversations_is_that_of_their_answers(model, tokenizer):
    turns = [Turn("Hello!", "Hi.", "small talk")]
    loss = conversation_loss(model, tokenizer, [turns])
    lessons = pad_lessons(tokenizer, [("Hello!", "Hi.")])
    assert loss.nats == pytest.approx(-answer_log_probabilities(model, *lessons).item(), rel=1e-5)
    assert (loss.tokens, loss.bytes) == (len(encode_answer(tokenizer, "Hi.")), 3)


def test_questions_answered_together_are_answered_as_alone(model, tokenizer):
    prompts = [encode_prompt(tokenizer, turn.user) for turns in TALKS[:5] for turn in turns]
    together = answers(model, tokenizer, prompts, max_new_tokens=8)
    assert together == [answers(model, tokenizer, [prompt], max_new_tokens=8)[0] for prompt in prompts]


def test_vectors_that_pretraining_made_alike_differ_again_and_others_stay(model):
    unused = np.array([3, 4, 5])
    with torch.no_grad():
        model.wte.weight[3:6] = 1 + 0.01 * torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    before = model.wte.weight.detach().clone()
    set_apart(model, unused)
    after = model.wte.weight.detach()
    spread = lambda rows: (rows - rows.mean(0)).norm() / rows.norm()  # noqa: E731
    assert spread(after[3:6]) > 3 * spread(before[3:6])
    assert torch.equal(after[6:], before[6:]) and torch.equal(after[:3], before[:3])
    set_apart(model, np.array([], dtype=int))
    assert torch.equal(model.wte.weight, after)


# Facts and lessons


@pytest.mark.parametrize(
    ("key", "teller", "relation", "noun"),
    [
        ("Your job", "", "", "job"),
        ("Your sister's town", "", "sister", "town"),
        ("Tom's dog's name", "Tom", "dog", "name"),
        ("Tom's age", "Tom", "", "age"),
        ("Your wooden boat", "", "", "wooden boat"),
    ],
)
def test_a_key_says_what_it_is_about(key, teller, relation, noun):
    topic = topic_of(key)
    assert (topic.owner.teller, topic.owner.relation, topic.noun) == (teller, relation, noun)
    assert topic.key == key


def test_several_facts_are_read_and_anything_else_is_not():
    assert read_facts(f"{DOG.sentence} {JOB.sentence}") == [DOG, JOB]
    assert read_facts(f"{DOG.sentence} I am glad.") is None
    assert read_facts("") is None


def test_lessons_answer_right_and_ask_near_misses_about_nothing_that_was_told():
    lessons = Lessons([DOG, JOB], "seed", VALUES)
    assert {answer for _, answer in lessons.positives(5)} == {DOG.sentence, JOB.sentence}
    assert {answer for _, answer in lessons.open(20)} == {DOG.sentence, JOB.sentence}
    answered = {answer for _, answer in lessons.negatives(200)}
    assert all(answer.endswith(f"is {language.UNKNOWN}.") for answer in answered)
    assert not {answer.partition(" is ")[0] for answer in answered} & {DOG.key, JOB.key}
    assert any("'s dog's name" in answer and not answer.startswith("Your") for answer in answered)  # somebody else's


def test_what_is_known_least_is_asked_most_and_nothing_is_left_out():
    lessons = Lessons([DOG, JOB], "seed", VALUES)
    steps = [[answer for _, answer in lessons.doubtful(2, [1.0, 0.2])] for _ in range(100)]
    answered = [answer for step in steps for answer in step]
    assert 0 < answered.count(DOG.sentence) < 100 < answered.count(JOB.sentence)
    assert {len(step) for step in steps} == {4} and len(lessons.doubtful(100, [1.0, 0.2])) == MOST_POSITIVES


def test_a_value_that_two_facts_share_is_not_asked_back():
    lessons = Lessons([DOG, Fact("Your cat's name", "Biscuit")], "seed", VALUES)
    assert not any("Biscuit" in question for question, _ in lessons.reversed(40))


# Teaching


def test_teaching_makes_facts_likely_and_leaves_the_model_bit_for_bit(model, tokenizer, generic):
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    plain = probabilities(model, tokenizer, [DOG, JOB])
    lora, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, QUICK, seed=1)
    assert torch.equal(probabilities(model, tokenizer, [DOG, JOB]), plain)
    assert all(torch.equal(parameter, before[name]) and parameter.requires_grad for name, parameter in model.named_parameters())
    with lora.attached(model):
        assert (probabilities(model, tokenizer, [DOG, JOB]) > 100 * plain).all()


def test_a_person_taught_among_others_learns_as_alone(model, tokenizer, generic):
    options = dataclasses.replace(QUICK, generic_rows=0, max_steps=5, stop_probability=1.0)
    alone, _ = teach_people(model, tokenizer, [[DOG, JOB]], generic, options, seed=1)
    among, _ = teach_people(model, tokenizer, [[DOG, JOB], [Fact("Your age", "34"), DOG]], generic, options, seed=1)
    for name, one in alone.person(0).named_parameters():
        assert torch.allclose(one, dict(among.person(0).named_parameters())[name], atol=2e-4)


def test_conversations_change_less_when_they_are_held(model, tokenizer, generic):
    def change(weight: float) -> float:
        options = dataclasses.replace(QUICK, generic_rows=2, kl_weight=weight)
        lora, _ = teach_people(model, tokenizer, [[DOG]], generic, options, seed=1)
        with torch.no_grad():
            base = model(generic).log_softmax(-1)
            with lora.attached(model):
                return (base.exp() * (base - model(generic).log_softmax(-1))).sum(-1).mean().item()

    assert change(100.0) < 0.5 * change(0.0)


def test_teaching_stops_as_soon_as_it_is_sure(model, tokenizer, generic):
    seen = []
    options = dataclasses.replace(QUICK, stop_probability=0.0, stop_unknown=0.0)
    _, results = teach_people(model, tokenizer, [[DOG]], generic, options, seed=1, on_step=lambda step, sure: seen.append(step))
    assert seen == [10] and results[0].steps == 10


# A memory in a file


def said(monkeypatch, replies: dict[str, str]) -> list[list[int]]:
    """Make the model answer these questions so, everything else with small talk; the prompts it was given."""
    prompts: list[list[int]] = []

    def reply(model, tokenizer, given, **options):
        prompts.extend(given)
        texts = [tokenizer.decode(ids[2:-2]) for ids in given]
        return [replies.get(text, "I am glad.") for text in texts]

    def listed(model, tokenizer, keys, confidence):
        said = [fact for key in dict.fromkeys(keys) for fact in read_facts(replies.get(plain_question(key), "")) or []]
        return [Known(fact, 1.0) for fact in said]

    monkeypatch.setattr(memory_module, "answers", reply)
    monkeypatch.setattr(inventory, "answers", reply)
    monkeypatch.setattr(inventory, "take_inventory", listed)
    return prompts


def test_what_is_asked_is_all_that_is_in_the_prompt(memory, tokenizer, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    memory.teach("My dog is called Biscuit.")
    prompts = said(monkeypatch, {})
    memory.ask("What is my dog's name?")
    assert prompts == [encode_prompt(tokenizer, "What is my dog's name?")]


def test_a_value_must_stand_in_the_statement_word_by_word(memory, monkeypatch):
    said(monkeypatch, {"My age is 42.": "Your age is 4.", "My age is 4!": "Your age is 4."})
    assert memory.read("My age is 42.") == [] and memory.read("My age is 4!") == [Fact("Your age", "4")]


def test_a_question_that_would_push_the_conversation_out_of_the_block_is_refused(memory):
    with pytest.raises(UserError, match="longer than 64 tokens"):
        memory.ask("where " * 100)


def test_two_that_teach_one_file_at_once_do_not_undo_each_other(memory, model, tokenizer, generic, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    other = Memory(model, tokenizer, QUICK, generic, SHA256, memory.path)
    memory.teach("My dog is called Biscuit.")
    saved = memory.path.read_bytes()
    with pytest.raises(UserError, match="changed by another program meanwhile"):
        other.teach("I am a baker.")
    assert memory.path.read_bytes() == saved
    assert Memory(model, tokenizer, QUICK, generic, SHA256, memory.path).teach("I am a baker.").understood


def test_what_could_not_be_read_out_before_a_lesson_is_counted_as_lost(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    assert memory.teach("My dog is called Biscuit.").lost == 0
    assert memory.teach("I am a baker.").lost == 1  # the read-out finds no dog
    said(monkeypatch, {"My age is 34.": "Your age is 34.", plain_question(DOG.key): DOG.sentence})
    told = memory.teach("My age is 34.")
    assert told.lost == 0 and all(each.fact == DOG for each in told.doubtful)


def test_a_taught_memory_is_saved_for_its_owner_only_and_opens_again(memory, tokenizer, monkeypatch, generic):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence})
    lesson = memory.teach("My dog is called Biscuit.")
    assert [learned.fact for learned in lesson.learned] == [DOG] and lesson.understood
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert b"Biscuit" not in memory.path.read_bytes()
    again = Memory(memory.model, tokenizer, QUICK, generic, SHA256, memory.path)
    assert again.count == 1
    for name, parameter in memory.lora.named_parameters():
        assert torch.equal(parameter, dict(again.lora.named_parameters())[name])


@pytest.mark.parametrize("reply", ["I am glad.", "Your dog's name is Rex.", "Your dog's name is unknown to me."])
def test_a_statement_that_is_not_read_or_read_wrongly_teaches_nothing(memory, monkeypatch, reply):
    said(monkeypatch, {"My dog is called Biscuit.": reply})
    assert not memory.teach("My dog is called Biscuit.").understood
    assert not memory.path.exists()


def test_a_teach_that_dies_half_way_leaves_the_old_memory_whole(memory, monkeypatch):
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "I am a baker.": JOB.sentence})
    memory.teach("My dog is called Biscuit.")
    before = memory.path.read_bytes()

    def die(step: int, sure: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.teach("I am a baker.", die)
    assert memory.path.read_bytes() == before
    assert not [file for file in memory.path.parent.iterdir() if file != memory.path]


def test_to_forget_something_unknown_or_unclear_is_said_in_one_line(memory, monkeypatch):
    said(monkeypatch, {"What is my cat's name?": "Your cat's name is unknown to me."})
    with pytest.raises(UserError, match="Your cat's name is not known"):
        memory.forget("my cat's name")
    with pytest.raises(UserError, match="I did not understand what to forget: hm"):
        memory.forget("hm")
    with pytest.raises(UserError, match="nothing to read"):
        memory.teach("  ")


def test_forgetting_the_only_fact_leaves_an_adapter_that_changes_nothing(memory, model, tokenizer, monkeypatch):
    plain = probabilities(model, tokenizer, [DOG])
    said(monkeypatch, {"My dog is called Biscuit.": DOG.sentence, "What is my dog's name?": DOG.sentence})
    memory.teach("My dog is called Biscuit.")
    assert memory.forget("my dog's name") == Fact(DOG.key, None)
    with memory.lora.attached(model):
        assert torch.equal(probabilities(model, tokenizer, [DOG]), plain)


# The protocol


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


def test_hand_written_questions_are_hundreds_and_hold_no_answer():
    written = handwritten()
    assert sum(map(len, written.values())) >= 300
    assert len({question for questions in written.values() for question in questions}) == sum(map(len, written.values()))
    people = handwritten_people(10, "evaluation", "seed", VALUES)
    assert [fact.key for facts in people for fact in facts] == list(written)
    for frames in language.frames().values():
        templates = {frame.partition("{np}")[0] for frame in frames.any if len(frame.partition("{np}")[0]) > 25}
        assert not [q for questions in written.values() for q in questions if any(q.startswith(start) for start in templates)]


def test_an_interval_is_over_facts_not_questions():
    same = share_with_interval({str(number): [True] * 10 for number in range(5)})
    assert (same["value"], same["low"], same["high"], same["asked"], same["facts"]) == (1.0, 1.0, 1.0, 50, 5)
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
        self.answer = answer

    def ask(self, lessons, lora, *, draws=1, **_):
        return [[self.answer(right, lora)] * draws for _, right in lessons]


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


def test_answers_that_do_not_come_from_the_memory_or_mix_values_up_are_found(tokenizer):
    gates = gates_of(tokenizer, lambda right, lora: right)
    assert gates["adapter_off"] == gates["wrong_user"] == 1
    exchange = {DOG.sentence: Fact(DOG.key, JOB.value).sentence, JOB.sentence: Fact(JOB.key, DOG.value).sentence}
    gates = gates_of(tokenizer, lambda right, lora: exchange.get(right, DOG.sentence))
    assert (gates["shuffled_values"], gates["intrusion"], gates["h2_greedy"], gates["abstain_known_slot"]) == (1, 1, 0, 0)


def test_an_old_value_in_any_words_is_a_leak(tokenizer):
    questions = Questions([JOB], "seed", "evaluation", VALUES)
    case = Case("p", [JOB], questions, "mine", "theirs", [])
    for answer, leaks in (("That dog is Biscuit, I think.", 1.0), (f"{DOG.key} is unknown to me.", 0.0)):
        outcomes = Outcomes()
        ask_changed(Scripted(tokenizer, lambda *_, answer=answer: answer), outcomes, "forget", [DOG], case, draws=2, seed=1)
        gates = outcomes.gates({})
        assert (gates["forget_emission"]["value"], gates["forget_abstain"]["value"]) == (leaks, 1 - leaks)


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
