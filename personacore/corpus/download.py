"""Files brought over HTTP: broken transfers resume, contents are verified, and only a whole file takes its final name."""

import logging
import os
import re
from http import HTTPStatus
from pathlib import Path

import requests
from requests.exceptions import ChunkedEncodingError
from tqdm import tqdm
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from personacore.errors import UserError
from personacore.files import sha256_of, write_text

RETRIES = 5  # in a row without a new byte, waiting 0, 2, 4, 8 and 16 times BACKOFF_SECONDS
BACKOFF_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60
TIMEOUT_SECONDS = 30
TRANSFERS = 3  # from zero, when a whole file fails verification
CHUNK_BYTES = 2**16  # what a cut can lose
RETRY_STATUS = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}

log = logging.getLogger(__name__)


def fetch(url: str, target: Path, *, size: int | None = None, sha256: str | None = None) -> None:
    """Bring `url` to `target` through `target.part`, which a later call resumes; `size` in bytes and `sha256` are verified.

    A target that is already there is kept if it has the given SHA-256, and replaced otherwise. Without a SHA-256 a part
    is resumed only if the server confirms that the file is still the same (If-Range, RFC 9110 section 13.1.5).
    Raises UserError when the server refuses, stays unreachable, or keeps sending something else.
    """
    if sha256 and target.is_file() and sha256_of(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    for _ in range(TRANSFERS):
        # A part of full size was left while it was verified, and a range behind its end cannot be asked for.
        if sha256 is None or _length(part) != size:
            _transfer(url, part, size, pinned=sha256 is not None)
        damage = _damage(part, size, sha256)
        if damage is None:
            part.replace(target)
            _validator_file(part).unlink(missing_ok=True)
            return
        log.warning("%s: %s; starting again", url, damage)
        part.unlink()
        _validator_file(part).unlink(missing_ok=True)
    raise UserError(f"{url}: {damage}, {TRANSFERS} times; the server does not have the expected file, try another mirror")


def _transfer(url: str, part: Path, size: int | None, *, pinned: bool) -> None:
    """Receive into `part`, going on where a transfer broke, until the server has sent everything."""
    patience = retry = Retry(
        total=RETRIES,
        backoff_factor=BACKOFF_SECONDS,
        backoff_max=LONGEST_WAIT_SECONDS,
        retry_after_max=LONGEST_WAIT_SECONDS,
    )
    longest = _length(part)
    while True:
        try:
            return _receive(url, part, size, pinned)
        except requests.RequestException as error:
            if not _is_transient(error):
                raise UserError(f"{url}: {_reason(error)}; check the address") from None
            if _length(part) > longest:
                longest = _length(part)
                retry = patience
            try:
                retry = retry.increment(error=error)
            except MaxRetryError:
                raise UserError(f"{url}: {_reason(error)}, {RETRIES + 1} times; run again later to resume") from None
            log.warning("%s: %s; retrying", url, _reason(error))
            retry.sleep(None if error.response is None else error.response.raw)


def _receive(url: str, part: Path, size: int | None, pinned: bool) -> None:
    """One request: append to `part` if the server continues it, write it anew if the server sends the whole file."""
    headers = {"Accept-Encoding": "identity"} | _range_headers(part, pinned)
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        response.raise_for_status()
        start, total = _extent(response)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and start != _length(part):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the server sends another range than it was asked for")
        if size is not None and total not in (None, size):
            raise requests.ConnectionError(f"the server announces {total:,} bytes instead of {size:,}")
        if total is None and size is None and not response.raw.chunked:
            raise UserError(f"{url}: the server does not say where the file ends; download it by hand and give its path")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UserError(f"{url}: the server insists on compressing the file; download it by hand and give its path")
        with (
            part.open("ab") as file,
            tqdm(total=total or size, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=None) as bar,
        ):
            file.truncate(start)
            if start == 0:
                write_text(_validator_file(part), _validator(response))
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())


def _range_headers(part: Path, pinned: bool) -> dict[str, str]:
    """What asks the server to continue `part`, or nothing if it has to be sent anew."""
    start = _length(part)
    if start and pinned:
        return {"Range": f"bytes={start}-"}
    validator = _validator_file(part)
    if start and validator.is_file() and (text := validator.read_text(encoding="utf-8")):
        return {"Range": f"bytes={start}-", "If-Range": text}
    return {}


def _validator(response: requests.Response) -> str:
    """The strong ETag, or else the date, that tells this version of the file from a later one; empty if there is none."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.validator")


def _extent(response: requests.Response) -> tuple[int | None, int | None]:
    """The byte of the file at which the body starts, and the bytes of the whole file; None where the server does not say."""
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
        start, last, total = map(int, match.groups()) if match else (None, None, None)
        return (start, total) if match and last + 1 == total else (None, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _damage(part: Path, size: int | None, sha256: str | None) -> str | None:
    """What is wrong with a part that should be whole."""
    if size is not None and _length(part) != size:
        return f"{_length(part):,} bytes instead of {size:,}"
    if sha256 is not None and (actual := sha256_of(part)) != sha256:
        return f"SHA-256 {actual} instead of {sha256}"
    return None


def _is_transient(error: requests.RequestException) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in RETRY_STATUS
    return isinstance(error, requests.ConnectionError | requests.Timeout | ChunkedEncodingError)


def _reason(error: BaseException) -> str:
    """A short reason: the server's status, or the first error below the libraries' own."""
    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason}"
    while error.__context__:
        error = error.__context__
    return str(error) or type(error).__name__
