"""Filtering in place on real file systems: what is freed, full disks, quotas, power cuts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.builder import Load, kernel_notes, make_core
from support.disks import KINDS, disk, fill, make_disk, mounted, need_mounts
from support.instants import allocated, assert_done, assert_valid, copied, in_place
from support.run import assert_error, corefilt
from support.samples import noise, sample_core
from support.syscalls import calls_after_opening, need_strace, run_with_fault

from corefilt import _fast
from corefilt.filtering import inplace

by_kind = pytest.mark.parametrize("kind", KINDS)
LARGE = sample_core(anon_pages=300, shared_pages=700)
MANY_SEGMENTS = 300


def many_segments() -> bytes:
    """Make a core whose table takes several blocks; every second mapping is dropped."""
    loads = [Load(0x100000 * i, noise(1 + i % 3, i)) for i in range(1, MANY_SEGMENTS)]
    names = [(load.vaddr, load.vaddr + len(load.data), 0, "/dev/zero (deleted)") for load in loads[::2]]
    return make_core(loads, kernel_notes(names))


def on_disk(place: Path, core: bytes) -> Path:
    """Write a core where nothing of it is left in memory only."""
    path = place / "core"
    with path.open("wb") as file:
        file.write(core)
        file.flush()
        os.fsync(file.fileno())
    os.sync()
    return path


@by_kind
@pytest.mark.parametrize("core", [LARGE, sample_core(layout="gcore"), many_segments()], ids=["large", "gcore", "many"])
def test_what_is_dropped_is_freed(kind: str, core: bytes, tmp_path: Path) -> None:
    least = copied(core, 0x31, tmp_path)
    with disk(kind, tmp_path) as place:
        path = on_disk(place, core)
        before = allocated(path)
        report = in_place(path, 0x31)
        assert_done(core, path.read_bytes(), least)
        blocks_shared = 2 * 4096 * sum(1 for _ in report._plan.layout.cuts)
        assert before - allocated(path) >= len(core) - len(least) - blocks_shared
        assert report.discard == ("on" if kind == "btrfs" else "off")
        in_place(path, 0x31, compact=True)
        assert path.read_bytes() == least


@by_kind
def test_killed_at_any_step(kind: str, tmp_path: Path) -> None:
    need_strace()
    core = many_segments()
    least = copied(core, 0x31, tmp_path)
    with disk(kind, tmp_path) as place:
        path = on_disk(place, core)
        taken = calls_after_opening(path, "0x31", path, "-i", "-q")
        after = path.read_bytes()
        for name, count in [*taken[:6], taken[len(taken) // 2], *taken[-2:]]:
            path.write_bytes(core)
            done = run_with_fault("signal=KILL", name, count, "0x31", path, "-i", "-q")
            assert done.code in (-signal.SIGKILL, 128 + signal.SIGKILL)
            assert_valid(core, path.read_bytes(), least)
            assert corefilt("0x31", path, "-i", "-q").code == 0
            assert path.read_bytes() == after, f"{name} {count}"


# --- power cuts -------------------------------------------------------------------------------------------


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` after every call that changes the core."""

    def followed(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **options: object) -> object:
            result = call(*args, **options)
            look()
            return result

        return wrapper

    calls = {name: getattr(_fast, name) for name in dir(_fast) if not name.startswith("__")}
    with monkeypatch.context() as patch:
        patch.setattr(inplace, "_fast", SimpleNamespace(**{**calls, "punch": followed(_fast.punch)}))
        for name in ("pwritev", "ftruncate", "fdatasync"):
            patch.setattr(inplace.os, name, followed(getattr(os, name)))
        yield


