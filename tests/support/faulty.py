"""The program behind support.faults: has corefilt loaded, and forks for every run, of which a call may fail.

Reads a run a line, as JSON, and answers each with a line, by its standard input and output. A run works in its own
folder: it may get the file ``stdin`` through a pipe, and what it writes to standard output comes through a pipe, too,
and into the file ``stdout``; what it says is in ``stderr``.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

from corefilt.cli import main

# Out of the way of what a run takes for its standard input and output.
REQUESTS, ANSWERS = 10, 11
PIPE = 1 << 20
SECONDS = 60


def descriptors() -> list[str]:
    """List what is open, but for the list itself."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name}: {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return sorted(found)


def full_pipe(content: bytes) -> int:
    """Make a pipe that holds all of it, and ends behind."""
    reader, writer = os.pipe()
    assert fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE) >= len(content)
    os.write(writer, content)
    os.close(writer)
    return reader


def one_run(library: ctypes.CDLL, request: dict[str, object], stdout: int) -> int:
    """Run in this process, which is one of its own; returns the exit code."""
    os.chdir(str(request["folder"]))
    stderr = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    stdin = (
        full_pipe(Path(str(request["stdin"])).read_bytes()) if request["stdin"] else os.open("/dev/null", os.O_RDONLY)
    )
    for fd, standard in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(fd, standard)
        os.close(fd)
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_IGN)
    before = descriptors()
    library.faults_arm(request["at"], request["what"], request["without_tmpfile"])
    try:
        code = main(list(request["argv"]))  # type: ignore[call-overload]
    finally:
        count = library.faults_count()
        library.faults_arm(-1, 0, 0)
    names = [library.faults_name(i).decode() for i in range(count)] if request["name_calls"] else []
    left = [each for each in descriptors() if each not in before]
    Path("told").write_text(json.dumps({"count": count, "names": names, "left": left}))
    return code


def forked(library: ctypes.CDLL, request: dict[str, object]) -> dict[str, object]:
    """Run in a child, and wait for it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    child = os.fork()
    if not child:
        os.close(reader)
        os.close(REQUESTS)
        os.close(ANSWERS)
        signal.alarm(SECONDS)
        code = 250
        try:
            code = one_run(library, request, writer)
        finally:
            os._exit(code)
    os.close(writer)
    if request["killed_after"] is not None:
        time.sleep(float(str(request["killed_after"])))
        os.kill(child, signal.SIGKILL)
    out = b""
    while piece := os.read(reader, PIPE):
        out += piece
    os.close(reader)
    folder = Path(str(request["folder"]))
    (folder / "stdout").write_bytes(out)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = folder / "told"
    # A child that was killed may have been about to write it.
    answer = json.loads(told.read_text()) if code >= 0 and told.exists() else {}
    told.unlink(missing_ok=True)
    return {"code": code, **answer}


def warm(library: ctypes.CDLL, request: dict[str, object]) -> None:
    """Run once here, so that all modules are loaded and no later run needs to open them."""
    kept = [os.dup(fd) for fd in (0, 1, 2)]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    try:
        one_run(library, request, writer)
    finally:
        for fd, standard in zip(kept, (0, 1, 2), strict=True):
            os.dup2(fd, standard)
            os.close(fd)
        os.close(reader)
        (Path(str(request["folder"])) / "told").unlink()


def serve() -> None:
    """Answer until there are no more requests."""
    library = ctypes.CDLL(sys.argv[1])
    library.faults_count.restype = ctypes.c_long
    library.faults_arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int]
    library.faults_name.argtypes, library.faults_name.restype = [ctypes.c_long], ctypes.c_char_p
    os.dup2(0, REQUESTS)
    os.dup2(1, ANSWERS)
    with open(REQUESTS) as requests, open(ANSWERS, "w") as answers:
        for line in requests:
            request = json.loads(line)
            if request["warm"]:
                warm(library, request)
            answers.write(json.dumps({} if request["warm"] else forked(library, request)) + "\n")
            answers.flush()


if __name__ == "__main__":
    serve()
