"""corefilt batch: what is found, what becomes of it, and what bad archives cannot do."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.archives import (
    BOMB_MEMORY,
    PACK,
    UNPACK,
    WAYS,
    build,
    fresh_crashes,
    lines_of,
    put,
    real_cores,
    report_of,
    small_cores,
    systemd,
    tar_of,
    zip_of,
)
from support.builder import Load, kernel_notes, make_core
from support.cutting import cut_under_windows
from support.run import (
    assert_error,
    assert_promises,
    assert_usage,
    corefilt,
    environment,
    finish,
    listing,
    start,
)
from support.samples import PAGE, noise, sample_core

from corefilt.batching.runner import run_task
from corefilt.batching.task import Task
from corefilt.io.compression import recognise
from corefilt.io.tempfiles import new_name
from corefilt.sizes import show_size
from corefilt.verify import verify

FLT = "0x31"


def batch(*args: str | Path, code: int = 0, **options: object) -> list[dict[str, object]]:
    """Run a batch with --json and give its lines."""
    done = corefilt("batch", FLT, *args, "--json", "--no-sync", **options)
    assert done.code == code, "\n".join(done.err)
    return lines_of(done.out)


def by_source(lines: list[dict[str, object]], folder: Path) -> dict[str, tuple[str, str]]:
    """Give status and reason by what was found, below a folder."""
    return {
        str(line["source"]).removeprefix(f"{folder}/"): (str(line["status"]), str(line["reason"])) for line in lines
    }


def filtered(data: bytes, folder: Path) -> bytes:
    """Filter one core from a file into a file."""
    core, out = folder / "one-core", folder / "one-out"
    core.write_bytes(data)
    assert corefilt(FLT, core, "-o", out, "-f", "-q").code in (0, 3)
    made = out.read_bytes()
    core.unlink()
    out.unlink()
    return made


def unpacked(data: bytes) -> bytes:
    """Take the compression off a file, if there is any."""
    pack = recognise(data)
    return data if pack is None else UNPACK[pack](data)


# --- every wrapping ---------------------------------------------------------------------------------------


def test_every_wrapping_is_filtered_to_its_path(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    expected = build(archive, small_cores(2))
    lines = batch(archive, "--to", out)
    outputs = {str(line["output"]).removeprefix(f"{out}/") for line in lines if line["status"] == "filtered"}
    assert outputs == set(expected)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == set(expected)
    for name, data in expected.items():
        made = (out / name).read_bytes()
        assert made[:2] == (archive / name).read_bytes()[:2] if (archive / name).is_file() else made[:4] == b"\x7fELF"
        assert_promises(data, unpacked(made))
    wrappings = {str(line["wrapping"]) for line in lines if line["status"] == "filtered"}
    assert wrappings == {
        "raw", "zstd", "lz4", "xz", "gzip", "bzip2", "tar", "gzip+tar", "zip", "apport", "abrt",
        "systemd-coredump+zstd", "systemd-coredump+lz4",
    }  # fmt: skip
    listed = [line for line in lines if line["status"] == "skipped"]
    assert listed
    assert all(line["reason"] for line in listed)
    # What was done is not done again.
    before = {path: path.stat().st_ino for path in out.rglob("*")}
    again = batch(archive, "--to", out)
    assert {line["status"] for line in again} == {"unchanged", "skipped"}
    assert {path: path.stat().st_ino for path in out.rglob("*")} == before


def give_acl(path: Path) -> None:
    """Let user 1000 read a file, as systemd-coredump lets the crashed process's user, where there are ACLs."""
    entries = [(0x1, 6, 0xFFFFFFFF), (0x2, 4, 1000), (0x4, 4, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    with contextlib.suppress(OSError):
        os.setxattr(path, "system.posix_acl_access", acl)


def test_replacing_keeps_format_name_mode_owner_attributes_and_times(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    expected = build(archive, small_cores(2))
    for path in archive.rglob("*"):
        if path.is_file():
            path.chmod(0o640)
            give_acl(path)
            os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    before = {path: (path.read_bytes(), path.stat()) for path in archive.rglob("*") if path.is_file()}
    attributes = {path: {name: os.getxattr(path, name) for name in os.listxattr(path)} for path in before}
    lines = batch(archive, "--replace")
    smaller = {data: filtered(data, tmp_path) for data in set(expected.values())}
    done = {Path(str(line["source"])) for line in lines if line["status"] == "filtered"}
    assert done == {archive / name for name in expected if (archive / name).is_file()}
    for path, (data, was) in before.items():
        now = path.stat()
        if path not in done:
            assert (path.read_bytes(), now.st_ino) == (data, was.st_ino)
            continue
        assert now.st_ino != was.st_ino
        assert (now.st_mode, now.st_uid, now.st_gid, now.st_mtime_ns) == (
            was.st_mode, was.st_uid, was.st_gid, was.st_mtime_ns,
        )  # fmt: skip
        assert path.read_bytes()[:3] == data[:3]
        assert unpacked(path.read_bytes()) == smaller[unpacked(data)]
        kept = {name: os.getxattr(path, name) for name in os.listxattr(path) if name != "user.corefilt"}
        assert kept == attributes[path]
    kept_back = [line for line in lines if line["status"] == "kept"]
    assert {str(line["wrapping"]) for line in kept_back} == {"tar", "gzip+tar", "zip", "apport"}
    inodes = {path: path.stat().st_ino for path in archive.rglob("*")}
    assert {line["status"] for line in batch(archive, "--replace")} == {"unchanged", "skipped", "kept"}
    assert {path: path.stat().st_ino for path in archive.rglob("*")} == inodes


WRITTEN: dict[str, dict[str, object]] = {
    "truncate": {"truncate": "20K"},
    "truncate, annotate": {"truncate": "20K", "annotate": True},
    "truncate to the headers": {"truncate": "4K"},
    "fit": {"fit": "40K"},
    "minimal": {"minimal": True},
    "annotate": {"annotate": True},
    "drop": {"unknown": "drop"},
    "sparse": {"sparse": "always", "engine": "readwrite"},
}
"""Options of `filter` that make something else of a core."""


@pytest.mark.parametrize("replace", [False, True], ids=["to", "replace"])
@pytest.mark.parametrize("options", WRITTEN)
def test_what_any_option_makes_stands_the_check(options: str, replace: bool, tmp_path: Path) -> None:
    data, limit = sample_core(), WRITTEN[options].get("truncate")
    put(tmp_path / "full", data)
    for name, content, wrapping in (("raw", data, ()), ("packed.zst", PACK["zstd"](data), ("zstd",))):
        put(tmp_path / "p" / name, content)
        task = Task(
            f"{tmp_path}/p/{name}", 0x31, wrapping=wrapping, replace=replace, verify=True, options=WRITTEN[options],
            output=None if replace else f"{tmp_path}/out/{name}",
        )  # fmt: skip
        outcome = run_task(task)
        assert (outcome.status, outcome.reason) == ("filtered", "")
        verdict = verify(tmp_path / "full", str(outcome.output), truncate=limit)  # type: ignore[arg-type]
        assert verdict.holds, str(verdict)
        assert run_task(task).status == "unchanged"


def test_batch_truncate_replace(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    (line,) = batch(tmp_path / "p", "--replace", "--truncate", "20K")
    assert (line["status"], (tmp_path / "p/core").stat().st_size) == ("filtered", 20480)


def test_three_hundred_cores_are_each_handled_or_listed(tmp_path: Path) -> None:
    fresh = fresh_crashes(tmp_path / "crashes", 2)
    cores = real_cores() + fresh
    if len(cores) * 12 < 300:
        pytest.skip("no foreign cores: COREFILT_FOREIGN_CORES names no folder with any")
    archive, out = tmp_path / "archive", tmp_path / "out"
    expected = build(archive, cores)
    done = corefilt("batch", FLT, archive, "--to", out, "--json", "--no-sync", timeout=600)
    assert done.code in (0, 4), done.err
    lines = lines_of(done.out)
    assert all(line["reason"] for line in lines if line["status"] != "filtered")
    filtered, failed = ([line for line in lines if line["status"] == status] for status in ("filtered", "failed"))
    # A dump of a whole kernel is an ELF core, too.
    others = [line for line in lines if line["status"] == "skipped" and "not of a process" in str(line["reason"])]
    assert len(filtered) + len(failed) + len(others) == len(expected) >= 300
    assert len(filtered) >= 300
    # Those of this machine are there in every wrapping; where it makes none, that is said.
    made_here = {data for _, data in fresh}
    crashed = [line for line in filtered if expected[str(line["output"]).removeprefix(f"{out}/")] in made_here]
    ways = {str(line["wrapping"]) for line in lines if line["status"] == "filtered"}
    print(f"{len(filtered)} cores of {len(expected)}, {len(crashed)} of them fresh crashes, in {len(ways)} wrappings")
    assert len(crashed) == len(fresh) * len(WAYS)
    for line in filtered:
        name = str(line["output"]).removeprefix(f"{out}/")
        made = unpacked((out / name).read_bytes())
        assert made[:4] == b"\x7fELF"
        assert len(made) <= len(expected[name]) + 64
    # What gdb wrote has its notes too late for one pass, and is copied first.
    assert failed == []


@pytest.mark.parametrize("layout", ["gcore", "delve"])
@pytest.mark.parametrize("policy", [False, True])
def test_what_cannot_be_read_in_one_pass_is_copied_first(layout: str, policy: bool, tmp_path: Path) -> None:
    """Only that core, and only as long as it takes, in whatever it comes; with a policy it is asked before."""
    core, archive, out = sample_core(layout=layout), tmp_path / "archive", tmp_path / "out"
    put(archive / "one.gz", gzip.compress(core))
    put(archive / "two.tar", tar_of({"core": core}))
    put(archive / "three.zip", zip_of({"core": core}))
    put(archive / "four.tar.gz", gzip.compress(tar_of({"core": core, "other": sample_core()})))
    put(archive / "plain", core)
    rules = tmp_path / "rules"
    rules.write_text('[[rule]]\nname = "all"\naction = "filter"\nfilter = "0x31"\n')
    chosen = ("--policy", rules) if policy else ()
    done = corefilt("batch", "0x31", archive, "--to", out, "--compress", "none", "--json", "--no-sync", *chosen)
    assert done.code == 0, done.err
    lines = lines_of(done.out)
    assert [line["status"] for line in lines] == ["filtered"] * 6, lines
    assert corefilt("0x31", archive / "plain", "-o", tmp_path / "expected").code == 0
    expected = (tmp_path / "expected").read_bytes()
    made = [path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()]
    assert sum(data == expected for data in made) == 5
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


# --- sources ----------------------------------------------------------------------------------------------


def test_a_file_a_glob_and_a_list(tmp_path: Path) -> None:
    for name in ("p/x1/core", "p/x2/core", "q/core"):
        put(tmp_path / name, sample_core())
    out = tmp_path / "out"
    batch(tmp_path / "q/core", "--to", out)
    assert listing(out).keys() == {"core"}
    shutil.rmtree(out)
    batch(f"{tmp_path}/p/*/core", "--to", out)
    assert listing(out).keys() == {"x1", "x1/core", "x2", "x2/core"}
    shutil.rmtree(out)
    for separator in ("\n", "\0"):
        text = separator.join(["p/x1/core", str(tmp_path / "q/core"), ""])
        batch("-", "--to", out, pipe=text.encode(), cwd=tmp_path)
        found = {name for name, what in listing(out).items() if isinstance(what, bytes)}
        assert found == {"p/x1/core", str(tmp_path / "q/core").lstrip("/")}
        shutil.rmtree(out)


def test_a_core_that_is_named_twice_is_filtered_once(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    lines = batch(tmp_path / "p", tmp_path / "p/core", "--to", tmp_path / "out")
    assert len(lines) == 1


def test_two_cores_for_one_path(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    put(tmp_path / "q/core", sample_core())
    lines = batch(tmp_path / "p", tmp_path / "q", "--to", tmp_path / "out", code=4)
    assert [line["status"] for line in lines] == ["failed", "filtered"]
    assert "another core's" in str(lines[0]["reason"])


def test_a_source_that_is_the_output_folder_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "core", sample_core())
    for source in (tmp_path, f"{tmp_path}/.", Path()):
        done = corefilt("batch", "0x33", source, "--to", tmp_path, cwd=tmp_path)
        assert done.code == 2
        assert "is both a source and the directory of --to" in done.err[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "core"]


def test_the_output_folder_within_the_source_is_no_source(tmp_path: Path) -> None:
    put(tmp_path / "core", sample_core())
    batch(tmp_path, "--to", tmp_path / "out")
    assert [line["source"] for line in batch(tmp_path, "--to", tmp_path / "out")] == [str(tmp_path / "core")]


def test_format_and_suffix_can_be_chosen(tmp_path: Path) -> None:
    data = sample_core()
    put(tmp_path / "p/one.zst", PACK["zstd"](data))
    put(tmp_path / "p/two", data)
    put(tmp_path / "p/three.xz", PACK["lz4"](data))
    batch(tmp_path / "p", "--to", tmp_path / "x", "--compress", "xz")
    assert listing(tmp_path / "x").keys() == {"one.xz", "two.xz", "three.xz.xz"}
    batch(tmp_path / "p", "--to", tmp_path / "n", "--compress", "none")
    assert listing(tmp_path / "n").keys() == {"one", "two", "three.xz"}
    for folder in ("x", "n"):
        for path in (tmp_path / folder).iterdir():
            assert_promises(data, unpacked(path.read_bytes()))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "--to DIR"),
        (("--to", "out", "--replace"), "both"),
        (("--replace", "--jobs", "0"), "--jobs"),
        (("--replace", "--writers", "x"), "--writers"),
        (("--replace", "--keep-free", "much"), "size"),
        (("--replace", "--maps", "auto"), "use --evidence auto or --evidence none"),
        (("--replace", "--evidence", "/etc/passwd"), "--evidence"),
        (("--replace", "--compress", "rar"), "rar"),
        (("--replace", "-i"), "-i"),
    ],
)
def test_what_cannot_be_meant(args: tuple[str, ...], words: str, core: Path) -> None:
    before = listing(core.parent)
    assert_usage(corefilt("batch", FLT, core.parent, *args, cwd=core.parent), words)
    assert listing(core.parent) == before


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    """The job cannot begin: status 1, and what a source can be."""
    hint = "try: a source is a directory"
    assert_error(corefilt("batch", FLT, tmp_path / "no", "--to", tmp_path / "out"), "does not exist", hint)
    assert_error(corefilt("batch", FLT, f"{tmp_path}/*.core", "--to", tmp_path / "out"), "matches nothing", hint)


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    build(tmp_path / "archive", small_cores(1))
    before = listing(tmp_path)
    planned = batch(tmp_path / "archive", "-n")
    assert listing(tmp_path) == before
    done = batch(tmp_path / "archive", "--to", tmp_path / "out")

    def facts(lines: list[dict[str, object]]) -> list[tuple[object, ...]]:
        keys = ("source", "status", "wrapping", "input_bytes", "output_bytes", "executable", "signal")
        return sorted(tuple(line[key] for key in keys) for line in lines)  # type: ignore[type-var]

    assert facts(planned) == facts(done)


def test_a_dry_run_tells_the_lengths_that_cores_would_have(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    said = corefilt("batch", "0x31", tmp_path / "p", "--to", tmp_path / "out", "-n").err
    assert corefilt("0x31", tmp_path / "p/core", "-o", tmp_path / "small").code == 0
    (row,) = (line for line in said if line.startswith("  filtered "))
    sizes = [show_size((tmp_path / name).stat().st_size) for name in ("p/core", "small")]
    assert " ".join(row.split()) == f"filtered 1 {sizes[0]} {sizes[1]} (planned, without compression)"


def test_a_dry_run_of_replace_says_nothing_of_marks(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    before = listing(tmp_path)
    (line,) = batch(tmp_path / "p", "--replace", "-n")
    assert (line["status"], line["reason"]) == ("filtered", "")
    assert listing(tmp_path) == before


# --- words ------------------------------------------------------------------------------------------------


def test_the_summary_counts_and_names_what_failed(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    put(tmp_path / "p/notes", b"a text")
    put(tmp_path / "p/torn", sample_core()[:100])
    done = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out")
    assert done.code == 4
    assert done.out == b""
    text = "\n".join(done.err)
    assert "filtered         1" in text
    assert re.search(r"skipped +1\n +1 not an ELF file\n", text)
    assert "failed           1" in text
    assert f"failed: {tmp_path}/p/torn" in text
    assert "/notes" not in text
    quiet = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", "-q")
    assert len(quiet.err) == 1
    verbose = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", "-v")
    assert f"skipped: {tmp_path}/p/notes: not an ELF file" in "\n".join(verbose.err)


def test_the_summary_groups_reasons_and_names_what_is_truncated(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"p/text{i}", b"a text")
    put(tmp_path / "p/empty", b"")
    put(tmp_path / "p/cut", sample_core()[:-1])
    os.utime(tmp_path / "p/cut", (0, 0))
    done = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", f"--json={tmp_path / 'lines'}")
    assert done.code == 0
    lines = [line.strip() for line in done.err]
    assert lines[lines.index("3 not an ELF file") + 1] == "1 empty"
    assert f"{tmp_path}/p/cut: the core is truncated: 1 B of its segments are missing" in lines
    damage = {line["source"]: line["damage"] for line in lines_of((tmp_path / "lines").read_bytes())}
    assert [source for source, told in damage.items() if told] == [f"{tmp_path}/p/cut"]


def test_a_name_that_would_steer_a_terminal(tmp_path: Path) -> None:
    put(tmp_path / "p/co\x1b[31mre", sample_core()[:100])
    done = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out")
    assert done.code == 4
    assert not any("\x1b" in line for line in done.err)


def test_json_goes_to_a_file_line_by_line(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    done = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", f"--json={tmp_path}/lines")
    assert (done.code, done.out) == (0, b"")
    (line,) = lines_of((tmp_path / "lines").read_bytes())
    assert line["schema"] == 1
    assert line["executable"] == "victim"
    assert line["kinds"]["shared-anonymous"] == [4 * PAGE, 0]  # type: ignore[index]


def test_a_bar_is_drawn_when_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    done = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", "--progress", "always")
    assert done.code == 0
    assert any("0 cores left" in line for line in done.err)


# --- evidence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", ["auto", "none"])
def test_maps_beside_a_core_and_in_its_report_count(maps: str, tmp_path: Path) -> None:
    data = make_core([Load(0x1000000, noise(2, 1)), Load(0x2000000, noise(2, 2))], kernel_notes(None))
    text = "01000000-01002000 rw-p 00000000 00:00 0 \n02000000-02002000 rw-s 00000000 00:01 7 /dev/zero (deleted)\n"
    put(tmp_path / "p/ccpp-1/coredump", data)
    put(tmp_path / "p/ccpp-1/maps", text.encode())
    put(tmp_path / "p/ccpp-1/type", b"CCpp")
    put(tmp_path / "p/reports/a.crash", report_of(data, text))
    lines = batch(tmp_path / "p", "--to", tmp_path / "out", "--evidence", maps)
    sizes = {str(line["wrapping"]): line["undecided_bytes"] for line in lines if line["status"] == "filtered"}
    assert sizes.keys() == {"abrt", "apport"}
    if maps == "auto":
        assert set(sizes.values()) == {0}
    else:
        assert all(size for size in sizes.values())


def test_the_journal_is_asked_for_what_systemd_stored(tmp_path: Path) -> None:
    data = make_core([Load(0x1000000, noise(2, 1)), Load(0x2000000, noise(2, 2))], kernel_notes(None))
    text = b"01000000-01002000 rw-p 00000000 00:00 0 \n02000000-02002000 rw-s 00000000 00:01 7 /dev/zero (deleted)\n"
    path = tmp_path / "p" / systemd(tmp_path / "p", "x", data, 0)
    maps = b"COREDUMP_PROC_MAPS\n" + len(text).to_bytes(8, "little") + text
    put(tmp_path / "answer", b"COREDUMP_FILENAME=" + os.fsencode(path) + b"\n" + maps + b"\n\n")
    put(tmp_path / "bin/journalctl", f'#!/bin/sh\nexec cat "{tmp_path}/answer"\n'.encode())
    (tmp_path / "bin/journalctl").chmod(0o755)
    with_journal = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    (line,) = batch(tmp_path / "p", "--to", tmp_path / "out", env=with_journal)
    assert (line["undecided_bytes"], line["kinds"]["shared-anonymous"]) == (0, [2 * PAGE, 0])  # type: ignore[index]


# --- bad archives -----------------------------------------------------------------------------------------


def test_names_that_lead_out_of_an_archive(tmp_path: Path) -> None:
    data = sample_core()
    names = ["../up", "/abs", "a/../../up", "ok", "a//./b"]
    put(tmp_path / "p/x.tar", tar_of(dict.fromkeys(names, data)))
    put(tmp_path / "p/x.zip", zip_of(dict.fromkeys(names, data)))
    lines = batch(tmp_path / "p", "--to", tmp_path / "q/out")
    listed = {str(line["source"]).rpartition("!")[2] for line in lines if line["status"] == "skipped"}
    assert {"../up", "/abs", "a/../../up"} <= listed
    made = {str(path.relative_to(tmp_path / "q/out")) for path in (tmp_path / "q/out").rglob("*") if path.is_file()}
    assert made == {f"x.{kind}/{name}" for kind in ("tar", "zip") for name in ("ok", "a/b")}
    assert not (tmp_path / "up").exists()
    assert not (tmp_path / "q/up").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/core", sample_core())
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "round").symlink_to(".")
    (folder / "up").symlink_to("..")
    (folder / "core").symlink_to(tmp_path / "elsewhere/core")
    os.mkfifo(folder / "fifo")
    lines = by_source(batch(folder, "--to", tmp_path / "out"), folder)
    assert {status for status, _ in lines.values()} == {"skipped"}
    assert lines.keys() == {"round", "up", "core", "fifo"}
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        tar.addfile(info)
    put(tmp_path / "t/x.tar", held.getvalue())
    assert by_source(batch(tmp_path / "t", "--to", tmp_path / "out"), tmp_path / "t") == {
        "x.tar!link": ("skipped", "not a regular file")
    }


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    put(tmp_path / "p/closed/core", sample_core())
    put(tmp_path / "p/core", sample_core())
    (tmp_path / "p/closed").chmod(0)
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    if prefix and shutil.which("setpriv") is None:
        pytest.skip("root may do everything, and setpriv (util-linux) is not installed to change that")
    try:
        lines = by_source(batch(tmp_path / "p", "--to", tmp_path / "out", prefix=prefix, code=4), tmp_path / "p")
    finally:
        (tmp_path / "p/closed").chmod(0o700)
    assert lines["core"][0] == "filtered"
    assert lines["closed"][0] == "failed"
    assert "denied" in lines["closed"][1].lower()


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip", "crash"])
def test_a_container_that_is_cut_or_damaged(kind: str, tmp_path: Path) -> None:
    data = sample_core(anon_pages=60)
    whole = {
        "tar": tar_of({"core": data}), "tgz": tar_of({"core": data}, "w:gz"), "zip": zip_of({"core": data}),
        "crash": report_of(data),
    }[kind]  # fmt: skip
    middle = len(whole) // 2
    put(tmp_path / f"p/cut.{kind}", whole[:middle])
    put(
        tmp_path / f"p/torn.{kind}",
        whole[:middle] + bytes(b ^ 0x55 for b in whole[middle : middle + 30]) + whole[middle + 30 :],
    )
    put(tmp_path / "p/core", data)
    done = corefilt("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", "--json", "--no-sync")
    lines = by_source(lines_of(done.out), tmp_path / "p")
    assert lines["core"] == ("filtered", "")
    for name, (status, reason) in lines.items():
        # What the core itself cannot tell, a tar without a checksum cannot either.
        if name != "core" and not name.startswith("torn.tar"):
            assert status in ("skipped", "failed", "filtered"), name
            assert reason, name
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            head = path.read_bytes()
            assert head[:4] == b"\x7fELF"


def test_a_member_of_a_zip_without_a_name(tmp_path: Path) -> None:
    """It is told, and what else is found is filtered."""
    name = b"x.core"
    whole = zip_of({name.decode(): sample_core()})
    at = whole.rindex(b"PK\1\2")
    directory = bytearray(whole[at:].replace(name, b"", 1))
    directory[28:30] = bytes(2)
    end = directory.rindex(b"PK\5\6")
    directory[end + 12 : end + 16] = end.to_bytes(4, "little")
    put(tmp_path / "p/x.zip", whole[:at] + directory)
    put(tmp_path / "p/core", sample_core())
    lines = by_source(batch(tmp_path / "p", "--to", tmp_path / "out"), tmp_path / "p")
    assert lines["core"][0] == "filtered"
    assert {status for name, (status, _) in lines.items() if name != "core"} == {"skipped"}
    assert any("leads out of the archive" in reason for _, reason in lines.values())


def test_a_zip_bomb_is_bounded_by_what_is_there(tmp_path: Path) -> None:
    """A gigabyte of one letter in a megabyte of zip, and a zip whose directory claims what is not there."""
    held = io.BytesIO()
    with (
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("core", "w", force_zip64=True) as file,
    ):
        file.write(make_core([Load(0x1000000, noise(1, 1))], kernel_notes([])))
        for _ in range(700):
            file.write(b"A" * (1 << 20))
    put(tmp_path / "p/bomb.zip", held.getvalue())
    lying = bytearray(zip_of({"core": sample_core()}))
    at = lying.rfind(b"PK\5\6")
    lying[at + 12 : at + 16] = (1 << 31).to_bytes(4, "little")
    put(tmp_path / "p/lying.zip", bytes(lying))
    lines = by_source(
        batch(tmp_path / "p", "--to", tmp_path / "out", "--keep-free", "100T", code=4, memory=BOMB_MEMORY),
        tmp_path / "p",
    )
    assert lines["bomb.zip!core"][0] == "failed"
    assert "--keep-free" in lines["bomb.zip!core"][1]
    assert lines["lying.zip"][0] == "failed"
    assert "directory" in lines["lying.zip"][1]
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_tar_whose_headers_never_end(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    put(tmp_path / "p/x.tar.gz", PACK["gzip"](info.tobuf() + bytes(64 << 20)))
    lines = by_source(batch(tmp_path / "p", "--to", tmp_path / "out", memory=BOMB_MEMORY, code=4), tmp_path / "p")
    assert lines["x.tar.gz"][0] == "failed"
    assert "damaged" in lines["x.tar.gz"][1]


def test_a_tar_whose_headers_stand_for_headers(tmp_path: Path) -> None:
    """Every one of them speaks of the next; a reader that follows them goes as deep."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    put(tmp_path / "p/x.tar", info.tobuf() * 5000)
    put(tmp_path / "p/y.tar", tar_of({"sparse": b""}).replace(b"sparse\0", b"\xff\xfe\0\0\0\0\0"))
    put(tmp_path / "p/core", sample_core())
    lines = by_source(batch(tmp_path / "p", "--to", tmp_path / "out", code=4), tmp_path / "p")
    assert lines["core"] == ("filtered", "")
    assert {status for name, (status, _) in lines.items() if name != "core"} == {"failed"}


def test_sparse_bombs_take_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    data = make_core([Load(0x1000000, noise(1, 1), memsz=1 << 40)], kernel_notes([]))
    put(folder / "core", data)
    os.truncate(folder / "core", 1 << 40)
    header = tarfile.TarInfo("sparse")
    header.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": str(1 << 50),
    }
    body = b"1\n0\n4096\n".ljust(512, b"\0") + data[:4096]
    header.size = len(body)
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(body))
    put(folder / "x.tar", held.getvalue())
    lines = by_source(batch(folder, "--to", tmp_path / "out"), folder)
    assert lines["core"][0] == "filtered"
    assert (tmp_path / "out/core").stat().st_blocks * 512 < 1 << 20
    assert lines["x.tar!sparse"][0] == "skipped"
    assert "sparse" in lines["x.tar!sparse"][1]


@pytest.mark.parametrize("how", ["grows", "is cut", "is written to"])
def test_a_core_that_changes_while_it_is_replaced_stays(how: str, tmp_path: Path) -> None:
    """The change is made when the temporary file is there: by then the core has been looked at."""
    from corefilt.batching.work import filter_task as filtering

    path = tmp_path / "core"
    path.write_bytes(sample_core())
    real = filtering.write_filtered
    seen: list[object] = []

    def meddling(core, wanted, output, options):  # type: ignore[no-untyped-def]
        if output != os.devnull:
            seen.append(output)
            with path.open("r+b") as file:
                if how == "is cut":
                    file.truncate(8 * PAGE)
                else:
                    file.seek(0, os.SEEK_END if how == "grows" else os.SEEK_SET)
                    file.write(b"\x7fELF" + b"more")
            os.utime(path, ns=(1, 1))
        return real(core, wanted, output, options)

    filtering.write_filtered = meddling  # type: ignore[attr-defined]
    try:
        outcome = run_task(Task(str(path), 0x31, replace=True, verify=True))
    finally:
        filtering.write_filtered = real  # type: ignore[attr-defined]
    assert seen
    assert outcome.status == "failed", outcome
    assert listing(tmp_path).keys() == {"core"}
    assert path.stat().st_mtime_ns == 1


@pytest.mark.parametrize("way", ["replaced", "beside, the core", "beside, the output"])
def test_a_core_that_is_cut_while_it_is_checked(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The check maps both files; the outcome tells which one may have been cut, and nothing gets a name."""
    from corefilt.batching.runner import run_task
    from corefilt.batching.task import Task

    path, out = str(tmp_path / "core"), str(tmp_path / "out" / "core")
    Path(path).write_bytes(sample_core())
    cut_under_windows(monkeypatch, out if way == "beside, the output" else path)
    if way == "replaced":
        outcome = run_task(Task(path, 0x31, replace=True))
    else:
        outcome = run_task(Task(path, 0x31, output=out, verify=True))
    which = "" if way == "replaced" else f"{path} or {out}: "
    assert outcome.status == "failed", outcome
    assert outcome.reason == (
        f"{which}was truncated while it was read, or its disk failed (wait until nobody writes to it)"
    )
    assert not Path(out).exists()
    assert not list(tmp_path.rglob(".corefilt-*"))


def test_another_file_takes_the_name_meanwhile(tmp_path: Path) -> None:
    from corefilt.batching.work import filter_task as filtering

    path = tmp_path / "core"
    path.write_bytes(sample_core())
    real = filtering.write_filtered

    def meddling(core, wanted, output, options):  # type: ignore[no-untyped-def]
        if output != os.devnull:
            path.rename(tmp_path / "moved")
            path.write_bytes(b"another one")
        return real(core, wanted, output, options)

    filtering.write_filtered = meddling  # type: ignore[attr-defined]
    try:
        outcome = run_task(Task(str(path), 0x31, replace=True, verify=True))
    finally:
        filtering.write_filtered = real  # type: ignore[attr-defined]
    assert outcome.status == "failed"
    assert path.read_bytes() == b"another one"
    assert listing(tmp_path).keys() == {"core", "moved"}


def test_damaged_cores_and_those_with_several_names_are_not_replaced(tmp_path: Path) -> None:
    put(tmp_path / "p/cut", sample_core()[:60000])
    put(tmp_path / "p/one", sample_core())
    os.link(tmp_path / "p/one", tmp_path / "other")
    put(tmp_path / "p/cut.zst", PACK["zstd"](sample_core(anon_pages=200))[:-1000])
    before = listing(tmp_path)
    lines = by_source(batch(tmp_path / "p", "--replace"), tmp_path / "p")
    assert listing(tmp_path) == before
    assert {name: status for name, (status, _) in lines.items()} == {"cut": "kept", "one": "kept", "cut.zst": "kept"}
    assert "damaged" in lines["cut"][1]
    assert "2 hard links" in lines["one"][1]
    done = corefilt("batch", "0x31", tmp_path / "p", "--replace")
    assert [line.split(maxsplit=1) for line in done.err[2:]] == [
        ["kept", "3"], ["2", "is damaged; -f replaces it anyway"], ["1", "has 2 hard links; -f replaces this one"],
    ]  # fmt: skip
    told = corefilt("batch", "0x31", tmp_path / "p", "--replace", "-v").err
    assert any("p/cut: is damaged; -f replaces it anyway (the core is truncated: " in line for line in told)
    lines = by_source(batch(tmp_path / "p", "--replace", "-f"), tmp_path / "p")
    assert {status for status, _ in lines.values()} == {"filtered"}
    assert (tmp_path / "other").read_bytes() == before["other"]


def test_a_destination_that_is_not_a_directory(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(sample_core())
    for place, words in ((core, "is not a directory"), (core / "out", "a part of its path is not a directory")):
        done = corefilt("batch", "0x31", core, "--to", place)
        assert (done.code, done.err) == (1, (f"corefilt: {place}: {words}", "  try: name a directory for --to"))


def test_what_the_filter_takes_nothing_from_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    inode = path.stat().st_ino
    done = corefilt("batch", "all", path, "--replace", "--json")
    (line,) = lines_of(done.out)
    assert (line["status"], line["reason"]) == ("unchanged", "the filter drops nothing")
    assert path.stat().st_ino == inode
    (line,) = lines_of(corefilt("batch", "all", path, "--replace", "--json").out)
    assert "filtered before" in str(line["reason"])


def test_a_new_core_under_an_old_name_is_filtered(tmp_path: Path) -> None:
    """Written over, a file keeps its attributes, and so a mark that is no longer true."""
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(sample_core())
    batch(path, "--replace")
    with path.open("r+b") as file:
        file.write(sample_core(anon_pages=9))
    assert by_source(batch(path, "--replace"), tmp_path)["core"][0] == "filtered"
    put(tmp_path / "p/core", sample_core())
    batch(tmp_path / "p", "--to", out)
    put(tmp_path / "p/core", sample_core(anon_pages=9))
    assert by_source(batch(tmp_path / "p", "--to", out, code=4), tmp_path / "p")["core"][0] == "failed"
    assert by_source(batch(tmp_path / "p", "--to", out, "-f"), tmp_path / "p")["core"][0] == "filtered"
    assert by_source(batch(tmp_path / "p", "--to", out), tmp_path / "p")["core"][0] == "unchanged"


def test_another_filter_is_other_work(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    assert lines_of(corefilt("batch", "0x33", path, "--replace", "--json").out)[0]["status"] == "filtered"
    assert lines_of(corefilt("batch", "0x31", path, "--replace", "--json").out)[0]["status"] == "filtered"
    assert_promises(sample_core(), path.read_bytes())


# --- root in other people's folders -----------------------------------------------------------------------

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which takes root")


def others_folder(tmp_path: Path) -> Path:
    """Make a folder of nobody's, that he can reach."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    path: Path = folder
    while path != path.parent:
        if path.stat().st_mode & 0o011 != 0o011 and path.stat().st_uid == 0 and str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o011)
        path = path.parent
    os.chown(folder, NOBODY, NOBODY)
    return folder


@as_root
@pytest.mark.parametrize("pack", ["raw", "zstd"])
def test_in_a_folder_of_others_the_owner_does_it(pack: str, tmp_path: Path) -> None:
    folder = others_folder(tmp_path)
    path = folder / "core"
    path.write_bytes(sample_core() if pack == "raw" else PACK[pack](sample_core()))
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o604)
    assert by_source(batch(folder, "--replace"), folder) == {"core": ("filtered", "")}
    now = path.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (NOBODY, NOBODY, 0o604)
    assert unpacked(path.read_bytes()) == filtered(sample_core(), tmp_path)
    assert listing(folder).keys() == {"core"}


@as_root
def test_what_the_owner_may_not_root_does_not_for_him(tmp_path: Path) -> None:
    folder = others_folder(tmp_path)
    (folder / "core").write_bytes(sample_core())
    (folder / "roots").write_bytes(sample_core())
    os.chown(folder / "core", NOBODY, NOBODY)
    (folder / "core").chmod(0)
    lines = by_source(batch(folder, "--replace", code=4), folder)
    assert lines["core"][0] == "failed"
    assert "denied" in lines["core"][1].lower()
    assert lines["roots"] == ("kept", "belongs to root, in a directory that others can write to")
    assert (folder / "roots").read_bytes() == sample_core()


@as_root
def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "victim/core", sample_core())
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/sub").symlink_to(tmp_path / "victim")
    task = Task(f"{tmp_path}/archive/sub/core", 0x31, root=f"{tmp_path}/archive", replace=True, verify=True)
    outcome = run_task(task)
    assert outcome.status == "failed"
    assert "symbolic link" in outcome.reason
    assert (tmp_path / "victim/core").read_bytes() == sample_core()


# --- jobs that end early ----------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["zstd", "bzip2"])
def test_what_is_cut_off_before_its_first_block_may_be_a_core(packed: str, tmp_path: Path) -> None:
    """Not even batch takes it for an empty file, which it skips."""
    core = make_core([Load(0x10000, noise(64, 1))], kernel_notes())
    put(tmp_path / "p/core", PACK[packed](core)[:5000])
    lines = by_source(batch(tmp_path / "p", "--to", tmp_path / "out", code=4), tmp_path / "p")
    assert lines["core"][0] == "failed"
    assert "is cut off before any of the core came" in lines["core"][1]
    for args in (("0x31", tmp_path / "p/core", "-n"), ("inspect", tmp_path / "p/core")):
        assert_error(corefilt(*args, "--spool"), "is cut off before any of the core came")


def test_two_jobs_at_once(tmp_path: Path) -> None:
    import fcntl

    put(tmp_path / "p/core", sample_core())
    for folder, args in ((tmp_path / "p", ("--replace",)), (tmp_path / "out", ("--to", tmp_path / "out"))):
        folder.mkdir(exist_ok=True)
        fd = os.open(folder, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        done = corefilt("batch", FLT, tmp_path / "p", *args)
        os.close(fd)
        assert_error(done, "is locked", str(folder))
    fd = os.open(tmp_path / "p/core", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    lines = by_source(batch(tmp_path / "p", "--replace", code=4), tmp_path / "p")
    os.close(fd)
    assert lines["core"][0] == "failed"
    assert "is locked" in lines["core"][1]
    assert by_source(batch(tmp_path / "p", "--replace"), tmp_path / "p")["core"][0] == "filtered"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_says_what_is_done_and_leaves_nothing_half(number: signal.Signals, tmp_path: Path) -> None:
    build(tmp_path / "p", small_cores(8))
    process = start("batch", FLT, tmp_path / "p", "--to", tmp_path / "out", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if b'"filtered"' in line:
            break
    process.send_signal(number)
    done = finish(process)
    assert done.code == -number
    assert any("run the same command again to continue" in line for line in done.err)
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or (not path.name.startswith(".") and os.getxattr(path, "user.corefilt"))


def test_a_worker_that_dies_takes_only_its_core_with_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from corefilt.batching.work import filter_task as work; real = work.filter_task\n"
        "def dying(t, told):\n"
        "    if t.source.endswith('bad'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(t, told)\n"
        "work.filter_task = dying\n"
        "from corefilt.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for name in ("a", "bad", "c", "d"):
        put(tmp_path / "p" / name, sample_core())
    run = subprocess.run(
        [sys.executable, "-c", program, "batch", FLT, tmp_path / "p", "--to", tmp_path / "out", "--json", "--jobs=2"],
        capture_output=True, env=environment(), check=False,
    )  # fmt: skip
    assert run.returncode == 4, run.stderr
    lines = by_source(lines_of(run.stdout), tmp_path / "p")
    assert {name: status for name, (status, _) in lines.items()} == {
        "a": "filtered", "bad": "failed", "c": "filtered", "d": "filtered",
    }  # fmt: skip
    assert "SIGKILL" in lines["bad"][1]


def test_leavings_of_a_killed_job_are_removed(tmp_path: Path) -> None:
    put(tmp_path / "p/core", sample_core())
    lost, held = (tmp_path / "p" / new_name() for _ in range(2))
    put(lost, b"half a core")
    put(held, b"another command's")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        batch(tmp_path / "p", "--replace")
    assert listing(tmp_path / "p").keys() == {"core", held.name}


def killed_and_resumed(tmp_path: Path, cores: list[tuple[str, bytes]], kills: int, replace: bool) -> None:
    """Kill a job at moments spread over its length until it comes to its end; it is as if it had never been killed."""
    import random
    import time

    clean, hit = tmp_path / "clean", tmp_path / "hit"
    build(clean / "p", cores, all_ways=False)
    shutil.copytree(clean / "p", hit / "p")

    def args(folder: Path) -> list[str | Path]:
        where = ["--replace"] if replace else ["--to", folder / "out"]
        return ["batch", FLT, folder / "p", *where, "--no-sync", "--spool", "-q"]

    def seconds() -> float:
        began = time.monotonic()
        assert corefilt(*args(clean), timeout=600).code == 0
        return time.monotonic() - began

    whole, idle = seconds(), seconds()
    chance = random.Random(kills)
    inodes: dict[Path, int] = {}
    for _ in range(kills):
        process = start(*args(hit), start_new_session=True)
        try:
            # Each of them comes a little further, so that there is work to kill until the end.
            process.wait(chance.uniform(0, idle + 3 * max(whole - idle, 0) / kills))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        for path in (hit / ("p" if replace else "out")).rglob("*"):
            try:
                os.getxattr(path, "user.corefilt")
            except OSError:
                continue
            # What is done is never done again.
            assert inodes.setdefault(path, path.stat().st_ino) == path.stat().st_ino
    assert corefilt(*args(hit), timeout=600).code == 0
    assert listing(hit) == listing(clean)
    again = corefilt(*args(hit), "--json", timeout=600)
    assert {line["status"] for line in lines_of(again.out)} <= {"unchanged", "skipped", "kept"}


@pytest.mark.parametrize("pack", ["raw", "zstd"])
@pytest.mark.parametrize("replace", [False, True], ids=["to", "replace"])
def test_without_attributes_a_note_says_what_is_done(replace: bool, pack: str, tmp_path: Path) -> None:
    if os.environ.get("COREFILT_TEST_SYSTEM") != "1" or os.geteuid() != 0:
        pytest.skip("needs root and COREFILT_TEST_SYSTEM=1, because it mounts a ramfs, which keeps no attributes")
    place = tmp_path / "ramfs"
    place.mkdir()
    if subprocess.run(["mount", "-t", "ramfs", "none", place], check=False).returncode:
        pytest.skip("a ramfs cannot be mounted here")
    try:
        data = sample_core()
        put(place / "p/core", data if pack == "raw" else PACK[pack](data))
        args = ("--replace",) if replace else ("--to", place / "out")
        (line,) = batch(place / "p", *args)
        assert (line["status"], line["reason"]) == ("filtered", "")
        made = place / ("p/core" if replace else "out/core")
        inode = made.stat().st_ino
        (tmp_path / "full").write_bytes(data)
        (tmp_path / "made").write_bytes(unpacked(made.read_bytes()))
        verdict = corefilt("verify", tmp_path / "full", tmp_path / "made")
        assert verdict.code == 0, verdict.out
        assert b"of a batch" in verdict.out
        (line,) = batch(place / "p", *args)
        assert line["status"] == "unchanged"
        assert made.stat().st_ino == inode
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("replace", [False, True], ids=["to", "replace"])
def test_a_job_that_is_killed_goes_on_where_it_was(replace: bool, tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, small_cores(24), 4, replace)


@pytest.mark.slow
@pytest.mark.parametrize("replace", [False, True], ids=["to", "replace"])
def test_fifty_kills(replace: bool, tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, small_cores(120) + real_cores() * 4, 50, replace)


def test_systemd_attributes_stay_and_travel(tmp_path: Path) -> None:
    name = systemd(tmp_path / "p", "x", sample_core(), 0)
    try:
        os.getxattr(tmp_path / "p" / name, "user.coredump.pid")
    except OSError:
        pytest.skip("this file system keeps no attributes")
    batch(tmp_path / "p", "--to", tmp_path / "out")
    assert os.getxattr(tmp_path / "out" / name, "user.coredump.comm") == b"victim"
    (line,) = batch(tmp_path / "p", "--replace")
    assert line["wrapping"] == "systemd-coredump+zstd"
    assert os.getxattr(tmp_path / "p" / name, "user.coredump.comm") == b"victim"
