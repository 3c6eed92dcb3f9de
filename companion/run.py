"""Handle everything that ends a run early, with one sentence and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable

from synths import InputError

FAILED, STOPPED = 1, 130  # exit codes; argparse exits with 2


def run(app: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the options and run `app`; exit with one sentence for errors that the user can fix.

    An `InputError`, an `OSError` or a stop is handled here.  Anything else is a bug and prints an
    ordinary traceback.
    """
    options = parser.parse_args()
    catch_stops()
    try:
        with contextlib.ExitStack() as stack:
            if options.quiet:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            app(options)
            sys.stdout.flush()
    except BrokenPipeError:  # as in `| head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (InputError, OSError, KeyboardInterrupt) as error:
        code, sentence = explained(error)
        print(sentence, file=sys.stderr)
        sys.exit(code)


def catch_stops() -> None:
    """Treat SIGTERM and a closed terminal as Ctrl-C, except for a terminal closed under `nohup`."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        which = getattr(signal, name, None)
        if which is not None and (name != "SIGHUP" or signal.getsignal(which) != signal.SIG_IGN):
            signal.signal(which, signal.default_int_handler)


def explained(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the message for the error that ended a run."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, "\nstopped; everything finished so far is kept"
    if isinstance(error, InputError):
        return FAILED, f"error: {_one_line(error)}"
    name = getattr(error, "filename", None)
    where = f"{os.fsdecode(name)}: " if name is not None else ""
    return FAILED, f"error: {_one_line(where + str(getattr(error, 'strerror', '') or error))}."


def _one_line(text: object) -> str:
    """Return a sentence on one line, without control characters, which file names may contain."""
    line = "".join(char if char.isprintable() else " " for char in str(text))
    return line if len(line) <= 500 else f"{line[:250]} ... {line[-240:]}"
