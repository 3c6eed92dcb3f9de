"""The net around a run: whatever comes out of it ends in one sentence and an exit code of ours."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from companion.progress import say_error
from synths import InputError

# Exit codes; argparse ends with 2 where an option is wrong.
FAILED, STOPPED = 1, 130

_stopped = False


def stopped() -> bool:
    """Whether Ctrl-C or SIGTERM came: some libraries turn the interrupt into another error."""
    return _stopped


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopped
    _stopped = True
    raise KeyboardInterrupt


def catch_stops() -> None:
    """Treat SIGTERM, and a closed terminal, as Ctrl-C."""
    stops(_stop)


def run(app: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the options, run `app`, and turn what goes wrong into one sentence and an exit code.

    Parameters
    ----------
    app : callable
        Takes the options.
    parser : argparse.ArgumentParser
        Has the options `--seed`, `--quiet` and `--resume` among others.
    """
    options = parser.parse_args()
    options.defaults = vars(parser.parse_args([]))
    if options.seed is None and not getattr(options, "resume", False):
        options.seed = secrets.randbelow(10**6)
    catch_stops()
    code = 0
    try:
        app(options)
    except (Exception, KeyboardInterrupt) as error:
        stops(_end)
        code, sentence = explained(error)
        say_error(sentence)
    stops(_end)  # all is done: what comes now has nothing to stop
    sys.exit(code)


def explained(error: BaseException) -> tuple[int, str]:
    """Turn what came out of a run into an exit code and a sentence.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    code : int
    sentence : str
        Of a fault that is not the user's, it names a log file with the traceback.
    """
    from synths.files import one_line, shortened

    if stopped() or isinstance(error, KeyboardInterrupt):
        return STOPPED, "\nstopped; what was finished is kept"
    if isinstance(error, InputError):
        return FAILED, f"error: {one_line(error)}"
    if isinstance(error, MemoryError):
        return FAILED, "error: The memory is full: close other programs, or ask for less at a time."
    if isinstance(error, OSError):
        where = f" ({shortened(os.fsdecode(error.filename))})" if error.filename else ""
        return FAILED, f"error: The system refused: {error.strerror or error}{where}."
    what = " ".join(str(error).split())[:200]
    return FAILED, (f"error: Something failed that should not ({type(error).__name__}: {what}); "
                    f"{_log(error)}.")


def _log(error: BaseException) -> str:
    """Write the traceback to a file of its own; tell where it is."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="chapter_05_", suffix=".log", delete=False,
                                         encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(type(error), error, error.__traceback__, file=file)
        return f"the details are in {Path(file.name)}"
    except OSError:
        return "the details could not be written"


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)


def stops(handler: Callable[[int, FrameType | None], None]) -> None:
    """Let a function handle Ctrl-C, SIGTERM and, unless `nohup` keeps it off, a closed terminal."""
    # SIGINT is restored where a shell ignored it.
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, handler)
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, handler)
