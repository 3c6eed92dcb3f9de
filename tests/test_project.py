"""Facts that stand in two places agree: the deviations from print, the pins, the help."""

import ast
import importlib
import os
import pkgutil
import re
import shlex
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


def commands() -> list[list[str]]:
    """The commands of the README that name one of the scripts, in words."""
    found = re.findall(r"`python (chapter_05_example_0\d\.py[^`]*)`",
                       (ROOT / "README.md").read_text("utf-8"))
    return [shlex.split(command) for command in found]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_readme_have_options_that_exist(words):
    script, *options = words
    if "--help" not in options:
        importlib.import_module(Path(script).stem).parse_options().parse_args(options)


def section(title: str) -> str:
    """A part of the README, without its heading."""
    return (ROOT / "README.md").read_text("utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def test_commands_for_banks_have_options_and_files_that_exist():
    from banks.__main__ import parser

    found = re.findall(r"^python -m banks (.*)", section("Banks, on one machine or many"),
                       re.MULTILINE)
    assert len(found) == 2
    for command in found:
        options = parser().parse_args(shlex.split(command))
        assert all((ROOT / sound).is_file() for sound in getattr(options, "corners", ()))


def test_the_lines_for_clusters_are_python_and_stand_once():
    blocks = re.findall(r"```python\n(.*?)```", section("Banks, on one machine or many"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "README.md", "exec")
        assert block.count("\n") <= 10
    page = (ROOT / "docs" / "banks.md").read_text("utf-8")
    assert "Cluster(" not in page and "README.md#banks-on-one-machine-or-many" in page


def test_the_chapters_seven_packages_are_where_the_readme_says():
    table = section("From the book to this code").split("| package |")[1].split("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines()[2:]]
    names = {name.strip(): row[3] for row in rows for name in row[1].split(",")}
    modules = {"NumPy": "numpy", "soundfile": "soundfile", "librosa": "librosa",
               "Matplotlib": "matplotlib", "note-seq": "note_seq", "Magenta": "magenta",
               "TensorFlow": "tensorflow"}
    assert set(names) == set(modules)
    for name, module in modules.items():
        places = re.findall(r"`([^`]+)`", names[name]) or list(SCRIPTS)
        texts = [(ROOT / f"{place.removesuffix('.py')}.py").read_text("utf-8") for place in places]
        using = [bool(re.search(rf"^\s*(?:import|from) {module}\b", text, re.MULTILINE))
                 for text in texts]
        assert all(using) if name not in ("Magenta", "TensorFlow") else any(using), name


def test_readme_names_places_that_exist():
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.split("## From the book to this code")[1].split("## ")[0]
    places = set(re.findall(r"`((?:synths|audio_utils|pictures|companion)[\w./]*)`", table))
    assert len(places) > 12
    for place in places:
        if "/" in place:
            assert (ROOT / place).exists(), place
        else:
            pkgutil.resolve_name(place)


# What `app` calls in print, in this order; the first arguments that it gives, and the signatures.
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
HANDED_ON = {"mix_encoding_pairs": ["encodings"], "generate_audio": ["notes"],
             "synthesize": ["encodings_mix", "encodings_mix_name"], "save_audio": ["audio_clip"]}


@pytest.mark.parametrize("script", SCRIPTS)
def test_app_makes_the_printed_calls_in_order(script):
    tree = ast.parse((ROOT / script).read_text("utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    calls = [node for node in ast.walk(functions["app"]) if isinstance(node, ast.Call)
             and isinstance(node.func, ast.Name) and node.func.id in PRINTED[script]]
    calls.sort(key=lambda node: node.lineno)
    assert [node.func.id for node in calls] == list(PRINTED[script])
    for call in calls:
        handed = HANDED_ON.get(call.func.id, [])
        assert [ast.unparse(word) for word in call.args[:len(handed)]] == handed
    for name, arguments in PRINTED[script].items():
        parameters = functions[name].args
        assert [one.arg for one in parameters.args][:len(arguments)] == arguments
        assert parameters.vararg is None and parameters.kwarg is None


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_straight_lines(script):
    tree = ast.parse((ROOT / script).read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.With)]
    assert not [block for block in blocks if len(block.items) > 1 or any(
        isinstance(inner, ast.With) for part in block.body for inner in ast.walk(part))]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {(alias.asname or alias.name) for node in ast.walk(tree)
                if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    assert not imported - used - {"annotations"}
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        given = [one.arg for one in function.args.args + function.args.kwonlyargs]
        inside = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        assert not set(given) - inside


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


def named_tests(page: str) -> list[str]:
    """The tests that a page names, as `tests/test_x.py::test_y`."""
    return re.findall(r"`(tests/\w+\.py::\w+)`", (ROOT / page).read_text("utf-8"))


@pytest.mark.parametrize("page, least", [("docs/own_code.md", 20), ("docs/decoder.md", 8)])
def test_the_tests_that_a_page_names_exist(page, least):
    missing = []
    for name in named_tests(page):
        file, test = name.split("::")
        if not (ROOT / file).is_file() or not re.search(
                rf"^def {test}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE):
            missing.append(name)
    assert not missing and len(set(named_tests(page))) >= least


@pytest.mark.parametrize("page", ["docs/own_code.md", "docs/decoder.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_names_exist(page):
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|c))", (ROOT / page).read_text("utf-8")))
    assert named and not [name for name in named if not (ROOT / name).is_file()]


def test_every_row_about_our_own_code_names_its_test():
    page = (ROOT / "docs" / "own_code.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")
            and not line.startswith("| piece |")]
    assert len(rows) > 12
    assert not [row for row in rows if "::test_" not in row.split("|")[4]]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = re.sub(r"(<!-- deviations -->\n).*?(<!-- /deviations -->)",
                  lambda match: match[1] + "".join(f"{line}\n" for line in deviations()) + match[2],
                  readme.read_text("utf-8"), flags=re.DOTALL)
    readme.write_text(text, "utf-8")
