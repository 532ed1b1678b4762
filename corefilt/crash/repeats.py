"""Which crashes count as the same one: by signature, by user, and by who owns the program."""

from __future__ import annotations

from dataclasses import dataclass

from corefilt.crash.identity import identify
from corefilt.crash.recorded import NONE, UNWOUND, RecordedSignature, read_signature
from corefilt.crash.signature import crash_of
from corefilt.errors import EvidenceError
from corefilt.evidence.sysroot import owner_of, sysroot_for
from corefilt.evidence.when import written_at
from corefilt.io.named_files import NotUsable
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corefilt.corefile.corefile import CoreFile
    from corefilt.crash.identity import Identity
    from corefilt.evidence.sysroot import Sysroot


@dataclass(frozen=True, slots=True)
class CrashKey:
    """What two crashes have in common that count as the same.

    ``owner`` is whose the file of the core is, ``uid`` the user that the process ran as, ``program`` the owner of the
    executable, or its path where that file is not at hand. A user cannot make a repeat of another's crash: none of
    these but the signature is his to choose.
    """

    owner: int
    uid: int
    program: str
    signature: str


@dataclass(frozen=True, slots=True)
class CrashSummary:
    """A crash in plain values: ``frames`` are as ``Named.text``; ``time`` is in seconds since the epoch.

    ``key`` is None where something is not known that tells repeats from first crashes: then it is no repeat.
    """

    signature: str | None
    quality: str
    kind: str
    frames: tuple[str, ...] = ()
    time: float | None = None
    key: CrashKey | None = None

    def as_dict(self) -> dict[str, object]:
        """The summary as JSON."""
        return {
            "signature": self.signature, "quality": self.quality, "class": self.kind, "frames": list(self.frames),
            "time": self.time,
        }  # fmt: skip

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> CrashSummary:
        """What ``as_dict`` gave, read back, without the key. Raises ValueError, KeyError or TypeError."""
        frames = tuple(str(frame) for frame in values["frames"])
        when = values["time"]
        return cls(
            values["signature"], str(values["quality"]), str(values["class"]), frames,
            float(when) if when is not None else None,
        )  # fmt: skip


def summarize(core: CoreFile, *, sysroot: str | None = None) -> CrashSummary:
    """Find out where a core's process crashed; of one that is compressed, what is recorded beside it.

    Files are looked for as ``find_crash`` does. Raises EvidenceError for a ``sysroot`` that cannot be used.
    """
    fd = core.source.origin.fd
    when = written_at(fd, core.source.name)
    identity = identify(core)
    files = _files(sysroot, fd)
    try:
        if core.source.seekable:
            crash = crash_of(core, identity, opened=lambda: files)
            frames = tuple(_shown(frame.text, frame.module, frame.function) for frame in crash.frames)
            found = crash.recorded
        else:
            found, frames = read_signature(fd) or RecordedSignature(NONE, None, "none"), ()
        key = _key(fd, identity, found, files)
    finally:
        if files is not None:
            files.close()
    return CrashSummary(found.signature, found.quality, found.kind, frames, when[0] if when is not None else None, key)


def _shown(text: str, module: bytes | None, function: str | None) -> str:
    """A frame for people: the module's name instead of its build-id, which the signature has."""
    if function is not None or module is None:
        return function or text
    return f"{printable(module.rpartition(b'/')[2])}+{text.rpartition('+')[2]}"


def _files(sysroot: str | None, fd: int) -> Sysroot | None:
    try:
        return sysroot_for(sysroot, fd)
    except EvidenceError:
        if sysroot is not None:
            raise
        return None


def _key(fd: int, identity: Identity, found: RecordedSignature, files: Sysroot | None) -> CrashKey | None:
    if found.quality != UNWOUND or found.signature is None or identity.uid is None or identity.executable is None:
        return None
    return CrashKey(owner_of(fd), identity.uid, program_owner(identity, files), found.signature)


def program_owner(identity: Identity, files: Sysroot | None) -> str:
    """Who owns the executable, by the file of its build-id; without that the path, which is more apart."""
    path = identity.executable or b""
    if files is not None and identity.build_id is not None:
        try:
            file = files.find(path, build_id=identity.build_id)
        except NotUsable:
            return printable(path)
        try:
            return f"user {file.uid}"
        finally:
            file.close()
    return printable(path)


def ranks(summaries: Mapping[str, CrashSummary]) -> dict[str, int]:
    """The place of each core among those of the same crash, from 1 for the oldest; those of no key have none."""
    seen: dict[CrashKey, int] = {}
    found = {}
    order = sorted(summaries, key=lambda name: (summaries[name].time or 0.0, name))
    for name in order:
        key = summaries[name].key
        if key is not None:
            seen[key] = found[name] = seen.get(key, 0) + 1
    return found
