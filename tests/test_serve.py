"""OpenAI's interface, asked by OpenAI's own client."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI

from personacore.app.serve import build_interface, until
from personacore.generation.prompts import encode_prompt
from tests.talking import SAYS, TOWNS, UNKNOWN, WHERE, running

pytestmark = pytest.mark.usefixtures("tiny_rows")


@pytest.fixture
def client(core, taught, tmp_path) -> Iterator[OpenAI]:
    """A client of the interface, where two people have taught something."""
    for name, town in zip(("anna", "ben"), TOWNS, strict=True):
        taught(tmp_path / f"{name}.safetensors", town)
    with running(build_interface(core, tmp_path / "me.safetensors")) as address:
        yield OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def ask(client: OpenAI, model: str, question: str = WHERE, **options):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], **options)


def test_the_models_are_the_plain_one_and_everybody_with_a_memory(client):
    assert [model.id for model in client.models.list()] == ["personacore", "anna", "ben"]


def test_a_name_answers_from_that_persons_memory_and_the_plain_model_from_none(client, core):
    said = {name: ask(client, name) for name in ("anna", "ben", "personacore")}
    assert [answer.choices[0].message.content for answer in said.values()] == [SAYS[town][1] for town in TOWNS] + [UNKNOWN]
    answer = said["anna"]
    written = len(core.tokenizer.encode(SAYS[TOWNS[0]][1]))
    assert answer.choices[0].finish_reason == "stop" and answer.model == "anna"
    assert answer.usage.prompt_tokens == len(encode_prompt(core.tokenizer, WHERE))
    assert answer.usage.completion_tokens == written and answer.usage.total_tokens == written + answer.usage.prompt_tokens


def test_two_people_asked_at_once_get_their_own_answers(client):
    found: dict[tuple[str, int], str] = {}

    def asking(name: str, number: int) -> None:
        found[name, number] = ask(client, name).choices[0].message.content

    threads = [threading.Thread(target=asking, args=(name, number)) for number in range(4) for name in ("anna", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(name, said) for (name, _), said in found.items()} == {("anna", SAYS[TOWNS[0]][1]), ("ben", SAYS[TOWNS[1]][1])}
    assert len(found) == 8


def test_many_who_ask_one_memory_at_once_are_all_answered(client):
    def asking(number: int) -> str:
        parts = ask(client.with_options(timeout=60), "anna", stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts)

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(asking, range(50))) == {SAYS[TOWNS[0]][1]}
    assert len(client.models.list().data) == 3


def test_a_client_that_leaves_frees_the_memory_it_was_answered_from(client, monkeypatch):
    def endless(pieces, stops):
        while True:
            yield "and so on "
            time.sleep(0.01)

    with monkeypatch.context() as patched:
        patched.setattr("personacore.app.serve.until", endless)
        with ask(client, "anna", stream=True) as stream:
            next(iter(stream))
    answer = ask(client.with_options(timeout=20), "anna")
    assert answer.choices[0].message.content == SAYS[TOWNS[0]][1]


def test_what_was_said_before_is_read_and_a_stream_is_the_same_text(client, core):
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), SAYS[TOWNS[0]], strict=True)]
    messages.append({"role": "user", "content": WHERE})
    whole = client.chat.completions.create(model="personacore", messages=messages)
    parts = list(
        client.chat.completions.create(
            model="personacore", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == whole.choices[0].message.content
    assert [part.choices[0].finish_reason for part in parts[:-1]][-2:] == [None, "stop"]
    assert [part.choices[0].delta.role for part in parts[:-1]] == ["assistant", *[None] * (len(parts) - 2)]
    assert parts[-1].usage == whole.usage and whole.usage.prompt_tokens > len(encode_prompt(core.tokenizer, WHERE))


def test_a_text_is_continued_as_by_the_library_up_to_a_stop(client, core):
    options = {"max_tokens": 30, "temperature": 0.9, "top_p": 0.9, "seed": 3}
    done = client.completions.create(model="personacore", prompt="My", **options)
    expected = core.complete("My", max_new_tokens=30, temperature=0.9, top_p=0.9, seed=3)
    assert done.choices[0].text == expected
    streamed = client.completions.create(model="personacore", prompt="My", stream=True, **options)
    assert "".join(part.choices[0].text for part in streamed) == expected
    stop = expected[5:7]
    cut = client.completions.create(model="personacore", prompt="My", stop=[stop, "never"], **options)
    assert cut.choices[0].text == expected.partition(stop)[0] and cut.choices[0].finish_reason == "stop"
    short = client.completions.create(model="personacore", prompt="My", **(options | {"max_tokens": 1}))
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"extra_body": {"tools": []}}, "tools"),
        ({"extra_body": {"stream_options": {"include_obfuscation": True}}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_cannot_be_done_is_refused_in_that_interfaces_form(client, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "personacore", **options)
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("more", [{"role": "system"}, {"name": "anna"}, {"content": [{"type": "image_url"}]}], ids=str)
def test_a_message_that_is_not_a_persons_or_the_assistants_text_is_refused(client, more):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="anna", messages=[{"role": "user", "content": WHERE} | more])


def test_an_answer_is_as_long_as_is_allowed(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = ask(client, "anna", **{name: 1})
        assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 1


def test_the_interface_answers_no_other_host(client):
    address = f"{client.base_url}models"
    assert httpx.get(address).status_code == 200
    assert httpx.get(address, headers={"Host": "elsewhere.example"}).status_code == 400
    assert httpx.get(address, headers={"Origin": "http://elsewhere.example"}).status_code == 403


def test_what_other_clients_send_beside_the_rest_is_understood(client):
    parts = [{"type": "text", "text": f" {WHERE[:5]}"}, {"type": "text", "text": f"{WHERE[5:]}\n"}]
    answer = client.chat.completions.create(
        model="anna", messages=[{"role": "user", "content": parts}], temperature=None, stop="", frequency_penalty=0, n=1
    )
    assert answer.choices[0].message.content == SAYS[TOWNS[0]][1]
    assert client.models.retrieve("anna").id == "anna"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("carl")


@pytest.mark.parametrize("text", ["", "town " * 200], ids=["empty", "long"])
def test_what_cannot_be_read_whole_is_refused(client, text):
    with pytest.raises(openai.BadRequestError):
        ask(client, "anna", text)


def test_an_unknown_model_and_messages_out_of_order_are_refused(client, tmp_path):
    with pytest.raises(openai.NotFoundError, match="there are personacore, anna, ben") as caught:
        ask(client, "carl")
    assert caught.value.code == "model_not_found" and not (tmp_path / "carl.safetensors").exists()
    with pytest.raises(openai.BadRequestError, match="alternate"):
        client.chat.completions.create(model="anna", messages=[{"role": "assistant", "content": "Hello."}])


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "stopped"),
    [
        (["one ", "two"], [], "one two", False),
        (["one E", "ND two"], ["END"], "one ", True),
        (["one E", "NE"], ["END"], "one ENE", False),
        (["abc"], ["c", "b"], "a", True),
        (["abc", "d"], ["abcd", "c"], "ab", True),
        (["\nUs", "er:", " x"], ["\nUser:"], "", True),
        ([], ["x"], "", False),
    ],
)
def test_a_stop_is_found_across_pieces(pieces, stops, text, stopped):
    assert read(pieces, stops) == (text, stopped)


@given(st.text("ab", max_size=12), st.lists(st.integers(1, 5), min_size=12, max_size=12), st.lists(st.text("ab", min_size=1)))
def test_where_a_text_stops_is_the_same_however_it_is_cut(text, lengths, stops):
    places = [sum(lengths[:number]) for number in range(len(lengths) + 1)]
    pieces = [text[first:last] for first, last in pairwise(places)]
    ends = [end for end in range(len(text) + 1) if text[:end].endswith(tuple(stops))]
    expected = min(text[: ends[0] - len(stop)] for stop in stops if text[: ends[0]].endswith(stop)) if ends else text
    assert read(pieces, stops) == (expected, bool(ends))


def read(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """What is read of a text, and whether it stopped there."""
    found, stream = [], until(pieces, stops)
    while True:
        try:
            found.append(next(stream))
        except StopIteration as end:
            return "".join(found), end.value
