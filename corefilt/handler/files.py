"""Small files of the system: read whole, or replaced so that nobody ever sees half of one."""

from __future__ import annotations

import os

from ..errors import InstallError

# Drop-ins, settings and configurations are a page or two.
MOST = 1 << 20


def read_file(path: str) -> bytes | None:
    """The first MiB of a file, None where it is missing. Raises InstallError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(MOST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InstallError(f"{path}: cannot be read: {error.strerror}") from None


def replace_file(path: str, text: bytes, mode: int = 0o644) -> None:
    """Put a file in its place, also on the disk; the folder is made where it is missing. Raises InstallError."""
    folder = os.path.dirname(path)
    part = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, 0o755, exist_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(text)
                file.flush()
                os.fchmod(fd, mode)
                os.fsync(fd)
            os.rename(part, path)
        except BaseException:
            os.unlink(part)
            raise
        _sync_folder(folder)
    except OSError as error:
        raise InstallError(f"{path}: cannot be written: {error.strerror}") from None


def remove_file(path: str) -> None:
    """Remove a file, also from the disk; one that is missing is as good. Raises InstallError."""
    try:
        os.unlink(path)
        _sync_folder(os.path.dirname(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InstallError(f"{path}: cannot be removed: {error.strerror}") from None


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
