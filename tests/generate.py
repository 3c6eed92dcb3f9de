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
KINDS = {"had to change": "Had to change", "mended": "Mended", "added": "Added"}
_MARK = re.compile(r"# differs from the book \((.+?)\): (.*)")
_NOT_MARKED = {
    "had to change": [
        "Everywhere: the book is printed for Magenta 1.1.7. The author's branch `magenta-v2.1.2` "
        "updates it, and this project uses Magenta 2.1.4, on current versions of Python and of "
        "all libraries."],
    "mended": [
        "Everywhere: default paths are relative to the project's folder, not to the folder that "
        "you are in.",
        "Everywhere: a run prints its model, its size, its seed and the address of its results; "
        "Magenta's own messages, such as \"Saved to\", are gone.",
        "`synths/gansynth`: the lowest sample of a note sets its level if it is more than twice as "
        "large as the highest one; Magenta uses the highest alone, so such notes exceed full "
        "scale."],
    "added": [
        "`chapter_05_example_0*.py`: the options that `--help` lists take the place of the flag "
        "`--log`."],
}


def marks(name: str) -> list[tuple[str, str]]:
    """Return (kind, text) of each mark in a file; a mark may run over several comment lines."""
    found: list[tuple[str, str]] = []
    open_mark = False
    for line in (ROOT / name).read_text("utf-8").splitlines():
        match, comment = _MARK.search(line), re.fullmatch(r"\s*# (.*)", line)
        if match:
            found.append((match[1], match[2]))
        elif comment and open_mark:
            found[-1] = (found[-1][0], f"{found[-1][1]} {comment[1]}")
        open_mark = bool(match) or open_mark and bool(comment)
    return [(kind, re.sub(" +", " ", text)) for kind, text in found]


def differences() -> str:
    """Return docs/differences.md."""
    lines = ["# Differences from the book", "",
             "Made by `python -m tests.generate` from the marks in the chapter's files. [The book "
             "and this code](book_map.md) says where each of the chapter's calls is."]
    for kind, title in KINDS.items():
        listed = _NOT_MARKED[kind] + [f"`{name}`: {text}" for name in CHAPTER
                                      for each, text in marks(name) if each == kind]
        lines += ["", f"## {title}", "", *(f"- {text}" for text in listed)]
    return "\n".join(lines) + "\n"


def options() -> str:
    """Return docs/options.md."""
    from companion.options import example_1_options, example_2_options
    from workshop.__main__ import parser

    commands = next(action for action in parser()._actions
                    if isinstance(action, argparse._SubParsersAction)).choices
    parsers = {"python chapter_05_example_01.py": example_1_options(None),
               "python chapter_05_example_02.py": example_2_options(None),
               **{f"python -m workshop {name}": each for name, each in commands.items()}}
    lines = ["# All options", "", "Made by `python -m tests.generate` from the parsers."]
    for title, each in parsers.items():
        lines += ["", f"## {title}", "", *_table(each)]
        nested = [action for action in each._actions
                  if isinstance(action, argparse._SubParsersAction)]
        for action in nested:
            for name, inner in action.choices.items():
                lines += ["", f"### {title} {name}", "", *_table(inner)]
    return "\n".join(lines) + "\n"


def _table(parser: argparse.ArgumentParser) -> list[str]:
    rows = ["| option | what it does |", "|---|---|"]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        value = "" if action.nargs == 0 or not action.option_strings else " " + (
            "|".join(map(str, action.choices)) if action.choices else
            action.metavar if isinstance(action.metavar, str) else action.dest.upper())
        text = f"`{names}{value}` | {(action.help or '').replace('%(default)s', str(action.default))}"
        rows.append("| " + text.replace("|", "\\|").replace(" \\| ", " | ", 1) + " |")
    return rows


PAGES = {"docs/differences.md": differences, "docs/options.md": options}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (ROOT / page).write_text(make(), "utf-8")
        print(f"{page} written")
