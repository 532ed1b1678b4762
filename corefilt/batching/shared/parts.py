"""A core that a manifest speaks of, as it is now: whole, or reduced; and its bytes by their offset in the whole one."""

from __future__ import annotations

import os
from bisect import bisect_right

from corefilt.corefile.corefile import open_core
from corefilt.errors import InputError
from corefilt.text import counted
from corefilt.verify.files import MappedCore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from corefilt.io.shared_manifest import Entry, Manifest


class Part:
    """One open core of a manifest; a context manager. ``reduced`` tells that blocks were taken out of it."""

    def __init__(self, folder: str, manifest: Manifest, entry: Entry) -> None:
        """Open it and see what it is. Raises InputError where it is neither what it was nor what became of it."""
        self.entry, self.path = entry, os.path.join(folder, entry.name)
        with open_core(self.path) as core:
            shared = core.notes.shared
        self.file = MappedCore(self.path)
        self.reduced = shared is not None and shared.id == manifest.id
        if not self.reduced and self.file.size != entry.size:
            size = self.file.size
            self.__exit__(None, None, None)
            raise InputError(
                f"{self.path}: has {counted(size, 'byte')}, but {entry.size} in the manifest: the core was replaced"
            )
        self._starts = [at for at, _, _ in entry.kept]

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.file.__exit__(kind, error, traceback)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes by their offset in the whole core. Raises InputError where it does not have them all."""
        at = offset
        if self.reduced:
            n = bisect_right(self._starts, offset) - 1
            start, count, place = self.entry.kept[n] if n >= 0 else (0, 0, 0)
            if offset + length > start + count:
                raise InputError(
                    f"{self.path}: no longer has the {counted(length, 'byte')} at {offset} that it should hold"
                )
            at = place + offset - start
        raw = self.file.read(at, length)
        if len(raw) < length:
            raise InputError(f"{self.path}: ends before byte {at + length}, which it should hold")
        return raw


class Parts:
    """The cores of a manifest by number, opened when they are needed; a context manager."""

    # How many stay open: a group can have more cores than a process may have descriptors.
    MOST_OPEN = 64

    def __init__(self, folder: str, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._open: dict[int, Part] = {}

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *about: object) -> None:
        for part in self._open.values():
            part.__exit__(None, None, None)
        self._open.clear()

    def forget(self, number: int) -> None:
        """Open a core anew when it is needed again: it has been replaced."""
        part = self._open.pop(number, None)
        if part is not None:
            part.__exit__(None, None, None)

    def block(self, number: int) -> bytes:
        """A block that some core holds. Raises InputError where that core no longer has it."""
        block = self.manifest.blocks[number]
        if block.core not in self._open:
            if len(self._open) >= self.MOST_OPEN:
                self.forget(next(iter(self._open)))
            self._open[block.core] = Part(self.folder, self.manifest, self.manifest.cores[block.core])
        return self._open[block.core].read(block.offset, self.manifest.block)
