"""Which package a file is of, by what dpkg or rpm note below a directory: read, so nothing of that system is run."""

from __future__ import annotations

from corefilt.bundle.rpm import packages_of_rpm
from corefilt.io.named_files import NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.evidence.sysroot import Sysroot

_STATUS = b"/var/lib/dpkg/status"
_INFO = b"/var/lib/dpkg/info/"
# Debian has 64,000 packages, whose entries take 1 KiB each; the longest list of files has 2 MiB.
MOST_OF_STATUS = 64 << 20
MOST_OF_A_LIST = 16 << 20


def packages_of(paths: Iterable[bytes], sysroot: Sysroot) -> dict[bytes, tuple[str, str]]:
    """Name and version of the package of each path that one is known for."""
    spelled: dict[bytes, bytes] = {}
    for path in paths:
        spelled[path] = path
        # What was packaged before /lib became a link to /usr/lib is listed without /usr.
        spelled.setdefault(path.removeprefix(b"/usr"), path)
    found: dict[bytes, tuple[str, str]] = {}
    wanted = set(spelled.values())
    status = _read(sysroot, _STATUS, MOST_OF_STATUS)
    if not status:
        return {spelled[path]: package for path, package in packages_of_rpm(spelled, sysroot).items()}
    for lists, name, version in _installed(status):
        if len(found) == len(wanted):
            break
        listed = next(filter(None, (_read(sysroot, place, MOST_OF_A_LIST) for place in lists)), b"")
        for path in spelled.keys() & set(listed.split(b"\n")):
            found.setdefault(spelled[path], (name, version))
    return found


def _installed(status: bytes) -> Iterator[tuple[tuple[bytes, ...], str, str]]:
    """Where the list of each installed package may stand, its name and version (deb822 of dpkg's status)."""
    for entry in status.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in entry.split(b"\n") if b": " in line and line[:1] != b" ")
        name, version = fields.get(b"Package", b""), fields.get(b"Version", b"")
        if name and version and b"/" not in name and fields.get(b"Status", b"").endswith(b" installed"):
            architecture = fields.get(b"Architecture", b"").replace(b"/", b"")
            places = (_INFO + name + b":" + architecture + b".list", _INFO + name + b".list")
            # Packages that can be installed for several architectures at once have theirs in the list's name.
            several = fields.get(b"Multi-Arch") == b"same"
            yield places if several else places[1:], name.decode(errors="replace"), version.decode(errors="replace")


def _read(sysroot: Sysroot, path: bytes, most: int) -> bytes:
    try:
        file = sysroot.find(path, most=most)
    except NotUsable:
        return b""
    try:
        return file.read(0, file.size)
    except NotUsable:
        return b""
    finally:
        file.close()
