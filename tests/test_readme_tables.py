"""`tools.readme` writes the README's numbers from the metrics, and touches nothing else."""

import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tools.readme import BESIDE, MEASURED, STAGES, measured, rewrite

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read(name):
    file = ROOT / "metrics" / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else defaultdict(float)


def without_numbers(text):
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("| "))
    return re.sub(r"[\d,]+ s in all", "", text)


def test_only_rows_of_tables_and_the_sum_of_seconds_are_written():
    written = rewrite(README, read)
    assert without_numbers(written) == without_numbers(README)
    assert written.count(MEASURED) == written.count(STAGES) == written.count(BESIDE) == 1
    assert rewrite(written, read) == written


def test_the_readme_holds_the_numbers_of_the_metrics_that_come_with_it():
    changed = subprocess.run(["git", "status", "--porcelain", "metrics"], cwd=ROOT, capture_output=True, text=True)
    if changed.returncode or changed.stdout:
        pytest.skip("needs the metrics of a commit: somebody has made others since")
    assert rewrite(README, read) == README


def test_a_number_of_the_metrics_stands_in_the_table_and_a_missed_gate_is_called_missed():
    recall = {name: {**gate, "value": 0.123, "passed": False} for name, gate in read("recall").items()}
    rows = dict(measured(lambda name: recall if name == "recall" else read(name)))
    asked = recall["in_context_recall"]["asked"]
    shown = rows["facts told and asked in one conversation, before any teaching"]
    assert shown == f"12.3% of {asked:,} (goal 98%, missed)"
    assert f"{read('evaluate')['bits_per_byte']:.3f}" in rows.values()
