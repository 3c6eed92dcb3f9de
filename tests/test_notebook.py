"""The notebook runs in a fresh kernel on what ships, makes sounds, and is committed bare."""

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


def test_the_notebook_is_committed_without_outputs():
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count")


def test_the_notebook_runs_and_plays():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300,
                            resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.output_type == "error"]
    players = [output.data["text/html"] for output in shown
               if "<audio" in output.get("data", {}).get("text/html", "")]
    pictures = sum("image/png" in output.get("data", {}) for output in shown)
    assert (len(players), pictures) == (10, 6)
    for player in players:
        sound = re.search(r"base64,([^\"]+)", player)[1]
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        assert rate == 16000 and np.sqrt(np.mean(audio ** 2)) > 0.001


def test_the_notebook_calls_the_chapters_functions():
    code = "".join(line for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
                   for line in cell["source"] if cell["cell_type"] == "code")
    for name in ("example_01.encode", "example_01.mix_encoding_pairs", "example_01.synthesize",
                 "example_02.get_midi_notes", "example_02.generate_audio", "example_02.save_audio",
                 "audio_utils.timestretch", "audio_utils.save_encoding_plot",
                 "audio_utils.save_rainbowgram_plot"):
        assert f"{name}(" in code
    assert "def " not in code and "lambda" not in code
