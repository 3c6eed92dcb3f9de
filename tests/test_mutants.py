"""What `python -m tests.mutants` has found: nine of ten faults that it put in are noticed."""

import json
from pathlib import Path

import pytest

from tests.mutants import MODULES

KEPT = json.loads((Path(__file__).parent / "mutants.json").read_text("utf-8"))


@pytest.mark.parametrize("module", MODULES)
def test_nine_of_ten_faults_are_noticed(module):
    counts = KEPT["modules"][module]
    assert counts["run"] == counts["mutants"] and counts["killed"] >= 0.9 * counts["run"]


def test_each_fault_that_is_not_noticed_has_its_reason():
    assert [entry for entry in KEPT["survived"] if not entry["why"]] == []
    unnoticed = sum(counts["run"] - counts["killed"] for counts in KEPT["modules"].values())
    assert len(KEPT["survived"]) == unnoticed
