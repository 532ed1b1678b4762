"""Makes a bundle: the core, filtered where that is asked, and what was collected for it, in one stream of zstd."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass

from corefilt.bundle.collect import Collected, Places, collect
from corefilt.bundle.debuginfod import Debuginfod
from corefilt.bundle.manifest import BundleManifest
from corefilt.bundle.names import CORE, MANIFEST
from corefilt.bundle.objects import loaded_objects
from corefilt.bundle.report import BundleReport
from corefilt.bundle.tar import BundleMember, end, folder, link, member
from corefilt.bundle.texts import texts
from corefilt.evidence.sysroot import Sysroot, sysroot_for
from corefilt.filtering.write import write_filtered
from corefilt.io.compress import Packed
from corefilt.io.compression import Compression
from corefilt.io.sinks import reported
from corefilt.io.sources import FileSource
from corefilt.io.tempfiles import nameless_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.corefile.corefile import CoreFile
    from corefilt.filtering.options import Options
    from corefilt.io.sinks import NamedFile, Sink
    from corefilt.io.sources import Place, Source

SUFFIX = ".corebundle.tar.zst"
# zstd's bytes are the same for any number of threads from two on, and its memory is not.
COMPRESSION = Compression("zstd", threads=2)


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """Where the files of a core are looked for: below ``sysroot`` (None: /), in ``debug_dirs``, with ``debuginfod``.

    Without ``debug``, debug files are left out.
    """

    sysroot: str | None = None
    debug_dirs: Sequence[str] = ()
    debug: bool = True
    debuginfod: bool = False


class _CoreBytes:
    """A core's bytes by offset."""

    def __init__(self, source: FileSource) -> None:
        self._source = source

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at an offset. Raises InputError."""
        return self._source.peek(offset, length)

    def close(self) -> None:
        """Leave the source to who opened it."""


def write_bundle(
    core: CoreFile,
    output: Place | NamedFile,
    request: BundleRequest,
    options: Options,
    *,
    wanted: int | None = None,
    owner_fd: int | None = None,
) -> BundleReport:
    """Write a core and what belongs to it into ``output``; ``wanted`` None leaves the core as it is.

    ``owner_fd`` is an open file that says whose core it is, where that is not the core's own. Raises CorefiltError's
    children.
    """
    source = core.source.file
    if source is None:
        raise core.source.refused("a bundle's files are looked up before the core is copied")
    with ExitStack() as stack:
        whose = source.fd if owner_fd is None else owner_fd
        places = _places(request, whose, stack)
        objects = loaded_objects(core)
        collected = collect(objects, places)
        inner = source
        warnings = list(core.warnings)
        if wanted is not None:
            inner = _filtered(core, wanted, options, stack)
        executable = objects.executable if _has(collected, objects.executable) else None
        manifest = BundleManifest(inner.size, executable, collected.files)
        packed = Packed(output, COMPRESSION, force=options.force)
        sink = packed.open(source)
        try:
            with reported(sink.name):
                _write(sink, _stream(inner, _time_of(core.source.origin), manifest, collected))
            damage = source.check()
            if damage is not None:
                warnings.append(damage)
            if sink.notice is not None:
                warnings.append(f"{sink.name}: {sink.notice}")
            sink.commit(0, sync=options.sync)
        except BaseException:
            sink.abort()
            raise
    return BundleReport(
        core.source.name, packed.path, inner.size, sink.written, collected.files, tuple(dict.fromkeys(warnings))
    )


def _has(collected: Collected, path: bytes | None) -> bool:
    return path is not None and any(made.name == b"root" + path for made in collected.members)


def _places(request: BundleRequest, owner_fd: int, stack: ExitStack) -> Places:
    sysroot = sysroot_for(request.sysroot, owner_fd)
    stack.callback(sysroot.close)
    debug = []
    for name in request.debug_dirs:
        debug.append(Sysroot(name))
        stack.callback(debug[-1].close)
    debuginfod = Debuginfod(tempfile.gettempdir()) if request.debuginfod else None
    if debuginfod is not None:
        stack.callback(debuginfod.close)
    return Places(sysroot, debug, debuginfod, request.debug)


def _filtered(core: CoreFile, wanted: int, options: Options, stack: ExitStack) -> FileSource:
    """The filtered core in a temporary file, which vanishes when the stack closes it."""
    fd = nameless_in()
    stack.callback(os.close, fd)
    write_filtered(core, wanted, fd, options)
    return FileSource(fd, core.source.name, size=os.fstat(fd).st_size, owned=False)


def _stream(core: FileSource, mtime: int, manifest: BundleManifest, collected: Collected) -> Iterator[bytes]:
    """All bytes of the tar: what people read first, the core, files by their names, then the links."""
    for name, raw in ((MANIFEST, manifest.encoded()), *texts(collected, manifest.executable).items()):
        yield from member(BundleMember(name.encode(), len(raw), 0, lambda raw=raw: _Bytes(raw)))  # type: ignore[misc]
    pieces = core.extents().pieces(core.base, core.base + core.size)
    extents = [(start - core.base, stop - start) for start, stop in pieces]
    dense = extents == [(0, core.size)] or not core.size
    yield from member(
        BundleMember(CORE.encode(), core.size, mtime, lambda: _CoreBytes(core), 0o600, None if dense else extents)
    )
    for made in collected.links.folders:
        yield folder(b"root/" + made)
    for file in collected.members:
        yield from member(file)
    for way in collected.links.links:
        yield link(b"root/" + way.name, way.target)
    yield end()


def _time_of(source: Source) -> int:
    """When a core was written, in seconds since the epoch; 0 for a pipe, which does not tell."""
    status = os.fstat(source.fd)
    return int(status.st_mtime) if stat.S_ISREG(status.st_mode) else 0


class _Bytes:
    """Bytes that are there already."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def read(self, offset: int, length: int) -> bytes:
        return self._raw[offset : offset + length]

    def close(self) -> None: ...


def _write(sink: Sink, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        sink.put(piece)
