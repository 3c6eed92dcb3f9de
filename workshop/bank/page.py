"""The page to listen on: the grid to walk over, a row of keys for the pitches.

The sounds stay in their files beside the page, for a bank may hold thousands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workshop.bank.plan import Bank, note_name

# Top left, top right, bottom left, bottom right; light, so that black letters show.
_COLOURS = np.array([[255, 214, 153], [153, 204, 255], [173, 230, 173], [245, 180, 220]])


def _colour(x: float, y: float) -> str:
    """The colour of a place in the grid, between its corners' colours."""
    weights = [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y]
    return "#" + bytes(np.rint(weights @ _COLOURS).astype(np.uint8)).hex()


def render(bank: Bank, records: dict[str, dict], title: str, about: dict[str, str]) -> str:
    """The page's HTML.

    Parameters
    ----------
    bank : Bank
    records : dict
        File -> record of the finished clips; what is missing is shown as such.
    title : str
    about : dict
        What the bank was made with: shown as a table.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    columns = max(place[0] for _, place, _ in bank.points) + 1
    rows = max(place[1] for _, place, _ in bank.points) + 1
    cells: list[list[dict | None]] = [[None] * columns for _ in range(rows)]
    for name, (x, y), shares in bank.points:
        corner = shares.removeprefix("100 % ") if shares.startswith("100 % ") else ""
        cells[y][x] = {"name": name, "shares": shares, "x": x, "y": y, "corner": corner,
                       "colour": _colour(x / max(columns - 1, 1), y / max(rows - 1, 1))
                       if bank.corners else "",
                       "files": {str(pitch): bank.files[name, pitch] for pitch in bank.pitches
                                 if bank.files[name, pitch] in records}}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    files = {cell["name"]: cell["files"] for row in cells for cell in row if cell}
    return environment.get_template("page.html.j2").render(
        title=title, about=about, cells=cells, files=files,
        pitches=[(pitch, note_name(pitch)) for pitch in bank.pitches],
        missing=sum(file not in records for file in set(bank.files.values())))
