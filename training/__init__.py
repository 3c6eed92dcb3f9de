"""Training of the starters, their evaluation, and what all of these commands share."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence

from synths import InputError

STOPPED = 130   # exit code after Ctrl-C


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the module's docstring."""
    return argparse.ArgumentParser(prog=f"python -m {module}", description=description,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def command(main: Callable[[Sequence[str] | None], int | None]
            ) -> Callable[[Sequence[str] | None], int]:
    """Make `main` return an exit code, and print the message of an expected error."""
    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments) or 0
        except (InputError, OSError) as error:
            print(error, file=sys.stderr)
            return 1

    return run
