"""A few kills and full disks; `python -m tests.faults` makes more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
_SMALL = """
import sys
from tests.faults import __main__ as faults

faults.ready()
if sys.argv[1] == "kill":
    sys.exit(faults.kills(4, seed=3))
with faults.place() as folder:
    full = faults.Full(folder)
    for script, writes in (("chapter_05_example_01", 0), ("chapter_05_example_01", 9),
                           ("chapter_05_example_02", 4)):
        was_full, wrong = full.trial(script, folder / f"out{writes}", faults.full_after(writes))
        assert was_full and not wrong, (script, writes, wrong)
"""


@pytest.mark.skipif(os.name == "nt", reason="forks")
@pytest.mark.parametrize("part", ["kill", "disk"])
def test_what_is_killed_or_finds_no_room_goes_on(part):
    """Every phase once: encode, decode, page, download; the first write, and later ones."""
    done = subprocess.run([sys.executable, "-c", _SMALL, part], cwd=HOUSE, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_what_is_left_is_noticed(monkeypatch):
    monkeypatch.syspath_prepend(str(HOUSE))
    from tests.faults.__main__ import differences

    whole = {"a.wav": b"1", "index.html": "whole", "run.json": b"{}"}
    assert differences(dict(whole, **{"run.json": b"other"}), whole) == []
    found = {"a.wav": b"2", "index.html": "broken", ".a.part": b""}
    assert sorted(differences(found, whole)) == [
        ".a.part is left", "a.wav differs", "index.html differs", "run.json is missing"]
