"""Model cards, whose figures stand between two marks."""

from __future__ import annotations

from pathlib import Path

from synths import InputError
from synths.files import writing

MARKS = ("<!-- figures -->\n", "<!-- /figures -->")


def fill(card: Path, figures: str) -> None:
    """Put figures between the card's marks, `<!-- figures -->` and `<!-- /figures -->`.

    Raises
    ------
    InputError
        If the card has not each mark once.
    """
    text = card.read_text("utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise InputError(f"{card} has no place for the figures: give it the lines "
                         f"{MARKS[0].strip()} and {MARKS[1]}.")
    head, rest = text.split(MARKS[0])
    write(card, head + MARKS[0] + figures + MARKS[1] + rest.split(MARKS[1])[1])


def write(path: Path, text: str) -> None:
    """Write a text by the one writer."""
    with writing(path) as file:
        file.write(text.encode("utf-8"))