@by_kind
@pytest.mark.parametrize("compact", [False, True], ids=["holes", "tail"])
def test_a_power_cut_after_any_step(kind: str, compact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is copied as it is after each step, while somebody else's fsync writes what the journal holds.

    Each copy is mounted, which replays its journal, and holds a valid core that the same filter finishes.
    """
    if compact:
        loads = [Load(0x10000, noise(4, 1)), Load(0x40000, noise(9, 2)), Load(0x80000, noise(7, 3))]
        core = make_core(
            loads,
            kernel_notes([(0x40000, 0x49000, 0, "/SYSV0a (deleted)"), (0x80000, 0x87000, 0, "/SYSV0b (deleted)")]),
        )
    else:
        core = sample_core(anon_pages=30, shared_pages=60)
    least = copied(core, 0x31, tmp_path)
    image = make_disk(kind, tmp_path / "image")
    copies: list[Path] = []

    def cut() -> None:
        with (tmp_path / "disk" / "other").open("ab") as file:
            file.write(b"somebody else's")
            file.flush()
            os.fsync(file.fileno())
        copies.append(tmp_path / f"copy{len(copies)}")
        subprocess.run(["cp", "--sparse=always", image, copies[-1]], check=True)

    with mounted(image, tmp_path / "disk") as place:
        path = on_disk(place, core)
        with watched(monkeypatch, cut):
            in_place(path, 0x31, compact=compact)
        after = path.read_bytes()
    assert len(copies) >= 4
    for copy in copies:
        with mounted(copy, tmp_path / "disk", "nouuid" if kind == "xfs" else "") as place:
            assert_valid(core, (place / "core").read_bytes(), least)
            in_place(place / "core", 0x31, compact=compact)
            assert (place / "core").read_bytes() == after
        copy.unlink()


# --- no room ----------------------------------------------------------------------------------------------


@by_kind
def test_a_full_disk(kind: str, tmp_path: Path) -> None:
    """Holes need no room, headers need none but where they are copied on write; a copy in the core's place does.

    The core is a snapshot's twin where that can be, so that nothing of it can be overwritten where it stands.
    """
    core = LARGE
    least = copied(core, 0x31, tmp_path)
    with disk(kind, tmp_path) as place:
        path = on_disk(place, core)
        twin = place / "twin"
        shared = (
            subprocess.run(["cp", "--reflink=always", path, twin], capture_output=True, check=False).returncode == 0
        )
        junk = fill(place)
        done = corefilt("0x31", path, "-i")
        if done.code == 0:
            assert_done(core, path.read_bytes(), least)
        else:
            assert shared
            assert_error(done, "nothing was changed", "No space left", "free")
            assert path.read_bytes() == core
            junk.unlink()
            os.sync()
            assert corefilt("0x31", path, "-i").code == 0
            assert_done(core, path.read_bytes(), least)
        if shared:
            assert twin.read_bytes() == core


def test_a_full_disk_that_copies_on_write(tmp_path: Path) -> None:
    """btrfs has no room even for the headers, says what to free, and has changed nothing."""
    with disk("btrfs", tmp_path) as place:
        path = on_disk(place, LARGE)
        junk = fill(place)
        for name in range(3):
            fill(place, f"more{name}")
        assert_error(corefilt("0x31", path, "-i"), "nothing was changed", "No space left", "free")
        assert path.read_bytes() == LARGE
        junk.unlink()
        os.sync()
        assert corefilt("0x31", path, "-i").code == 0
        assert_done(LARGE, path.read_bytes(), copied(LARGE, 0x31, tmp_path))


def test_no_room_to_shorten_it(tmp_path: Path) -> None:
    """The room that the holes leave is enough for a small copy, not for a large one; then the core is punched."""
    core = sample_core(anon_pages=3000, shared_pages=300)
    least = copied(core, 0x31, tmp_path)
    with disk("ext4", tmp_path) as place:
        path = on_disk(place, core)
        fill(place)
        assert_error(corefilt("0x31", path, "-i", "--compact"), "could not be shortened", "No space left", "space")
        assert_done(core, path.read_bytes(), least)
        assert sorted(os.listdir(place)) == ["core", "junk", "lost+found"]
        path.write_bytes(b"")
        path.write_bytes(LARGE)
        assert corefilt("0x31", path, "-i", "--compact", "-q").code == 0
        assert path.read_bytes() == copied(LARGE, 0x31, tmp_path)


def test_a_quota(tmp_path: Path) -> None:
    """At the limit not even headers can be copied on write; a little above it they can, but the core cannot."""
    core = sample_core(anon_pages=3000, shared_pages=300)
    with disk("btrfs", tmp_path) as place:
        volume = place / "volume"
        subprocess.run(["btrfs", "subvolume", "create", volume], check=True, capture_output=True)
        subprocess.run(["btrfs", "quota", "enable", place], check=True, capture_output=True)
        path = on_disk(volume, core)
        set_limit(place, len(core))
        assert_error(corefilt("0x31", path, "-i"), "nothing was changed", "quota", "free")
        assert path.read_bytes() == core
        set_limit(place, len(core) + (2 << 20))
        done = corefilt("0x31", path, "-i", "--compact", "--engine", "readwrite")
        assert_error(done, "could not be shortened", "quota", "space")
        assert_done(core, path.read_bytes(), copied(core, 0x31, tmp_path))


def set_limit(place: Path, size: int) -> None:
    """Limit the first subvolume, whose number is 256."""
    command = ["btrfs", "qgroup", "limit", str(size), "0/256", place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    os.sync()


# --- where it cannot be -----------------------------------------------------------------------------------


def test_a_file_system_without_holes(tmp_path: Path) -> None:
    need_mounts("ext4")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", place], check=True)
    try:
        path = place / "core"
        path.write_bytes(LARGE)
        assert_error(corefilt("0x31", path, "-i"), "holes cannot be punched here", "nothing was changed", "--compact")
        assert path.read_bytes() == LARGE
        assert corefilt("0x31", path, "-i", "--compact", "-q").code == 0
        assert path.read_bytes() == copied(LARGE, 0x31, tmp_path)
    finally:
        subprocess.run(["umount", place], check=True)


def test_files_that_may_not_change(tmp_path: Path) -> None:
    if shutil.which("chattr") is None:
        pytest.skip("chattr (e2fsprogs) is not installed")
    image = make_disk("ext4", tmp_path / "image")
    with mounted(image, tmp_path / "disk") as place:
        path = on_disk(place, LARGE)
        for flag in "ia":
            subprocess.run(["chattr", f"+{flag}", path], check=True)
            assert_error(corefilt("0x31", path, "-i"), "cannot be changed", "Operation not permitted", "-o OUT")
            subprocess.run(["chattr", f"-{flag}", path], check=True)
        assert path.read_bytes() == LARGE
    with mounted(image, tmp_path / "disk", "ro") as place:
        assert_error(corefilt("0x31", place / "core", "-i"), "cannot be changed", "Read-only file system", "-o OUT")


def test_discard_is_what_the_mount_says(tmp_path: Path) -> None:
    image = make_disk("ext4", tmp_path / "image")
    for options, expected in (("discard", "on"), ("nodiscard", "off")):
        with mounted(image, tmp_path / "disk", options) as place:
            path = on_disk(place, LARGE)
            assert in_place(path, 0x31).discard == expected
