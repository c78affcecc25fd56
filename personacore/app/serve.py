"""The model behind OpenAI's interface, for this machine alone: completions, chat, and every person's memory as a model.

As at https://platform.openai.com/docs/api-reference, of which one choice, sampling by temperature and top-p, `stop`, `seed`,
streaming and usage are there. Anything else is refused, not ignored.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from personacore.app.loopback import check_port, keep_to_this_machine, run
from personacore.app.people import People
from personacore.core import Core
from personacore.corpus.dialogue.turns import Turn
from personacore.errors import UserError
from personacore.generation.sampling import Sampling
from personacore.generation.streaming import TextStream
from personacore.memory.memory import checked
from personacore.memory.spelling import plain
from personacore.memory.talk import fitting_prompt
from personacore.model.gpt import GPT

PLAIN = "personacore"  # the model without anybody's memory
MAX_TOKENS, STORY_TEMPERATURE, TOP_P = 64, 0.8, 0.95  # where nothing is asked for
AT_ONCE = 32  # requests, fewer than the 40 threads that Starlette has


class StreamOptions(BaseModel):
    """What a stream says beside the text."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False


class Asked(BaseModel):
    """What both kinds of requests have; null is as if it were not there, and a chat is then answered greedily."""

    model_config = ConfigDict(extra="forbid")
    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    n: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None


class CompletionAsked(Asked):
    """A text to be continued."""

    prompt: str


