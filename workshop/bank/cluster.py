"""Who does the tasks: this process, processes of this machine, or any Dask cluster.

Source of the engine: dask.distributed.  A worker that dies is replaced and its tasks are done by
others; a task that takes several workers with it is cut into single clips, so that one clip's
fault stays its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

from synths import InputError
from workshop.bank import tasks

# How many workers may die with a task in their hands before the task is suspected.
ALLOWED_FAILURES = 5
PATIENCE = 15  # seconds for a scheduler to answer, and for a first worker to come
INSTALL = "pip install --no-deps -r requirements-banks.txt"

# Two until Python 3.11; the first is an OSError.
_LATE = (TimeoutError, asyncio.TimeoutError)

Execute = Callable[[Sequence[dict]], Iterator[tuple[dict, dict]]]


@contextlib.contextmanager
def engine(workers: int | None, scheduler: str | None
           ) -> Iterator[tuple[Execute, Any | None]]:
    """What does the tasks.

    Parameters
    ----------
    workers : int, optional
        Processes on this machine, each of one thread; None: one for each core; 0: this process
        alone, without Dask.
    scheduler : str, optional
        The address of a Dask scheduler, whose workers are used instead.

    Yields
    ------
    execute : callable
        Gets tasks, yields (task, result) as they come.
    client : distributed.Client or None

    Raises
    ------
    InputError
        If Dask is not installed, or the scheduler or its workers do not answer.
    """
    if workers == 0 and not scheduler:
        yield _in_process, None
        return
    try:
        import dask
        import distributed
    except ImportError as error:
        raise InputError(f"Several processes need dask.distributed ({error}): {INSTALL}, or "
                         "--workers 0 for this process alone.") from error
    dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
                     # No task waits at a busy worker, which may be slow, or die with it.
                     "distributed.scheduler.worker-saturation": 1.0,
                     "distributed.comm.timeouts.connect": f"{PATIENCE}s"})
    _hush()
    with contextlib.ExitStack() as stack:
        if scheduler:
            client = _connect(distributed, scheduler)
        else:
            cluster = stack.enter_context(distributed.LocalCluster(
                n_workers=workers or cores(), threads_per_worker=1, memory_limit=0,
                silence_logs=logging.CRITICAL + 1, dashboard_address="127.0.0.1:0"))
            client = distributed.Client(cluster)
        stack.callback(_quietly, client.close)
        _wait(client, scheduler)
        found = count(client)
        print(f"{found} worker{'s' * (found != 1)}; watch them at {client.dashboard_link}",
              flush=True)

        def execute(work: Sequence[dict]) -> Iterator[tuple[dict, dict]]:
            yield from distribute(client, work)

        yield execute, client


def _hush() -> None:
    """Dask's own warnings and tracebacks are not for the user: what matters is said in a line."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def count(client) -> int:
    """How many workers a client has; without one this process is the only one."""
    return 1 if client is None else len(client.scheduler_info(n_workers=-1)["workers"])


def _connect(distributed, scheduler: str):
    from distributed.security import Security

    async def greet() -> None:
        found = await distributed.core.connect(scheduler, timeout=PATIENCE,
                                               **Security().get_connection_args("client"))
        await found.close()

    try:  # a client that has found nobody takes a minute to end
        asyncio.run(asyncio.wait_for(greet(), PATIENCE))
        return distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, *_LATE, ValueError) as error:
        raise InputError(f"No Dask scheduler answers at {scheduler} within {PATIENCE} s: check the "
                         "address, and that `dask scheduler` runs there.") from error


def _wait(client, scheduler: str | None) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE if scheduler else 120)
    except _LATE as error:
        raise InputError((f"The scheduler at {scheduler} has no worker: start some with `python -m "
                          f"dask worker {scheduler}` in this project's folder.") if scheduler else
                         "No worker process started within two minutes: try --workers 0."
                         ) from error


def _quietly(close: Callable) -> None:
    with contextlib.suppress(Exception):
        close()


def check_workers(client, prefix: str, digest: str, bank: str | None = None,
                  mark: str = "") -> None:
    """See that every worker has the project, the weights and the bank, before long work.

    Parameters
    ----------
    client : distributed.Client
    prefix, digest : str
        The weights, and their digest.
    bank, mark : str, optional
        The bank's address, and its mark (`tasks.mark`).

    Raises
    ------
    InputError
        If one has not.
    """
    try:
        answers = client.run(tasks.check_weights, prefix, digest)
    except Exception as error:  # what cannot be imported there arrives as all sorts of errors
        raise InputError("A worker cannot run this project's code "
                         f"({tasks.reason(error)}): start the workers with `python -m dask worker` "
                         "in the project's folder, with the same packages.") from error
    for address, lack in answers.items():
        if lack:
            raise InputError(f"The worker {address} {lack}: put the checkpoint there, at the same "
                             "path on every machine.")
    if bank:
        for address, lack in client.run(tasks.check_bank, bank, mark).items():
            if lack:
                raise InputError(f"The worker {address} {lack}.")


def _in_process(work: Sequence[dict]) -> Iterator[tuple[dict, dict]]:
    for task in work:
        result = tasks.run(task)
        yield task, result


def remote() -> Callable[[dict], dict]:
    """`tasks.run` by value: a scheduler without this project hands it on all the same."""
    def run(task: dict) -> dict:
        from workshop.bank import tasks

        return tasks.run(task)
    return run


def distribute(client, work: Sequence[dict], run: Callable[[dict], dict] | None = None
               ) -> Iterator[tuple[dict, dict]]:
    """Do tasks on a client's workers: (task, result) as they come.

    Dask blames a dead worker on all tasks that waited there, so the tasks that it gives up are done
    once more at the end, clip by clip and one at a time: who fails then is to blame.

    Parameters
    ----------
    client : distributed.Client
    work : sequence of dict
        The tasks.
    run : callable, optional
        Does a task on a worker; `tasks.run` by default.

    Raises
    ------
    InputError
        If the scheduler is gone.
    """
    run = run or remote()
    suspects: list[dict] = []
    for task, result in _gathered(client, work, run):
        if result is None:
            suspects.extend(tasks.singles(task))
        else:
            yield task, result
    for task in suspects:
        for _, result in _gathered(client, [task], run):
            yield task, result or {
                "name": task["name"], "done": [], "stop": None, "failed": {
                    tasks.name_of(task): "several workers died while they made it"}}


def _gathered(client, work: Sequence[dict], run: Callable[[dict], dict]
              ) -> Iterator[tuple[dict, dict | None]]:
    """(task, result) as they come; no result where too many workers died."""
    import distributed

    futures = {client.submit(run, task, key=f"{task['kind']}-{task['name']}", pure=False): task
               for task in work}
    gone = InputError("The scheduler has gone, and with it the work in hand; what is finished is "
                      "kept: start one, and give the same command again.")
    for future in distributed.as_completed(futures, loop=client.loop):
        task = futures.pop(future)
        try:
            if future.status == "finished":
                yield task, future.result()
            elif future.status != "error":
                raise gone
            elif isinstance(future.exception(), distributed.scheduler.KilledWorker):
                yield task, None
            else:
                raise future.exception()
        # a task itself ends in a result, never in these
        except (OSError, *_LATE, CancelledError) as error:
            raise gone from error
        future.release()
