"""The notebook runs in a new kernel on the bundled models, and is committed without outputs."""

import ast
import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

nbclient = pytest.importorskip("nbclient", reason="pip install --no-deps -r tests/requirements.txt")
nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).resolve().parent.parent / "chapter_05.ipynb"
CELLS = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]


def calls(tree: ast.AST) -> list[str]:
    """Return the names of the functions that are called, by their last part, in order."""
    found = sorted((node for node in ast.walk(tree) if isinstance(node, ast.Call)),
                   key=lambda node: (node.lineno, node.col_offset))
    return [getattr(node.func, "id", getattr(node.func, "attr", "")) for node in found]


def test_notebook_has_no_outputs():
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in CELLS)


@pytest.mark.parametrize("script", ["chapter_05_example_01.py", "chapter_05_example_02.py"])
def test_notebook_makes_the_calls_of_app_in_order(script):
    chapter = ast.parse(NOTEBOOK.with_name(script).read_text("utf-8"))
    functions = {node.name: node for node in chapter.body if isinstance(node, ast.FunctionDef)}
    wanted = [name for name in calls(functions["app"]) if name in {*functions, "save_encoding"}
              and name != "download_checkpoint"]
    code = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    made = iter(calls(ast.parse(code)))
    assert wanted and all(name in made for name in wanted)


def test_notebook_runs_and_its_players_sound():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300,
                            resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.output_type == "error"]
    players = [output.data["text/html"] for output in shown
               if "<audio" in output.get("data", {}).get("text/html", "")]
    plots = sum("image/png" in output.get("data", {}) for output in shown)
    assert (len(players), plots) == (17, 3)
    for player in players:
        sound = re.search(r"base64,([^\"]+)", player)[1]
        audio = soundfile.read(io.BytesIO(base64.b64decode(sound)))[0]
        assert np.sqrt(np.mean(audio ** 2)) > 0.001
