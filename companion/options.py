"""The options that mean the same in both scripts.

Importing this module imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from companion.progress import mute
from companion.start import HERE


class Parser(argparse.ArgumentParser):
    """A parser that takes whole options only, and says which one was meant."""

    def print_help(self, file: Any = None) -> None:
        """Print the help, if anybody reads it (`| head`)."""
        file = file or sys.stdout
        try:
            print(self.format_help(), end="", file=file, flush=True)
        except (OSError, ValueError):
            mute(file)

    def error(self, message: str):
        """End with the rule that was broken, and the option that is nearest to an unknown one."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0].split("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions)
            sentence = f"{word} is no option" + (f"; did you mean {near[0]}?" if near else
                                                 "; --help lists them.")
        else:
            sentence = f"{message[:1].upper()}{message[1:].rstrip('.')}."
        from synths.files import one_line

        self.exit(2, f"error: {one_line(sentence)}\n")


def number(kind: type, low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """Make an argparse type: a number within [low, high]; what it says names the unit.

    Parameters
    ----------
    kind : type
        int or float.
    low, high : float
        Both included.
    unit : str
    """
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"must be a number from {low:,.10g} to {high:,.10g}{unit and ' ' + unit}, found "
                f"{text!r}")
        return value
    return parse


def option_parser(description: str | None, output: str, checkpoints: str) -> Parser:
    """Make a parser with the options that mean the same in both scripts.

    Parameters
    ----------
    description : str or None
        Its first line heads `--help`; None under `python -OO`, which drops docstrings.
    output : str
        Default folder of the results, relative to the scripts' folder.
    checkpoints : str
        The official checkpoints that this script can use, for the help text.
    """
    parser = Parser(
        usage="%(prog)s [options]", description=(description or "").strip().partition("\n")[0],
        allow_abbrev=False, add_help=False, formatter_class=_formatter)
    group = parser.add_argument_group("in both examples")
    group.add_argument("-h", "--help", action="help", help="show this and stop")
    group.add_argument("--checkpoint", metavar="NAME|PATH",
                       help=f"weights: {checkpoints}, or a path (default: official if here, "
                            "else the starter that ships)")
    group.add_argument("--download", action="store_true",
                       help="fetch the book's weights and sounds, once")
    group.add_argument("--output", default=str(HERE / output), metavar="DIR",
                       help=f"folder of the results (default: {output})")
    group.add_argument("--overwrite", action="store_true",
                       help="replace an earlier run's results")
    group.add_argument("--seed", type=number(int, 0, 2**32 - 1), metavar="N",
                       help="repeats a run exactly (default: new, printed)")
    group.add_argument("--engine", choices=["fast", "magenta"], default="fast",
                       help="fast (default), or magenta: Magenta's own code")
    group.add_argument("--many", action="store_true",
                       help="allow over 500 clips, or over an hour of score")
    group.add_argument("--labels", action="store_true",
                       help="pictures with axes: seconds, notes and Hz")
    group.add_argument("--threads", type=number(int, 1, 1024), metavar="N",
                       help="processor threads (default: all cores)")
    group.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=30,
                                  width=min(100, shutil.get_terminal_size().columns - 2))


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that differ from their defaults, in the parser's order."""
    return {name: value for name, value in vars(options).items()
            if name in options.defaults and value != options.defaults[name]}


def words_of(settings: dict[str, Any]) -> list[str]:
    """Turn options into the words of a command line."""
    words: list[str] = []
    for name, value in settings.items():
        words.append("--" + name.replace("_", "-"))
        if isinstance(value, Sequence) and not isinstance(value, str):
            words.extend(map(str, value))
        elif value is not True:
            words.append(str(value))
    return words
