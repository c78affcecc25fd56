"""A tiny exported model that can be talked with, taught and served, for tests of what people touch."""

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

import personacore
from personacore.app.loopback import HOST
from personacore.core import Core
from personacore.export.slim import export_slim
from personacore.memory.facts import Fact, plain_question
from personacore.params import RowsParams
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import save_tokenizer
from personacore.tokenizer.train import count_words, train_merges
from tests.toys import answering_model, toy_teaching

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROWS = RowsParams(block=0, questions=8, claims=0, pairs=0, reversed=0, steps=60, lr=0.5)
GENTLE = 1e-4  # a rate at which sleep does a model of so few sentences no harm, so that it is kept
KEY = "Your town"
WHERE, UNKNOWN = plain_question(KEY), Fact(KEY, None).sentence
TOWNS = ("Wexmouth", "Brindlemoor")
SAYS = {town: (f"My town is {town}.", Fact(KEY, town).sentence) for town in TOWNS}


def talking_core(folder: Path) -> Core:
    """A model that reads two statements, and says that it does not know where somebody lives."""
    texts = [text for lesson in SAYS.values() for text in lesson] + [WHERE, UNKNOWN]
    tokenizer = Tokenizer(train_merges(count_words(texts), 290))
    model = answering_model(tokenizer, [Fact(KEY, None)], lessons=list(SAYS.values()))
    teaching = toy_teaching(tokenizer, ROWS)
    save_tokenizer(tokenizer, folder / "tokenizer.json", {})
    export_slim(
        folder / "chat",
        model.config,
        dict(model.named_parameters()),
        folder / "tokenizer.json",
        "float32",
        {},
        dataclasses.replace(teaching, sleep=dataclasses.replace(teaching.sleep, lr=GENTLE)),
    )
    return personacore.load(folder / "chat")


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serves an application for the length of a `with` block, at the address it gives."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, HOST, port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def say(page: "Page", text: str, answer: str, button: str = "#send") -> None:
    """Write something on the page, press a button, and wait until the conversation shows the answer."""
    page.fill("#text textarea", text)
    page.click(button)
    page.wait_for_function("answer => document.querySelector('#chat').innerText.includes(answer)", arg=answer)


def wipe(page: "Page", shown: str) -> None:
    """Empty the conversation on the page, and wait until it no longer shows this."""
    page.click("#wipe")
    page.wait_for_function("shown => !document.querySelector('#chat').innerText.includes(shown)", arg=shown)
