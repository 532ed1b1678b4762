"""What the handler's child does once it has no rights any more, done by a test's own process."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.archives import UNPACK
from support.maps import map_of
from support.run import assert_promises, kept_sizes
from support.samples import sample_core

import corefilt
from corefilt.errors import EvidenceError, MissingLibraryError
from corefilt.filterbits import Bit
from corefilt.handler import outputs
from corefilt.handler import worker as child
from corefilt.handler import zstd_copy as compression
from corefilt.handler.config import Config
from corefilt.handler.crash_info import CrashInfo
from corefilt.handler.crashed_process import Victim
from corefilt.handler.process_evidence import Handed
from corefilt.handler.result import FAILED, FILTERED, WHOLE, Result
from corefilt.handler.worker import Work

NO_LIMIT = (1 << 64) - 1
NAME = "process 7"


@contextmanager
def stream_of(core: bytes | Path) -> Iterator[int]:
    """Give what the kernel writes into: a pipe, or a file where a server has put it."""
    if isinstance(core, Path):
        with core.open("rb") as stored:
            yield stored.fileno()
        return
    reader, writer = os.pipe()

    def feed() -> None:
        try:
            with open(writer, "wb") as file:
                file.write(core)
        except BrokenPipeError:
            return

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        with open(reader, "rb") as pipe:
            yield pipe.fileno()
    finally:
        feeding.join()


def gone() -> Victim:
    """Give a process of which nothing can be opened any more."""
    victim = Victim()
    victim.why_not = "it is gone"
    return victim


def close_if_open(fd: int) -> None:
    """Close a descriptor, unless that was done."""
    with suppress(OSError):
        os.close(fd)


class Done:
    """What came of it: the result, and the bytes of the two files."""

    def __init__(self, core: bytes | Path, folder: Path, victim: Victim | None, limit: int, settings: Config) -> None:
        """Do it."""
        crash = CrashInfo(7, 1000, 1000, 11, 1_700_000_000, limit, 1)
        with ExitStack() as opened:
            files = [os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("first", "second")]
            for fd in files:
                opened.callback(os.close, fd)
            # The work closes its own when it has read all.
            stream = os.dup(opened.enter_context(stream_of(core)))
            opened.callback(close_if_open, stream)
            work = Work(crash, settings, victim or gone(), stream, (files[0], files[1]))
            self.result: Result = work.carry_out()
        self.files = [(folder / name).read_bytes() for name in ("first", "second")]

    @property
    def core(self) -> bytes:
        """The core that is to get a name."""
        return self.files[self.result.file]


def work(
    core: bytes | Path, folder: Path, *, victim: Victim | None = None, limit: int = NO_LIMIT, **settings: object
) -> Done:
    """Have a core saved with settings, by default those that keep everything."""
    config = Config()
    config.filter, config.free_space = Bit.ALL, 0
    for name, value in settings.items():
        setattr(config, name, value)
    return Done(core, folder, victim, limit, config)


def as_filtered(core: Path, **options: object) -> bytes:
    """Return what corefilt makes of a core that comes through a pipe."""
    out = core.with_name("offline")
    with stream_of(core.read_bytes()) as stream:
        corefilt.filter(stream, out, force=True, **options)  # type: ignore[arg-type]
    return out.read_bytes()


# --- what is saved ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("bits", [0x31, 0x1FF, 0])
def test_a_core(bits: int, stored: bool, core: Path, tmp_path: Path) -> None:
    done = work(core if stored else core.read_bytes(), tmp_path, filter=bits)
    assert done.core == as_filtered(core, filter=bits)
    assert (done.result.status, done.result.damaged, done.result.file) == (FILTERED, False, 0)
    assert (done.result.input_bytes, done.result.output_bytes) == (core.stat().st_size, len(done.core))
    assert done.result.dropped == sum(kept_sizes(core.read_bytes())) - sum(kept_sizes(done.core))
    assert "no evidence: it is gone" in done.result.words


def test_a_note_instead_of_a_filter(core: Path, tmp_path: Path) -> None:
    done = work(core.read_bytes(), tmp_path, filter=0, annotate_full=True)
    assert kept_sizes(done.core) == kept_sizes(core.read_bytes())
    assert b"COREFILT" in done.core


def test_half_a_core(core: Path, tmp_path: Path) -> None:
    half = core.read_bytes()[: core.stat().st_size // 2]
    done = work(half, tmp_path)
    assert (done.result.status, done.result.damaged) == (FILTERED, True)
    assert "truncated" in done.result.words
    assert_promises(half, done.core)


@pytest.mark.parametrize("what", [b"not a core at all" * 1000, b"\x7fELF", b"x"])
def test_what_is_no_core(what: bytes, tmp_path: Path) -> None:
    done = work(what, tmp_path)
    assert (done.result.status, done.core) == (WHOLE, what)
    assert "saved unfiltered" in done.result.words


def test_a_file_that_is_no_core(tmp_path: Path) -> None:
    """It stays where the server put it, and can be looked at there."""
    (tmp_path / "none").write_bytes(b"not a core" * 1000)
    done = work(tmp_path / "none", tmp_path)
    assert done.result.status == FAILED
    assert "ELF" in done.result.words


def test_no_byte(tmp_path: Path) -> None:
    assert_failed(work(b"", tmp_path), "the kernel sent no data")


# --- limits -----------------------------------------------------------------------------------------------


def test_a_limit_that_is_ignored(core: Path, tmp_path: Path) -> None:
    assert kept_sizes(work(core.read_bytes(), tmp_path, limit=0).core) == kept_sizes(core.read_bytes())


def test_a_limit_that_cuts(core: Path, tmp_path: Path) -> None:
    done = work(core.read_bytes(), tmp_path, limit=40000, rlimit="truncate")
    assert done.core == as_filtered(core, filter="all", truncate=40000)
    assert len(done.core) < core.stat().st_size


@pytest.mark.parametrize("annotate", [False, True])
def test_a_limit_to_fit(annotate: bool, core: Path, tmp_path: Path) -> None:
    core.write_bytes(sample_core(anon_pages=100))
    done = work(core.read_bytes(), tmp_path, limit=60000, rlimit="fit", annotate_full=annotate)
    assert (done.result.file, done.result.output_bytes) == (1, len(done.core))
    assert len(done.core) <= 60000
    assert "made to fit RLIMIT_CORE (60000 bytes)" in done.result.words
    assert b"COREFILT" in done.core


def test_a_limit_that_nothing_fits(core: Path, tmp_path: Path) -> None:
    assert_failed(work(core.read_bytes(), tmp_path, limit=4095, rlimit="fit"), "4095")


# --- compression ------------------------------------------------------------------------------------------


def test_compressed(core: Path, tmp_path: Path) -> None:
    done = work(core.read_bytes(), tmp_path, compress=1)
    assert (done.result.compressed, done.result.file, done.result.output_bytes) == (True, 1, len(done.core))
    assert UNPACK["zstd"](done.core) == as_filtered(core, filter="all")


def test_compressed_behind_a_limit(core: Path, tmp_path: Path) -> None:
    """What was fitted stands in the second file, and is compressed into the first one."""
    core.write_bytes(sample_core(anon_pages=100))
    done = work(core.read_bytes(), tmp_path, limit=60000, rlimit="fit", compress=1)
    assert (done.result.compressed, done.result.file, done.result.output_bytes) == (True, 0, len(done.core))
    assert UNPACK["zstd"](done.core) == done.files[1]


def test_without_the_library(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise MissingLibraryError(f"{name} needs a package")

    monkeypatch.setattr(child, "check_decoder", missing)
    done = work(core.read_bytes(), tmp_path, compress=1)
    assert (done.result.status, done.result.compressed) == (FILTERED, False)
    assert "not compressed: zstd needs a package" in done.result.words


def test_no_room_to_compress(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved stays, and the room that the attempt took is given back."""

    def full(*about: object) -> int:
        os.pwrite(int(str(about[1])), b"a beginning", 0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(child, "compress", full)
    done = work(core.read_bytes(), tmp_path, compress=1)
    assert (done.result.status, done.result.compressed, done.files[1]) == (FILTERED, False, b"")
    assert done.core == as_filtered(core, filter="all")
    assert "not compressed" in done.result.words


def test_short_writes_and_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "PIECE", 1000)
    looks: list[int] = []
    content = os.urandom(4321)
    with (tmp_path / "in").open("w+b") as source, (tmp_path / "out").open("w+b") as target:
        source.write(content)
        target.write(b"what was there" * 1000)
        source.flush()
        target.flush()
        written = compression.compress(source.fileno(), target.fileno(), 1, looks.append)
    packed = (tmp_path / "out").read_bytes()
    assert (len(packed), UNPACK["zstd"](packed)) == (written, content)
    assert looks == [1000, 1000, 1000, 1000, 321]


