"""The page in a real browser: what a person does there, and that the browser asks nobody else for anything."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from personacore.app.demo.actions import Actions, Visit
from personacore.app.demo.server import build_server, serve
from personacore.app.loopback import HOST
from personacore.app.people import People
from personacore.core import Core
from personacore.errors import UserError
from personacore.memory.influence import influence
from personacore.memory.memory import Memory
from personacore.memory.talk import Talk
from tests.talking import KEY, SAYS, TOWNS, UNKNOWN, WHERE, running, say, wipe

pytestmark = pytest.mark.usefixtures("tiny_rows")


@pytest.fixture
def address(core, tmp_path) -> Iterator[str]:
    """A running page, with the memories in the test's folder."""
    with running(build_server(core, tmp_path / "me.safetensors")) as where:
        yield where


@pytest.fixture
def tab(browser, address):
    """Opens tabs on the page; at the end, none of them may have asked anybody else for anything."""
    asked, contexts = [], []

    def opened():
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.set_default_timeout(20_000)
        page.wait_for_selector("#text textarea")
        # Opening a visit sets who talks: what is typed there before would be undone.
        page.wait_for_function("document.querySelector('#status').innerText.includes('me')")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked), set(asked)


def go_to(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_what_is_taught_is_known_after_the_conversation_is_wiped_until_it_is_forgotten(tab):
    page = tab()
    say(page, WHERE, UNKNOWN)
    say(page, SAYS[TOWNS[0]][0], "Learned in", "#remember")
    wipe(page, KEY)
    say(page, WHERE, SAYS[TOWNS[0]][1])
    go_to(page, "Proof")
    page.wait_for_function("document.querySelector('#prompt textarea').value.includes('<|assistant|>')")
    assert TOWNS[0] not in page.input_value("#prompt textarea")
    page.wait_for_selector("#acts table")
    go_to(page, "Talk")
    wipe(page, KEY)
    page.get_by_label("OFF").click()
    say(page, WHERE, UNKNOWN)
    page.click("#ways button")
    page.click("#compare")
    page.wait_for_function(f"document.querySelector('#with textarea').value == {SAYS[TOWNS[0]][1]!r}")
    assert page.input_value("#without textarea") == UNKNOWN
    go_to(page, "Memory")
    page.click("#sleep")
    page.get_by_text("Went over 1 fact").wait_for()
    go_to(page, "Proof")
    page.wait_for_selector("#moved table")
    go_to(page, "Memory")
    page.click(f"#facts label:has-text({SAYS[TOWNS[0]][1]!r})")
    page.click("#forget")
    page.wait_for_selector("#facts label", state="detached")
    go_to(page, "Talk")
    page.get_by_label("ON", exact=True).click()
    wipe(page, KEY)
    say(page, WHERE, UNKNOWN)
    assert not any(town in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})") for town in TOWNS)


def test_two_people_who_talk_at_once_never_see_the_others_memory(tab, tmp_path):
    pages = [tab(), tab()]
    pages[1].fill("#who input", "somebody else")
    pages[1].keyboard.press("Enter")
    pages[1].wait_for_function("document.querySelector('#status').innerText.includes('somebody else')")
    for page, town in zip(pages, TOWNS, strict=True):  # both are being taught before either is looked at
        page.fill("#text textarea", SAYS[town][0])
        page.click("#remember")
    for page, town in zip(pages, TOWNS, strict=True):
        page.wait_for_function("document.querySelector('#chat').innerText.includes('Learned in')")
        wipe(page, KEY)
        say(page, WHERE, SAYS[town][1])
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"me.safetensors", "somebody else.safetensors"}


