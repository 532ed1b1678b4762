"""Carries tasks out in several processes: as many as there is memory for, and one that writes to each disk.

Each worker is a process of its own that is given one task at a time, so that one which dies takes nothing with it but
the core that it was at. Workers do not outlive the job, and leave nothing half-written when they are ended.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections import Counter
from multiprocessing.connection import wait

from corefilt.batching.runner import run_task
from corefilt.children import die_with_parent
from corefilt.errors import CorefiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from types import FrameType

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task

# What one job may take of the memory: zstd's largest window (128 MiB) and its buffers beside our own 40 MiB
# (docs/archives.md has what was measured).
JOB_MEMORY = 256 << 20
MOST_JOBS = 256
# Between two words of a worker about bytes that went by, in bytes.
STRIDE = 8 << 20
# Seconds that a worker is given to clean up.
GRACE = 10.0


class _Ended(BaseException):
    """The job is over; raised by SIGTERM so that everything is cleaned up on the way out."""


class Worker:
    """A process that carries out tasks; ``task`` is the one it is at."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        self.task: Task | None = None
        self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        """Have it carry out a task."""
        self.task = task
        self.connection.send(task)

    def how_it_died(self) -> str:
        """What ended it, in words."""
        self._process.join()
        code = self._process.exitcode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """Let it clean up, and wait until it is gone."""
        self.connection.close()
        self._process.terminate()
        self._process.join(GRACE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(connection: Connection, parent: int) -> None:
    """What a worker does until there is no more to do."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    # What the parent has made is looked through for garbage no more, which would copy its pages too.
    gc.freeze()
    try:
        while True:
            task: Task = connection.recv()
            connection.send(run_task(task, _Teller(connection)))
    except (EOFError, OSError, _Ended):
        pass
    # What the parent has buffered is the parent's to write.
    os._exit(0)


def _end(number: int, frame: FrameType | None) -> None:
    raise _Ended


class _Teller:
    """Tells the job how many bytes went by, now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._untold = connection, 0

    def __call__(self, count: int) -> None:
        self._untold += count
        if self._untold >= STRIDE:
            self._connection.send(self._untold)
            self._untold = 0


def default_jobs(memory: int | None = None) -> int:
    """As many jobs as there are processors for us, and ``memory`` in bytes (default: what is available)."""
    room = available_memory() if memory is None else memory
    return max(1, min(len(os.sched_getaffinity(0)), room // JOB_MEMORY, MOST_JOBS))


def available_memory() -> int:
    """What the kernel says can be had without swapping, in bytes, and no more than our control group may take."""
    found = 1 << 62
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            group = next(line.rstrip("\n").partition("::")[2] for line in file if line.startswith("0::"))
        folder = f"/sys/fs/cgroup{group}"
        with open(f"{folder}/memory.max", encoding="ascii") as file:
            most = int(file.read())
        with open(f"{folder}/memory.current", encoding="ascii") as file:
            found = min(found, max(0, most - int(file.read())))
    except (OSError, StopIteration, ValueError):
        pass
    return found


def run_in_pool(
    tasks: Iterable[Task], *, jobs: int, writers: int, on_progress: Callable[[Task, int], None] | None = None
) -> Iterator[tuple[Task, Outcome]]:
    """Carry tasks out in ``jobs`` processes; each comes with its outcome when that is there.

    No more than ``writers`` of them are at one device at a time. Raises CorefiltError where no process can be had.
    """
    waiting = list(tasks)
    if waiting:
        # Once for all workers.
        from corefilt.batching.work import filter_task  # noqa: F401
    workers: list[Worker] = []
    busy: Counter[int] = Counter()
    try:
        while waiting or any(worker.task is not None for worker in workers):
            _hand_out(waiting, workers, busy, jobs, writers)
            ready = wait([worker.connection for worker in workers if worker.task is not None])
            for worker in [worker for worker in workers if worker.connection in ready]:
                task = worker.task
                if task is None:
                    raise AssertionError("only workers with a task are waited for")
                try:
                    told = worker.connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    how = worker.how_it_died()
                    worker.stop()
                    told = task.outcome("failed", f"the process that worked on it was killed by {how}")
                if isinstance(told, int):
                    if on_progress is not None:
                        on_progress(task, told)
                    continue
                worker.task = None
                busy[task.device] -= 1
                yield task, told
    finally:
        for worker in workers:
            worker.stop()


def _hand_out(waiting: list[Task], workers: list[Worker], busy: Counter[int], jobs: int, writers: int) -> None:
    """Give every idle worker the first task whose device is free, and start workers while they are of use."""
    while waiting:
        idle = next((worker for worker in workers if worker.task is None), None)
        if idle is None and len(workers) >= jobs:
            return
        at = next((i for i, task in enumerate(waiting) if busy[task.device] < writers or not task.device), None)
        if at is None:
            return
        if idle is None:
            try:
                idle = Worker()
            except OSError as error:
                if not workers:
                    raise CorefiltError(f"no process can be started: {error.strerror}") from None
                return
            workers.append(idle)
        task = waiting.pop(at)
        busy[task.device] += 1
        idle.give(task)
