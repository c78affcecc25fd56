import errno
import json

import pytest

from personacore.errors import UserError
from personacore.stage import run_stage


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)


def fail(error: Exception):
    def main(speed):
        raise error

    return main


def test_what_belongs_to_the_machine_is_written_apart(tmp_path):
    run_stage("train", lambda speed: speed.update(tokens_per_second=12.5))
    assert [file.name for file in (tmp_path / "metrics" / "speed").iterdir()] == ["train.json"]
    speed = json.loads((tmp_path / "metrics" / "speed" / "train.json").read_text())
    assert speed["stage"] == "train" and speed["tokens_per_second"] == 12.5
    assert speed["wall_seconds"] >= 0 and 1 < speed["peak_memory_megabytes"] < 1e5


def test_of_several_processes_the_first_reports(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run_stage("train", lambda speed: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("model.n_head: 5 does not divide"), "train: model.n_head: 5 does not divide\n"),
        (OSError(errno.ENOSPC, "No space left on device"), "train: the disk is full: free some space and rerun\n"),
        (PermissionError(errno.EACCES, "Permission denied", "data/models"), "train: data/models: Permission denied\n"),
    ],
)
def test_an_error_of_the_users_is_one_line_and_status_1(tmp_path, capsys, error, line):
    with pytest.raises(SystemExit) as ended:
        run_stage("train", fail(error))
    assert ended.value.code == 1
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ZeroDivisionError(), PermissionError(errno.EACCES, "denied")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run_stage("train", fail(error))
