"""A program that has imported corefilt and forks for every run: support.ready talks to it.

A run here is what ``corefilt`` does from ``entry`` on, in a process of its own; what an interpreter takes to start and
to import is saved. Its arguments name the modules to import.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from importlib import import_module
from pkgutil import walk_packages

TRACED = "coverage" in sys.modules
CONNECTION = 0
LARGEST = 1 << 20


def modules(packages: list[str]) -> list[str]:
    """List the modules of packages and of the packages in them."""
    return [
        module.name
        for package in packages
        for module in walk_packages(import_module(package).__path__, f"{package}.")
        if not module.ispkg and not module.name.endswith(".__main__")
    ]


def write_lines() -> None:
    """Where lines are traced, write down those of the imports once, and close the file: a child's is one of its own."""
    if TRACED:
        from coverage import Coverage

        current = Coverage.current()
        if current is not None:
            current.get_data().close(force=True)


def run(request: dict[str, object], descriptors: list[int]) -> None:
    """Be the command line, with these arguments, this environment and these three descriptors."""
    # Above the three, so that none of them stands where another has to go.
    moved = [os.dup2(fd, 10 + i) for i, fd in enumerate(descriptors)]
    for i, fd in enumerate(moved):
        os.dup2(fd, i)
    os.closerange(3, 1024)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    for limit in ("RLIMIT_AS", "RLIMIT_FSIZE"):
        if request[limit] is not None:
            resource.setrlimit(getattr(resource, limit), (request[limit], request[limit]))  # type: ignore[arg-type]
    sys.argv = ["corefilt", *request["argv"]]  # type: ignore[misc]
    from corefilt.cli import entry

    entry()


def fork(request: dict[str, object], descriptors: list[int]) -> int:
    """Run in a child; returns its pid."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        run(request, descriptors)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def serve() -> None:
    """Answer until nobody asks any more: first the pid, then how it ended."""
    connection = socket.socket(fileno=os.dup(CONNECTION))
    os.dup2(os.open(os.devnull, os.O_RDONLY), CONNECTION)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in modules(sys.argv[1:]):
        import_module(name)
    # A child that looked through these objects for garbage would have copies of their pages.
    gc.freeze()
    write_lines()
    while True:
        raw, descriptors, _, _ = socket.recv_fds(connection, LARGEST, 3)
        if not raw:
            break
        child = fork(json.loads(raw), descriptors)
        for fd in descriptors:
            os.close(fd)
        connection.send(str(child).encode())
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


if __name__ == "__main__":
    serve()
