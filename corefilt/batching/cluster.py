"""The tasks of a batch on a cluster of dask.distributed; the scheduler, retries and lost workers are its business."""

from __future__ import annotations

import logging
from concurrent.futures import CancelledError
from itertools import islice

from corefilt import __version__
from corefilt.batching.runner import run_task
from corefilt.errors import CorefiltError, MissingLibraryError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task

# How often a task is run again that raised, as when a worker could not be reached; a core that cannot be filtered does
# not raise, it is an outcome. A task whose worker was lost is run elsewhere besides, as often as the scheduler allows.
RETRIES = 2
# Tasks that the scheduler holds for each thread of a worker: enough for none to wait, and few to be held.
WAITING = 4
# Seconds that a scheduler is waited for.
PATIENCE = 10


class ClusterError(CorefiltError):
    """The cluster is not there, or not fit for the tasks."""

    hint = "the scheduler's address is what dask-scheduler prints, like tcp://host:8786"


def run_on_cluster(tasks: Iterable[Task], address: str) -> Iterator[tuple[Task, Outcome]]:
    """Carry tasks out on the workers of the scheduler at an address; each comes with its outcome when that is there.

    What the workers read and write must be reachable for each of them: an object store, or a shared folder. Raises
    MissingLibraryError, UsageError or ClusterError.
    """
    try:
        from distributed import Client, as_completed
        from distributed.comm import get_address_host_port
    except ImportError:
        raise MissingLibraryError("--dask needs dask.distributed", "pip install distributed") from None
    # What it logs of lost connections is told by outcomes and errors.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        # A client that does not come to be waits for a minute to be closed, and complains.
        get_address_host_port(address, strict=True)
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"--dask {address}: {error}", ClusterError.hint) from None
    except OSError as error:
        raise ClusterError(f"--dask {address}: cannot be reached: {error}") from None
    with client:
        threads = _check_workers(client, address)
        remaining = iter(tasks)
        running = {_submitted(client, task): task for task in islice(remaining, threads * WAITING)}
        done = as_completed(running, loop=client.loop)
        for future in done:
            task = running.pop(future)
            yield task, _outcome_of(future, task, address)
            for another in islice(remaining, 1):
                following = _submitted(client, another)
                running[following] = another
                done.add(following)


def _check_workers(client: Any, address: str) -> int:
    """How many threads the workers have; all of them must have this corefilt. Raises ClusterError."""
    threads: dict[str, int] = client.nthreads()
    if not threads:
        raise ClusterError(f"--dask {address}: has no workers", "start dask-worker with this address")
    for worker, version in client.run(_version, on_error="return").items():
        if version != __version__:
            has = f"corefilt {version}" if isinstance(version, str) else "no corefilt"
            raise ClusterError(f"--dask {address}: worker {worker} has {has}", f"install corefilt {__version__} there")
    return sum(threads.values())


def _version() -> str:
    return __version__


def _submitted(client: Any, task: Task) -> Any:
    return client.submit(run_task, task, pure=False, retries=RETRIES)


def _outcome_of(future: Any, task: Task, address: str) -> Outcome:
    try:
        outcome: Outcome = future.result()
    except CancelledError:
        raise ClusterError(
            f"--dask {address}: the scheduler was lost", "run the same command again to continue"
        ) from None
    except Exception as error:
        return task.outcome("failed", f"on the cluster: {' '.join(str(error).split()) or type(error).__name__}")
    return outcome
