"""The one address at which anything is served, this machine's own, and what keeps everybody else away from it."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from personacore.app.lines import print_json
from personacore.errors import UserError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")


def keep_to_this_machine(app: FastAPI) -> None:
    """Refuse what comes by another host's name, and what a page of another host asks a browser to send."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(NAMES))

    @app.middleware("http")
    async def from_here(request: Request, answer: Callable) -> Response:
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).hostname not in NAMES:
            return PlainTextResponse("only pages of this machine may ask\n", 403)
        return await answer(request)


def check_port(port: int) -> None:
    """See whether a port is free.

    Raises:
        UserError: it is taken, or is no port.
    """
    try:
        if port < 1:
            raise OverflowError
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        raise UserError(f"port {port} {'is taken' if taken else 'cannot be used'}: name another with --port") from None


def run(app: FastAPI, port: int, what: str, path: str = "", as_json: bool = False) -> None:
    """Serve until Ctrl-C, which open pages do not hold up; once it can be reached, a line says where, in words or in JSON."""
    url = f"http://{HOST}:{port}{path}"

    def announce() -> None:
        if as_json:
            print_json(url=url)
        else:
            print(f"{what} is at {url} until you press Ctrl-C.", flush=True)

    config = uvicorn.Config(app, host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):
        _Announced(config, announce).run()


class _Announced(uvicorn.Server):
    """A server that calls back as soon as it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self.announce()