# --- what stands against it -------------------------------------------------------------------------------


def assert_failed(done: Done, *words: str) -> None:
    """Nothing is saved, and the words say why."""
    assert done.result.status == FAILED, done.result.words
    assert not [word for word in words if word not in done.result.words], done.result.words


def test_the_floor_at_the_start(core: Path, tmp_path: Path) -> None:
    assert_failed(work(core.read_bytes(), tmp_path, free_space=1 << 62), "would stay free (free-space)")


def test_the_floor_on_the_way(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([1 << 30, 1 << 30])
    monkeypatch.setattr(outputs, "free", lambda fd: next(left, 0))
    core.write_bytes(sample_core(anon_pages=4000))
    assert_failed(work(core.read_bytes(), tmp_path, free_space=1 << 20), "would stay free")


def test_a_disk_that_fails(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    assert_failed(work(core.read_bytes(), tmp_path), "Input/output error")


def test_no_memory(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*about: object, **more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(child, "write_filtered", none)
    assert_failed(work(core.read_bytes(), tmp_path), "out of memory")


# --- evidence ---------------------------------------------------------------------------------------------


def opened(smaps: str | None = None, maps: str | None = None) -> Victim:
    """Give a process by what it shows."""
    victim = Victim()
    victim.smaps = os.open(smaps, os.O_RDONLY) if smaps else -1
    victim.maps = os.open(maps, os.O_RDONLY) if maps else -1
    return victim


@pytest.mark.parametrize("detailed", [True, False])
def test_the_process_of_the_core(detailed: bool, core: Path, tmp_path: Path) -> None:
    """What it shows decides, as --maps would."""
    shown = map_of(core, tmp_path, detailed=detailed)
    victim = opened(smaps=shown) if detailed else opened(maps=shown)
    done = work(core.read_bytes(), tmp_path, victim=victim, filter=0x31)
    victim.close()
    assert done.result.status == FILTERED
    assert "no evidence" not in done.result.words
    assert done.core == as_filtered(core, filter=0x31, maps=shown)
    assert done.core != as_filtered(core, filter=0x31)


def test_the_process_of_another_core(core: Path, tmp_path: Path) -> None:
    victim = opened(maps=map_of(core, tmp_path, moved=1 << 30))
    done = work(core.read_bytes(), tmp_path, victim=victim, filter=0x31)
    victim.close()
    assert "no evidence: " in done.result.words
    assert done.core == as_filtered(core, filter=0x31)


def test_a_process_that_shows_nothing(core: Path, tmp_path: Path) -> None:
    done = work(core.read_bytes(), tmp_path, victim=opened())
    assert f"no evidence: {NAME}: its map cannot be read" in done.result.words


def test_smaps_that_are_late_or_empty(core: Path, tmp_path: Path) -> None:
    """Then maps is taken, and that is said."""
    maps = map_of(core, tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    victim = opened(str(tmp_path / "empty"), maps)
    handed = Handed(NAME, victim, 5.0)
    assert [notice for notice in handed.notices if "its smaps is empty; its maps tells less" in notice]
    victim.close()
    victim = opened(maps=maps)
    victim.smaps, writer = os.pipe()
    late = Handed(NAME, victim, 0.05)
    assert [notice for notice in late.notices if "its smaps was not read within 0.05 s" in notice]
    assert late.areas.start == handed.areas.start
    os.close(writer)
    victim.close()


def test_a_map_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"no map\n")
    victim = opened(maps=str(tmp_path / "none"))
    with pytest.raises(EvidenceError):
        Handed(NAME, victim, 5.0)
    victim.close()


def test_the_files_that_it_has_mapped(core: Path, tmp_path: Path) -> None:
    """Each inode is asked once; of what was not opened nothing is known, and that is said."""
    shown = map_of(core, tmp_path, detailed=True)
    victim = opened(smaps=shown)
    handed = Handed(NAME, victim, 5.0)
    victim.close()
    named = [i for i, nature in enumerate(handed.areas.nature) if nature.what == "file"]
    assert handed.facts == {}
    assert handed.notices == [f"{NAME}: 1 of its files could not be examined for links and modes"]
    table = tmp_path / "table"
    table.write_bytes(b"rows")
    victim = opened(smaps=shown)
    first = named[0]
    victim.files[f"{handed.areas.start[first]:x}-{handed.areas.end[first]:x}"] = os.open(table, os.O_PATH)
    handed = Handed(NAME, victim, 5.0)
    victim.close()
    assert (sorted(handed.facts), handed.notices) == (named, [])
    assert (handed.facts[first].linked, handed.facts[first].executable) == (True, False)
