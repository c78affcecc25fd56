"""The page as a web server for this machine alone."""

import os
from collections.abc import Callable
from pathlib import Path

# Read when gradio is first imported: it reports nothing, and keeps nothing of what is said in the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = os.environ["GRADIO_RUN_HISTORY"] = "False"

import gradio as gr
from fastapi import FastAPI, Request, Response

from personacore.app.demo.actions import Actions
from personacore.app.demo.page import CSS, THEME, build_page
from personacore.app.loopback import HOST, check_port, keep_to_this_machine, run
from personacore.app.people import People
from personacore.core import Core
from personacore.errors import UserError

# Gradio's page names a script and fonts of other hosts; under this policy a browser does not ask for them.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)


def build_server(core: Core, memory: Path) -> FastAPI:
    """The page as a web application that answers this machine alone and sends browsers nowhere else."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    keep_to_this_machine(app)

    @app.middleware("http")
    async def stay_here(request: Request, answer: Callable) -> Response:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    page = build_page(Actions(People(core, memory), _compiled_if_possible(core)))
    options = {"theme": THEME, "css": CSS, "ssr_mode": False, "footer_links": [], "run_history": False, "max_file_size": 1}
    return gr.mount_gradio_app(app, page, path="/", server_name=HOST, **options)


def _compiled_if_possible(core: Core) -> Core:
    """For stories: compiled steps, compiled by now, where there is what compiles them."""
    try:
        compiled = core.compiled()
    except UserError:
        return core
    compiled.complete("", max_new_tokens=2)
    return compiled


def serve(core: Core, memory: Path, port: int, as_json: bool = False) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: the port is taken or no port.
    """
    check_port(port)
    run(build_server(core, memory), port, "The page", as_json=as_json)
