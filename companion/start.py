"""Prepare a script before its slow imports: handle stops, and check for missing packages."""

from __future__ import annotations

import atexit
import importlib.util
import io
import os
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent.parent  # the scripts' folder
CHECKPOINTS, OUTPUT = HERE / "checkpoints", HERE / "output"
INSTALL = "pip install --no-deps -r requirements-play.txt"
# Imported by the default runs
PACKAGES = ("PIL", "ai_edge_litert", "google_crc32c", "jinja2", "librosa", "llvmlite", "markupsafe",
            "matplotlib", "note_seq", "numpy", "soundfile", "soxr", "tqdm")


def start() -> None:
    """Prepare for a script's imports.

    Until `companion.run.run` takes over, Ctrl-C and SIGTERM end the process at once.
    """
    if sys.version_info < (3, 10):
        sys.exit("Python {}.{} is too old: use Python 3.10 or later.".format(*sys.version_info))
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, _end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "--quiet" in sys.argv:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")  # not used; it warns without /dev/shm
    warnings.filterwarnings("ignore", "n_fft=.* is too large")  # librosa's, for short sounds
    if not os.access(os.path.expanduser("~"), os.W_OK):  # Numba, Matplotlib and Bokeh write there
        os.environ["HOME"] = tempfile.mkdtemp(prefix="chapter_05_")
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"Packages are missing: {', '.join(missing)}. "
                 f"Run this command in {HERE}: {INSTALL}")


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\nstopped before any work\n")
    os._exit(130)
