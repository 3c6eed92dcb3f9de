"""What happens before a script's first heavy import: handlers for stops, and missing packages."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent.parent  # the scripts' folder
INSTALL = "pip install --no-deps -r requirements.txt"
# What the default runs import.
PACKAGES = ("PIL", "ai_edge_litert", "jinja2", "librosa", "llvmlite", "matplotlib", "mido",
            "note_seq", "numpy", "pretty_midi", "soundfile", "soxr", "tqdm")


def start() -> None:
    """Make ready for a script's imports.

    Until `companion.run.run` takes over, Ctrl-C and SIGTERM end the process at once, since nothing
    has begun.  Printing is made safe: what a terminal cannot show is escaped, and closed streams
    take what is printed to them.  A missing package ends the program with one line that names the
    command to install it.
    """
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, _end)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: 2>&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        else:
            stream.reconfigure(errors="backslashreplace")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} not installed; type this first, in {HERE}: {INSTALL}")


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\nstopped before anything was begun\n")
    os._exit(130)
