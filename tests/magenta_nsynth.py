"""Magenta's side of the tests; it lives with the benchmarks, which use it, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.magenta_nsynth import (  # noqa: E402
    OFFICIAL,
    main,
    random_weights,
    save_checkpoint,
)

__all__ = ["OFFICIAL", "main", "random_weights", "save_checkpoint"]

if __name__ == "__main__":
    main(*sys.argv[1:])
