"""The text of a ``maps`` or ``smaps`` file that was saved with a core, wherever crash handlers put it.

It stands in a file of its own (by hand, abrt, apport-unpack), in the field ProcMaps of a report of apport (the
format of its problem_report.py), or in the field COREDUMP_PROC_MAPS of systemd's journal (JOURNAL_EXPORT_FORMATS of
systemd; JSON by its logs-show.c). All of it is untrusted: what is read is bounded, and nothing of it is run.
"""

from __future__ import annotations

import binascii
import io
import json
import os
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib

from .compression import recognise
from .errors import EvidenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO, TypeAlias

    from _typeshed import WriteableBuffer

    Entry: TypeAlias = tuple[list[bytes], bytes | None]

# An smaps has about 1.1 KiB a mapping with the path of a file; a million mappings are the most that make sense.
MOST = 1 << 30
# systemd reads no maps of more than 64 MiB (READ_FULL_BYTES_MAX). Parsed, JSON can take twenty times its length.
MOST_JSON = 64 << 20
# What a journal may answer: one entry, whose core is a file and not in it.
MOST_JOURNAL = 128 << 20
JOURNAL_SECONDS = 5.0
# Beside a core. A report begins with its texts, ProcMaps among them; the core in it can have gigabytes.
MOST_OF_REPORT = 256 << 20
MOST_REPORTS = 16
MOST_NAMES = 1 << 14

_HEAD = 4096
_PIECE = 1 << 16

_MAPPING = re.compile(rb"[0-9a-f]{1,16}-[0-9a-f]{1,16} [r-][w-][x-][sp] [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [0-9]+")
_ROLLUP = re.compile(rb"[^\n]* \[rollup\]\n")
_REPORT = re.compile(rb"^(?:ProblemType|ProcMaps):", re.MULTILINE)
_EXPORT = re.compile(rb"[A-Z0-9_]{1,64}=")
_JSON = re.compile(rb"[\s\x1e]*\{")
_FIELD = re.compile(rb"[A-Z0-9_]{1,64}")

_FILENAME = b"COREDUMP_FILENAME"
_MAPS = b"COREDUMP_PROC_MAPS"
# Where systemd-coredump puts cores, how it names them (make_filename; the first versions wrote no uid), and what
# it appends to the name when it compresses.
_STORE = "/var/lib/systemd/coredump"
_STORED = re.compile(r"core\..+\.[0-9a-f]{32}\.[0-9]+\.[0-9]+", re.DOTALL)
_SUFFIXES = (".zst", ".lz4", ".xz")

_SAVE_ENTRY = "save the entry of the crash alone: journalctl -o export COREDUMP_FILENAME=..."


