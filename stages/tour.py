"""Run the tour, docs/tour.py, into docs/tour.ipynb."""

from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

import personacore.core
import personacore.memory.influence
import personacore.memory.talk  # noqa: F401
from personacore.files import write_text
from personacore.stage import Speed, run_stage

SOURCE, NOTEBOOK = Path("docs/tour.py"), "docs/tour.ipynb"


def main(speed: Speed) -> None:
    notebook = jupytext.read(SOURCE)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # else drawn anew in every run
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False, coalesce_streams=True).execute()
    notebook.metadata.pop("language_info", None)  # names this machine's Python to the patch
    write_text(NOTEBOOK, nbformat.writes(notebook) + "\n")


if __name__ == "__main__":
    run_stage("tour", main)
