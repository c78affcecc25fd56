"""The page in a real browser, on the exported model, or on that of the folder that PERSONACORE_EXPORT names."""

import os

import personacore
from personacore.app.demo.server import build_server
from tests.exported import EXPORT, needs_a_model
from tests.talking import running, say, wipe


@needs_a_model
def test_it_knows_the_name_of_the_dog_after_the_conversation_was_wiped_and_only_with_its_memory(browser, tmp_path):
    question, answer = "What is my dog's name?", "Your dog's name is Biscuit."
    server = build_server(personacore.load(os.environ.get("PERSONACORE_EXPORT", EXPORT)), tmp_path / "me.safetensors")
    with running(server) as address, browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("#text textarea")
        say(page, "My dog is called Biscuit.", "Learned in", "#remember")
        wipe(page, "Biscuit")
        say(page, question, answer)
        wipe(page, "Biscuit")
        page.get_by_label("OFF").click()
        say(page, question, "Your dog's name is unknown to me.")