class Sidecar:
    """The text of a maps or smaps file, and ``name``, where it came from, for messages."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: bytes) -> None:
        """Hold both."""
        self.name, self.text = name, text


def read_sidecar(path: str | bytes | os.PathLike[str], core_path: str | None) -> Sidecar:
    """What a file holds, told by its content: maps or smaps (returned whole), or a report or journal with such.

    Of a journal that was saved with several entries, the one of ``core_path`` is taken. Pipes may be named,
    devices and folders not. Raises EvidenceError.
    """
    name = os.fsdecode(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise EvidenceError(f"{name}: is a directory", "name the file in it: maps, smaps, or a report")
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise EvidenceError(f"{name}: is a device", "name a file or a pipe that brings a saved maps or smaps")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with _Input(fd) as stream:
            return _sidecar_in(stream, name, core_path)
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except MemoryError:
        raise EvidenceError(f"{name}: takes more memory than there is") from None


def find_sidecars(core_path: str) -> Iterator[Sidecar]:
    """Everything that could be the map of the core at ``core_path``, best first; what cannot be read is passed over.

    First smaps, then maps, in files that carry the core's name before those that do not; then reports of apport, those
    nearest to the core in time first; then the journal, if the core is one of systemd's. None of them need be this
    core's: whether the addresses fit is for the caller to see.
    """
    try:
        real = os.path.realpath(core_path)
        folders = [os.path.dirname(core_path) or os.curdir]
        # A symlink's own folder comes first.
        if os.path.realpath(folders[0]) != os.path.dirname(real):
            folders.append(os.path.dirname(real))
    except (OSError, ValueError):
        return
    name = os.path.basename(core_path)
    stems = list(dict.fromkeys((name, _plain(name))))
    for kind, others in (("smaps", ["smaps"]), ("maps", ["maps", "ProcMaps"])):
        for folder in folders:
            for candidate in (*(f"{stem}.{kind}" for stem in stems), *others):
                yield from _if_usable(_file_beside, os.path.join(folder, candidate))
    for folder in folders:
        for path in _reports_in(folder, real):
            yield from _if_usable(_report_beside, path)
    matches = _journal_names(real)
    if matches:
        yield from _if_usable(_ask_journal, matches, real)


def _if_usable(read: Callable[..., Sidecar], *args: object) -> list[Sidecar]:
    try:
        return [read(*args)]
    except (EvidenceError, OSError, ValueError, MemoryError):
        return []


class _Input(io.RawIOBase):
    """A descriptor, closed with it, whose first bytes can be looked at before they are read."""

    def __init__(self, fd: int) -> None:
        """Take the descriptor."""
        super().__init__()
        self._fd, self._ahead = fd, b""

    def head(self) -> bytes:
        """Up to _HEAD bytes; fewer only if there are no more."""
        while len(self._ahead) < _HEAD and (piece := os.read(self._fd, _HEAD - len(self._ahead))):
            self._ahead += piece
        return self._ahead

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """What was looked at, then what follows it."""
        room = memoryview(buffer).cast("B")
        if not self._ahead:
            return os.readv(self._fd, [room])
        taken, self._ahead = self._ahead[: len(room)], self._ahead[len(room) :]
        room[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            super().close()
            os.close(self._fd)


def _sidecar_in(stream: _Input, name: str, core_path: str | None) -> Sidecar:
    head = stream.head()
    file = io.BufferedReader(stream, _PIECE)
    if _MAPPING.match(head):
        return _checked(name, _gather(_pieces_of(file), name))
    if _JSON.match(head):
        return _chosen(_entries_of_json(file, name), name, core_path)
    if _EXPORT.match(head):
        return _chosen(_entries_of_export(file, name), name, core_path)
    if _REPORT.search(head):
        return _from_report(file, name)
    raise _unknown(head, name)


def _unknown(head: bytes, name: str) -> EvidenceError:
    if not head:
        return EvidenceError(f"{name}: is empty", "a maps read after its process has ended is empty; save it before")
    packer = recognise(head)
    if packer is not None:
        return EvidenceError(f"{name}: is compressed with {packer}", "decompress it first")
    if head.startswith(b"\x7fELF"):
        what = "a core" if head[16:18] in (b"\4\0", b"\0\4") else "an ELF file"
        return EvidenceError(f"{name}: is {what}, not a maps or smaps", "name the text that was saved beside the core")
    if head.startswith(b"LPKSHHRH"):
        return EvidenceError(f"{name}: is a journal's own file", "write it as text: journalctl --file FILE -o export")
    if head.lstrip().startswith(b"["):
        return EvidenceError(
            f"{name}: is a JSON array; what coredumpctl --json lists has no maps",
            _SAVE_ENTRY,
        )
    return EvidenceError(
        f"{name}: is neither maps nor smaps, nor a report or a journal that holds them",
        "save /proc/PID/smaps while the process exists, or leave the option out",
    )


def _checked(name: str, text: bytes) -> Sidecar:
    """The sidecar, if its text begins like maps or smaps."""
    if not text.strip():
        raise EvidenceError(f"{name}: is empty")
    if not _MAPPING.match(text):
        # Apport writes why it could not read the file in its place.
        first = text[:80].partition(b"\n")[0].decode("utf-8", "replace")
        raise EvidenceError(f"{name}: holds no mappings, but {first!r}")
    if _ROLLUP.match(text):
        raise EvidenceError(f"{name}: is smaps_rollup, which has sums only", "save smaps or maps instead")
    return Sidecar(name, text)


def _gather(pieces: Iterable[bytes], name: str) -> bytes:
    """The pieces as one, no more than MOST bytes."""
    held = io.BytesIO()
    for piece in pieces:
        if len(piece) > MOST - held.tell():
            raise EvidenceError(f"{name}: is longer than {MOST} bytes, more than any process has mappings for")
        held.write(piece)
    return held.getvalue()


def _pieces_of(file: BinaryIO, count: int = sys.maxsize) -> Iterator[bytes]:
    """Up to ``count`` bytes of a file; fewer only where it ends."""
    while count > 0 and (piece := file.read(min(count, _PIECE))):
        yield piece
        count -= len(piece)


def _file_beside(path: str) -> Sidecar:
    with _open_found(path) as stream:
        if not _MAPPING.match(stream.head()):
            raise EvidenceError(f"{path}: is neither maps nor smaps")
        return _checked(path, _gather(_pieces_of(io.BufferedReader(stream, _PIECE)), path))


def _open_found(path: str) -> _Input:
    """A regular file that nobody has named; anything else could block, or do something when it is opened."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise EvidenceError(f"{path}: is no file")
    return _Input(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))


