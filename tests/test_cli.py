import errno
import json
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

import personacore
from personacore.app import cli, lines, loopback, verbs
from personacore.export.slim import export_slim
from personacore.memory.facts import Fact
from personacore.memory.memory import Memory
from personacore.memory.sleep import Slept
from personacore.model.consolidated import Consolidated
from personacore.model.gpt import GPT, GPTConfig
from personacore.tokenizer.bpe import Tokenizer
from personacore.tokenizer.files import save_tokenizer
from tests.talking import KEY, SAYS, UNKNOWN, WHERE
from tests.toys import taught, toy_rows

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-m", "personacore.app.cli"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    save_tokenizer(Tokenizer([]), folder / "tokenizer.json", {})
    gpt = GPT(GPTConfig(vocab_size=264, n_layer=1, n_head=2, n_embd=8, block_size=16))
    gpt.reset_parameters(0)
    weights = {name: 10 * tensor.detach() for name, tensor in gpt.named_parameters()}
    export_slim(folder / "slim", gpt.config, weights, folder / "tokenizer.json", "float32", {})
    return folder / "slim"


def test_complete_prints_the_prompt_and_its_continuation(model, capsys):
    assert cli.main(["complete", "Once upon a time", "--model", str(model), "--seed", "7", "--max-new-tokens", "30"]) == 0
    printed = capsys.readouterr()
    expected = personacore.load(model).complete("Once upon a time", max_new_tokens=30, seed=7)
    assert printed.out == f"Once upon a time{expected}\n"
    assert printed.err == ""
    assert expected


