"""Run tasks in this process, in other processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

from synths import InputError
from workshop.bank import tasks

PATIENCE = 15  # seconds for a scheduler to answer, and for a first worker to connect
RETRIES = 2  # of a task that fails on a worker
INSTALL = "pip install --no-deps -r requirements-banks.txt"

_LATE = (TimeoutError, asyncio.TimeoutError)  # two classes until Python 3.11

Execute = Callable[[Sequence[dict]], Iterator[tuple[dict, dict]]]


@contextlib.contextmanager
def engine(workers: int, scheduler: str | None) -> Iterator[tuple[Execute, int]]:
    """Yield a function that runs tasks, and the number of workers; 0 workers: this process."""
    if workers == 0 and not scheduler:
        yield in_process, 1
        return
    try:
        import dask
        import distributed
    except ImportError as error:
        raise InputError(f"Worker processes need dask.distributed ({error}): run "
                         f"{INSTALL}, or use --workers 0 to work in this process.") from error
    dask.config.set({"distributed.comm.timeouts.connect": f"{PATIENCE}s",
                     "distributed.scheduler.worker-saturation": 1.0})  # no task waits at a worker
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with contextlib.ExitStack() as stack:
        if scheduler:
            client = _connect(distributed, scheduler)
        else:
            client = distributed.Client(stack.enter_context(_local(distributed, workers)))
        stack.callback(_close, client)
        try:
            client.wait_for_workers(1, timeout=PATIENCE if scheduler else 120)
        except _LATE as error:
            raise InputError(
                f"The scheduler at {scheduler} has no worker: start some with `python -m dask "
                f"worker {scheduler}` in this project's folder." if scheduler else
                "No worker process started within two minutes: use --workers 0.") from error
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        print(f"{count} worker{'s' * (count != 1)}; watch them at {client.dashboard_link}",
              flush=True)
        yield lambda work: distribute(client, work), count


def in_process(work: Sequence[dict]) -> Iterator[tuple[dict, dict]]:
    """Run tasks in this process."""
    for task in work:
        yield task, tasks.run(task)


def _local(distributed, workers: int):
    # Worker processes inherit a setting to ignore Ctrl-C, so this process must end them
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=0,
            silence_logs=logging.CRITICAL + 1, dashboard_address="127.0.0.1:0")
    except (OSError, RuntimeError) as error:  # such as a read-only /dev/shm
        raise InputError(f"No worker process can be started here ({error}): use --workers 0 to "
                         "work in this process.") from error
    finally:
        signal.signal(signal.SIGINT, before)


def _connect(distributed, scheduler: str):
    try:
        return distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, *_LATE, ValueError) as error:
        raise InputError(f"No Dask scheduler answered at {scheduler} within {PATIENCE} s: check "
                         "the address, and whether `dask scheduler` is running there.") from error


def _close(client) -> None:
    with contextlib.suppress(Exception):  # the scheduler may be gone
        client.close()


def remote() -> Callable[[dict], dict]:
    """Return `tasks.run` as a closure, which a scheduler without this project can pass on."""
    def run(task: dict) -> dict:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
        from tqdm import tqdm

        from workshop.bank import tasks

        tqdm.set_lock(threading.RLock())  # a killed worker leaks the semaphore of its own lock

        return tasks.run(task)
    return run


def distribute(client, work: Sequence[dict], run: Callable[[dict], dict] | None = None
               ) -> Iterator[tuple[dict, dict]]:
    """Run tasks on a client's workers; yield (task, result) as they finish.

    If a worker fails during a task, the task is repeated clip by clip.
    """
    run, again = run or remote(), []
    for task, result, _ in _gathered(client, work, run):
        if result is None:
            again.extend(tasks.singles(task))
        else:
            yield task, result
    for single in again:
        for task, result, error in _gathered(client, [single], run):
            yield task, result or {"name": task["name"], "done": [], "stop": None,
                                   "failed": {task["clips"][0]["file"]: error}}


def _gathered(client, work: Sequence[dict], run: Callable[[dict], dict]
              ) -> Iterator[tuple[dict, dict | None, str]]:
    """Yield (task, result, "") for each finished task, or (task, None, reason) if it failed."""
    import distributed

    futures = {client.submit(run, task, key=f"{task['kind']}-{task['name']}", pure=False,
                             retries=RETRIES): task for task in work}
    gone = InputError("The scheduler no longer answers, but finished clips are kept: start a "
                      "scheduler, and run the same command again.")
    for future in distributed.as_completed(futures, loop=client.loop):
        task = futures.pop(future)
        try:
            result, error = future.result(), ""
        except (OSError, *_LATE, CancelledError) as lost:
            raise gone from lost
        except ImportError as lost:
            raise InputError(f"A worker cannot run this project's code ({tasks.reason(lost)}): "
                             "start the workers with `python -m dask worker` in the project's "
                             "folder, with the same packages.") from lost
        except Exception as lost:  # the worker died, or the task failed on it
            result, error = None, tasks.reason(lost)
        future.release()
        yield task, result, error