def _reports_in(folder: str, core: str) -> list[str]:
    """The reports of apport in a folder, those nearest to the core in time first."""
    found = []
    try:
        moment = os.stat(core).st_mtime
        with os.scandir(folder) as names:
            for _, entry in zip(range(MOST_NAMES), names, strict=False):
                if entry.name.endswith(".crash") and entry.is_file():
                    found.append((abs(entry.stat().st_mtime - moment), entry.path))
    except (OSError, ValueError):
        pass
    return [path for _, path in sorted(found)[:MOST_REPORTS]]


def _report_beside(path: str) -> Sidecar:
    with _open_found(path) as stream:
        if not _REPORT.search(stream.head()):
            raise EvidenceError(f"{path}: is no report of apport")
        return _from_report(io.BufferedReader(stream, _PIECE), path, MOST_OF_REPORT)


def _from_report(file: BinaryIO, name: str, reach: int = sys.maxsize) -> Sidecar:
    """ProcMaps of a report; of its first ``reach`` bytes only, which a core in base64 may fill."""
    value = _gather(field_of_report(file, b"ProcMaps", name, reach), f"{name} (ProcMaps)")
    if not value:
        raise EvidenceError(f"{name}: is a report without the field ProcMaps")
    name = f"{name} (ProcMaps)"
    first, _, rest = value.partition(b"\n")
    if first.strip() == b"base64":
        return _checked(name, _unpacked(rest, name))
    return _checked(name, (b"\n" + value).replace(b"\n ", b"\n").lstrip(b"\n"))


def field_of_report(file: BinaryIO, field: bytes, name: str, reach: int = sys.maxsize) -> Iterator[bytes]:
    """What follows ``field:`` in a report, with the lines after it that begin with a space, in bounded pieces.

    Raises EvidenceError where the report's first ``reach`` bytes end before the field does.
    """
    inside, fresh = False, True
    while piece := file.readline(_PIECE):
        reach -= len(piece)
        if reach < 0:
            raise EvidenceError(f"{name}: has no {field.decode()} among its first fields")
        goes_on, fresh = not fresh or piece.startswith(b" "), piece.endswith(b"\n")
        if not goes_on:
            if inside:
                return
            key, _, piece = piece.partition(b":")
            inside = key == field
        if inside:
            yield piece


