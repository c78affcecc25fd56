import hashlib
import json
import stat

import pytest

from personacore.files import atomic_write, sha256_of, write_json, write_text


def test_a_file_appears_whole_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "er" / "file.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_what_stood_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_never_readable_by_others(tmp_path):
    with atomic_write(tmp_path / "me", mode=0o600) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "me").stat().st_mode) == 0o600


def test_text_is_utf8_with_its_line_ends(tmp_path):
    write_text(tmp_path / "text", "é\n漢\n")
    assert (tmp_path / "text").read_bytes() == "é\n漢\n".encode()


def test_json_keeps_its_order_and_refuses_what_json_cannot_say(tmp_path):
    path = tmp_path / "some.json"
    write_json(path, {"b": 1, "a": ["é", None]})
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["b", "a"]
    assert "é" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["b"] == 1


def test_the_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"x" * 1_000_000).hexdigest()
