"""The short install plays the same sounds: `python tests/check_play.py NSYNTH GANSYNTH`.

To be run where requirements-play.txt alone is installed; the two folders are those of default runs
of the full install, on the same version of Python.  Runs both examples with their seeds and
deprecations as errors.  Every sound must have the same bytes, and every package that is installed
must have been imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("chapter_05_example_01.py", "chapter_05_example_02.py")
# What a virtual environment comes with, and what joblib, which runs no processes here, depends on.
TOOLS = {"pip", "setuptools", "cloudpickle", "psutil"}
# Runs a script as `python` does, then says which files were imported.
RUN = """
import json, runpy, sys
target, sys.argv = sys.argv[1], sys.argv[2:]
sys.path.insert(0, "")
try:
    runpy.run_path(sys.argv[0], run_name="__main__")  # it ends by its exit code
finally:
    with open(target, "w", encoding="utf-8") as file:
        json.dump([module.__file__ for module in list(sys.modules.values())
                   if getattr(module, "__file__", None)], file)
"""


def imported(folder: Path, script: str, seed: int) -> set[Path]:
    """Run an example; returns the files that it imported."""
    listed = folder / "imported.json"
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", RUN, listed, script,
                    "--seed", str(seed), "--quiet", "--output", folder / "out"], cwd=ROOT,
                   check=True)
    return {Path(name).resolve() for name in json.loads(listed.read_text("utf-8"))}


def main(*full: str) -> None:
    """Compare both examples with the runs in `full`."""
    files: set[Path] = set()
    for script, other in zip(SCRIPTS, map(Path, full)):
        with tempfile.TemporaryDirectory() as scratch:
            seed = json.loads((other / "run.json").read_text("utf-8"))["seed"]
            files |= imported(Path(scratch), script, seed)
            ours = {wav.name: wav.read_bytes() for wav in (Path(scratch) / "out").glob("*.wav")}
            theirs = {wav.name: wav.read_bytes() for wav in other.glob("*.wav")}
            assert ours and ours == theirs, f"{script} sounds otherwise than with the full install"
            print(f"{script}: {len(ours)} sounds, the same bytes")
    unused = sorted(
        package.metadata["Name"] for package in importlib.metadata.distributions()
        if package.metadata["Name"] not in TOOLS and files.isdisjoint(
            Path(package.locate_file(file)).resolve() for file in package.files or ()))
    assert not unused, f"requirements-play.txt lists what neither example imports: {unused}"
    print("every package of requirements-play.txt was imported")


if __name__ == "__main__":
    main(*sys.argv[1:])
