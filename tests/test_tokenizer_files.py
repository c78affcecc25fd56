import json
import random
import time

import pytest

from personacore.errors import UserError
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import MAX_FILE_BYTES, load_tokenizer, save_tokenizer, write_vocabulary

TOKENIZER = Tokenizer([(104, 101), (32, 116), (257, 256), (195, 169), (10, 10)])


@pytest.fixture
def path(tmp_path):
    save_tokenizer(TOKENIZER, tmp_path / "tokenizer.json", {"git_sha": "0" * 40, "corpus": "Märchen"})
    return tmp_path / "tokenizer.json"


def refusal(path) -> str:
    """The message that refuses the file: one line that begins with its name."""
    with pytest.raises(UserError) as caught:
        load_tokenizer(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


def test_a_tokenizer_comes_back_as_it_was_saved(path):
    loaded = load_tokenizer(path)
    assert loaded.merges == TOKENIZER.merges
    assert loaded.specials == TOKENIZER.specials


def test_saving_twice_gives_the_same_bytes(path, tmp_path):
    save_tokenizer(load_tokenizer(path), tmp_path / "again.json", {"git_sha": "0" * 40, "corpus": "Märchen"})
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_tokenizer_without_merges_comes_back(tmp_path):
    save_tokenizer(Tokenizer([]), tmp_path / "bytes.json", {})
    assert load_tokenizer(tmp_path / "bytes.json").vocab_size == 264


def test_the_file_says_what_it_holds_and_where_it_comes_from(path):
    content = json.loads(path.read_text("utf-8"))
    assert content["schema"] == 1
    assert content["vocab_size"] == 269
    assert content["specials"]["<|endoftext|>"] == 261
    assert content["merges"][2] == [257, 256]
    assert content["provenance"] == {"git_sha": "0" * 40, "corpus": "Märchen"}


def changed(**fields):
    return lambda content: content | fields


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: [], "no schema"),
        (lambda content: None, "no schema"),
        (lambda content: {}, "no schema"),
        (changed(schema="1"), "no schema"),
        (changed(schema=True), "no schema"),
        (changed(schema=2), "schema 2 is newer than this program's 1; update"),
        (changed(schema=0), "unknown schema 0"),
        (lambda content: {key: content[key] for key in content if key != "merges"}, "'merges'"),
        (changed(extra=1), "'extra'"),
        (changed(pattern="(a+)+$"), "pattern"),
        (changed(pattern=None), "pattern"),
        (changed(provenance="me"), "provenance"),
        (changed(vocab_size=270), "vocab_size: 270, but the merges make 269"),
        (changed(vocab_size="269"), "vocab_size: '269'"),
        (changed(vocab_size=269.0), "vocab_size: 269.0"),
        (changed(specials={"<|endoftext|>": 261}), "specials"),
        (changed(specials=["<|endoftext|>"]), "specials"),
        (lambda content: content | {"specials": content["specials"] | {"<|end|>": 97}}, "specials"),
        (changed(merges={}), "merges: not a list"),
        (changed(merges="ab"), "merges: not a list"),
        (changed(merges=[[97, 98], [97]]), r"merges[1]: [97] is not a pair"),
        (changed(merges=[[97, 98, 99]]), "merges[0]"),
        (changed(merges=[[97, "98"]]), "merges[0]"),
        (changed(merges=[[97, 98.0]]), "merges[0]"),
        (changed(merges=[[97, True]]), "merges[0]"),
        (changed(merges=[97, 98]), "merges[0]"),
        (changed(merges=[[97, 256]]), "merge 256 = 97 + 256 needs ids that come before"),
        (changed(merges=[[-97, 98]]), "merge 256 = -97 + 98 needs ids that come before"),
        (changed(merges=[[97, 98], [97, 98]]), "merge 257 = 97 + 98 makes token 256 again"),
        (changed(merges=[[97, 97], *([last, last] for last in range(256, 400))]), "is longer than"),
    ],
)
def test_a_file_that_breaks_the_schema_is_refused(path, change, message):
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))))
    assert message in refusal(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"schema": 1, "schema": 1}',
        b'{"schema": ' + b"9" * 5000 + b"}",
        b'{"schema": 1} {"schema": 1}',
        b"\x80\x04\x95.",
    ],
    ids=["empty", "utf-16", "nested", "double key", "long number", "two objects", "pickle"],
)
def test_a_file_that_is_not_json_is_refused(path, data):
    path.write_bytes(data)
    assert "damaged, not JSON" in refusal(path)


def test_a_file_cut_short_anywhere_is_refused(path):
    data = path.read_bytes()
    for length in range(0, len(data.rstrip()), 7):
        path.write_bytes(data[:length])
        assert "damaged" in refusal(path)


def test_a_changed_byte_is_refused_or_harmless_but_never_a_crash(path):
    data = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert load_tokenizer(path).vocab_size == 269
        except UserError as error:
            assert str(path) in str(error)


def test_a_huge_file_is_refused_unread(path):
    with path.open("wb") as file:
        file.truncate(100 * MAX_FILE_BYTES)
    assert "larger than" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.json")
    assert "directory" in refusal(tmp_path)


def test_a_full_size_tokenizer_loads_in_a_moment(tmp_path):
    pairs = [(left, right) for left in range(97, 123) for right in range(256)] + [(65, right) for right in range(256)]
    save_tokenizer(
        Tokenizer([*pairs, *((66, right) for right in range(256)), *((67, r) for r in range(256))]), tmp_path / "t", {}
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        load_tokenizer(tmp_path / "t")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_the_vocabulary_file_shows_each_token_on_its_line(tmp_path):
    write_vocabulary(TOKENIZER, tmp_path / "vocab.txt")
    lines = (tmp_path / "vocab.txt").read_text("utf-8").splitlines()
    assert len(lines) == TOKENIZER.vocab_size
    assert lines[10] == "10\t'\\n'"
    assert lines[97] == "97\t'a'"
    assert lines[195] == "195\tb'\\xc3'"
    assert lines[256:261] == [
        "256\t'he'\t= 'h' + 'e'",
        "257\t' t'\t= ' ' + 't'",
        "258\t' the'\t= ' t' + 'he'",
        "259\t'é'\t= b'\\xc3' + b'\\xa9'",
        "260\t'\\n\\n'\t= '\\n' + '\\n'",
    ]
    assert lines[261] == "261\t'<|endoftext|>'"
