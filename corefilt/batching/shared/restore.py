"""``corefilt restore``: puts blocks of shared memory back, so that a core is byte for byte what it was."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from xxhash import xxh3_128_digest

from corefilt import _fast
from corefilt.batching.shared.layout import lay_out_without
from corefilt.batching.shared.parts import Part, Parts
from corefilt.batching.shared.reduce import locked, mark_of, ranges_of
from corefilt.batching.shared.successor import Successor
from corefilt.corefile.corefile import open_core
from corefilt.errors import CorefiltError, InputError
from corefilt.io.engine import Engine
from corefilt.io.shared_manifest import Entry, Manifest, read_manifest
from corefilt.io.sinks import reported
from corefilt.io.sources import FileSource
from corefilt.io.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def restore(places: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Make cores whole again: those named, and all those of the manifests named; returns the paths of what was done.

    A core that is whole is left as it is. A manifest goes when every core that it speaks of is whole. Raises InputError
    or OutputError; every core is then either as it was or whole.
    """
    wanted: dict[str, set[str] | None] = {}
    for place in places:
        path = os.path.realpath(place)
        with open(path, "rb") as file:
            is_core = file.read(4) == b"\x7fELF"
        if not is_core:
            wanted[path] = None
            continue
        named = _manifest_of(path)
        if named is None:
            continue
        names = wanted.setdefault(named, set())
        if names is not None:
            names.add(path)
    done: list[str] = []
    for path, names in wanted.items():
        if names is not None and not os.path.exists(path):
            raise InputError(
                f"{path}: {os.strerror(errno.ENOENT)}",
                "put the core back where corefilt batch --shared-once wrote it: its manifest is found relative to that "
                "directory",
            )
        manifest, folder = read_manifest(path), os.path.dirname(path)
        with locked(folder, *(os.path.dirname(os.path.join(folder, entry.name)) for entry in manifest.cores)):
            done += _restore(path, manifest, names)
    return done


def _manifest_of(core: str) -> str | None:
    """The manifest that a core's note names; None for a whole one."""
    with open_core(core) as opened:
        shared = opened.notes.shared
    if shared is None:
        return None
    return os.path.realpath(os.path.join(os.path.dirname(core), os.fsdecode(shared.manifest)))


def _restore(path: str, manifest: Manifest, names: set[str] | None) -> list[str]:
    folder, done, left = os.path.dirname(path), [], False
    with Parts(folder, manifest) as parts:
        for number, entry in enumerate(manifest.cores):
            if not entry.taken:
                continue
            name = os.path.join(folder, entry.name)
            with Part(folder, manifest, entry) as part:
                if not part.reduced:
                    continue
                if names is not None and name not in names:
                    left = True
                    continue
                _write(part, parts, entry, manifest, path)
            parts.forget(number)
            done.append(name)
    if not left:
        with suppress(FileNotFoundError):
            os.unlink(path)
    return done


def _write(part: Part, parts: Parts, entry: Entry, manifest: Manifest, path: str) -> None:
    file = part.file
    sink = Successor(part.path, file.fd)
    try:
        source = FileSource(file.fd, file.name, size=file.size, owned=False)
        steps = [Step(at, length, offset) for offset, length, at in entry.kept]
        Engine(source, sink, writeback=True, expected=file.size).run(iter(steps))
        with reported(part.path):
            for offset, raw in entry.literals:
                _fast.write_at(sink.fd, offset, raw)
            for offset, first, count in entry.taken:
                for n in range(count):
                    raw = _block(part, parts, manifest, first + n)
                    _fast.write_at(sink.fd, offset + n * manifest.block, raw)
        with reported(part.path):
            os.ftruncate(sink.fd, entry.size)
        _refuse_changed(part, sink.fd, entry, manifest, path)
        file.check_unchanged()
        sink.commit(entry.size, sync=True)
    except BaseException:
        sink.abort()
        raise


def _refuse_changed(part: Part, whole: int, entry: Entry, manifest: Manifest, path: str) -> None:
    """Reduce what was restored once more, on paper: the headers tell whether the core is still what was reduced.

    What a filter has dropped since would read as zeros. Raises InputError.
    """
    file = part.file
    try:
        with open_core(f"/proc/self/fd/{whole}") as core:
            layout = lay_out_without(
                core, ranges_of(entry, manifest.block), mark_of(core, part.path, path, manifest.id)
            )
        same = layout.size == file.size and all(
            file.read(step.target, len(step.put)) == step.put for step in layout.steps(0) if step.put is not None
        )
    except CorefiltError:
        same = False
    if not same:
        raise InputError(
            f"{part.path}: cannot be restored, and is left as it is: it was changed after --shared-once",
            "restore cores first, and filter them then",
        )


def _block(part: Part, parts: Parts, manifest: Manifest, number: int) -> bytes:
    """A block from the core that holds it. Raises InputError where that core no longer has it."""
    block = manifest.blocks[number]
    holder = os.path.join(parts.folder, manifest.cores[block.core].name)
    try:
        raw = parts.block(number)
        if xxh3_128_digest(raw) != block.digest:
            raise InputError(f"{holder}: the block at {block.offset} that it holds for others has changed")
    except InputError as error:
        what = f"{part.path}: cannot be restored, and is left as it is"
        raise InputError(f"{what}: {error}", f"put back the original {holder}") from None
    return raw
