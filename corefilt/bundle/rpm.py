"""Which package a file is of, by the database of rpm 4.16 and later (SQLite): read, so nothing of that system is run.

A header of a package is an index of 16 bytes an entry and the data behind it, all big-endian (rpm's
docs/manual/format.md; read beside ``rpm -q`` of rpm 4.18). Files are told by directory index and last name.
"""

from __future__ import annotations

import sqlite3
import struct
import tempfile
from urllib.parse import quote

from corefilt.io.named_files import WINDOW, NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.evidence.sysroot import MappedFile, Sysroot

_PLACES = (b"/usr/lib/sysimage/rpm/rpmdb.sqlite", b"/var/lib/rpm/rpmdb.sqlite")
# A workstation of 3,000 packages has 200 MiB; one header has some 100 KiB, that of a kernel 2 MiB.
MOST_OF_DATABASE = 4 << 30
MOST_OF_A_HEADER = 64 << 20
# Steps of SQLite's machine for one path: a look-up takes some hundred.
MOST_STEPS = 1_000_000
NAME, VERSION, RELEASE, DIRINDEXES, DIRNAMES = 1000, 1001, 1002, 1116, 1118
_QUERY = "SELECT idx, blob FROM Basenames JOIN Packages USING (hnum) WHERE key = CAST(? AS TEXT) LIMIT 256"


def packages_of_rpm(paths: Iterable[bytes], sysroot: Sysroot) -> dict[bytes, tuple[str, str]]:
    """Name and version-release of the package that lists each path; none without such a database."""
    for place in _PLACES:
        try:
            file = sysroot.find(place, most=MOST_OF_DATABASE)
        except NotUsable:
            continue
        try:
            return _looked_up(paths, file)
        except (NotUsable, sqlite3.Error):
            # It is damaged or of another kind: packages are not known then.
            return {}
        finally:
            file.close()
    return {}


def _looked_up(paths: Iterable[bytes], file: MappedFile) -> dict[bytes, tuple[str, str]]:
    # SQLite opens names only, and follows those in /proc to what they were once.
    with tempfile.NamedTemporaryFile(prefix="corefilt-rpm-") as copy:
        for offset in range(0, file.size, WINDOW):
            copy.write(file.read(offset, WINDOW))
        copy.flush()
        database = sqlite3.connect(f"file:{quote(copy.name)}?mode=ro&immutable=1", uri=True)
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_OF_A_HEADER)
            found = {path: _package(database, path) for path in paths}
        finally:
            database.close()
    return {path: package for path, package in found.items() if package is not None}


def _package(database: sqlite3.Connection, path: bytes) -> tuple[str, str] | None:
    folder, _, name = path.rpartition(b"/")
    # What asks for more than this is a schema that was made to.
    database.set_progress_handler(lambda: 1, MOST_STEPS)
    for index, blob in database.execute(_QUERY, (name,)):
        try:
            found = _of_header(blob, index, folder + b"/")
        except (struct.error, IndexError, TypeError, ValueError):
            continue
        if found is not None:
            return found
    return None


def _of_header(blob: bytes, index: int, folder: bytes) -> tuple[str, str] | None:
    """Name and version of a package whose file of that number lies in a directory. Raises what slicing does."""
    count, length = struct.unpack_from(">II", blob)
    if count > len(blob) // 16:
        raise ValueError("the index is longer than the header")
    data = blob[8 + 16 * count : 8 + 16 * count + length]
    places = {}
    for n in range(count):
        tag, _, offset, entries = struct.unpack_from(">IIII", blob, 8 + 16 * n)
        places[tag] = offset, entries

    def texts(tag: int) -> list[bytes]:
        offset, entries = places.get(tag, (len(data), 0))
        return data[offset:].split(b"\0", min(entries, len(data)))[:entries]

    offset, entries = places.get(DIRINDEXES, (0, 0))
    if not 0 <= index < entries:
        return None
    (at,) = struct.unpack_from(">I", data, offset + 4 * index)
    if texts(DIRNAMES)[at] != folder:
        return None
    name, version, release = (texts(tag)[0].decode(errors="replace") for tag in (NAME, VERSION, RELEASE))
    return name, f"{version}-{release}"