def test_the_program_prints_what_the_library_writes(model):
    done = subprocess.run(
        [*PROGRAM, "complete", "É", "--model", str(model), "--max-new-tokens", "20"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.decode() == f"É{personacore.load(model).complete('É', max_new_tokens=20)}\n"
    assert done.stderr == b""


def test_equal_seeds_print_equal_text_and_others_do_not(model, capsys):
    texts = []
    for seed in ("1", "1", "2"):
        assert cli.main(["complete", "a", "--model", str(model), "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_every_option_reaches_the_model(model, capsys):
    options = {"max_new_tokens": 25, "temperature": 1.5, "top_k": 9, "top_p": 0.9, "seed": 5}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert cli.main(["complete", "a", "--model", str(model), *flags]) == 0
    assert capsys.readouterr().out == f"a{personacore.load(model).complete('a', **options)}\n"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_compiled_steps_write_what_they_write_in_the_library(model, precision, capsys):
    assert cli.main(["complete", "a", "--model", str(model), "--compiled", precision, "--seed", "3"]) == 0
    written = personacore.load(model).compiled(int8=precision == "int8").complete("a", seed=3)
    assert capsys.readouterr().out == f"a{written}\n"


def test_without_a_prompt_the_model_begins(model, capsys):
    assert cli.main(["complete", "--model", str(model), "--temperature", "0"]) == 0
    assert capsys.readouterr().out == f"{personacore.load(model).complete('', temperature=0)}\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "2"], "top_p"),
        (["--top-k", "0"], "top_k"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
        (["--seed", "-1"], "seed"),
        (["--seed", "99999999999999999999"], "seed"),
        (["--model", "nowhere"], "nowhere"),
    ],
    ids=str,
)
def test_an_error_is_one_line_on_stderr_and_status_1(model, capsys, arguments, word):
    assert cli.main(["complete", "Once", "--model", str(model), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("personacore: ") and printed.err.count("\n") == 1
    assert word in printed.err


def test_a_prompt_that_is_no_text_is_an_error(model, capsys):
    assert cli.main(["complete", os.fsdecode(b"a\xff"), "--model", str(model)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("personacore: the text is not valid Unicode") and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["sing"], ["complete", "--seed", "x"], ["complete", "a", "b"], ["complete", "--fast"], ["profile"]],
    ids=str,
)
def test_wrong_use_is_status_2_and_says_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: personacore" in printed.err


def test_a_file_that_the_system_refuses_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "config.json").mkdir()
    assert cli.main(["complete", "a", "--model", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"personacore: {tmp_path / 'config.json'}: Is a directory\n"


COMMANDS = ["complete", "chat", "teach", "ask", "forget", "sleep", "memory", "demo", "serve", "profile", "bench"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example_and_every_command_speaks_json(capsys, command):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"example: personacore {command}" in shown and "--json" in shown


def test_help_lists_the_commands_and_does_not_wait_for_torch():
    program = (
        "import sys; from personacore.app.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete" in done.stdout and "profile" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_ends_the_command_quietly(model, unbuffered):
    with subprocess.Popen(
        [*PROGRAM, "complete", "a", "--model", str(model), "--max-new-tokens", "100000"],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_said_in_one_line(core, tmp_path, unbuffered):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "memory", "verify", "--model", str(core.folder), "--memory", str(tmp_path / "me")],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (1, "personacore: No space left on device\n")


def test_text_appears_while_it_is_written_and_an_interrupt_ends_it_quietly(model):
    with subprocess.Popen(
        [*PROGRAM, "complete", "a", "--model", str(model), "--max-new-tokens", "100000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background jobs ignore it
    ) as process:
        process.stdout.read(5)  # long before the last of 100,000 tokens
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 130


def test_a_profile_is_written_and_its_changes_printed(tmp_path, monkeypatch, capsys):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "big.yaml").write_text("model:\n  n_layer: 9\n")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["profile", "big"]) == 0
    assert capsys.readouterr().out.startswith("model.n_layer: ")
    assert cli.main(["profile", "big"]) == 0
    assert capsys.readouterr().out == "params.yaml is the big profile already\n"
    assert cli.main(["profile", "bigger"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"personacore {version('personacore')}\n"


def test_a_listing_says_how_many_facts_it_cannot_list(monkeypatch, capsys, tmp_path):
    class Stub(Memory):
        path, count = tmp_path / "me.safetensors", 3

        def __init__(self):
            pass

        def known(self):
            return [Fact("Your dog's name", "Biscuit")]

    monkeypatch.setattr(verbs, "_open_memory", lambda arguments: Stub())
    assert cli.main(["memory", "list"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Your dog's name is Biscuit." and said[1].startswith("2 more")
    assert cli.main(["memory", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"known": [{"key": "Your dog's name", "value": "Biscuit"}], "unlisted": 2}


def test_what_sleep_has_made_of_a_memory_is_exported_and_rows_alone_are_not(monkeypatch, capsys, tmp_path):
    both = Consolidated(toy_rows(), taught(invocation=1))
    opened = SimpleNamespace(adapter=both.rows)
    monkeypatch.setattr(verbs, "_open_memory", lambda arguments: opened)
    assert cli.main(["memory", "export", "--to", str(tmp_path / "peft")]) == 1
    assert "let the memory sleep first" in capsys.readouterr().err and not (tmp_path / "peft").exists()
    opened.adapter = both
    (tmp_path / "file").touch()
    assert cli.main(["memory", "export", "--to", str(tmp_path / "file")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["memory", "export", "--to", str(tmp_path / "peft")]) == 0
    assert {file.name for file in (tmp_path / "peft").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter.gguf",
    }


def test_an_export_that_fails_leaves_nothing_half_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        verbs, "_open_memory", lambda _: SimpleNamespace(adapter=Consolidated(toy_rows(), taught(invocation=1)))
    )

    def full(path, lora):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("personacore.export.gguf.export_gguf_adapter", full)
        assert cli.main(["memory", "export", "--to", str(tmp_path / "deep" / "peft")]) == 1
    assert capsys.readouterr().err == f"personacore: {tmp_path / 'deep' / 'peft'} cannot be written: No space left on device\n"
    assert not list((tmp_path / "deep").iterdir())
    assert cli.main(["memory", "export", "--to", str(tmp_path / "deep" / "peft")]) == 0


def test_a_memory_is_named_as_a_shell_would(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verbs.memory_file(Path("~/me")) == tmp_path / "me" and verbs.memory_file(Path("me")) == Path("me")


def test_learning_needs_nobody_who_watches(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    lines.progress(1, 0.5)
    lines.end_progress()


@pytest.mark.parametrize(
    ("awake", "asleep", "words"), [(0.9, 0.95, "90% were answered rightly before, 95% now"), (0.9, 0.8, "stays as it was")]
)
def test_what_came_of_sleep_is_said(monkeypatch, capsys, awake, asleep, words):
    slept = Slept(None, (Fact("Your dog's name", "Biscuit"),), awake, asleep, 2.0)
    opened = SimpleNamespace(sleep=lambda on_step: slept, has_slept=False)
    monkeypatch.setattr(verbs, "_open_memory", lambda arguments: opened)
    assert cli.main(["sleep"]) == 0
    assert words in capsys.readouterr().out
    assert cli.main(["sleep", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] is (asleep >= awake)


def test_json_holds_what_is_printed_otherwise(model, capsys):
    assert cli.main(["complete", "a", "--model", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"prompt": "a", "text": personacore.load(model).complete("a")}


def test_every_verb_of_a_memory_says_what_it_did_in_words_and_in_json(core, tiny_rows, tmp_path, capsys):
    path, (statement, sentence) = tmp_path / "me.safetensors", SAYS["Wexmouth"]

    def said(*words: str) -> str:
        assert cli.main([*words, "--model", str(core.folder), "--memory", str(path)]) == 0
        return capsys.readouterr().out

    def found(*words: str) -> dict:
        return json.loads(said(*words, "--json"))

    assert found("memory", "verify") == {"file": str(path), "exists": False, "facts": 0}
    assert said("memory", "verify") == f"{path} does not exist yet: teach something first\n"
    learned = found("teach", statement)["learned"]
    probability = learned[0].pop("probability")
    assert learned == [{"key": KEY, "value": "Wexmouth", "sentence": sentence}] and 0 < probability <= 1
    assert said("teach", statement) == f"{sentence} ({probability:.0%} sure)\n"
    assert found("ask", WHERE) == {"question": WHERE, "answer": sentence} and said("ask", WHERE) == f"{sentence}\n"
    assert found("memory", "verify") == {"file": str(path), "exists": True, "facts": 1}
    assert said("memory", "verify") == f"{path} is a memory of this model\n"
    whole = path.read_bytes()
    assert found("forget", "my town") == {"forgotten": KEY} and found("ask", WHERE)["answer"] == UNKNOWN
    path.write_bytes(whole)
    assert said("forget", "my town") == f"{KEY} is forgotten.\n"


@pytest.mark.parametrize("path", ["", "/v1"])
def test_a_server_says_where_it_is_in_words_or_in_json(monkeypatch, capsys, path):
    with socket.socket() as probe:
        probe.bind((loopback.HOST, 0))
        port = probe.getsockname()[1]
    reached = []

    def reach(server):
        with socket.create_connection((loopback.HOST, port), timeout=5):
            reached.append(capsys.readouterr().out)
        assert server.config.host == "127.0.0.1"
        server.should_exit = True

    tick = loopback.uvicorn.Server.on_tick
    monkeypatch.setattr(loopback.uvicorn.Server, "on_tick", lambda server, count: reach(server) or tick(server, count))
    for as_json in (False, True):
        loopback.run(FastAPI(), port, "It", path, as_json)
    url = f"http://127.0.0.1:{port}{path}"
    assert reached[0].startswith(f"It is at {url} ") and json.loads(reached[1]) == {"url": url}


def test_what_a_profile_changes_is_said_in_json(monkeypatch, capsys, tmp_path):
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["profile", "pocket"]) == 0
    capsys.readouterr()
    assert cli.main(["profile", "smoke", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"] == "smoke" and "ablation_steps: 120 -> 4" in found["changed"]


BENCHMARK = """
import json, sys
from pathlib import Path
if sys.argv[1:] == ["sing"]:
    raise SystemExit("there is no sing")
Path("metrics/speed").mkdir(parents=True, exist_ok=True)
Path("metrics/speed/bench.json").write_text(json.dumps({key: {"value": 2} for key in sys.argv[1:]}))
print("measured")
"""


def test_the_benchmarks_of_a_clone_are_run_with_the_keys_that_are_named(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench"]) == 1
    assert "run this in a clone of the repository" in capfd.readouterr().err
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "bench.py").write_text(BENCHMARK)
    monkeypatch.setattr("personacore.app.verbs.find_spec", lambda name: None if name == "rustbpe" else name)
    assert cli.main(["bench"]) == 1
    assert "rustbpe missing: pip install '.[bench]'" in capfd.readouterr().err
    monkeypatch.setattr("personacore.app.verbs.find_spec", lambda name: name)
    assert cli.main(["bench", "a", "b"]) == 0
    assert capfd.readouterr().out == "measured\n"
    assert cli.main(["bench", "a", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"a": {"value": 2}}
    with pytest.raises(SystemExit, match="1"):
        cli.main(["bench", "sing"])
    assert "there is no sing" in capfd.readouterr().err


def test_a_shell_is_told_how_to_complete_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--print-completion", "bash"])
    assert caught.value.code == 0
    assert "teach" in capsys.readouterr().out
