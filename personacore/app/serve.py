"""The model behind OpenAI's interface, for this machine alone: completions, chat, and every person's memory as a model.

As at https://platform.openai.com/docs/api-reference, of which one choice, sampling by temperature and top-p, `stop`, `seed`,
streaming and usage are there. Anything else is refused, not ignored.
"""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from personacore.app.loopback import HOST, check_port
from personacore.app.people import SUFFIX, People
from personacore.core import Core
from personacore.corpus.dialogue.turns import Turn
from personacore.errors import UserError
from personacore.generation.sampling import Sampling
from personacore.generation.streaming import TextStream
from personacore.memory.talk import fitting_prompt
from personacore.model.gpt import GPT

PLAIN = "personacore"  # the model without anybody's memory


class StreamOptions(BaseModel):
    """What a stream says beside the text."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False


class Asked(BaseModel):
    """What both kinds of requests have; a chat is answered greedily unless it is asked otherwise."""

    model_config = ConfigDict(extra="forbid")
    model: str
    max_tokens: int = Field(default=64, ge=1)
    top_p: float = 0.95
    seed: int = Field(default=0, ge=0, lt=2**63)
    n: Literal[1] = 1
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    user: str | None = None


class CompletionAsked(Asked):
    """A text to be continued."""

    prompt: str
    temperature: float = 0.8


class Message(BaseModel):
    """One turn of one side."""

    role: Literal["user", "assistant"]
    content: str


class ChatAsked(Asked):
    """A conversation to be answered."""

    messages: list[Message] = Field(min_length=1)
    temperature: float = 0.0
    max_completion_tokens: int | None = Field(default=None, ge=1)


class Answer:
    """One answer being written: its pieces, then why it ended and what it took."""

    def __init__(self, asked: Asked, stream: TextStream, prompt_tokens: int, open_model: AbstractContextManager[GPT]) -> None:
        self.stops = [asked.stop] if isinstance(asked.stop, str) else [stop for stop in asked.stop or () if stop]
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
    """Yield a text up to the first of some strings, which pieces may cut in two; returns whether one was met."""
    held, longest = "", max(map(len, stops), default=1)
    for piece in pieces:
        held += piece
        places = [place for stop in stops if (place := held.find(stop)) >= 0]
        if places:
            yield held[: min(places)]
            return True
        if ready := held[: len(held) - longest + 1]:
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
        return [PLAIN, *(name for name in self.people.names() if (self.people.folder / f"{name}{SUFFIX}").exists())]

    def complete(self, asked: CompletionAsked) -> Answer:
        """Continue a text; a memory has no part in that."""
        self._check(asked.model)
        prompt = [self.core.tokenizer.end_of_text, *self.core.tokenizer.encode(asked.prompt)]
        return self._answer(asked, prompt, asked.temperature, self.core.model, self.core.tokenizer.end_of_text)

    def chat(self, asked: ChatAsked) -> Answer:
        """Answer a conversation, with the memory of the person who is named as the model.

        Raises:
            UserError: the messages do not alternate from the person to the person.
        """
        self._check(asked.model)
        roles = [message.role for message in asked.messages]
        if roles != [("user", "assistant")[place % 2] for place in range(len(roles))] or roles[-1] != "user":
            raise UserError("messages: user and assistant alternate, from the user to the user")
        said = [message.content for message in asked.messages]
        turns = [Turn(*pair, "said") for pair in zip(said[:-1:2], said[1::2], strict=True)]
        if asked.max_completion_tokens:
            asked = asked.model_copy(update={"max_tokens": asked.max_completion_tokens})
        tokenizer = self.core.tokenizer
        prompt, end = fitting_prompt(self.core.model, tokenizer, said[-1], turns), tokenizer.specials["<|end|>"]
        if asked.model == PLAIN:
            return self._answer(asked, prompt, asked.temperature, self.core.model, end)
        memory = self.people.person(asked.model).memory
        return self._answer(asked, prompt, asked.temperature, memory.model, end, memory.reading())

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
            max_new_tokens=asked.max_tokens,
            sampling=Sampling(temperature, None, asked.top_p),
            seed=asked.seed,
            stop=stop,
        )
        return Answer(asked, stream, len(prompt), open_model or nullcontext(model))

    def _check(self, model: str) -> None:
        if model not in self.models():
            raise LookupError(f"the model {model!r} does not exist; there are {', '.join(self.models())}")


def build_interface(core: Core, memory: Path) -> FastAPI:
    """The interface as a web application that answers this machine alone."""
    app = FastAPI(title="PersonaCore", docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    interface = Interface(People(core, memory))

    @app.get("/v1/models")
    def models() -> dict[str, object]:
        found = [{"id": name, "object": "model", "created": 0, "owned_by": PLAIN} for name in interface.models()]
        return {"object": "list", "data": found}

    @app.post("/v1/completions")
    def completions(asked: CompletionAsked) -> object:
        return _respond(asked, interface.complete(asked), "text_completion", "cmpl", lambda text, last: {"text": text})

    @app.post("/v1/chat/completions")
    def chat_completions(asked: ChatAsked) -> object:
        key, kind = ("delta", "chat.completion.chunk") if asked.stream else ("message", "chat.completion")

        def said(text: str, last: bool) -> dict[str, object]:
            return {key: {} if last and asked.stream else {"role": "assistant", "content": text}}

        return _respond(asked, interface.chat(asked), kind, "chatcmpl", said)

    @app.exception_handler(RequestValidationError)
    def unreadable(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:])
        return _refuse(400, f"{param}: {first['msg']}" if param else first["msg"], param or None)

    @app.exception_handler(UserError)
    def wrong(_: Request, error: UserError) -> JSONResponse:
        return _refuse(400, str(error), str(error).partition(":")[0])

    @app.exception_handler(LookupError)
    def missing(_: Request, error: LookupError) -> JSONResponse:
        return _refuse(404, str(error), "model", "model_not_found")

    return app


def _refuse(status: int, message: str, param: str | None, code: str | None = None) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": error}, status)


def _respond(asked: Asked, answer: Answer, kind: str, prefix: str, part: object) -> object:
    """The whole answer, or a stream of its parts as server-sent events."""
    head = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": asked.model}

    def choice(text: str, reason: str | None) -> dict[str, object]:
        return {"index": 0, **part(text, reason is not None), "logprobs": None, "finish_reason": reason}

    if not asked.stream:
        text = "".join(answer)
        return head | {"choices": [choice(text, answer.finish_reason)], "usage": answer.usage}

    def events() -> Iterator[str]:
        for piece in answer:
            yield f"data: {json.dumps(head | {'choices': [choice(piece, None)]})}\n\n"
        yield f"data: {json.dumps(head | {'choices': [choice('', answer.finish_reason)]})}\n\n"
        if asked.stream_options.include_usage:
            yield f"data: {json.dumps(head | {'choices': [], 'usage': answer.usage})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def run_interface(core: Core, memory: Path, port: int) -> None:
    """Answer requests until Ctrl-C.

    Raises:
        UserError: the port is taken or no port.
    """
    check_port(port)
    print(f"OpenAI's interface is at http://{HOST}:{port}/v1 until you press Ctrl-C.", flush=True)
    uvicorn.run(build_interface(core, memory), host=HOST, port=port, log_level="warning")
