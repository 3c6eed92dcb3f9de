"""The notebook runs in a fresh kernel on what ships and makes sounds; it has no output in git."""

import json
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="pip install --no-deps -r tests/requirements.txt")
nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).resolve().parent.parent / "chapter_05.ipynb"


def test_the_notebook_is_committed_without_outputs():
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")


def test_the_notebook_runs_and_plays():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300,
                            resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.output_type == "error"]
    players = sum("<audio" in output.get("data", {}).get("text/html", "") for output in shown)
    pictures = sum("image/png" in output.get("data", {}) for output in shown)
    assert (players, pictures) == (10, 6)
