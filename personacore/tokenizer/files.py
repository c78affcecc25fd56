"""The tokenizer's two files: `tokenizer.json` for machines, `vocab.txt` for people."""

import json
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as brief

from personacore.errors import UserError
from personacore.files import write_text
from personacore.tokenizer.bpe import Pair, Tokenizer
from personacore.tokenizer.pretokenize import PATTERN

SCHEMA = 1
MAX_FILE_BYTES = 4 * 2**20  # 65,536 merges take 1.3 MB

_KEYS = {"schema", "vocab_size", "pattern", "specials", "provenance", "merges"}


def save_tokenizer(tokenizer: Tokenizer, path: Path, provenance: Mapping[str, object]) -> None:
    """Write `tokenizer.json`: everything that encoding needs, and `provenance`, which says what it was made from."""
    header = {
        "schema": SCHEMA,
        "vocab_size": tokenizer.vocab_size,
        "pattern": PATTERN,
        "specials": dict(tokenizer.specials),
        "provenance": dict(provenance),
    }
    fields = json.dumps(header, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    merges = ",\n    ".join(f"[{left}, {right}]" for left, right in tokenizer.merges)  # one a line, for people and diffs
    write_text(path, f'{fields},\n  "merges": [\n    {merges}\n  ]\n}}\n')


def load_tokenizer(path: Path) -> Tokenizer:
    """Read `tokenizer.json`; UserError, naming the file, unless it is whole and of this schema in every detail."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; the tokenizer stage writes this file") from None
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes, so not a tokenizer")
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged, not JSON: {error}") from None
    try:
        return _parse(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _unique_keys(items: list[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in items:
        if key in fields:
            raise ValueError(f"the key {brief(key)} occurs twice")
        fields[key] = value
    return fields


def _parse(content: object) -> Tokenizer:
    if not isinstance(content, dict) or type(content.get("schema")) is not int:
        raise UserError("not a tokenizer file: no schema number")
    schema = content["schema"]
    if schema > SCHEMA:
        raise UserError(f"schema {brief(schema)} is newer than this program's {SCHEMA}; update personacore")
    if schema != SCHEMA:
        raise UserError(f"unknown schema {brief(schema)}; this program reads {SCHEMA}")
    if content.keys() != _KEYS:
        raise UserError(f"missing or unknown keys: {brief(sorted(content.keys() ^ _KEYS))}")
    if content["pattern"] != PATTERN:
        raise UserError("pattern: not GPT-2's, the only one known here")
    if not isinstance(content["provenance"], dict):
        raise UserError("provenance: not an object")
    tokenizer = Tokenizer(_parse_merges(content["merges"]))
    if (type(content["vocab_size"]), content["vocab_size"]) != (int, tokenizer.vocab_size):
        raise UserError(f"vocab_size: {brief(content['vocab_size'])}, but the merges make {tokenizer.vocab_size}")
    if content["specials"] != tokenizer.specials:
        raise UserError(f"specials: not the {len(tokenizer.specials)} of this schema on top of the vocabulary")
    return tokenizer


def _parse_merges(merges: object) -> list[Pair]:
    if not isinstance(merges, list):
        raise UserError("merges: not a list")
    for number, pair in enumerate(merges):
        # bool is an int to isinstance, not to a file format
        if type(pair) is not list or [type(part) for part in pair] != [int, int]:
            raise UserError(f"merges[{number}]: {brief(pair)} is not a pair of ids")
    return [(left, right) for left, right in merges]


def write_vocabulary(tokenizer: Tokenizer, path: Path) -> None:
    """Write `vocab.txt`: a line for each id with its token, and for a merge the two tokens it joins.

    Tokens are Python literals: 'text', or b'bytes' where they are only part of a character.
    """
    literals = [_literal(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size)]
    lines = [f"{token_id}\t{literal}" for token_id, literal in enumerate(literals)]
    for merged, (left, right) in enumerate(tokenizer.merges, 256):
        lines[merged] += f"\t= {literals[left]} + {literals[right]}"
    write_text(path, "\n".join(lines) + "\n")


def _literal(token: bytes) -> str:
    r"""The token as a Python literal.

    >>> _literal(b" caf\xc3\xa9"), _literal(b"\xc3"), _literal(b"\n")
    ("' café'", "b'\\xc3'", "'\\n'")
    """
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)
