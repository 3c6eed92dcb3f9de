"""The README's commands, the generated pages, the pins and the chapter's calls agree with the code."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pins import UNPLAYED

from companion.options import example_1_options, example_2_options
from tests import generate
from workshop.__main__ import parser

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = generate.CHAPTER[:2]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))


def typed() -> list[str]:
    """Return the commands of the README and the docs that run a script or the workshop."""
    found = []
    for page in PAGES:
        found += re.findall(r"(?:^|`)python (?:-m )?((?:chapter_05_example_0\d\.py|workshop)"
                            r"(?: [^`\n#]*)?)(?:`|$|#)",
                            (ROOT / page).read_text("utf-8"), re.MULTILINE)
    return sorted({command.strip() for command in found if "..." not in command})


@pytest.mark.parametrize("command", typed())
def test_documented_command_has_options_that_exist(command):
    program, *words = shlex.split(command)
    if "--help" in words or len(words) < 2:
        return
    parsers = {SCRIPTS[0]: example_1_options, SCRIPTS[1]: example_2_options}
    whole = parsers[program](None) if program in parsers else parser()
    whole.parse_args(words)


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_page_is_fresh(page):
    assert (ROOT / page).read_text("utf-8") == generate.PAGES[page](), "python -m tests.generate"


# What `app` calls in the book, in this order, and the arguments of these functions.
PRINTED = {
    "chapter_05_example_01.py": {
        "download_checkpoint": ["checkpoint_name", "target_dir"],
        "encode": ["wav_filenames", "checkpoint", "sample_length", "sample_rate"],
        "mix_encoding_pairs": ["encodings", "encodings_name"],
        "synthesize": ["encodings_mix", "encodings_mix_name", "checkpoint"]},
    "chapter_05_example_02.py": {
        "download_checkpoint": ["checkpoint_name", "target_dir"],
        "get_midi_notes": ["midi_filename"],
        "generate_audio": ["notes", "seconds_per_instrument", "batch_size", "checkpoint_dir"],
        "save_audio": ["audio_clip"]},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_app_makes_the_books_calls_in_order(script):
    tree = ast.parse((ROOT / script).read_text("utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = sorted((node.lineno, node.func.id) for node in ast.walk(functions["app"])
                   if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                   and node.func.id in PRINTED[script])
    assert [name for _, name in calls] == list(PRINTED[script])
    for name, arguments in PRINTED[script].items():
        given = [argument.arg for argument in functions[name].args.args]
        assert given[:len(arguments)] == arguments and len(given) <= len(arguments) + 3
    assert len(functions["app"].body) <= 6


def test_requirements_pin_what_pyproject_names():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    names = re.findall(r'^    "([\w-]+)(?:==[\d.]+)?[;"]',
                       project.split("[dependency-groups]")[0], re.MULTILINE)
    pinned = {name: {line.split("==")[0] for line in (ROOT / name).read_text("utf-8").splitlines()
                     if re.match(r"[\w.-]+==[\w.]+", line)}
              for name in ("requirements.txt", "requirements-play.txt")}
    assert len(names) > 8 and set(names) <= pinned["requirements.txt"]
    assert pinned["requirements-play.txt"] < pinned["requirements.txt"]
    assert not pinned["requirements-play.txt"] & {"tensorflow", "magenta", "pytest", *UNPLAYED}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_without_its_packages_names_the_command(script):
    # -S leaves out site-packages, as in a Python where nothing was installed.
    done = subprocess.run([sys.executable, "-S", str(ROOT / script)], capture_output=True,
                          text=True, cwd=ROOT)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "pip install --no-deps" in done.stderr


@pytest.mark.parametrize("page", ["docs/own_code.md", "docs/decoder.md", "CONTRIBUTING.md",
                                  "docs/book_map.md"])
def test_files_and_tests_that_a_page_names_exist(page):
    text = (ROOT / page).read_text("utf-8")
    for name, test in re.findall(r"`((?:\w+/)+\w+\.(?:py|c))(?:::(\w+))?`", text):
        assert (ROOT / name).is_file(), name
        if test:
            assert f"def {test}(" in (ROOT / name).read_text("utf-8"), test
