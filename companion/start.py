"""What happens before a script's first heavy import: handlers for stops, and missing packages."""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent  # the scripts' folder
INSTALL = "pip install --no-deps -r requirements.txt"
# What the default runs import.
PACKAGES = ("PIL", "ai_edge_litert", "jinja2", "llvmlite", "matplotlib", "mido", "numpy",
            "pretty_midi", "soundfile", "soxr", "tqdm")


def start() -> None:
    """Make ready for a script's imports.

    SIGTERM is treated as Ctrl-C, and SIGINT restored where a shell ignored it.  A missing package
    ends the program with one line that names the command to install it.
    """
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.default_int_handler)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} not installed; type this first, in {HERE}: {INSTALL}")
