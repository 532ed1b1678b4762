"""A core as a file that can be mapped: itself, or a temporary copy of what is in a compressed one."""

from __future__ import annotations

import os
import tempfile

from corefilt.errors import InputError
from corefilt.verify.compressed import Damage, decompressed, format_at
from corefilt.verify.files import MappedCore

# Blocks of zeros of this many bytes become holes of the copy.
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)


def open_plain(path: str | os.PathLike[str], name: str = "") -> MappedCore:
    """A core that is open for reading; errors call it ``name``. Raises InputError and MissingLibraryError."""
    file = MappedCore(path, name)
    try:
        form = format_at(file, 0)
        return file if form is None else _Copy(file, form)
    except BaseException:
        os.close(file.fd)
        raise


class _Copy(MappedCore):
    """A copy without a name."""

    def __init__(self, packed: MappedCore, form: str) -> None:
        """Make it. Raises InputError and MissingLibraryError."""
        self._packed = packed
        damage = None
        try:
            copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - opening it fails for other reasons than writing
        except OSError as error:
            raise _uncopied(packed.name, error) from None
        with copy:
            try:
                size = 0
                try:
                    for piece in decompressed(packed, form):
                        size = _put(copy.fileno(), size, piece)
                except Damage as told:
                    damage = str(told)
                    if not size:
                        raise InputError(f"{packed.name}: {damage} before any of the core came") from None
                copy.truncate(size)
            except OSError as error:
                raise _uncopied(packed.name, error) from None
            super().__init__(f"/proc/self/fd/{copy.fileno()}", packed.name)
        self.damage = damage

    def __exit__(self, *about: object) -> None:
        os.close(self.fd)
        os.close(self._packed.fd)

    def check_unchanged(self) -> None:
        """Raise InputError where somebody wrote to the file that this is a copy of."""
        self._packed.check_unchanged()


def _uncopied(name: str, error: OSError) -> InputError:
    """Return what is raised where no copy can be made."""
    place = os.fsdecode(tempfile.tempdir) if tempfile.tempdir is not None else "a temporary file"
    return InputError(
        f"{name}: cannot be copied to {place}: {error.strerror}", "set TMPDIR to a directory with enough space"
    )


def _put(fd: int, at: int, piece: bytes) -> int:
    """Write a piece at an offset, but for its blocks of zeros; returns the offset behind it. Raises OSError."""
    start = 0
    while start < len(piece):
        # All of it where there is no block of zeros, which is most often so.
        end = len(piece) if _ZEROS not in piece else min(len(piece), start + _BLOCK - (at + start) % _BLOCK)
        block = piece[start:end]
        if block != _ZEROS[: len(block)]:
            while block:
                done = os.pwrite(fd, block, at + start)
                block, start = block[done:], start + done
        start = end
    return at + len(piece)
