"""What a run says while it works: lines, and progress bars with the time left."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TextIO


class Talker(Protocol):
    """The options of a script, or the record of a run."""

    quiet: bool


def say(talker: Talker, message: str) -> None:
    """Print a line, unless `--quiet`; go on in silence where none can be taken (`| head`)."""
    if talker.quiet:
        return
    try:
        print(message, flush=True)
    except (OSError, ValueError):  # nobody reads, no room where it goes, closed
        talker.quiet = True
        mute(sys.stdout)


def say_error(message: str) -> None:
    """Print a line to stderr, if anybody reads it."""
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        mute(sys.stderr)


def mute(stream: TextIO) -> None:
    """Send to nowhere what a stream still holds, so that the interpreter's end is silent, too."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def bar(talker: Talker, label: str, scale: float = 1.0, unit: str = "",
        ) -> Callable[[int, int], None]:
    """A progress bar for work that lasts over two seconds, with the time left.

    Silent with `--quiet` and where stderr is no terminal.

    Parameters
    ----------
    talker : Talker
    label : str
        What is being done, with how many: "decoding 16 clips".
    scale : float
        What one unit of the work counts in `unit`: 1 / 16000 turns samples into seconds.
    unit : str
        "s of sound", "notes", "MB".

    Returns
    -------
    callable
        To be called with (done, total), as often as you like; the bar goes when all is done.
    """
    from tqdm import tqdm
    silent = talker.quiet or not sys.stderr.isatty()
    shown = tqdm(desc=label, unit=unit and " " + unit, disable=silent, delay=2, leave=False,
                 bar_format="{desc}: {percentage:3.0f}% |{bar:24}| {n:.1f}/{total:.1f}{unit}, "
                            "{remaining} left")

    def update(done: int, total: int) -> None:
        shown.total = total * scale
        shown.update(done * scale - shown.n)  # draws ten times a second at most
        if done >= total:
            shown.close()

    return update


def bars(talker: Talker, label: str, totals: Sequence[int], unit: str = "",
         ) -> Iterator[Callable[[int, int], None]]:
    """One bar for several pieces of work in a row: yields what each piece is to call.

    Parameters
    ----------
    talker : Talker
    label : str
        What all of them are: "playing 60 instruments".
    totals : sequence of int
        The work of each piece.
    unit : str
        As for `bar`.

    Yields
    ------
    callable
        To be called with (done, total) of its piece.
    """
    update, everything, before = bar(talker, label, unit=unit), sum(totals), 0

    def piece(before: int) -> Callable[[int, int], None]:
        return lambda done, total: update(before + done, everything)

    for total in totals:
        yield piece(before)
        before += total