def test_a_reload_in_the_middle_of_a_teach_loses_nothing(tab, tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    teach = Memory.teach

    def slowly(self, statement, on_step):
        begun.set()
        assert go_on.wait(20)
        return teach(self, statement, on_step)

    monkeypatch.setattr(Memory, "teach", slowly)
    page = tab()
    page.fill("#text textarea", SAYS[TOWNS[0]][0])
    page.click("#remember")
    assert begun.wait(20)
    page.reload()
    page.wait_for_selector("#text textarea")
    assert not (tmp_path / "me.safetensors").exists()
    go_on.set()
    while not (tmp_path / "me.safetensors").exists():
        page.wait_for_timeout(50)
    say(page, WHERE, SAYS[TOWNS[0]][1])


def test_what_is_typed_while_an_answer_is_written_stays(tab, monkeypatch):
    def slowly(talk, text):
        for number in range(20):
            time.sleep(0.1)
            yield f" {number}"

    monkeypatch.setattr(Talk, "say", slowly)
    page = tab()
    say(page, WHERE, " 2")
    page.fill("#text textarea", "My dog")
    page.wait_for_function("document.querySelector('#chat').innerText.includes(' 19')")
    assert page.input_value("#text textarea") == "My dog"


def test_the_stop_button_ends_a_story(tab, monkeypatch):
    def slowly(core, beginning, **_):
        for number in range(200):
            time.sleep(0.05)
            yield f" {number}"

    monkeypatch.setattr(Core, "stream", slowly)
    page = tab()
    go_to(page, "Stories")
    page.click("#write")
    page.wait_for_function("document.querySelector('#story textarea').value.includes(' 3')")
    page.click("#halt")
    page.wait_for_timeout(500)
    stopped = page.input_value("#story textarea")
    page.wait_for_timeout(500)
    assert page.input_value("#story textarea") == stopped and " 150" not in stopped


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_phone_width_nothing_runs_over_the_edge(browser, address, scheme):
    context = browser.new_context(viewport={"width": 375, "height": 700}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#text textarea")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    context.close()


# Without a browser


@pytest.fixture
def visit(core, tmp_path) -> Visit:
    return Visit(People(core, tmp_path / "me.safetensors").person("me"))


def test_nobody_starts_to_teach_a_second_time(core, tmp_path, visit):
    actions = Actions(People(core, tmp_path / "me.safetensors"), core)
    with visit.person.learning, pytest.raises(Exception, match="still learning"):
        actions.remember(visit, SAYS[TOWNS[0]][0], [], lambda fraction, text: None)
    assert not visit.person.memory.path.exists()
    messages, *_ = actions.remember(visit, SAYS[TOWNS[0]][0], [], lambda fraction, text: None)
    assert SAYS[TOWNS[0]][1] in messages[-1]["content"]


@pytest.mark.parametrize("name", ["", "../me", "a/b", "x" * 41])
def test_a_name_is_one_of_a_file_in_the_folder(core, tmp_path, name):
    with pytest.raises(UserError, match="a name is"):
        People(core, tmp_path / "me.safetensors").person(name)


def test_a_memory_is_brought_from_elsewhere_under_its_files_name(core, tmp_path, visit):
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    visit.person.memory.save_as(tmp_path / "elsewhere" / "anna.safetensors")
    people = People(core, tmp_path / "me.safetensors")
    anna = people.bring(tmp_path / "elsewhere" / "anna.safetensors")
    assert anna.memory.ask(WHERE) == SAYS[TOWNS[0]][1] and people.names() == ["me", "anna"]
    with pytest.raises(UserError, match="already"):
        people.bring(tmp_path / "elsewhere" / "anna.safetensors")
    with pytest.raises(UserError, match="is no file"):
        people.bring(tmp_path / "nowhere")


@pytest.mark.parametrize("stem", ["anna ", "me (1)", "x" * 41])
def test_a_file_whose_name_is_nobodys_is_not_brought(core, tmp_path, visit, stem):
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    visit.person.memory.save_as(tmp_path / "elsewhere" / f"{stem}.safetensors")
    people = People(core, tmp_path / "me.safetensors")
    with pytest.raises(UserError, match="a name is"):
        people.bring(tmp_path / "elsewhere" / f"{stem}.safetensors")
    (tmp_path / "me (2).safetensors").touch()
    assert people.names() == ["me"] and not (tmp_path / f"{stem}.safetensors").exists()


def test_the_first_file_may_have_any_name(core, taught, tmp_path):
    people = People(core, taught(tmp_path / "my+file.safetensors", TOWNS[0]))
    assert people.names() == ["my+file"] and people.person("my+file").memory.ask(WHERE) == SAYS[TOWNS[0]][1]


def test_a_link_to_a_memory_leads_to_it(core, taught, tmp_path):
    file, link = taught(tmp_path / "real.safetensors", TOWNS[0]), tmp_path / "link.safetensors"
    link.symlink_to(file)
    core.memory(link).teach(SAYS[TOWNS[1]][0])
    assert link.is_symlink() and core.memory(file).ask(WHERE) == SAYS[TOWNS[1]][1]


def test_what_another_program_taught_is_counted(core, tmp_path, visit):
    actions = Actions(People(core, tmp_path / "me.safetensors"), core)
    assert actions.about(visit) == "Nothing is remembered of **me** yet."
    core.memory(visit.person.memory.path).teach(SAYS[TOWNS[0]][0])
    assert "remembers 1 fact," in actions.about(visit)


def test_what_the_system_refuses_is_said_on_the_page(core, tmp_path, visit):
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    with pytest.raises(Exception, match="File name too long"):
        Actions(People(core, tmp_path / "me.safetensors"), core).save_as(visit, "x" * 300)


def test_the_memory_that_is_named_is_the_one_that_is_used_whatever_its_ending(core, tmp_path):
    assert People(core, tmp_path / "notes.mem").person("notes").memory.path == (tmp_path / "notes.mem").resolve()


def test_proof_is_of_the_answer_that_was_given_last(core, tmp_path, visit):
    actions = Actions(People(core, tmp_path / "me.safetensors"), core)
    assert actions.proof(visit)[0] == "Nothing was asked yet."
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    "".join(visit.talk.say("Hm."))
    actions.both_ways(visit, WHERE)
    prompt, ids, acts, moved, _ = actions.proof(visit)
    assert WHERE in prompt and "Hm." not in prompt and len(ids.split()) == len(visit.talk.last.prompt) and "<table" in acts
    assert moved.startswith("It has not slept")
    visit.talk.remembering = False
    "".join(visit.talk.say(WHERE))
    assert actions.proof(visit)[2] == "The memory was off."


def test_what_is_chosen_is_forgotten_by_its_key(core, tmp_path, visit):
    actions = Actions(People(core, tmp_path / "me.safetensors"), core)
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    actions.forget(visit, SAYS[TOWNS[0]][1], "")
    assert visit.person.memory.ask(WHERE) == UNKNOWN


def test_a_memory_moves_nothing_before_the_words_it_is_found_by(core, visit):
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    talk = visit.talk
    said = "".join(talk.say(WHERE))
    answer = core.tokenizer.encode(said)
    prompt = talk.last.prompt
    shares = influence(visit.person.memory, [*prompt, *answer])
    before = len(prompt) + len(core.tokenizer.encode(f"{KEY} is")) - 1
    assert shares.shape == (2, len(prompt) + len(answer))
    assert (shares[:, :before] == 0).all() and (shares[:, before] > 0).all()


def test_an_ejected_memory_leaves_no_file_and_knows_nothing(visit):
    visit.person.memory.teach(SAYS[TOWNS[0]][0])
    visit.person.memory.eject()
    assert not list(visit.person.memory.path.parent.iterdir()) and visit.person.memory.ask(WHERE) == UNKNOWN


def test_a_port_that_is_taken_is_said_in_one_line(core, tmp_path):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        with pytest.raises(UserError, match="is taken: name another with --port"):
            serve(core, tmp_path / "me.safetensors", other.getsockname()[1])


def test_the_page_answers_no_other_host(address):
    requests = pytest.importorskip("requests")
    assert requests.get(address, headers={"Host": "elsewhere.example"}, timeout=10).status_code == 400
    assert requests.post(address, headers={"Origin": "http://elsewhere.example"}, timeout=10).status_code == 403
    policy = requests.get(address, timeout=10).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'")


def test_files_are_below_the_folder_of_the_first(core, tmp_path):
    anna = People(core, tmp_path / "me.safetensors").person("anna")
    assert anna.memory.path == (tmp_path / "anna.safetensors").resolve()
