"""Small files of the system: read whole, or replaced so that nobody ever sees half of one."""

from __future__ import annotations

import os

from corefilt.errors import InstallError
from corefilt.io import tempfiles as temporary

# Drop-ins, settings and configurations are a page or two.
MOST = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
    folder_path, name = os.path.split(path)
    try:
        os.makedirs(folder_path, 0o755, exist_ok=True)
        folder = os.open(folder_path, _FOLDER)
        try:
            part, fd = temporary.create(folder)
            try:
                with open(fd, "wb") as file:
                    file.write(text)
                    file.flush()
                    os.fchmod(fd, mode)
                    os.fsync(fd)
                    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(part, dir_fd=folder)
                raise
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise InstallError(f"{path}: cannot be written: {error.strerror}") from None


def remove_file(path: str) -> None:
    """Remove a file, also from the disk; one that is missing is as good. Raises InstallError."""
    try:
        os.unlink(path)
        folder = os.open(os.path.dirname(path), _FOLDER)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InstallError(f"{path}: cannot be removed: {error.strerror}") from None
