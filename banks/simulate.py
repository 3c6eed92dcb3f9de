"""How long a bank takes on 1 to 1,000 workers, with failures and stragglers: a simulation.

    python -m banks.simulate         # the plot and the table of docs/banks.md

Events in order of time: the scheduler hands out one task after the other, workers load the weights,
work, fail and come back.  The numbers that go in were measured (`python -m benchmarks.banks`).
"""

from __future__ import annotations

import heapq
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "banks.json"
CLIPS, CLIPS_IN_TASK, SECONDS = 120_000, 12, 4.0
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Settings:
    """What the simulation takes for granted; times in seconds.

    Parameters
    ----------
    task_s : float
        A task on a worker, on average.
    spread : float
        Standard deviation of the logarithm of a task's time.
    load_s : float
        From a worker's start to its first task: imports, weights.
    scheduler_s : float
        What the scheduler and the client do for a task, one task after the other.
    serial_s : float
        What the client does alone: the plan before, manifest, SFZ files and page after.
    mtbf_s : float
        A worker's time between failures, on average (exponentially distributed); infinite: none.
    restart_s : float
        From a failure to a new worker's start.
    straggler_share, straggler_factor : float
        This share of the tasks takes so many times as long.
    """

    task_s: float
    spread: float = 0.1
    load_s: float = 0.0
    scheduler_s: float = 0.0
    serial_s: float = 0.0
    mtbf_s: float = np.inf
    restart_s: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 5.0


@dataclass(frozen=True)
class Outcome:
    """A simulated run: its length in seconds, tasks done, failures, and workers' share at work."""

    seconds: float
    done: int
    failures: int
    busy: float


def run(count: int, workers: int, settings: Settings, rng: np.random.Generator) -> Outcome:
    """Simulate a run.

    Parameters
    ----------
    count : int
        Tasks.
    workers : int
    settings : Settings
    rng : numpy.random.Generator
    """
    waiting, done, failures, free_at, useful, end = count, 0, 0, 0.0, 0.0, 0.0
    fails_at = rng.exponential(settings.mtbf_s, workers) if np.isfinite(
        settings.mtbf_s) else np.full(workers, np.inf)
    # (time, worker, length of the task that ends then: 0 is a worker that comes free,
    # below 0 a failure of one with a task in hand)
    events = [(settings.load_s, worker, 0.0) for worker in range(workers)]
    heapq.heapify(events)
    idle: list[int] = []
    while done < count:
        now, worker, length = heapq.heappop(events)
        if length > 0:
            done, useful, end = done + 1, useful + length, now
        elif length < 0:
            waiting, failures = waiting + 1, failures + 1
            back = now + settings.restart_s + settings.load_s
            fails_at[worker] = back + rng.exponential(settings.mtbf_s)
            heapq.heappush(events, (back, worker, 0.0))
        if length >= 0:
            idle.append(worker)
        while idle and waiting:
            worker, waiting = idle.pop(), waiting - 1
            if fails_at[worker] < now:      # it failed while it had nothing to do
                fails_at[worker] = now + rng.exponential(settings.mtbf_s)
            free_at = max(free_at, now) + settings.scheduler_s
            length = _length(settings, rng)
            heapq.heappush(events, (free_at + length, worker, length)
                           if free_at + length <= fails_at[worker]
                           else (max(free_at, fails_at[worker]), worker, -1.0))
    end += settings.serial_s
    return Outcome(end, done, failures, useful / (end * workers))


def _length(settings: Settings, rng: np.random.Generator) -> float:
    length = settings.task_s
    if settings.spread:  # the mean of a lognormal is exp(mu + sigma^2 / 2)
        length *= rng.lognormal(-settings.spread ** 2 / 2, settings.spread)
    if settings.straggler_share and rng.random() < settings.straggler_share:
        length *= settings.straggler_factor
    return length


# The measured numbers, and the plot ----------------------------------------------------------


def measured(path: Path = RESULTS) -> dict[str, Settings]:
    """Settings from what was measured here, by name: what goes wrong is assumed."""
    found = json.loads(path.read_text("utf-8"))
    scheduler = found["scheduler"]
    calm = Settings(task_s=scheduler["official_task_s"], spread=found["real"]["task_spread"],
                    load_s=scheduler["load_s"], scheduler_s=scheduler["scheduler_s"],
                    serial_s=scheduler["serial_s"])
    rough = replace(calm, mtbf_s=12 * 3600, restart_s=60, straggler_share=0.01,
                    straggler_factor=5)
    return {"nothing goes wrong": calm,
            "a worker fails every 12 h, 1 % of the tasks take five times as long": rough,
            "the same in tasks of 48 clips": replace(rough, task_s=4 * rough.task_s),
            "the starter: tasks of seconds, not minutes": replace(
                rough, task_s=found["real"]["starter_task_s"])}


def table(settings: dict[str, Settings], seed: int = 0) -> dict[str, list[dict]]:
    """Simulated runs of 120,000 clips: name -> one row for each number of workers."""
    rows: dict[str, list[dict]] = {}
    for name, each in settings.items():
        clips = 48 if "48 clips" in name else CLIPS_IN_TASK
        rows[name] = []
        for workers in WORKERS:
            outcome = run(CLIPS // clips, workers, each, np.random.default_rng([seed, workers]))
            rows[name].append({"workers": workers, **asdict(outcome)})
    return rows


def plot(rows: dict[str, list[dict]], path: Path) -> None:
    """Draw hours and the workers' share at work against the number of workers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    hours, busy = figure.subplots(2, 1, sharex=True)
    for (name, runs), style in zip(rows.items(), ("-o", "--s", "-.^", ":d")):
        workers = [each["workers"] for each in runs]
        hours.loglog(workers, [each["seconds"] / 3600 for each in runs], style, label=name,
                     markersize=4)
        busy.semilogx(workers, [100 * each["busy"] for each in runs], style, markersize=4)
    hours.set(ylabel="hours", title="120,000 clips of 4 s on 1 to 1,000 workers, simulated")
    hours.legend(fontsize=8)
    busy.set(xlabel="workers", ylabel="useful work of all time, %", ylim=(0, 102))
    for axes in (hours, busy):
        axes.grid(True, which="both", alpha=0.25)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write the table beside the measurements, and the plot into docs."""
    rows = table(measured())
    found = json.loads(RESULTS.read_text("utf-8"))
    found["simulation"] = rows
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    plot(rows, ROOT / "docs" / "banks.png")
    for name, runs in rows.items():
        print(name)
        for each in runs:
            print(f"  {each['workers']:5}: {each['seconds'] / 3600:9.2f} h, "
                  f"{100 * each['busy']:5.1f} % useful, {each['failures']} failures")


if __name__ == "__main__":
    main()
