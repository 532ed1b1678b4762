"""``--shared-once``: equal blocks of shared memory stay in one core of a group, and a manifest says in which.

The manifest is on the disk before any core is touched. Then every core that lacks blocks is written anew beside itself,
held against what it was, compared byte for byte with who holds its blocks, and renamed. A run that was killed is
finished by the next, which finds the manifest.
"""

from __future__ import annotations

import os

from corefilt import __version__, _fast
from corefilt.batching.files.lock import Lock
from corefilt.batching.shared.blocks import BLOCK, find_equal, objection
from corefilt.batching.shared.layout import kept_runs, lay_out_without, literals
from corefilt.batching.shared.parts import Part, Parts
from corefilt.batching.shared.successor import Successor
from corefilt.corefile.corefile import open_core
from corefilt.corefile.corefilt_note import Shared, encode_shared
from corefilt.errors import CorefiltError, InputError, OutputError
from corefilt.io.engine import Engine
from corefilt.io.shared_holders import PREFIX, SUFFIX, Holders, manifests_of, needed_cores
from corefilt.io.shared_manifest import Block, Entry, Manifest, read_manifest
from corefilt.io.sinks import NewFileSink, reported
from corefilt.sizes import show_size
from corefilt.text import counted
from corefilt.verify import verify
from corefilt.verify.files import MappedCore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.batching.shared.blocks import Member
    from corefilt.corefile.corefile import CoreFile
    from corefilt.plan.fit.split_layout import FittedLayout


class SharedOnce:
    """What was done; sizes are what files take on the disk, in bytes, the manifests included.

    ``reduced`` are the cores that gave blocks up, ``holders`` those that only hold some, ``skipped`` maps the others to
    the reason, ``manifests`` are those that speak of them. ``blocks`` counts what was taken out.
    """

    __slots__ = ("after", "before", "blocks", "holders", "manifests", "reduced", "skipped")

    def __init__(self) -> None:
        self.before = self.after = self.blocks = 0
        self.reduced: list[str] = []
        self.holders: list[str] = []
        self.manifests: list[str] = []
        self.skipped: dict[str, str] = {}

    def as_dict(self) -> dict[str, object]:
        """The attributes as JSON takes them."""
        return {"schema": 1, "version": __version__, **{name: getattr(self, name) for name in self.__slots__}}

    def needed(self) -> dict[str, list[str]]:
        """By manifest the cores that hold blocks which others lack; those must stay as they are."""
        found = {path: sorted(needed_cores(os.path.dirname(path), read_manifest(path))) for path in self.manifests}
        return {path: cores for path, cores in found.items() if cores}

    def __str__(self) -> str:
        shared = f"{counted(self.blocks, 'block')} of {show_size(BLOCK)}"
        return (
            f"{counted(len(self.reduced), 'core')} dropped {shared} that are stored elsewhere: "
            f"{show_size(self.before)} -> {show_size(self.after)} on disk"
        )


def share_once(paths: Iterable[str | os.PathLike[str]], *, folder: str | None = None) -> SharedOnce:
    """Keep equal blocks of shared memory once in a group of cores, which are regular files on this machine.

    The manifest is written to ``folder``, or to the one that all of the cores lie below. Whoever deletes or filters a
    core that holds blocks for others loses them: ``corefilt restore`` comes first. Raises InputError or OutputError;
    what stands against a single core becomes a reason in ``skipped``.
    """
    names = list(dict.fromkeys(os.path.realpath(path) for path in paths))
    done = SharedOnce()
    if not names:
        return done
    folder = os.path.realpath(folder) if folder is not None else os.path.commonpath(list(map(os.path.dirname, names)))
    done.before = sum(map(_allocated, names))
    with locked(folder, *map(os.path.dirname, names)):
        spoken_of: set[str] = set()
        for path in manifests_of(folder):
            spoken_of |= _carry_out(path, read_manifest(path), done)
        fresh = _free([name for name in names if name not in spoken_of], done)
        if len(fresh) > 1:
            found = _new_manifest(folder, fresh, done)
            if found is not None:
                _carry_out(*found, done)
    done.after = sum(map(_allocated, [*names, *done.manifests]))
    return done


def locked(folder: str, *more: str) -> Lock:
    """Keep other runs out of a folder's manifests. Raises LockedError while another one is at it.

    Root is kept out of folders, these and ``more`` that cores lie in, where others could put links in the way.
    """
    for place in dict.fromkeys((folder, *more)):
        _refuse_writable(place)
    return Lock([folder])


def _refuse_writable(folder: str) -> None:
    if os.geteuid():
        return
    try:
        status = os.stat(folder)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from None
    if status.st_uid or status.st_mode & 0o022:
        raise OutputError(f"{folder}: other users can write to it", "run as the owner of the directory")


def _free(names: list[str], done: SharedOnce) -> list[str]:
    """Those that hold nothing by a manifest of another folder, which would no longer find it."""
    holders, free = Holders(), []
    for name in names:
        held = holders.of(name)
        if held is None or held.doubt:
            free.append(name)
        else:
            done.skipped[name] = held.reason
    return free


