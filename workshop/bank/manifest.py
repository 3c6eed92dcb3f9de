"""What a bank holds: one line of JSON for each clip, and which clips need not be made again.

A worker writes the lines of a task as one file of their own (`finished/`), after the clips: so they
outlive the client, and no two processes write to one file.  At the end they become
`manifest.jsonl`.  A line counts only if it is complete, and a clip only if its file has the digest
that the line names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from workshop.bank.store import Store

NAME = "manifest.jsonl"
FOLDER = "finished"
# What a worker adds to what was planned.
MADE = ("digest", "cents", "level")
# What a clip's samples depend on; its identity names sounds, shares, weights and pitch.
RECIPE = ("identity", "seed", "precision", "temperature", "seconds")


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def recipe(record: dict) -> str:
    """A digest of everything that a clip's samples depend on."""
    return digest(json.dumps([record.get(key) for key in RECIPE]).encode())


def to_lines(records: Iterable[dict]) -> bytes:
    """Records as lines of JSON."""
    return "".join(json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n"
                   for record in records).encode()


def from_lines(data: bytes | None) -> list[dict]:
    """The complete records among lines; what was cut or damaged is left out."""
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
    """What the bank's lines say: file -> record, the latest of each file.

    Parameters
    ----------
    store : Store
    names : sequence of str, optional
        Which of the tasks' lines; all by default.
    """
    records = from_lines(store.read(NAME))
    for name in store.names(FOLDER) if names is None else names:
        records.extend(from_lines(store.read(name)))
    return {record["file"]: record for record in records}


def confirmed(store: Store, records: dict[str, dict]) -> dict[str, dict]:
    """Those records whose files are there with the very bytes that were written.

    Parameters
    ----------
    store : Store
    records : dict
        File -> record.
    """
    def right(record: dict) -> bool:
        data = store.read(record["file"])
        return data is not None and digest(data) == record["digest"]

    with ThreadPoolExecutor(4) as pool:
        rights = list(pool.map(right, records.values()))
    return {file: record for (file, record), good in zip(records.items(), rights) if good}


def gather(store: Store, records: dict[str, dict], wanted: Collection[str]) -> None:
    """Write one manifest and remove the tasks' own lines, which it holds now.

    Parameters
    ----------
    store : Store
    records : dict
        File -> record of the clips that are right.
    wanted : collection of str
        The bank's files.  Lines about others are kept as they are; one of these without a record
        has no line any more.
    """
    names = store.names(FOLDER)  # not those that another run adds meanwhile
    kept = {file: record for file, record in read(store, names).items() if file not in wanted}
    kept |= records
    store.write(NAME, to_lines(kept[file] for file in sorted(kept)))
    for name in names:
        store.remove(name)
