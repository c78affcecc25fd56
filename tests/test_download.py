"""A download survives every fault a server can show, and its final name only ever holds the whole, verified file."""

import hashlib
import io
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from personacore.corpus import download
from personacore.corpus.download import fetch
from personacore.errors import UserError

BODY = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
PINNED = {"size": len(BODY), "sha256": SHA256}


class Handler(BaseHTTPRequestHandler):
    """Answers each request by the next scripted fault, and correctly when the script is over."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        fault = self.server.script.pop(0) if self.server.script else well
        fault(self)
        self.close_connection = True

    def asked_start(self):
        """The first byte asked for, or None when the whole file is wanted."""
        asked = self.headers.get("Range")
        same = self.headers.get("If-Range", self.server.etag) == self.server.etag
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked and same else None

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args):
        pass


def well(handler, send=None, body=None, ranges=True, **headers):
    """The right answer, or one that differs from it in a single way."""
    body = handler.server.body if body is None else body
    start = handler.asked_start() if ranges else None
    headers = {"ETag": handler.server.etag, "Content_Length": len(body) - (start or 0)} | headers
    if start is None:
        handler.head(200, **headers)
    elif start >= len(body):
        return handler.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
    else:
        handler.head(206, **{"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} | headers)
    handler.wfile.write(body[start or 0 :][:send])


def cut(after, **changes):
    """The connection breaks after some bytes of the body."""
    return lambda handler: well(handler, send=after, **changes)


def status(code, **headers):
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def no_answer(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def ignores_ranges(handler):
    well(handler, ranges=False)


def wrong_byte(handler):
    well(handler, body=bytes([BODY[0] ^ 1]) + BODY[1:-1] + bytes([BODY[-1] ^ 1]))


def without_ranges_and_cut(handler):
    well(handler, send=1000, ranges=False)


def chunked(handler, end=b"0\r\n\r\n"):
    handler.head(200, Transfer_Encoding="chunked")
    for start in range(0, len(BODY), 50_000):
        piece = BODY[start : start + 50_000]
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    handler.wfile.write(end)


def chunked_and_cut(handler):
    chunked(handler, end=b"")


def without_length(handler, send=None):
    handler.head(200)
    handler.wfile.write(BODY[:send])


def without_length_and_cut(handler):
    without_length(handler, send=1000)


@pytest.fixture
def server():
    """A server on this machine with a `script` of faults and a list of the `requests` it got."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.script, server.requests, server.etag, server.body = [], [], '"one"', BODY
        server.url = f"http://127.0.0.1:{server.server_port}/stories.txt"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "stories.txt"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(download, "CHUNK_BYTES", 1_000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def arrived(target):
    """The final file is whole and alone: no part, no notes are left beside it."""
    return target.read_bytes() == BODY and list(target.parent.iterdir()) == [target]


def ranges(server):
    return [request.get("Range") for request in server.requests]


def refusal(server, target, **expected):
    with pytest.raises(UserError) as caught:
        fetch(server.url, target, **expected)
    message = str(caught.value)
    assert message.startswith(f"{server.url}: ")
    assert "\n" not in message
    return message


FAULTS = {
    "cut": [cut(70_000), cut(1_000)],
    "cut before the first byte": [cut(0)],
    "no answer": [no_answer],
    "500": [status(500)],
    "503 that names a delay": [status(503, Retry_After=0)],
    "416": [cut(70_000), status(416)],
    "ranges ignored": [cut(70_000), ignores_ranges],
    "ranges ignored and cut": [cut(70_000), without_ranges_and_cut, cut(90_000)],
    "another range": [cut(70_000), lambda handler: well(handler, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")],
    "unreadable range": [cut(70_000), lambda handler: well(handler, Content_Range="all")],
    "chunked": [chunked],
    "chunked and cut": [chunked_and_cut],
}


@pytest.mark.parametrize("expected", [PINNED, {}], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_the_file_arrives_whole_in_spite_of(server, target, faults, expected):
    server.script += faults
    fetch(server.url, target, **expected)
    assert arrived(target)
    assert not server.script


WRONG_CONTENT = {
    "wrong byte": [wrong_byte],
    "wrong part": [cut(70_000, body=b"x" * len(BODY))],
    "unmarked end": [without_length],
    "unmarked end and cut": [without_length_and_cut],
    "another file": [cut(10, body=b"login page")],
}


@pytest.mark.parametrize("faults", WRONG_CONTENT.values(), ids=WRONG_CONTENT)
def test_a_pinned_file_survives_wrong_content(server, target, faults):
    server.script += faults
    fetch(server.url, target, **PINNED)
    assert arrived(target)


def test_a_broken_transfer_is_resumed_where_it_broke(server, target):
    server.script += [cut(70_000), status(500), cut(1_000)]
    fetch(server.url, target, **PINNED)
    assert ranges(server) == [None, "bytes=70000-", "bytes=70000-", "bytes=71000-"]


def test_any_number_of_cuts_is_survived_while_bytes_still_come(server, target):
    server.script += [cut(5_000)] * 30
    fetch(server.url, target, **PINNED)
    assert len(server.requests) == 31


def test_waits_grow_exponentially_while_nothing_comes(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.5)
    server.script += [status(503)] * 5
    fetch(server.url, target, **PINNED)
    assert waits == [1, 2, 4, 8]


def test_a_server_may_say_how_long_to_wait_but_not_longer_than_a_minute(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.script += [status(503, Retry_After=7), status(429, Retry_After=86_400)]
    fetch(server.url, target, **PINNED)
    assert waits == [7, download.LONGEST_WAIT_SECONDS]


@pytest.mark.parametrize("fault", [status(503), no_answer, cut(0), status(416), without_ranges_and_cut])
def test_a_server_that_never_recovers_ends_in_one_line(server, target, fault):
    server.script += [fault] * 100
    assert "run again later to resume" in refusal(server, target, **PINNED)
    assert not target.exists()
    assert len(server.requests) <= 2 * (download.RETRIES + 1)


def test_a_server_that_is_not_there_ends_in_one_line(server, target):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        server.url = f"http://127.0.0.1:{unused.getsockname()[1]}/stories.txt"
    assert "Connection refused" in refusal(server, target)


def test_wrong_bytes_again_and_again_end_in_one_line_and_leave_nothing(server, target):
    server.script += [wrong_byte] * 100
    message = refusal(server, target, **PINNED)
    assert f"instead of {SHA256}" in message
    assert len(server.requests) == download.TRANSFERS
    assert list(target.parent.iterdir()) == []


def test_a_file_of_another_size_ends_in_one_line(server, target):
    server.body = b"login page"
    assert "announces 10 bytes instead of 200,000" in refusal(server, target, **PINNED)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("code", [403, 404, 410])
def test_a_refusal_is_not_asked_again(server, target, code):
    server.script += [status(code)] * 2
    assert f"the server answers {code}" in refusal(server, target, **PINNED)
    assert len(server.requests) == 1


def test_an_address_that_is_none_is_refused(target):
    with pytest.raises(UserError, match=r"^http://: .*check the address$"):
        fetch("http://", target)


def test_an_unpinned_file_of_unknown_length_is_refused(server, target):
    server.script += [without_length]
    assert "does not say where the file ends" in refusal(server, target)
    assert not target.exists()


def test_a_server_that_compresses_unasked_is_refused(server, target):
    server.script += [lambda handler: well(handler, Content_Encoding="gzip")]
    assert "compressing" in refusal(server, target)
    assert {request["Accept-Encoding"] for request in server.requests} == {"identity"}


def leave_part(server, target, after=70_000, **expected):
    """Let a first run give up, so that it leaves the first bytes to a second one."""
    server.script += [cut(after), *[status(503)] * download.RETRIES]
    refusal(server, target, **expected)
    assert not server.script
    server.requests.clear()


@pytest.mark.parametrize("expected", [PINNED, {}], ids=["pinned", "unpinned"])
def test_a_later_run_resumes_what_an_earlier_one_left(server, target, expected):
    leave_part(server, target, **expected)
    fetch(server.url, target, **expected)
    assert ranges(server) == ["bytes=70000-"]
    assert arrived(target)


def test_a_changed_file_is_not_glued_to_an_old_part(server, target):
    server.body = b"old" * 50_000
    leave_part(server, target)
    server.body, server.etag = BODY, '"two"'
    fetch(server.url, target)
    assert [request.get("If-Range") for request in server.requests] == ['"one"']
    assert arrived(target)


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_an_unpinned_part_is_resumed_by_its_date(server, target, etag):
    server.etag = etag
    server.script += [cut(70_000, Last_Modified="Mon, 01 May 2023 10:00:00 GMT")]
    fetch(server.url, target)
    assert [request.get("If-Range") for request in server.requests] == [None, "Mon, 01 May 2023 10:00:00 GMT"]
    assert arrived(target)


def test_without_any_validator_an_unpinned_part_is_sent_anew(server, target):
    server.etag = ""
    server.script += [cut(70_000)]
    fetch(server.url, target)
    assert ranges(server) == [None, None]
    assert arrived(target)


def test_a_whole_part_is_verified_without_asking_the_server(server, target):
    target.parent.mkdir()
    target.with_name("stories.txt.part").write_bytes(BODY)
    fetch(server.url, target, **PINNED)
    assert server.requests == []
    assert arrived(target)


@pytest.mark.parametrize(
    "part", [b"x" * len(BODY), b"x" * 300_000, b"x" * 100, b""], ids=["full", "longer", "shorter", "empty"]
)
def test_a_foreign_part_is_noticed_and_replaced(server, target, part):
    target.parent.mkdir()
    target.with_name("stories.txt.part").write_bytes(part)
    fetch(server.url, target, **PINNED)
    assert arrived(target)


def test_a_good_file_is_not_downloaded_again(server, target):
    fetch(server.url, target, **PINNED)
    fetch(server.url, target, **PINNED)
    assert len(server.requests) == 1


@pytest.mark.parametrize("expected", [PINNED, {}], ids=["pinned", "unpinned"])
def test_a_damaged_file_is_replaced_and_stays_until_then(server, target, expected):
    target.parent.mkdir()
    target.write_bytes(BODY[:-1])
    server.script += [status(404)]
    refusal(server, target, **expected)
    assert target.read_bytes() == BODY[:-1]
    fetch(server.url, target, **expected)
    assert arrived(target)


def test_progress_is_shown_on_a_terminal_and_goes_on_after_a_cut(server, target, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    server.script += [cut(70_000)]
    fetch(server.url, target)
    bars = terminal.getvalue()
    assert "stories.txt:  35%" in bars and "70.0k/200k" in bars
    assert "stories.txt: 100%" in bars and "200k/200k" in bars


def test_a_killed_download_leaves_no_final_name_and_is_resumed(server, target):
    stalled = threading.Event()

    def stall(handler):
        well(handler, send=70_000)
        stalled.wait(10)

    server.script += [stall]
    code = "import sys, pathlib; from personacore.corpus.download import fetch; fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    with subprocess.Popen([sys.executable, "-c", code, server.url, str(target)]) as child:
        part = target.with_name("stories.txt.part")
        deadline = time.monotonic() + 10
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    stalled.set()
    assert part.exists() and not target.exists()
    fetch(server.url, target)
    assert arrived(target)