def _allocated(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def _new_manifest(folder: str, names: list[str], done: SharedOnce) -> tuple[str, Manifest] | None:
    """Look through the cores and write what was found; None where no two of them have anything in common."""
    group = find_equal(names)
    done.skipped |= {member.path: member.why_not for member in group.members if member.why_not}
    holders = set(group.holders)
    concerned = [k for k, member in enumerate(group.members) if member.offsets or k in holders]
    if not group.digests:
        return None
    id = os.urandom(16)
    path = os.path.join(folder, f"{PREFIX}{id[:6].hex()}{SUFFIX}")
    place = {k: n for n, k in enumerate(concerned)}
    cores = [_entry(group.members[k], folder, path, id) for k in concerned]
    rows = zip(group.holders, group.places, group.digests, strict=True)
    manifest = Manifest(id, BLOCK, cores, [Block(place[k], at, digest) for k, at, digest in rows])
    _write_manifest(manifest, path)
    return path, manifest


def _write_manifest(manifest: Manifest, path: str) -> None:
    """Write it, for its owner alone; it is on the disk, under its name, when this returns. Raises OutputError."""
    raw = manifest.encode()
    sink = NewFileSink(path, replace=False)
    try:
        with reported(path):
            _fast.write_at(sink.fd, 0, raw)
    except BaseException:
        sink.abort()
        raise
    sink.commit(len(raw), sync=True)


def _entry(member: Member, folder: str, manifest: str, id: bytes) -> Entry:
    entry = Entry(os.path.relpath(member.path, folder), member.size, [], [], _runs(member))
    if entry.taken:
        ranges = ranges_of(entry, BLOCK)
        with open_core(member.path) as core, MappedCore(member.path) as file:
            layout = lay_out_without(core, ranges, mark_of(core, member.path, manifest, id))
            entry.kept = kept_runs(layout)
            entry.literals = literals(file, [(at, at + length) for at, length, _ in entry.kept] + ranges)
    return entry


def mark_of(core: CoreFile, path: str, manifest: str, id: bytes) -> bytes:
    """The note of a reduced core, which names its manifest; both are paths."""
    return encode_shared(core.ehdr, Shared(id, os.fsencode(os.path.relpath(manifest, os.path.dirname(path)))))


def _runs(member: Member) -> list[tuple[int, int, int]]:
    """What a core gives up, as runs of blocks that follow each other: (offset, first number, count)."""
    runs: list[tuple[int, int, int]] = []
    for offset, number in sorted(zip(member.offsets, member.numbers, strict=True)):
        if runs:
            at, first, count = runs[-1]
            if offset < at + count * BLOCK:
                # Two mappings claim the same bytes of the file.
                continue
            if (offset, number) == (at + count * BLOCK, first + count):
                runs[-1] = at, first, count + 1
                continue
        runs.append((offset, number, 1))
    return runs


def ranges_of(entry: Entry, block: int) -> list[tuple[int, int]]:
    """What a core gives up, as (start, end) in the whole one; ``block`` is a block's length in bytes."""
    return [(at, at + count * block) for at, _, count in entry.taken]


def _carry_out(path: str, manifest: Manifest, done: SharedOnce) -> set[str]:
    """Reduce what the manifest says and has not been yet; the paths of all cores that it speaks of."""
    folder = os.path.dirname(path)
    done.manifests.append(path)
    spoken_of = set()
    with Parts(folder, manifest) as parts:
        for number, entry in enumerate(manifest.cores):
            name = os.path.join(folder, entry.name)
            spoken_of.add(name)
            if not entry.taken:
                done.holders.append(name)
                continue
            try:
                if _reduce(path, manifest, parts, entry):
                    parts.forget(number)
                    done.reduced.append(name)
                    done.blocks += sum(count for _, _, count in entry.taken)
            except CorefiltError as error:
                done.skipped[name] = str(error)
    return spoken_of


def _reduce(path: str, manifest: Manifest, parts: Parts, entry: Entry) -> bool:
    """Put a reduced core in the place of a whole one; whether there was one left to reduce. Raises InputError."""
    with Part(parts.folder, manifest, entry) as part:
        if part.reduced:
            return False
        with open_core(part.path) as core:
            why_not = objection(core)
            if why_not:
                raise InputError(f"{part.path}: {why_not}")
            ranges = ranges_of(entry, manifest.block)
            layout = lay_out_without(core, ranges, mark_of(core, part.path, path, manifest.id))
            covered = [(at, at + length) for at, length, _ in entry.kept] + ranges
            if kept_runs(layout) != entry.kept or literals(part.file, covered) != entry.literals:
                raise InputError(f"{part.path}: was changed since the manifest was written")
            _write(core, part, layout, parts, entry)
    return True


def _write(core: CoreFile, part: Part, layout: FittedLayout, parts: Parts, entry: Entry) -> None:
    source = core.source.file
    if source is None:
        raise InputError(f"{part.path}: not a regular file")
    sink = Successor(part.path, source.fd)
    try:
        Engine(source, sink, writeback=True, expected=layout.size).run(layout.steps(source.size))
        os.ftruncate(sink.fd, layout.size)
        verdict = verify(part.path, f"/proc/self/fd/{sink.fd}")
        if not verdict.holds:
            raise OutputError(f"{part.path}: the core without its shared blocks is invalid: {verdict.findings[0]}")
        for at, first, count in entry.taken:
            for n in range(count):
                here = part.file.read(at + n * BLOCK, BLOCK)
                if here != parts.block(first + n):
                    raise InputError(f"{part.path}: its block at {at + n * BLOCK} differs from the one that is kept")
        part.file.check_unchanged()
        sink.commit(layout.size, sync=True)
    except BaseException:
        sink.abort()
        raise