def _unpacked(lines: bytes, name: str) -> bytes:
    """A binary value: in gzip, or in zlib as the first versions wrote it, every line in a base64 of its own."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def pieces() -> Iterator[bytes]:
        for line in io.BytesIO(lines):
            yield inflate.decompress(binascii.a2b_base64(line), MOST + 1)
            if inflate.eof:
                return

    try:
        text = _gather(pieces(), name)
    except (ValueError, zlib.error) as error:
        raise EvidenceError(f"{name}: cannot be decompressed: {error}") from None
    if not inflate.eof:
        raise EvidenceError(f"{name}: is cut off")
    return text


def _entries_of_export(file: BinaryIO, name: str) -> Iterator[Entry]:
    """COREDUMP_FILENAME and COREDUMP_PROC_MAPS of every entry that has the latter, of ``journalctl -o export``."""
    names: list[bytes] = []
    maps: bytes | None = None
    number = 1
    while line := file.readline(_PIECE):
        if line == b"\n":
            if maps is not None:
                yield names, maps
            names, maps, number = [], None, number + 1
            continue
        field, equals, value = line.partition(b"=")
        if equals:
            pieces = _line_from(value, file)
        else:
            field, pieces = field.removesuffix(b"\n"), _counted(file, name, number)
        if not _FIELD.fullmatch(field):
            raise EvidenceError(f"{name}: begins like a journal export, but its entry {number} is none")
        if field not in (_FILENAME, _MAPS):
            for _ in pieces:
                pass
            continue
        value = _gather(pieces, name)
        if equals:
            value = value.removesuffix(b"\n")
        if field == _FILENAME:
            names.append(value)
        elif maps is None:
            maps = value
    if maps is not None:
        yield names, maps


def _line_from(piece: bytes, file: BinaryIO) -> Iterator[bytes]:
    """The rest of a line, with its end, from a piece on that was read already."""
    yield piece
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(_PIECE)
        yield piece


def _counted(file: BinaryIO, name: str, number: int) -> Iterator[bytes]:
    """A value that is not one line of text: its length in 64 bits, little-endian, so many bytes, and a line's end."""
    length = file.read(8)
    count = struct.unpack("<Q", length)[0] if len(length) == 8 else 1
    for piece in _pieces_of(file, count):
        yield piece
        count -= len(piece)
    if count or file.read(1) != b"\n":
        raise EvidenceError(f"{name}: is cut off in entry {number}, or no journal export", "save it once more")


def _entries_of_json(file: BinaryIO, name: str) -> Iterator[Entry]:
    """The same of ``journalctl -o json``, ``json-seq`` or ``json-pretty``; None for maps that were left out."""
    for number, text in enumerate(_objects(file, name), 1):
        try:
            # Old versions of journalctl write bytes that are no UTF-8 as they are.
            entry = json.loads(text.decode("utf-8", "surrogateescape"))
            if not isinstance(entry, dict):
                raise ValueError("it is no object")
            names = [value for value in _values(entry.get(_FILENAME.decode())) if value is not None]
            maps = next((value for value in _values(entry.get(_MAPS.decode())) if value is not None), None)
        except (ValueError, RecursionError) as error:
            raise EvidenceError(f"{name}: object {number} is no entry of a journal in JSON: {error}") from None
        if _MAPS.decode() in entry:
            yield names, maps


