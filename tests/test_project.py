"""Facts that stand in two places agree: the deviations from print, the pins, the help."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pins import UNPLAYED

ROOT = Path(__file__).resolve().parent.parent
BOOK_FILES = ("chapter_05_example_01.py", "chapter_05_example_02.py", "audio_utils.py",
              "pictures/spectra.py", "pictures/sheets.py")
SCRIPTS = BOOK_FILES[:2]


def deviations() -> list[str]:
    """The README's list, made from the tags in the code; a comment may run over two lines."""
    found = []
    for name in BOOK_FILES:
        lines = (ROOT / name).read_text("utf-8").splitlines()
        for place, line in enumerate(lines):
            match = re.search(r"# not in print: (.*)", line)
            if match:
                text = match[1]
                for more in lines[place + 1:]:
                    if not re.match(r"\s*# (?!not in print)", more) or line.strip()[0] != "#":
                        break
                    text += " " + more.strip()[2:]
                found.append(f"- `{name}`: {text}")
    return found


def test_readme_lists_every_deviation_from_print():
    readme = (ROOT / "README.md").read_text("utf-8")
    listed = re.search(r"<!-- deviations -->\n(.*?)<!-- /deviations -->", readme, re.DOTALL)[1]
    assert listed.splitlines() == deviations(), "python tests/test_project.py writes the list anew"
    assert len(deviations()) > 10


def test_requirements_pin_what_pyproject_names():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    names = re.findall(r'^    "([\w-]+)(?:==[\d.]+)?",', project.split("[dependency-groups]")[0],
                       re.MULTILINE) + ["pytest"]
    pinned = {line.split("==")[0] for line in
              (ROOT / "requirements.txt").read_text("utf-8").splitlines()
              if re.match(r"[\w.-]+==[\w.]+", line)}
    assert len(names) > 8 and set(names) <= pinned
    assert "pip install --no-deps -r requirements.txt" in (
        ROOT / "requirements.txt").read_text("utf-8").splitlines()[0]


def test_the_short_requirements_have_the_same_pins():
    def pins(name):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        return {line.split(" ;")[0] for line in lines if "==" in line and line[0] != "#"}
    short, full = pins("requirements-play.txt"), pins("requirements.txt")
    assert short < full
    names = {pin.split("==")[0] for pin in short}
    group = re.search(r"^play = \[(.*?)\]", (ROOT / "pyproject.toml").read_text("utf-8"),
                      re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r'"([\w-]+)"', group)) <= names
    assert not names & {"tensorflow", "magenta", "pytest", *UNPLAYED}
    assert "pip install --no-deps -r requirements-play.txt" in (
        ROOT / "requirements-play.txt").read_text("utf-8").splitlines()[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_nothing_heavy_and_fits_a_screen(script):
    code = ("import runpy, sys\n"
            f"sys.argv = [{script!r}, '--help']\n"
            "try:\n"
            f"    runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
            "except SystemExit as done:\n"
            "    assert done.code == 0\n"
            "heavy = {'tensorflow', 'magenta', 'matplotlib', 'PIL', 'scipy', 'librosa',"
            " 'ai_edge_litert', 'pretty_midi', 'soundfile', 'jinja2'} & set(sys.modules)\n"
            "assert not heavy, heavy\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") <= 40 and max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_its_packages_a_script_says_what_to_type(script):
    # -S leaves out site-packages, as in a Python where nothing was installed.
    done = subprocess.run([sys.executable, "-S", str(ROOT / script)], capture_output=True,
                          text=True, cwd=ROOT)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "pip install --no-deps -r requirements.txt" in done.stderr


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = re.sub(r"(<!-- deviations -->\n).*?(<!-- /deviations -->)",
                  lambda match: match[1] + "".join(f"{line}\n" for line in deviations()) + match[2],
                  readme.read_text("utf-8"), flags=re.DOTALL)
    readme.write_text(text, "utf-8")
