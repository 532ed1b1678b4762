"""A file system in user space with one file, whose server stops on demand: by SIGSTOP, or with what it has in hand."""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.builds import PATIENCE

SERVER = Path(__file__).parent / "fuse_server.py"
# sys/mount.h
MNT_DETACH = 2


class Server:
    """A mounted file system, and the process that serves it."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.file = folder / "file"
        self.process = process

    def stop(self) -> None:
        """Have it take and answer nothing more.

        It waits for a request. Woken by the signal late, as on a busy machine, it would find one, take it and stop
        with it, and then nothing but its end ends the wait for it.
        """
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        """Have it answer again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def served(folder: Path, *, silent: bool = False) -> Iterator[Server]:
    """Mount one; a `silent` server takes requests to read, and answers none."""
    if not Path("/dev/fuse").exists():
        pytest.skip("/dev/fuse is not there")
    folder.mkdir()
    command = [sys.executable, "-I", str(SERVER), str(folder), "silent" if silent else "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            said = process.stdout.readline()
            if said != b"mounted\n":
                pytest.skip(f"FUSE cannot be mounted here: {said!r}")
            yield Server(folder, process)
        finally:
            process.kill()
            # Its end ends every wait for it.
            process.wait()
            ctypes.CDLL(None).umount2(os.fsencode(folder), MNT_DETACH)
