"""The options of both scripts, and those that the workshop's commands share with them."""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
from collections.abc import Callable

WORKSHOP = ("More options (pairs, steps, crossfades, tempo, instruments, banks): "
            "python -m workshop --help")


class Parser(argparse.ArgumentParser):
    """A parser that suggests the most similar option if one is unknown."""

    def error(self, message: str):
        """Exit with one sentence."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0].split("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions)
            message = f"{word} is not an option; " + (
                f"did you mean {near[0]}?" if near else "--help lists all options.")
        self.exit(2, f"error: {message[:1].upper()}{message[1:]}\n")


def number(kind: type, low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """Return an argparse type for numbers in [low, high]."""
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"must be a number from {low:,.10g} to {high:,.10g}{unit and ' ' + unit}, not "
                f"{text!r}")
        return value
    return parse


def formatter(prog: str) -> argparse.HelpFormatter:
    """Return the help formatter of all commands, which keeps the line breaks of the examples."""
    return argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=34, width=min(100, shutil.get_terminal_size().columns - 2))


def add_run_options(parser: argparse.ArgumentParser, output: str, checkpoints: str) -> None:
    """Add the options that all commands share."""
    parser.add_argument("--checkpoint", metavar="NAME|PATH",
                        help=f"model, by name ({checkpoints}) or path (default: the official model "
                             "if downloaded, otherwise the bundled one)")
    parser.add_argument("--download", action="store_true",
                        help="first download the official model and, for NSynth, the book's sounds")
    parser.add_argument("--engine", choices=["fast", "magenta"], default="fast",
                        help="fast uses this project's code; magenta uses Magenta's own code on "
                             "TensorFlow, which takes about six times as long (default: fast)")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), metavar="N",
                        help="random seed; the same seed repeats a run exactly "
                             "(default: a new seed, which the run prints)")
    parser.add_argument("--output", default=os.path.join("output", output), metavar="DIR",
                        help="folder for the results; if it exists, the run uses DIR-2, DIR-3 "
                             "and so on (default: "
                             f"output/{output})")
    parser.add_argument("--quiet", action="store_true", help="print only errors")


def add_sounds(parser: argparse.ArgumentParser) -> None:
    """Add --sounds and --seconds."""
    parser.add_argument("--sounds", nargs="+", metavar="FILE|FOLDER",
                        help="sound files or folders to mix (default: the book's four sounds if "
                             "downloaded, otherwise the four bundled ones)")
    parser.add_argument("--seconds", type=number(float, 0.1, 60, "seconds"), default=1.0,
                        metavar="S", help="length of each sound in seconds, 0.1 to 60 (default: 1)")


def add_seconds_per_instrument(parser: argparse._ActionsContainer) -> None:
    """Add --seconds-per-instrument."""
    parser.add_argument("--seconds-per-instrument", type=number(float, 0.1, 3600, "seconds"),
                        default=5.0, metavar="S",
                        help="one random instrument for every S seconds of the score, but at "
                             "least two (default: 5)")


def _script(description: str | None) -> Parser:
    return Parser(description=(description or "").strip().partition("\n")[0], epilog=WORKSHOP,
                  usage="%(prog)s [options]", allow_abbrev=False, formatter_class=formatter)


def example_1_options(description: str | None) -> Parser:
    """Return the parser of example 1."""
    parser = _script(description)
    add_sounds(parser)
    add_run_options(parser, "nsynth", "wavenet-ckpt, wavenet-voice-ckpt")
    return parser


def example_2_options(description: str | None) -> Parser:
    """Return the parser of example 2."""
    parser = _script(description)
    parser.add_argument("--midi", default="cs1-1pre-short.mid", metavar="FILE",
                        help="MIDI file to play (default: the prelude in midi/)")
    add_seconds_per_instrument(parser)
    add_run_options(parser, "gansynth", "acoustic_only, all_instruments")
    return parser
