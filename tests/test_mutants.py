"""What `python -m tests.mutants` has found: nine of ten faults that it put in are noticed."""

import json
from pathlib import Path

import pytest

KEPT = json.loads((Path(__file__).parent / "mutants.json").read_text("utf-8"))
WHOLE = [module for module, counts in KEPT["modules"].items()
         if counts["run"] == counts["mutants"]]


@pytest.mark.parametrize("module", WHOLE)
def test_nine_of_ten_faults_are_noticed(module):
    counts = KEPT["modules"][module]
    assert counts["killed"] >= 0.9 * counts["run"]
