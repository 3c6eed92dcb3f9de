"""Tests of the training code need PyTorch, which has an environment of its own (see .ci/run)."""

import importlib.util

import pytest


def pytest_collection_modifyitems(items):
    """Leave out what is marked `torch` where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        missing = pytest.mark.skip(reason="pip install -r training/requirements.txt")
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(missing)
