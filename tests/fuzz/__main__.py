"""Damaged files for the seven readers: `python -m tests.fuzz --count 20000 --reader audio`.

Each file is a good one with a few bytes changed, cut, doubled or put in, by a seed that is printed.
A reader must answer with a result or an `InputError` of reasonable length, within 10 s of the
processor's time and 1 GB more than it began with.  What it does otherwise is printed, with the
number that makes the same file again (`--first NUMBER --count 1`).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from synths import InputError
from tests.fuzz.readers import READERS, ROOT, Reader

SECONDS, MEMORY = 10.0, 1 << 30     # bytes
LONGEST = 1500                      # characters of a message


def damaged(data: bytes, words: tuple[bytes, ...], rng: np.random.Generator) -> bytes:
    """A copy of a file with one to six changes."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 7))):
        place = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(1, 17))
        change = int(rng.integers(0, 7 if words else 6))
        if change == 0 and place < len(data):
            data[place] ^= 1 << int(rng.integers(0, 8))
        elif change == 1 and place < len(data):
            data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(0, 256))]))
        elif change == 2:
            del data[place:place + length]
        elif change == 3:
            data[place:place] = data[place:place + length] * int(rng.integers(1, 9))
        elif change == 4:
            data[place:place + length] = rng.bytes(length)
        elif change == 5 and rng.random() < 0.2:
            del data[place:]
        elif change == 6:
            word = words[int(rng.integers(0, len(words)))]
            data[place:place + int(rng.integers(0, 2)) * len(word)] = word
    return bytes(data)


def make(reader: Reader, seeds: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """The name and the bytes of a damaged file."""
    rng = np.random.default_rng([seed, number])
    name = sorted(seeds)[int(rng.integers(0, len(seeds)))]
    return name.rstrip("#"), damaged(seeds[name], reader.words, rng)


def fault(reader: Reader, name: str, data: bytes) -> str | None:
    """What a reader does wrong with a file; None if nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        began = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(path)
        except InputError as error:
            if len(str(error)) > LONGEST:
                return f"a message of {len(str(error)):,} characters"
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"
        passed = time.process_time() - began
    return f"{passed:.0f} s" if passed > SECONDS else None


@contextlib.contextmanager
def limited():
    """Hold this process to its memory and 1 GB more, and each file to 10 s, where POSIX allows."""
    try:
        import resource
        import signal
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield lambda seconds: None
        return

    def late(*_):
        raise TimeoutError(f"more than {SECONDS:.0f} s")
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield lambda seconds: signal.setitimer(signal.ITIMER_PROF, seconds)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def run(name: str, count: int, seed: int = 0, first: int = 0) -> collections.Counter:
    """Read damaged files; what went wrong, and how often."""
    reader = READERS[name]
    seeds = reader.seeds()
    for seed_name, data in seeds.items():
        fault(reader, seed_name.rstrip("#"), data)  # imports what it needs, which has its own time
        found = fault(reader, seed_name.rstrip("#"), data)
        if found:
            raise SystemExit(f"{name}: a good file, {seed_name}, is not read: {found}")
    faults: collections.Counter = collections.Counter()
    with limited() as alarm:
        for number in range(first, first + count):
            file_name, data = make(reader, seeds, seed, number)
            alarm(SECONDS)
            found = fault(reader, file_name, data)
            alarm(0)
            if found:
                faults[found] += 1
                if faults[found] == 1:
                    print(f"{name} {number} ({file_name}): {found[:300]}", flush=True)
    return faults


def main() -> None:
    """Parse the options, run, say what was found; the exit code is 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="files for each reader")
    parser.add_argument("--reader", choices=sorted(READERS), action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    options = parser.parse_args()
    bad = False
    for name in options.reader or READERS:
        began = time.monotonic()
        faults = run(name, options.count, options.seed, options.first)
        bad = bad or bool(faults)
        print(f"{name}: {options.count:,} files, seed {options.seed}, {sum(faults.values())} "
              f"faults, {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(bad)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
