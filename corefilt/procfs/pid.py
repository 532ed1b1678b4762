"""The folder of a process in /proc, opened once; all that is asked of the process is asked relative to it.

A pid that is given to another process meanwhile answers ESRCH, not with the other's files.
"""

from __future__ import annotations

import os

from corefilt.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# More than any of the small files has; status takes some 1.5 KiB, and 10 bytes more for every one of 65,536 groups.
MOST = 1 << 20


class ProcFolder:
    """An open folder ``/proc/PID``: its descriptor ``fd``, and ``name`` for messages; a context manager."""

    def __init__(self, pid: int) -> None:
        """Open it. Raises ProcessError."""
        self.pid, self.name = pid, f"process {pid}"
        try:
            self.fd = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ProcessError(f"{self.name} does not exist") from None
        except OSError as error:
            raise ProcessError(f"{self.name}: {error.strerror}") from None

    def __enter__(self) -> ProcFolder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self.fd)

    def read(self, file: str) -> bytes:
        """A small file of it, whole. Raises ProcessError."""
        try:
            with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd), "rb", buffering=0) as opened:
                return opened.read(MOST) or b""
        except OSError as error:
            raise self.failure(error, f"read its {file}") from None

    def write(self, file: str, text: bytes) -> None:
        """Write to a file of it, at once. Raises ProcessError."""
        try:
            with open(os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd), "wb", buffering=0) as opened:
                opened.write(text)
        except OSError as error:
            raise self.failure(error, f"write its {file}") from None

    def exists(self) -> bool:
        """Whether the process is still there, if only as a zombie."""
        try:
            os.stat("status", dir_fd=self.fd)
        except OSError:
            return False
        return True

    def failure(self, error: OSError, what: str) -> ProcessError:
        """What an error of the system means for a process of which ``what`` was tried."""
        if isinstance(error, ProcessLookupError) or (isinstance(error, FileNotFoundError) and not self.exists()):
            return ProcessError(f"{self.name} ended while it was examined")
        if isinstance(error, PermissionError):
            return ProcessError(f"{self.name}: you may not {what}", "run as its owner or as root")
        return ProcessError(f"{self.name}: cannot {what}: {error.strerror}")
