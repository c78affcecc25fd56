import numpy as np
import pytest

from personacore.errors import UserError
from personacore.tokenizer.tokenfile import open_tokens


def test_ids_are_read_as_little_endian_uint16_and_cannot_be_changed(tmp_path):
    (tmp_path / "tokens.bin").write_bytes(bytes([1, 0, 0, 1, 255, 255]))
    tokens = open_tokens(tmp_path / "tokens.bin")
    assert tokens.tolist() == [1, 256, 65535]
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 7


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_file_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "tokens.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"tokens\.bin is missing or empty: run `dvc repro encode`"):
        open_tokens(tmp_path / "tokens.bin")


def test_a_file_cut_in_the_middle_of_an_id_is_refused_by_name(tmp_path):
    np.arange(4, dtype="<u2").tofile(tmp_path / "tokens.bin")
    with (tmp_path / "tokens.bin").open("r+b") as file:
        file.truncate(7)
    with pytest.raises(UserError, match=r"tokens\.bin ends in half a token"):
        open_tokens(tmp_path / "tokens.bin")
