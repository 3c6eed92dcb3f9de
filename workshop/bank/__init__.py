"""Make a sound bank for a sampler: WAVs, SFZ files and a page."""

from workshop.bank.command import add_options, run

__all__ = ["add_options", "run"]
