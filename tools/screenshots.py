"""Take the pictures of docs/images/: every view of the page, in both themes, on the model in data/export/chat.

`python -m tools.screenshots`, with Chromium on the path.
"""

import shutil
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright

import personacore
from personacore.app.demo.server import build_server
from personacore.app.loopback import HOST, check_port
from personacore.layout import CHAT_EXPORT

IMAGES = Path("docs/images")
PORT = 7871
TOLD = "My dog is called Biscuit."
SIZE = {"width": 900, "height": 700}


def main() -> None:
    """Serve the page for a person who knows nothing yet, and photograph it."""
    check_port(PORT)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
            server = uvicorn.Server(
                uvicorn.Config(build_server(personacore.load(CHAT_EXPORT), Path(folder) / "me.safetensors"), HOST, PORT)
            )
            thread = threading.Thread(target=server.run, daemon=True)  # so that a failure here ends the program
            thread.start()
            while not server.started:
                time.sleep(0.1)
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.set_default_timeout(60_000)
            page.goto(f"http://{HOST}:{PORT}")
            page.wait_for_function("document.querySelector('#status')?.innerText")  # the visit is open
            photograph(page, scheme)
            browser.close()
            server.should_exit = server.force_exit = True
            thread.join()


def photograph(page: Page, scheme: str) -> None:
    """Teach, wipe, ask, and go through the views; the memory sleeps on the way."""
    say(page, TOLD, "Learned in", "#remember")
    page.click("#wipe")
    page.wait_for_function("!document.querySelector('#chat').innerText.includes('Learned')")
    say(page, "How old is my cat?", "unknown to me")
    say(page, "What is my dog's name?", "Your dog's name is Biscuit.")
    views = {"Talk": "#text", "Memory": "#facts label", "Proof": "#moved table", "Stories": "#write"}
    for view, shown in views.items():
        page.get_by_role("tab", name=view).click()
        if view == "Memory":
            page.click("#sleep")
            page.get_by_text("Went over 1 fact").wait_for()
            page.get_by_text("Went over 1 fact").wait_for(state="hidden")  # it covers the top of the page
        page.wait_for_selector(shown)
        if view == "Stories":
            page.click("#write")
            page.wait_for_function("document.querySelector('#speed').innerText.includes('tokens')")
        page.wait_for_timeout(3000)
        page.screenshot(path=IMAGES / f"{view.lower()}-{scheme}.png", full_page=True)


def say(page: Page, text: str, answer: str, button: str = "#send") -> None:
    """Write something, press a button, and wait for what is answered."""
    page.fill("#text textarea", text)
    page.click(button)
    page.wait_for_function("answer => document.querySelector('#chat').innerText.includes(answer)", arg=answer)
    page.wait_for_timeout(1000)  # while an answer is being written, nothing else can be sent


if __name__ == "__main__":
    main()