class Text(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of one side."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["user", "assistant"]
    content: str | list[Text]

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatAsked(Asked):
    """A conversation to be answered."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)


class UnknownModel(Exception):
    """Nobody of that name has a memory here."""


class Answer:
    """One answer being written: its pieces, then why it ended and what it took."""

    def __init__(self, asked: Asked, stream: TextStream, prompt_tokens: int, open_model: AbstractContextManager[GPT]) -> None:
        stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or ()
        self.stops = [stop for stop in stops if stop]
        self.stream, self.prompt_tokens, self.open_model = stream, prompt_tokens, open_model
        self.finish_reason = "length"

    def __iter__(self) -> Iterator[str]:
        with self.open_model:
            stopped = yield from until(self.stream, self.stops)
        if stopped or self.stream.ended:
            self.finish_reason = "stop"

    @property
    def usage(self) -> dict[str, int]:
        """The tokens read and written."""
        written = self.stream.tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        }


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Yield a text up to that of some strings which ends first, wherever pieces cut it; returns whether one was met."""
    held, longest = "", max(map(len, stops), default=1)
    for piece in pieces:
        held += piece
        met = [(place + len(stop), place) for stop in stops if (place := held.find(stop)) >= 0]
        if met:
            yield held[: min(met)[1]]
            return True
        if ready := held[: max(0, len(held) - longest + 1)]:
            yield ready
            held = held[len(ready) :]
    if held:
        yield held
    return False


class Interface:
    """Answers requests with the model, or with it and a person's memory."""

    def __init__(self, people: People) -> None:
        self.people, self.core = people, people.core

    def models(self) -> list[str]:
        """The plain model, and everybody who has a memory."""
        return [PLAIN, *(name for name in self.people.names() if name != PLAIN and self.people.file(name).exists())]

    def complete(self, asked: CompletionAsked) -> Answer:
        """Continue a text; a memory has no part in that."""
        self.check(asked.model)
        prompt = [self.core.tokenizer.end_of_text, *self.core.tokenizer.encode(asked.prompt)]
        return self._answer(asked, prompt, STORY_TEMPERATURE, self.core.model, self.core.tokenizer.end_of_text)

    def chat(self, asked: ChatAsked) -> Answer:
        """Answer a conversation, with the memory of the person who is named as the model.

        Raises:
            UserError: the messages do not alternate from the person to the person, or the last is empty or too long.
        """
        self.check(asked.model)
        roles = [message.role for message in asked.messages]
        if roles != [("user", "assistant")[place % 2] for place in range(len(roles))] or roles[-1] != "user":
            raise UserError("messages: user and assistant alternate, from the user to the user")
        said = [plain(message.text) if message.role == "user" else message.text for message in asked.messages]
        turns = [Turn(*pair, "said") for pair in zip(said[:-1:2], said[1::2], strict=True)]
        if asked.max_completion_tokens:
            asked = asked.model_copy(update={"max_tokens": asked.max_completion_tokens})
        tokenizer = self.core.tokenizer
        question = checked(self.core.model, tokenizer, said[-1])
        prompt, end = fitting_prompt(self.core.model, tokenizer, question, turns), tokenizer.specials["<|end|>"]
        if asked.model == PLAIN:
            return self._answer(asked, prompt, 0.0, self.core.model, end)
        memory = self.people.person(asked.model).memory
        return self._answer(asked, prompt, 0.0, memory.model, end, memory.reading())

    def _answer(
        self,
        asked: Asked,
        prompt: list[int],
        temperature: float,
        model: GPT,
        stop: int,
        open_model: AbstractContextManager[GPT] | None = None,
    ) -> Answer:
        stream = TextStream(
            model,
            self.core.tokenizer,
            prompt,
            max_new_tokens=asked.max_tokens or MAX_TOKENS,
            sampling=Sampling(
                temperature if asked.temperature is None else asked.temperature,
                None,
                TOP_P if asked.top_p is None else asked.top_p,
            ),
            seed=asked.seed or 0,
            stop=stop,
        )
        return Answer(asked, stream, len(prompt), open_model or nullcontext(model))

    def check(self, model: str) -> None:
        """See whether there is such a model.

        Raises:
            UnknownModel: there is not.
        """
        if model not in self.models():
            raise UnknownModel(f"the model {model!r} does not exist; there are {', '.join(self.models())}")


class AtMost:
    """Lets so many requests in at once, each until its whole answer is written; the others wait for their turn.

    Those that wait for one memory hold a thread each. Were that all threads, nobody could write the answer they wait for.
    """

    def __init__(self, app: ASGIApp, requests: int) -> None:
        self.app, self.turns = app, asyncio.Semaphore(requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request in its turn, and at once whatever else a server says to an application."""
        async with self.turns if scope["type"] == "http" else nullcontext():
            await self.app(scope, receive, send)


def build_interface(core: Core, memory: Path) -> FastAPI:
    """The interface as a web application that answers this machine alone."""
    app = FastAPI(title="PersonaCore", docs_url=None, redoc_url=None)
    keep_to_this_machine(app)
    app.add_middleware(AtMost, requests=AT_ONCE)
    interface = Interface(People(core, memory))

    def described(name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": 0, "owned_by": PLAIN}

    @app.get("/v1/models")
    def models() -> dict[str, object]:
        return {"object": "list", "data": [described(name) for name in interface.models()]}

    @app.get("/v1/models/{name}")
    def model(name: str) -> dict[str, object]:
        interface.check(name)
        return described(name)

    @app.post("/v1/completions")
    def completions(asked: CompletionAsked) -> object:
        return _respond(asked, interface.complete(asked), "text_completion", "cmpl", lambda text: {"text": text})

    @app.post("/v1/chat/completions")
    def chat_completions(asked: ChatAsked) -> object:
        if asked.stream:
            head = {"role": "assistant", "content": ""}
            return _respond(asked, interface.chat(asked), "chat.completion.chunk", "chatcmpl", _delta, head)
        return _respond(asked, interface.chat(asked), "chat.completion", "chatcmpl", _message)

    @app.exception_handler(RequestValidationError)
    def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:])
        return _refuse(400, f"{param}: {first['msg']}" if param else first["msg"], param or None)

    @app.exception_handler(UserError)
    def wrong(request: Request, error: UserError) -> JSONResponse:
        name, colon, _ = str(error).partition(":")
        return _refuse(400, str(error), name if colon and name.isidentifier() else None)

    @app.exception_handler(HTTPException)
    def nowhere(_: Request, error: HTTPException) -> JSONResponse:
        return _refuse(error.status_code, str(error.detail), None)

    @app.exception_handler(UnknownModel)
    def missing(_: Request, error: UnknownModel) -> JSONResponse:
        return _refuse(404, str(error), "model", "model_not_found")

    return app


def _refuse(status: int, message: str, param: str | None, code: str | None = None) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": error}, status)


def _message(text: str) -> dict[str, object]:
    return {"message": {"role": "assistant", "content": text}}


def _delta(text: str) -> dict[str, object]:
    return {"delta": {"content": text} if text else {}}


def _respond(
    asked: Asked,
    answer: Answer,
    kind: str,
    prefix: str,
    part: Callable[[str], dict[str, object]],
    head: dict[str, object] | None = None,
) -> object:
    """The whole answer, or a stream of its parts as server-sent events, of which a chat's first is a `head` without text."""
    described = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": asked.model}

    def choice(content: dict[str, object], reason: str | None = None) -> dict[str, object]:
        return {"choices": [{"index": 0, **content, "logprobs": None, "finish_reason": reason}]}

    if not asked.stream:
        text = "".join(answer)
        return described | choice(part(text), answer.finish_reason) | {"usage": answer.usage}

    def parts() -> Iterator[dict[str, object]]:
        if head is not None:
            yield choice({"delta": head})
        for piece in answer:
            yield choice(part(piece))
        yield choice(part(""), answer.finish_reason)
        if asked.stream_options and asked.stream_options.include_usage:
            yield {"choices": [], "usage": answer.usage}

    def events() -> Iterator[str]:
        for found in parts():
            yield f"data: {json.dumps(described | found)}\n\n"
        yield "data: [DONE]\n\n"

    stream = events()
    # Closed also when the client has left, so that the person's memory is free again.
    return StreamingResponse(stream, media_type="text/event-stream", background=BackgroundTask(stream.close))


def run_interface(core: Core, memory: Path, port: int, as_json: bool = False) -> None:
    """Answer requests until Ctrl-C.

    Raises:
        UserError: the port is taken or no port.
    """
    check_port(port)
    run(build_interface(core, memory), port, "OpenAI's interface", "/v1", as_json)
