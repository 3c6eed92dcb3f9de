"""Readers against damaged files: see `tests/fuzz/__main__.py`."""
