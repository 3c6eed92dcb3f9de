"""Damaged files for each reader; `python -m tests.fuzz` makes more of them."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")


@pytest.mark.parametrize("reader", ["sounds", "scores", "encodings", "instruments", "checkpoints",
                                    "experiments", "archives"])
def test_fuzz_damaged_files_give_a_result_or_an_error(reader):
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--reader", reader, "--count", "150",
                           "--seed", "7"], cwd=Path(__file__).resolve().parent.parent,
                          capture_output=True, text=True, errors="replace")
    assert done.returncode == 0 and " 0 faults" in done.stdout, done.stdout + done.stderr
