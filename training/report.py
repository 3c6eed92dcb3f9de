"""Files of the trainings and the evaluations: arrays, JSON, Markdown tables, model cards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synths import InputError
from synths.files import writing

MARKS = ("<!-- figures -->\n", "<!-- /figures -->")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|",
                      *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def clean(value):
    """Figures as JSON has them: rounded, no NaN."""
    if isinstance(value, Mapping):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 4) if np.isfinite(value) else None
    return value


def write_json(path: Path, figures: Mapping) -> None:
    """Write figures; a list is a line."""
    text = json.dumps(clean(figures), indent=1)
    text = re.sub(r"\[\s+([^\[\]]*?)\s+\]",
                  lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)
    write(path, text + "\n")


def fill(card: Path, figures: str) -> None:
    """Put figures between the card's markers, `<!-- figures -->` and `<!-- /figures -->`."""
    text = card.read_text("utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise InputError(f"{card} has no place for the figures: add the lines {MARKS[0].strip()} "
                         f"and {MARKS[1]}.")
    head, rest = text.split(MARKS[0])
    write(card, head + MARKS[0] + figures + MARKS[1] + rest.split(MARKS[1])[1])


def write(path: Path, text: str) -> None:
    """Write a text, and the folder it goes to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        file.write(text.encode("utf-8"))


def write_arrays(path: Path, compress: bool = False, **arrays: np.ndarray | int | float) -> None:
    """Write arrays to an .npz file, and the folder it goes to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)
