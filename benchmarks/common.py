"""Describe the machine, measure its limits, and run worker processes for the benchmarks."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict:
    """Return the time, the machine and the package versions of a benchmark."""
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(), "cores": os.cpu_count(), "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": {name: number for name in ("numpy", "ai-edge-litert", "tensorflow", "magenta",
                                               "torch") if (number := installed(name))},
    }


def installed(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Return the processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def peak_mb() -> float | None:
    """Return the peak resident memory of this process so far, in MB."""
    try:    # on Linux, getrusage would return the parent's peak if that is higher
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def limits() -> dict[str, float]:
    """Measure the limits of all cores together: float32 arithmetic (GFLOP/s), reading (GB/s)."""
    from concurrent.futures import ThreadPoolExecutor

    from synths.engines.litert import available_threads

    threads, n = available_threads(), 1024
    arrays = [np.ones(1 << 25, np.float32) for _ in range(threads)]
    factors = [np.ones([n, n], np.float32) for _ in range(2)]
    arithmetic, reading = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(9):
            began = time.perf_counter()
            np.matmul(*factors)
            arithmetic.append(2 * n ** 3 / (time.perf_counter() - began) / 1e9)
            began = time.perf_counter()
            list(pool.map(np.max, arrays))
            reading.append(sum(a.nbytes for a in arrays) / (time.perf_counter() - began) / 1e9)
    return {"gflop_per_s": max(arithmetic), "read_gb_per_s": max(reading)}


def save(name: str, result: dict) -> None:
    """Write the results of a benchmark to results/<name>.json."""
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


class Worker:
    """A process that answers each line of JSON with a line of JSON.

    `module` is run as a program with `--worker` and the arguments; it calls `serve`.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--worker", *arguments], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.start = self._answer()

    def ask(self, **order) -> dict:
        """Send an order and wait for its answer."""
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line[7:])
        raise RuntimeError(f"a worker stopped: exit code {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def median(rounds: list[dict], key: str = "seconds") -> float:
    """Return the median of one figure over all rounds."""
    return float(np.median([one[key] for one in rounds]))


def serve(prepare) -> None:
    """Carry out a `Worker`'s orders with the function that `prepare()` returns.

    The function gets the entries of an order as keyword arguments, and returns a dict.  The answer
    also has the wall-clock seconds, the CPU seconds and the peak memory.
    """
    def say(**values) -> None:
        print("RESULT " + json.dumps(values), flush=True)

    began = time.perf_counter()
    work = prepare()
    say(prepare_s=time.perf_counter() - began)
    for line in sys.stdin:
        order = json.loads(line)
        began, worked = time.perf_counter(), time.process_time()
        answer = work(**order) or {}
        say(seconds=time.perf_counter() - began, cpu_s=time.process_time() - worked,
            peak_mb=peak_mb(), **answer)
