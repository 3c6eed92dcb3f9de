"""Runs that are killed, and disks that are full: see `tests/faults/__main__.py`."""