def _objects(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The objects' texts, each on a line of its own or on lines from ``{`` to ``}``."""
    held: list[bytes] = []
    room = MOST_JSON
    while line := file.readline(room + 1):
        room -= len(line)
        if room < 0:
            raise EvidenceError(
                f"{name}: one JSON object is longer than {MOST_JSON} bytes", "save it with journalctl -o export instead"
            )
        if not held:
            line = line.strip(b"\x1e \t\r\n")
        if line:
            held.append(line)
        if not held or held[0] != b"{" or (len(held) > 1 and line.rstrip() == b"}"):
            yield from (b"".join(held),) if held else ()
            held, room = [], MOST_JSON
    if held:
        yield b"".join(held)


def _values(value: object) -> list[bytes | None]:
    """The values of a field: text, numbers of bytes, null for what is too long, or several of these."""
    if isinstance(value, list) and any(not isinstance(item, int) for item in value):
        return [_bytes_of(item) for item in value]
    return [_bytes_of(value)]


def _bytes_of(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return bytes(value)
    raise ValueError("a field is neither text nor bytes")


def _chosen(entries: Iterable[Entry], name: str, core_path: str | None) -> Sidecar:
    """The core's entry: by its path, by its name, or the only one there is."""
    paths: tuple[bytes, ...] = ()
    if core_path is not None:
        paths = os.fsencode(os.path.realpath(core_path)), os.fsencode(os.path.abspath(core_path))
    own = {_plain(os.path.basename(os.fsdecode(path))) for path in paths}
    count, best, chosen = 0, (-1, False), None
    for names, maps in entries:
        count += 1
        same = any(_plain(os.path.basename(os.fsdecode(other))) in own for other in names)
        fit = 2 if any(other in paths for other in names) else int(same), maps is not None
        if fit > best:
            best, chosen = fit, maps
        if best == (2, True):
            break
    if not count:
        raise EvidenceError(f"{name}: has no entry with COREDUMP_PROC_MAPS", _SAVE_ENTRY)
    if not best[0] and count > 1:
        why = (
            f"none whose COREDUMP_FILENAME is {core_path} or ends in its name"
            if paths
            else "the core has no name to compare their COREDUMP_FILENAME with"
        )
        raise EvidenceError(f"{name}: has {count} entries with COREDUMP_PROC_MAPS, and {why}", _SAVE_ENTRY)
    if chosen is None:
        raise EvidenceError(
            f"{name}: COREDUMP_PROC_MAPS is null, for journalctl -o json leaves out what is long",
            "save it with journalctl -o json --all, or with -o export",
        )
    return _checked(f"{name} (COREDUMP_PROC_MAPS)", chosen)


def _plain(name: str) -> str:
    """A core's name without what systemd appends when it compresses."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name


def _journal_names(real: str) -> list[str]:
    """What COREDUMP_FILENAME can be for a core, which may since have been decompressed or copied elsewhere."""
    folder, name = os.path.split(real)
    plain = _plain(name)
    stored = bool(_STORED.fullmatch(plain))
    if not stored and not folder.endswith(_STORE):
        return []
    folders = dict.fromkeys((folder, _STORE) if stored else (folder,))
    return [os.path.join(folder, plain + suffix) for folder in folders for suffix in ("", *_SUFFIXES)]


def _ask_journal(matches: list[str], core: str) -> Sidecar:
    answer = _run_journalctl([f"{_FILENAME.decode()}={match}" for match in matches])
    return _chosen(_entries_of_export(io.BytesIO(answer), "journal"), "journal", core)


def _run_journalctl(matches: list[str]) -> bytes:
    """The entries that match any of these, as export; it is ended if it takes too long or says too much."""
    path = [folder for folder in os.get_exec_path() if os.path.isabs(folder)]
    command = shutil.which("journalctl", path=os.pathsep.join(path))
    if command is None:
        raise EvidenceError("journalctl is not in PATH")
    output, its_output = os.pipe()
    with open(output, "rb", buffering=0) as pipe:
        try:
            child = subprocess.Popen(
                [command, "--output=export", "--all", "--no-pager", "--quiet", *matches],
                stdin=subprocess.DEVNULL,
                stdout=its_output,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        finally:
            os.close(its_output)
        try:
            return _all_of(pipe.fileno(), time.monotonic() + JOURNAL_SECONDS)
        finally:
            try:
                # Not waited for yet, so the number is still its own; unless whoever started us ignores SIGCHLD.
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()


def _all_of(pipe: int, until: float) -> bytes:
    held = io.BytesIO()
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    while held.tell() <= MOST_JOURNAL:
        left = until - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            break
        piece = os.read(pipe, _PIECE)
        if not piece:
            return held.getvalue()
        held.write(piece)
    raise EvidenceError("journalctl takes too long or says too much")
