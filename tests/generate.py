"""Write the generated pages again: `python -m tests.generate`.

docs/differences.md comes from the marks "# differs from the book (kind): ..." in the chapter's
files, docs/options.md from the parsers.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = ("chapter_05_example_01.py", "chapter_05_example_02.py", "audio_utils.py")
KINDS = {"had to change": "Had to change", "mended": "Fixed", "added": "Added"}
_MARK = re.compile(r"# differs from the book \((.+?)\): (.*)")
_NOT_MARKED = {
    "had to change": [
        "The book uses Magenta 1.1.7, and the author's branch `magenta-v2.1.2` updates its code. "
        "This project uses Magenta 2.1.4, and current versions of Python and of all libraries."],
    "mended": [
        "Default paths are relative to the project's folder, not to the current folder.",
        "A run prints its model, its seed and the path of its results page, but not Magenta's own "
        "messages, such as \"Saved to\".",
        "`combine_notes`: If the negative peak of a note is more than twice as large as the "
        "positive one, half of the negative peak sets the note's level. Magenta always uses the "
        "positive peak, so such notes exceed full scale.",
        "The book's answers to the chapter's questions say that a rainbowgram's colours are the 16 "
        "dimensions of the encoding. The book's code, like ours, shows how the phase changes."],
    "added": [
        "The chapter's functions have additional parameters: the seed, the folder, the file name, "
        "and the engine (`fastgen` or `lib_model`).",
        "The options that `--help` lists replace the flag `--log`."],
}


def marks(name: str) -> list[tuple[str, str]]:
    """Return (kind, "`function`: text") of each mark in a file, which may have several lines."""
    found: list[tuple[str, str]] = []
    place, open_mark = "", False
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if function := re.match(r"def (\w+)", line):
            place = f"`{function[1]}`: "
        match, comment = _MARK.search(line), re.fullmatch(r"\s*# (.*)", line)
        if match:
            found.append((match[1], place + match[2]))
        elif comment and open_mark:
            found[-1] = (found[-1][0], f"{found[-1][1]} {comment[1]}")
        open_mark = bool(match) or open_mark and bool(comment)
    return [(kind, re.sub(" +", " ", text)) for kind, text in found]


def differences() -> str:
    """Return docs/differences.md."""
    lines = ["# Differences from the book", "",
             "`python -m tests.generate` makes this page from the comments in the chapter's files. "
             "[The book and this code](book_map.md) shows what replaces the chapter's calls."]
    for kind, title in KINDS.items():
        lines += ["", f"## {title}", "", "In the whole project:", "",
                  *(f"- {text}" for text in _NOT_MARKED[kind])]
        for name in CHAPTER:
            texts = [f"- {text}" for each, text in marks(name) if each == kind]
            lines += ["", f"In `{name}`:", "", *texts] if texts else []
    return "\n".join(lines) + "\n"


def options() -> str:
    """Return docs/options.md."""
    from companion.options import example_1_options, example_2_options
    from workshop.__main__ import parser

    lines = ["# All commands and options", "",
             "`python -m tests.generate` makes this page from the text of `--help`. The examples "
             "use the bundled sounds; `song.mid`, `kick.wav` and `samples/` stand for your own "
             "files."]
    lines += _section("python -m workshop", parser())[4:]
    for name, script in (("01", example_1_options), ("02", example_2_options)):
        lines += _section(f"python chapter_05_example_{name}.py", script(None))
    return "\n".join(lines) + "\n"


def _section(title: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return the description, the examples and the options of a command, and of its commands."""
    nested = [action for action in parser._actions
              if isinstance(action, argparse._SubParsersAction)]
    if nested:
        return ["", f"## {title}", "", parser.description or "", *(
            line for name, each in nested[0].choices.items()
            for line in _section(f"{title} {name}", each))]
    examples = [re.sub(r"  +\((.*)\)$", r"  # \1", line) for line in re.findall(
        r"^  (python .*)", parser.epilog or "", re.MULTILINE)]
    return ["", f"## {title}", "", *([f"{parser.description}", ""] if parser.description else []),
            *(["```", *examples, "```", ""] if examples else []), *_table(parser)]


def _table(parser: argparse.ArgumentParser) -> list[str]:
    rows = ["| option | what it does |", "|---|---|"]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest == "help":
            continue
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = "" if action.nargs == 0 or not action.option_strings else " " + (
            "|".join(map(str, action.choices)) if action.choices else
            " ".join(action.metavar) if isinstance(action.metavar, tuple) else
            action.metavar or action.dest.upper())
        described = (action.help or "").replace("%(default)s", str(action.default))
        text = f"`{names}{value}` | {described}"
        rows.append("| " + text.replace("|", "\\|").replace(" \\| ", " | ", 1) + " |")
    return rows


PAGES = {"docs/differences.md": differences, "docs/options.md": options}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (ROOT / page).write_text(make(), "utf-8")
        print(f"{page} written")
