"""The manifest of a bank, with one line of JSON for each finished clip.

When a task is finished, a worker writes the lines of its clips to a separate file in `finished/`.
The lines therefore outlive the client, and no two processes write to the same file.  At the end,
they are merged into `manifest.jsonl`.  Incomplete lines are ignored, and so are clips whose files
do not have the digest in their line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from workshop.bank.store import Store

NAME = "manifest.jsonl"
FOLDER = "finished"
# Fields that a worker adds to a planned record.
MADE = ("digest", "cents", "level")
# Fields that a clip's samples depend on.  The identity has sounds, shares, weights and pitch.
RECIPE = ("identity", "seed", "precision", "temperature", "seconds")


def digest(data: bytes) -> str:
    """Return the SHA-256 digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def recipe(record: dict) -> str:
    """Return a cache key: a digest of everything that a clip's samples depend on."""
    return digest(json.dumps([record.get(key) for key in RECIPE]).encode())


def to_lines(records: Iterable[dict]) -> bytes:
    """Return records as lines of JSON."""
    return "".join(json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n"
                   for record in records).encode()


def from_lines(data: bytes | None) -> list[dict]:
    """Return the records of all complete lines; truncated or damaged lines are left out."""
    records = []
    for line in (data or b"").splitlines(keepends=True):
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            continue
        if isinstance(record, dict) and {"file", "recipe", *MADE} <= record.keys():
            records.append(record)
    return records


def read(store: Store, names: Sequence[str] | None = None) -> dict[str, dict]:
    """Read the latest record of each file, from all tasks or from the named ones."""
    records = from_lines(store.read(NAME))
    for name in store.names(FOLDER) if names is None else names:
        records.extend(from_lines(store.read(name)))
    return {record["file"]: record for record in records}


def confirmed(store: Store, records: dict[str, dict]) -> dict[str, dict]:
    """Return the records, by file, whose files exist and have the recorded digest."""
    def right(record: dict) -> bool:
        data = store.read(record["file"])
        return data is not None and digest(data) == record["digest"]

    with ThreadPoolExecutor(4) as pool:
        rights = list(pool.map(right, records.values()))
    return {file: record for (file, record), good in zip(records.items(), rights) if good}


def gather(store: Store, records: dict[str, dict], wanted: Collection[str]) -> None:
    """Merge the lines of all tasks into one manifest, and remove their files.

    Lines about files that are not wanted are kept; other lines come from the valid records.
    """
    names = store.names(FOLDER)  # not those that another run adds meanwhile
    kept = {file: record for file, record in read(store, names).items() if file not in wanted}
    kept |= records
    store.write(NAME, to_lines(kept[file] for file in sorted(kept)))
    for name in names:
        store.remove(name)
