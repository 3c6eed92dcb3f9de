"""What a run of `python -m tests.mutants` has found is good, and whole."""

import json
from pathlib import Path

import pytest

KEPT = json.loads((Path(__file__).parent / "mutants.json").read_text("utf-8"))


@pytest.mark.parametrize("module", KEPT["modules"])
def test_nine_of_ten_faults_are_noticed(module):
    counts = KEPT["modules"][module]
    assert counts["mutants"] and not counts["not run"]
    assert counts["killed"] >= 0.9 * counts["mutants"]


def test_what_survived_was_looked_at():
    assert not [entry for entry in KEPT["survived"] if not entry["why"]]
