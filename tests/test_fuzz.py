"""A few hundred damaged files for each reader; `python -m tests.fuzz` makes more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
COUNTS = {"audio": 300, "midi": 300, "encodings": 300, "instruments": 300, "checkpoints": 200,
          "experiment": 300, "unpack": 150}


@pytest.mark.parametrize("reader", COUNTS)
def test_damaged_files_end_in_one_sentence(reader):
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--reader", reader, "--count", str(COUNTS[reader]),
         "--seed", "7"], cwd=HOUSE, capture_output=True, env=dict(os.environ))
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0 and " 0 faults" in text, text + done.stderr.decode(errors="replace")


def test_a_reader_that_fails_is_noticed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(HOUSE))
    from tests.fuzz import __main__ as fuzz
    from tests.fuzz.readers import Reader

    def read(path):
        if path.read_bytes() != b"good":
            raise KeyError("x")
    monkeypatch.setitem(fuzz.READERS, "bad", Reader(lambda: {"a": b"good"}, read))
    faults = fuzz.run("bad", 20)
    assert sum(faults.values()) >= 15 and "KeyError" in next(iter(faults))
