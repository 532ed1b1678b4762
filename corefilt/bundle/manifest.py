"""What a bundle holds, and what of it could be checked: the values, and manifest.json made of them and read again."""

from __future__ import annotations

import os
from dataclasses import dataclass

from corefilt import __version__
from corefilt.documents.fields import a_list, a_name, a_size, a_text, decode_json, one_of, read_fields
from corefilt.documents.strict_json import as_json
from corefilt.errors import BundleError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FORMAT, FORMAT_VERSION = "corefilt-bundle", 1
# What became of a file: its build-id is the core's; nothing tells whether it is; it is another build; it is not there.
FOUND, UNVERIFIED, MISMATCHED, MISSING = STATUSES = ("found", "unverified", "mismatched", "missing")
# What a file is for: it was mapped, or a debugger loads it beside what was.
OBJECT, DEBUG, THREAD_DB, SCRIPT = ROLES = ("object", "debug", "thread_db", "script")
# Some 300 files of a browser take 100 KiB.
MOST_OF_MANIFEST = 16 << 20


@dataclass(frozen=True, slots=True)
class BundledFile:
    """A file of a bundle, or one that would have belonged into it.

    ``path`` is where it was on the machine of the core. ``build_id`` is the one that it should have, ``found_build_id``
    that of the file that was there instead (mismatched). ``size`` is in bytes, None for what is not in the bundle;
    ``reason`` says why it is not, or why nothing verifies it. ``package`` and ``version`` are its package's.
    """

    path: bytes
    role: str
    status: str
    build_id: bytes | None = None
    found_build_id: bytes | None = None
    size: int | None = None
    reason: str | None = None
    package: str | None = None
    version: str | None = None

    @property
    def is_lacking(self) -> bool:
        """Whether it is not in the bundle."""
        return self.status in (MISMATCHED, MISSING)

    def as_dict(self) -> dict[str, object]:
        """The file as JSON; build-ids are hex strings."""
        return {
            "path": os.fsdecode(self.path),
            "role": self.role,
            "status": self.status,
            "build_id": _hex(self.build_id),
            "found_build_id": _hex(self.found_build_id),
            "size": self.size,
            "reason": self.reason,
            "package": self.package,
            "package_version": self.version,
        }


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """All of manifest.json: the core's size in bytes, the mapped program's path, and every file."""

    core_size: int
    executable: bytes | None
    files: tuple[BundledFile, ...]
    corefilt: str = __version__

    def encoded(self) -> bytes:
        """The file's bytes."""
        value = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "corefilt": self.corefilt,
            "core_size": self.core_size,
            "executable": os.fsdecode(self.executable) if self.executable is not None else None,
            "files": [file.as_dict() for file in self.files],
        }
        return (as_json(value, indent=1) + "\n").encode()


def decode_manifest(raw: bytes, place: str) -> BundleManifest:
    """What manifest.json says; nobody vouches for it. Raises BundleError, which names ``place``."""
    found = read_fields(
        decode_json(raw, place, BundleError), _MANIFEST, place, BundleError, needed=("format", "version", "files")
    )
    files = tuple(_file(value, f"{place}: files[{n}]") for n, value in enumerate(found["files"]))
    executable = found.get("executable")
    return BundleManifest(
        found.get("core_size", 0), executable and os.fsencode(executable), files, found.get("corefilt", "unknown")
    )


def _file(value: object, place: str) -> BundledFile:
    found = read_fields(value, _FILE, place, BundleError, needed=("path", "role", "status"))
    raw = found.pop("path_bytes", None)
    path = os.fsencode(found.pop("path"))
    found["version"] = found.pop("package_version", None)
    return BundledFile(path if raw is None else raw, **found)


def _hex(raw: bytes | None) -> str | None:
    return raw.hex() if raw is not None else None


def _of_hex(value: object) -> bytes:
    try:
        return bytes.fromhex(a_text(value))
    except ValueError:
        raise UsageError(f"{value!r} is not a string of hexadecimal digits") from None


def _or_none(read: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else read(value)


def _this_version(value: object) -> int:
    if value != FORMAT_VERSION:
        raise UsageError(f"{value!r} is not {FORMAT_VERSION}", "a newer corefilt may read it")
    return FORMAT_VERSION


_MANIFEST: dict[str, Callable[[object], object]] = {
    "format": one_of(FORMAT),
    "version": _this_version,
    "corefilt": a_text,
    "core_size": a_size,
    "executable": _or_none(a_name),
    "executable_path_bytes": _of_hex,
    "files": a_list,
}
_FILE: dict[str, Callable[[object], object]] = {
    "path": a_name,
    "path_bytes": _of_hex,
    "role": one_of(*ROLES),
    "status": one_of(*STATUSES),
    "build_id": _or_none(_of_hex),
    "found_build_id": _or_none(_of_hex),
    "size": _or_none(a_size),
    "reason": _or_none(a_text),
    "package": _or_none(a_text),
    "package_version": _or_none(a_text),
}


def lacking(files: Sequence[BundledFile]) -> list[BundledFile]:
    """The mapped files that are missing or of another build."""
    return [file for file in files if file.role == OBJECT and file.is_lacking]
