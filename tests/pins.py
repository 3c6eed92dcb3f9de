"""The pinned requirements: `python -m tests.pins` writes them, `--wheels` checks the platforms.

All the files come from pyproject.toml, for every platform and Python at once, by uv (`pip install
uv`).  The smaller ones take their versions from requirements.txt.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# File -> what uv is given to resolve.
FILES = {
    "requirements.txt": ["--group", "test", "pyproject.toml"],
    "requirements-play.txt": ["--group", "pyproject.toml:play"],
    "requirements-banks.txt": ["--group", "pyproject.toml:banks"],
    "tests/requirements.txt": ["--group", "pyproject.toml:check"],
}
# What a package of the play group declares and no default run imports, so that its file leaves it
# out; `tests/check_play.py` holds the list.  On Python 3.10 the last IPython that runs there
# imports the second list, and the last Matplotlib does not import the third.
UNPLAYED = ("backports-strenum", "certifi", "charset-normalizer", "contourpy", "idna",
            "intervaltree", "ipython-pygments-lexers", "matplotlib-inline", "ml-dtypes",
            "narwhals", "pexpect", "ptyprocess", "requests", "scikit-learn", "sortedcontainers",
            "threadpoolctl", "tornado", "tzdata", "urllib3", "xyzservices")
PLAYED_ON_OLD = ("asttokens", "executing", "jedi", "parso", "prompt-toolkit", "pure-eval",
                 "stack-data", "wcwidth")
PLAYED_ON_NEW = ("fonttools",)
_OLD = "python_full_version < '3.11'"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# uv's name of a platform -> README's; the second half has no wheel of some package.
PLATFORMS = {
    "x86_64-manylinux_2_28": "Linux x86-64, glibc 2.28 or later",
    "aarch64-manylinux_2_28": "Linux aarch64, glibc 2.28 or later",
    "aarch64-apple-darwin": "macOS 12 or later on Apple silicon",
    "x86_64-pc-windows-msvc": "Windows x86-64",
}
REFUSED = {
    "x86_64-apple-darwin": "macOS on Intel",
    "aarch64-pc-windows-msvc": "Windows on ARM",
    "x86_64-unknown-linux-musl": "Linux with musl",
}


def _uv(*arguments: str) -> subprocess.CompletedProcess:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        sys.exit("uv is not installed; type this first: pip install uv")
    return subprocess.run([uv, *arguments], cwd=ROOT, capture_output=True, text=True)


def write(upgrade: bool) -> None:
    """Resolve pyproject.toml again; `upgrade` moves the pins, else only what must moves."""
    for name, sources in FILES.items():
        path = ROOT / name
        kept = [] if upgrade and name == "requirements.txt" else ["-c", "requirements.txt"]
        done = _uv("pip", "compile", "--universal", "--python-version", PYTHONS[0],
                   "--no-python-downloads", "--no-annotate", "--no-header",
                   "--no-emit-index-url", *kept, *sources)
        if done.returncode:
            sys.exit(done.stderr)
        pins = done.stdout.strip().splitlines()
        if name == "requirements-play.txt":
            pins = played(pins)
        head = [line for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
        path.write_text("\n".join([*head, *pins, ""]), "utf-8", newline="\n")
        print(f"{name}: {len(pins)} lines")


def played(pins: list[str]) -> list[str]:
    """Leave out what no default run imports.

    >>> played(["jedi==0.20.1", "numpy==2.5.5", "requests==2.34.2"])
    ["jedi==0.20.1 ; python_full_version < '3.11'", 'numpy==2.5.5']
    """
    kept = []
    for pin in pins:
        name = pin.split("==")[0]
        if name in PLAYED_ON_OLD and ";" not in pin:
            pin += f" ; {_OLD}"
        if name not in UNPLAYED and not (name in PLAYED_ON_NEW and pin.endswith(_OLD)):
            kept.append(pin)
    return kept


def lacking(file: str, platform: str, python: str) -> str | None:
    """Why a file's pins cannot be installed there from wheels alone; None if they can."""
    done = _uv("pip", "install", "--dry-run", "--no-deps", "--only-binary", ":all:",
               "--no-python-downloads", "--python-version", python, "--python-platform", platform,
               "--target", str(ROOT / "output" / "never"), "-r", file)
    if not done.returncode:
        return None
    found = re.search(r"Wheels are available for `([\w.-]+)`", done.stderr)
    return f"no wheel of {found[1]}" if found else done.stderr.strip().splitlines()[-1]


def check_wheels() -> bool:
    """Whether the registry has every wheel for every platform and Python that README names."""
    right = True
    for platform, words in {**PLATFORMS, **REFUSED}.items():
        for file in list(FILES)[:3]:
            reasons = {python: lacking(file, platform, python) for python in PYTHONS}
            missing = {python: reason for python, reason in reasons.items() if reason}
            if platform in PLATFORMS or file != "requirements-banks.txt":
                right &= bool(missing) == (platform in REFUSED)
            print(f"{words:36} {file:22} " + (
                "; ".join(f"{python}: {reason}" for python, reason in missing.items())
                or "all there"))
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="to the newest versions")
    parser.add_argument("--wheels", action="store_true", help="check the platforms instead")
    options = parser.parse_args()
    if options.wheels:
        sys.exit(not check_wheels())
    write(options.upgrade)
