"""Compile decoder.c to LLVM bitcode, once for each target processor.

    pip install ziglang==0.17.1             # clang; its LLVM must not be newer than llvmlite's
    python -m synths.nsynth.build_decoder   # writes synths/nsynth/bitcode/*.bc

Run this module only after a change to decoder.c.  The result does not depend on the machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from synths.nsynth.decoder import BITCODE, TARGETS

FLAGS = ["-O1", "-g0", "-ffp-contract=off", "-fno-sanitize=all", "-fno-stack-protector",
         "-fno-stack-check", "-mprefer-vector-width=512", "-Wno-ignored-attributes",
         # LLVM optimises when the sizes of a run are known
         "-Xclang", "-disable-llvm-passes", "-emit-llvm"]


def build(folder: Path = BITCODE) -> None:
    """Write the bitcode of every target to a folder."""
    source = Path(__file__).with_name("decoder.c")
    for name, target in TARGETS.items():
        subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", "-target", f"{target.machine}-linux-gnu",
             f"-mcpu={target.cpu.replace('-', '_')}", *FLAGS, "-c", source.name, "-o",
             str((folder / f"{name}.bc").absolute())], cwd=source.parent, check=True)


if __name__ == "__main__":
    build()
