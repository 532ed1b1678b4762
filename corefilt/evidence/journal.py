"""Entries of systemd's journal that hold a crashed process's maps: saved as text, or asked for.

The field is COREDUMP_PROC_MAPS; JOURNAL_EXPORT_FORMATS of systemd and, for JSON, its logs-show.c say how it is written.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import time

from corefilt.errors import EvidenceError
from corefilt.evidence.saved_text import PIECE, Sidecar, checked, gather, pieces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO, TypeAlias

    JournalEntry: TypeAlias = tuple[list[bytes], bytes | None]

# systemd reads no maps of more than 64 MiB (READ_FULL_BYTES_MAX). Parsed, JSON can take twenty times its length.
MOST_JSON = 64 << 20
# What a journal may answer: one entry, whose core is a file and not in it.
MOST_JOURNAL = 128 << 20
JOURNAL_SECONDS = 5.0

_FIELD = re.compile(rb"[A-Z0-9_]{1,64}")
_FILENAME = b"COREDUMP_FILENAME"
_MAPS = b"COREDUMP_PROC_MAPS"
# Where systemd-coredump puts cores, how it names them (make_filename; the first versions wrote no uid), and what
# it appends to the name when it compresses.
_STORE = "/var/lib/systemd/coredump"
_STORED = re.compile(r"core\..+\.[0-9a-f]{32}\.[0-9]+\.[0-9]+", re.DOTALL)
_SUFFIXES = (".zst", ".lz4", ".xz")

SAVE_ENTRY = "save the entry of the crash alone: journalctl -o export COREDUMP_FILENAME=..."


def names_of(real: str) -> list[str]:
    """What COREDUMP_FILENAME can be for a core, which may since have been decompressed or copied elsewhere."""
    folder, name = os.path.split(real)
    kept = plain(name)
    stored = bool(_STORED.fullmatch(kept))
    if not stored and not folder.endswith(_STORE):
        return []
    folders = dict.fromkeys((folder, _STORE) if stored else (folder,))
    return [os.path.join(folder, kept + suffix) for folder in folders for suffix in ("", *_SUFFIXES)]


def ask(matches: list[str], core: str) -> Sidecar:
    """The maps of a core, from entries whose COREDUMP_FILENAME is one of ``matches``. Raises EvidenceError."""
    answer = _run_journalctl([f"{_FILENAME.decode()}={match}" for match in matches])
    return chosen_from(entries_of_export(io.BytesIO(answer), "journal"), "journal", core)


def chosen_from(entries: Iterable[JournalEntry], name: str, core_path: str | None) -> Sidecar:
    """The core's entry: by its path, by its name, or the only one there is."""
    paths: tuple[bytes, ...] = ()
    if core_path is not None:
        paths = os.fsencode(os.path.realpath(core_path)), os.fsencode(os.path.abspath(core_path))
    own = {plain(os.path.basename(os.fsdecode(path))) for path in paths}
    count, best, chosen = 0, (-1, False), None
    for names, maps in entries:
        count += 1
        same = any(plain(os.path.basename(os.fsdecode(other))) in own for other in names)
        fit = 2 if any(other in paths for other in names) else int(same), maps is not None
        if fit > best:
            best, chosen = fit, maps
        if best == (2, True):
            break
    if not count:
        raise EvidenceError(f"{name}: has no entry with COREDUMP_PROC_MAPS", SAVE_ENTRY)
    if not best[0] and count > 1:
        why = (
            f"none whose COREDUMP_FILENAME is {core_path} or ends in its name"
            if paths
            else "the core has no name to compare their COREDUMP_FILENAME with"
        )
        raise EvidenceError(f"{name}: has {count} entries with COREDUMP_PROC_MAPS, and {why}", SAVE_ENTRY)
    if chosen is None:
        raise EvidenceError(
            f"{name}: COREDUMP_PROC_MAPS is null, because journalctl -o json leaves out long fields",
            "save it with journalctl -o json --all, or with -o export",
        )
    return checked(f"{name} (COREDUMP_PROC_MAPS)", chosen)


def entries_of_export(file: BinaryIO, name: str) -> Iterator[JournalEntry]:
    """COREDUMP_FILENAME and COREDUMP_PROC_MAPS of every entry that has the latter, of ``journalctl -o export``."""
    names: list[bytes] = []
    maps: bytes | None = None
    number = 1
    while line := file.readline(PIECE):
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
            raise EvidenceError(f"{name}: begins like a journal export, but entry {number} is invalid")
        if field not in (_FILENAME, _MAPS):
            for _ in pieces:
                pass
            continue
        value = gather(pieces, name)
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
        piece = file.readline(PIECE)
        yield piece


def _counted(file: BinaryIO, name: str, number: int) -> Iterator[bytes]:
    """A value that is not one line of text: its length in 64 bits, little-endian, so many bytes, and a line's end."""
    length = file.read(8)
    count = struct.unpack("<Q", length)[0] if len(length) == 8 else 1
    for piece in pieces_of(file, count):
        yield piece
        count -= len(piece)
    if count or file.read(1) != b"\n":
        raise EvidenceError(f"{name}: is cut off in entry {number}, or is not a journal export", "save it once more")


def entries_of_json(file: BinaryIO, name: str) -> Iterator[JournalEntry]:
    """The same of ``journalctl -o json``, ``json-seq`` or ``json-pretty``; None for maps that were left out."""
    for number, text in enumerate(_objects(file, name), 1):
        try:
            # Old versions of journalctl write bytes that are no UTF-8 as they are.
            entry = json.loads(text.decode("utf-8", "surrogateescape"))
            if not isinstance(entry, dict):
                raise ValueError("it is not an object")
            names = [value for value in _values(entry.get(_FILENAME.decode())) if value is not None]
            maps = next((value for value in _values(entry.get(_MAPS.decode())) if value is not None), None)
        except (ValueError, RecursionError) as error:
            raise EvidenceError(f"{name}: object {number} is not a journal entry in JSON: {error}") from None
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


def plain(name: str) -> str:
    """A core's name without what systemd appends when it compresses."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name


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
        piece = os.read(pipe, PIECE)
        if not piece:
            return held.getvalue()
        held.write(piece)
    raise EvidenceError("journalctl took too long or printed too much")
