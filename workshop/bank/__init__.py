"""Make a sound bank for a sampler: WAV files, SFZ files and a results page."""

from workshop.bank.command import add_options, run

__all__ = ["add_options", "run"]
