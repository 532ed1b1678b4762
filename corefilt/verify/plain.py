"""A core as a file that can be mapped: itself, or a temporary copy of what is in a compressed one."""

from __future__ import annotations

import os

from corefilt.io.compression import recognise
from corefilt.io.sources import FileSource, as_core
from corefilt.verify.files import MappedCore

# As far as formats are told apart.
_MAGIC_BYTES = 64
# What may be held before the copy begins.
_MOST_AHEAD = 64 << 20


def open_plain(path: str | os.PathLike[str], name: str = "") -> MappedCore:
    """A core that is open for reading; errors call it ``name``. Raises InputError and MissingLibraryError."""
    file = MappedCore(path, name)
    try:
        return file if recognise(file.read(0, _MAGIC_BYTES)) is None else _Copy(file)
    except BaseException:
        os.close(file.fd)
        raise


class _Copy(MappedCore):
    """A copy without a name."""

    def __init__(self, packed: MappedCore) -> None:
        """Make it. Raises InputError."""
        self._packed = packed
        source = FileSource(packed.fd, packed.name, size=packed.size, owned=False)
        copy = as_core(source, max_headers=_MOST_AHEAD, spool=True)
        try:
            super().__init__(f"/proc/self/fd/{copy.fd}", packed.name)
            self.damage = copy.check()
        finally:
            copy.close()

    def __exit__(self, *about: object) -> None:
        os.close(self.fd)
        os.close(self._packed.fd)

    def check_unchanged(self) -> None:
        """Raise InputError where somebody wrote to the file that this is a copy of."""
        self._packed.check_unchanged()
