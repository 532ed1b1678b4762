"""``corefilt bundle`` and ``corefilt open``: what is packed, what is refused, and that nothing of a bundle is run."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support.builder import Load, kernel_notes, make_core, page
from support.bundles import ORIGINAL, PROGRAM, Archive, content_of, core_of, members_of, names_of, system, zstd
from support.run import COREFILT, Done, assert_error, assert_usage, corefilt

from corefilt.bundle import unpack
from corefilt.bundle.opening import prepared
from corefilt.errors import BundleError

needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
needs_lldb = pytest.mark.skipif(shutil.which("lldb") is None, reason="lldb is not installed")
SLASHED = PROGRAM[1:]


def bundle(core: Path, root: Path, *more: str | Path, code: int = 0) -> tuple[Path, Done]:
    """Make a bundle beside a core, and expect an exit code."""
    out = core.with_name("out.corebundle.tar.zst")
    done = corefilt("bundle", core, "-o", out, "-f", "--sysroot", root, "--no-sync", *more)
    assert done.code == code, done.err
    return out, done


def lldb(path: Path, *more: str, folder: Path, **environment: str) -> bytes:
    """Open a bundle with lldb, which tells of Python on standard error where Debian has it without its Python."""
    command = [*COREFILT, "open", path, "--lldb", "--bt", *more]
    told = {**os.environ, "TMPDIR": str(folder), **environment}
    folder.mkdir(exist_ok=True)
    done = subprocess.run(command, env=told, capture_output=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return done.stdout


def opened(path: Path, *more: str, folder: Path, **environment: str) -> Done:
    """Open a bundle or core, with temporary files in a folder that must be empty afterwards."""
    folder.mkdir(exist_ok=True)
    done = corefilt("open", path, *more, env={"TMPDIR": str(folder), **environment})
    assert list(folder.iterdir()) == []
    return done


# --- made -------------------------------------------------------------------------------------------------


def test_what_a_bundle_holds(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out, done = bundle(core, root, "--json")
    report = json.loads(done.out)
    assert (report["found"], report["missing"], report["files"][0]["path"]) == (1, 0, PROGRAM)
    assert names_of(out) == [
        "manifest.json", "README", "gdbinit", "lldbinit", "open.sh", "core", "root/opt/app/victim",
    ]  # fmt: skip
    assert content_of(out, "core") == core.read_bytes()
    assert content_of(out, f"root{PROGRAM}") == ORIGINAL.read_bytes()
    entries = {entry.name: entry for entry in members_of(out)}
    assert entries[f"root{PROGRAM}"].mtime == int(ORIGINAL.stat().st_mtime)
    assert entries["core"].mtime == int(core.stat().st_mtime)
    manifest = json.loads(content_of(out, "manifest.json"))
    assert manifest["executable"] == PROGRAM and manifest["core_size"] == core.stat().st_size
    assert manifest["files"] == report["files"]
    assert out.stat().st_mode & 0o777 == 0o600


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    first = bundle(core, root, "--minimal")[0].read_bytes()
    environment = {"TZ": "Asia/Tokyo", "LC_ALL": "C"}
    again = tmp_path / "again"
    done = corefilt("bundle", core, "-o", again, "--sysroot", root, "--minimal", env=environment)
    assert done.code == 0 and again.read_bytes() == first


def test_to_standard_output_and_from_standard_input(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root)
    done = corefilt("bundle", core, "-o", "-", "--sysroot", root)
    assert done.code == 0 and done.out == out.read_bytes()
    done = corefilt("bundle", "-", "-o", tmp_path / "piped", "--sysroot", root, pipe=core.read_bytes())
    assert done.code == 0 and content_of(tmp_path / "piped", "core") == core.read_bytes()


@pytest.mark.parametrize("how", [("0x1",), ("--minimal",), ("--fit", "16K"), ("0x1", "--minimal")], ids=" ".join)
def test_the_core_is_filtered_as_corefilt_does(tmp_path: Path, how: tuple[str, ...]) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root, *how)
    filtered = how if how[0].startswith("0x") else ("all", *how)
    assert corefilt(filtered[0], core, *filtered[1:], "-o", tmp_path / "small").code == 0
    assert content_of(out, "core") == (tmp_path / "small").read_bytes()


def test_a_hole_costs_nothing(tmp_path: Path) -> None:
    """16 GiB of hole add less than 1 MiB, and are a hole again where the bundle is unpacked."""
    core, root = system(tmp_path)
    small = bundle(core, root)[0].stat().st_size
    size = core.stat().st_size
    with core.open("r+b") as file:
        file.truncate(size + (16 << 30))
    out, _ = bundle(core, root)
    assert out.stat().st_size < small + (1 << 20)
    if shutil.which("tar") and shutil.which("zstd"):
        there = tmp_path / "there"
        there.mkdir()
        command = ["tar", "--zstd", "-xf", out, "-C", there]
        subprocess.run(command, check=True, timeout=30)
        status = (there / "core").stat()
        assert status.st_size == size + (16 << 30) and status.st_blocks * 512 < 1 << 20
        with (there / "core").open("rb") as file, core.open("rb") as original:
            assert file.read(size) == original.read(size)
    done = opened(out, "--list", folder=tmp_path / "t")
    assert done.code == 0 and done.out.startswith(b"found ")


def test_a_file_of_another_build_stays_out(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    shutil.copy2("/usr/bin/false", root / SLASHED)
    out, done = bundle(core, root, "--json", code=4)
    report = json.loads(done.out)
    assert (report["mismatched"], report["found"]) == (1, 0)
    file = report["files"][0]
    assert file["build_id"] != file["found_build_id"] and file["size"] is None
    assert any("mismatched: /opt/app/victim: has build-id" in line for line in done.err)
    assert f"root{PROGRAM}" not in names_of(out)


@pytest.mark.parametrize(
    ("left", "status", "words"),
    [(None, "missing", "does not exist"), (b"text", "mismatched", "not an ELF file"), ("fifo", "missing", "is a FIFO")],
)
def test_a_file_that_is_not_there(tmp_path: Path, left: bytes | str | None, status: str, words: str) -> None:
    core, root = system(tmp_path)
    place = root / SLASHED
    place.unlink()
    if left == "fifo":
        os.mkfifo(place)
    elif isinstance(left, bytes):
        place.write_bytes(left)
    _, done = bundle(core, root, "--json", code=4)
    file = json.loads(done.out)["files"][0]
    assert file["status"] == status and words in file["reason"]
    assert any(f"{status}: {PROGRAM}" in line for line in done.err)


def test_a_link_out_of_the_sysroot_leads_nowhere(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    (root / SLASHED).unlink()
    (root / SLASHED).symlink_to(f"../../../../../..{ORIGINAL}")
    bundle(core, root, code=4)


def test_a_core_without_the_first_page_leaves_files_unverified(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    notes = kernel_notes([(0x400000, 0x401000, 0, PROGRAM)])
    core.write_bytes(make_core([Load(0x400000, memsz=4096, flags="r-x"), Load(0x7FFF0000, page(b"s"))], notes))
    _, done = bundle(core, root, "--json")
    assert json.loads(done.out)["unverified"] == 1
    assert any("unverified: /opt/app/victim: the core does not hold its build-id" in line for line in done.err)


def test_a_path_with_detours_is_not_bundled(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    core.write_bytes(core_of(ORIGINAL.read_bytes(), "/../../opt/app/victim"))
    out, _ = bundle(core, root, code=4)
    assert not any(".." in name for name in names_of(out))


def test_debug_files_scripts_and_packages(tmp_path: Path) -> None:
    """Debug files by their build-id from the sysroot or --debug-dir, scripts beside the object, and dpkg's word."""
    core, root = system(tmp_path)
    report = json.loads(bundle(core, root, "--json")[1].out)
    build_id = report["files"][0]["build_id"]
    name = Path(".build-id") / build_id[:2] / f"{build_id[2:]}.debug"
    own, other = root / "usr/lib/debug" / name, tmp_path / "debug" / name
    for place in (own, other):
        place.parent.mkdir(parents=True)
    shutil.copy2("/usr/bin/false", own)
    shutil.copy2(ORIGINAL, other)
    script = root / "usr/share/gdb/auto-load" / f"{SLASHED}-gdb.py"
    script.parent.mkdir(parents=True)
    script.write_text("print('hello')\n")
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "app.list").write_text(f"/.\n/opt\n{PROGRAM}\n")
    status = "Package: {}\nStatus: install ok {}\nVersion: 1:2-3\nArchitecture: amd64\n"
    (root / "var/lib/dpkg/status").write_text(
        status.format("gone", "deinstall") + "\n" + status.format("app", "installed")
    )
    out, done = bundle(core, root, "--debug-dir", tmp_path / "debug", "--json")
    files = {file["role"]: file for file in json.loads(done.out)["files"]}
    # The one in the sysroot is of another build.
    assert content_of(out, f"debug/{name}") == ORIGINAL.read_bytes()
    assert files["debug"]["build_id"] == build_id
    assert content_of(out, f"root{PROGRAM}-gdb.py") == b"print('hello')\n"
    assert (files["object"]["package"], files["object"]["package_version"]) == ("app", "1:2-3")
    out, done = bundle(core, root, "--debug-dir", tmp_path / "debug", "--no-debug")
    assert not any(name.startswith("debug/") for name in names_of(out))


def test_wrong_uses(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out = tmp_path / "out"
    assert_usage(corefilt("bundle", core), "-o BUNDLE is missing")
    assert_usage(corefilt("bundle", core, "-o", "-", "--json"), "both go to standard output")
    assert_usage(corefilt("bundle", core, "-o", out, "--debuginfod", "--no-debug"), "contradict")
    assert_usage(corefilt("bundle", core, "-o", out, "0x33x"), "0x33x")
    for name in ("y.tar", "y.tar.gz", "y.corebundle.tar.xz", "y.tgz", "y.lz4", "y.zip"):
        done = corefilt("bundle", core, "-o", tmp_path / name, "--sysroot", root)
        assert_usage(done, f"{name}: a bundle is tar compressed with zstd", "try: name it y.corebundle.tar.zst")
        assert not (tmp_path / name).exists()
    assert_usage(corefilt("open", core, "--gdb", "--lldb"), "two debuggers")
    assert_error(corefilt("bundle", core, "-o", out, "--sysroot", tmp_path / "none"), "none", "try: name an existing")
    assert_error(corefilt("bundle", core, "-o", core, "-f", "--sysroot", root), "is the input itself")
    out.write_bytes(b"mine")
    assert_error(corefilt("bundle", core, "-o", out, "--sysroot", root), "exists")
    assert out.read_bytes() == b"mine"


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out = tmp_path / "out"
    assert_error(corefilt("bundle", core, "-o", out, "--sysroot", root, file_size=8192), "cannot be written")
    assert not out.exists()


def test_a_truncated_core(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    core.write_bytes(core.read_bytes()[:-100])
    out, done = bundle(core, root, code=3)
    assert "truncated" in "\n".join(done.err)
    assert content_of(out, "core") == core.read_bytes()


def test_files_of_another_user_are_not_looked_for_in_our_root(tmp_path: Path) -> None:
    core, _ = system(tmp_path)
    core.chmod(0o666)
    assert_error(corefilt("bundle", core, "-o", tmp_path / "out"), "not looked for in /", "--sysroot")
    assert_error(opened(core, folder=tmp_path / "t"), "not looked for in /", "--sysroot")


def test_a_batch_writes_bundles_beside_its_cores(tmp_path: Path) -> None:
    core, root = system(tmp_path / "archive")
    to = tmp_path / "to"
    base = ("batch", "0x33", tmp_path / "archive" / "core", "--to", to, "--bundle", "--sysroot", root, "--json")
    for compress, name in (("none", "core"), ("zstd", "core.zst")):
        done = corefilt(*base, "--compress", compress, "--verify")
        (line,) = map(json.loads, done.out.splitlines())
        assert (done.code, line["status"], line["reason"]) == (0, "filtered", ""), line
        packed = to / f"{name}.corebundle.tar.zst"
        assert f"root{PROGRAM}" in names_of(packed)
        if compress == "none":
            assert content_of(packed, "core") == (to / name).read_bytes()
        entries = {entry.name: entry.mtime for entry in members_of(packed)}
        assert entries["core"] == int(core.stat().st_mtime)
    assert json.loads(corefilt(*base, "--compress", "none").out)["status"] == "unchanged"
    (root / SLASHED).unlink()
    done = corefilt(*base, "--compress", "none", "--strict", "-f")
    assert f"the bundle lacks {PROGRAM} (missing)" in json.loads(done.out)["reason"]
    (to / "core").unlink()
    failed = json.loads(corefilt(*base, "--compress", "none").out)
    assert failed["status"] == "failed" and "core.corebundle.tar.zst: exists" in failed["reason"]
    assert not (to / "core").exists()
    assert_usage(corefilt("batch", "0x33", core, "--replace", "--bundle"), "--bundle", "--to DIR")


# --- opened -----------------------------------------------------------------------------------------------


@needs_gdb
def test_gdb_shows_the_core(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root)
    for words in ((), ("--gdb",)):
        done = opened(out, *words, "--bt", "--", "-ex", "info files", "-ex", "pwd", folder=tmp_path / "t")
        assert done.code == 0
        assert b"bundle/root/opt/app/victim" in done.out and b"Core was generated" in done.out
        assert b"Working directory " in done.out and b"/cwd." in done.out


@needs_lldb
def test_lldb_shows_the_core(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root)
    told = lldb(out, "--", "-o", "image list", folder=tmp_path / "t")
    assert b"thread #1" in told and b"/victim" in told


@needs_gdb
def test_a_core_alone_is_shown_with_this_machine(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(core_of(ORIGINAL.read_bytes(), str(ORIGINAL)))
    core.chmod(0o600)
    done = opened(core, "--bt", "--", "-ex", "info files", folder=tmp_path / "t")
    assert done.code == 0 and b"file type elf64-x86-64" in done.out
    done = opened(core, "--list", folder=tmp_path / "t")
    assert done.code == 0 and done.out.startswith(b"found ") and str(ORIGINAL).encode() in done.out
    shutil.move(core, tmp_path / "plain")
    core.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    core.chmod(0o600)
    done = opened(core, "--bt", "--trust", folder=tmp_path / "t")
    assert done.code == 0 and b"Core was generated" in done.out


@needs_gdb
def test_a_core_alone_with_the_files_of_a_directory(tmp_path: Path) -> None:
    core, root = system(tmp_path, "/opt/a b/victim \"x'\n")
    done = opened(core, "--bt", "--sysroot", str(root), "--", "-ex", "info files", folder=tmp_path / "t")
    assert done.code == 0 and b"file type elf64-x86-64" in done.out, done.err
    out, _ = bundle(core, root)
    assert_error(opened(out, "--sysroot", str(root), folder=tmp_path / "t"), "contains its own files")


def test_what_is_missing_is_said_and_what_is_another_build_is_refused(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    (root / SLASHED).unlink()
    out, _ = bundle(core, root, code=4)
    done = opened(out, "--list", folder=tmp_path / "t")
    assert done.code == 4 and done.out.startswith(b"missing ")
    lying = Archive().file(f"root{PROGRAM}", Path("/usr/bin/false").read_bytes()).write(tmp_path / "lying")
    done = opened(lying, "--bt", folder=tmp_path / "t")
    assert_error(done, "/opt/app/victim: has build-id", code=4)
    done = opened(lying, "--list", folder=tmp_path / "t")
    assert done.code == 4 and done.out.startswith(b"mismatched ")


def test_a_debugger_that_fails_or_is_not_there(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root)
    assert_error(opened(out, folder=tmp_path / "t", PATH=str(tmp_path)), "gdb is not installed")
    for script, words in (("exit 3", "exit status 3"), ("kill -9 $$", "signal 9")):
        stub = tmp_path / "bin" / "gdb"
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/sh\n{script}\n")
        stub.chmod(0o755)
        done = opened(out, folder=tmp_path / "t", PATH=f"{stub.parent}:{os.environ['PATH']}")
        assert done.code == 1 and done.err == (f"corefilt: gdb ended with {words}",)


def test_a_place_whose_name_debuggers_would_read_otherwise(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root)
    assert_error(opened(out, "--list", folder=tmp_path / "t:u"), "debuggers interpret", "TMPDIR")


# --- hostile ----------------------------------------------------------------------------------------------

LINK, HARD, DEVICE, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("../../planted", {}, "could lead out"),
    ("/tmp/planted", {}, "could lead out"),
    ("root/../../planted", {}, "could lead out"),
    (".gdbinit", {}, "not part of a bundle"),
    (".lldbinit", {}, "not part of a bundle"),
    ("cwd/.gdbinit", {}, "not part of a bundle"),
    ("root/x", {"type": LINK, "linkname": "/etc"}, "could lead out"),
    ("root/x", {"type": LINK, "linkname": "../../../.."}, "could lead out"),
    ("core2", {"type": LINK, "linkname": "core"}, "outside root/"),
    ("root/x", {"type": HARD, "linkname": "/etc/passwd"}, "is a hard link"),
    ("root/x", {"type": HARD, "linkname": "core"}, "is a hard link"),
    ("root/x", {"type": DEVICE, "devmajor": 1, "devminor": 8}, "is a device"),
    ("root/x", {"type": FIFO}, "is a FIFO"),
    ("core", {}, "is in it twice"),
    ("core/x", {"raw": b"x"}, "not part of a bundle"),
    ("root/" + "/".join("d" * 70), {}, "too long"),
    ("root/\x1b[2J\n", {"type": HARD, "linkname": "core"}, "is a hard link"),
]


@pytest.mark.parametrize(
    ("name", "fields", "words"), HOSTILE, ids=[f"{n}-{row[0][:20]!a}" for n, row in enumerate(HOSTILE)]
)
def test_hostile_members_are_refused(tmp_path: Path, name: str, fields: dict[str, Any], words: str) -> None:
    raw = fields.pop("raw", b"shell touch planted\n")
    path = Archive().file(name, b"" if "type" in fields else raw, **fields).write(tmp_path / "hostile")
    before = sorted(tmp_path.rglob("*"))
    done = opened(path, "--bt", folder=tmp_path / "t")
    assert_error(done, words)
    assert "\x1b" not in "".join(done.err)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "t"])


def test_files_do_not_go_through_links(tmp_path: Path) -> None:
    """A link is made when all files are there; a file in its place makes it a second one of its name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = Archive().file("root/d", type=LINK, linkname="e").file("root/d/x", b"x").write(tmp_path / "hostile")
    assert_error(opened(archive, "--list", folder=tmp_path / "t"), "root/d", "is in it twice")
    assert list(outside.iterdir()) == []


def test_bombs(tmp_path: Path) -> None:
    """Zeros without end, sizes that lie, maps that go backwards, and too many members."""
    long = Archive().file("root/zeros", bytes(1 << 10), size=1 << 60)
    assert_error(opened(long.write(tmp_path / "long"), "--list", folder=tmp_path / "t"), "root/zeros")
    zeros = Archive().file("root/zeros", bytes(1 << 20))
    # So many bytes are claimed that the file system may have space for, and that no such bundle needs.
    zeros.file("root/more", bytes(1 << 10), size=1 << 40)
    assert_error(opened(zeros.write(tmp_path / "zeros"), "--list", folder=tmp_path / "t"), "root/more: is larger than")


def test_the_limits_of_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 5)
    monkeypatch.setattr(unpack, "MOST_FOLDERS_MADE", 20)
    many, deep = Archive(), Archive().file("root" + "/d" * 21)
    for n in range(4):
        many.file(f"root/{n}")
    for archive, words in ((many, "root/3: is one of more than 5 members"), (deep, "more than 20 directories")):
        path = archive.write(tmp_path / "hostile")
        with pytest.raises(BundleError, match=words), prepared(str(path), sysroot=None, trusted=False):
            pass
    long = Archive().file("root/x", pax_headers={"comment": "x" * (2 << 20)}).write(tmp_path / "hostile")
    with pytest.raises(BundleError, match="claims"), prepared(str(long), sysroot=None, trusted=False):
        pass
    behind = Archive().write(tmp_path / "hostile")
    behind.write_bytes(behind.read_bytes() + zstd.compress(bytes(2 << 20)))
    with pytest.raises(BundleError, match="continues past"), prepared(str(behind), sysroot=None, trusted=False):
        pass


@pytest.mark.parametrize(
    "pieces", [[(8192, 512), (0, 512)], [(0, 512), (256, 512)], [(1 << 62, 512)], [(0, 1 << 62)]], ids=str
)
def test_a_map_of_holes_that_lies(tmp_path: Path, pieces: list[tuple[int, int]]) -> None:
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    before = "".join(f"{number}\n" for number in numbers).encode()
    raw = before + bytes(-len(before) % 512) + bytes(2048)
    told = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "root/x",
        "GNU.sparse.realsize": "16384",
    }
    path = Archive().file("GNUSparseFile.0/root/x", raw, pax_headers=told).write(tmp_path / "hostile")
    assert_error(opened(path, "--list", folder=tmp_path / "t"), "root/x")


@pytest.mark.parametrize("length", [0, 10, 100, 300, -1])
def test_what_is_cut(tmp_path: Path, length: int) -> None:
    core, root = system(tmp_path)
    out, _ = bundle(core, root)
    out.write_bytes(out.read_bytes()[:length])
    assert opened(out, "--list", folder=tmp_path / "t").code == 1


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Archive(manifest=b"{"), "manifest.json"),
        (Archive(manifest=b'{"format": "zip", "version": 1, "files": []}'), "format"),
        (Archive(core=b"no core"), "core"),
        (Archive(core=b""), "core"),
    ],
)
def test_what_is_no_bundle(tmp_path: Path, made: Archive, words: str) -> None:
    assert_error(opened(made.write(tmp_path / "hostile"), "--list", folder=tmp_path / "t"), words)


def test_a_tar_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(ORIGINAL, "root/x")
    assert_error(opened(path, folder=tmp_path / "t"), "has no manifest.json")
    assert_error(opened(tmp_path, folder=tmp_path / "t"), "not a file")
    assert_error(opened(tmp_path / "none", folder=tmp_path / "t"), "none")


@needs_gdb
def test_nothing_of_a_bundle_is_run(tmp_path: Path) -> None:
    """Scripts of all kinds lie where debuggers look for them; only --trust has the one run that it is for."""
    marks = tmp_path / "marks"
    marks.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    python = f"open('{marks}/python', 'w').close()\n"
    shell = f"shell touch {marks}/{{}}\n"
    archive = Archive().file(f"root{PROGRAM}", ORIGINAL.read_bytes())
    archive.file(f"root{PROGRAM}-gdb.py", python.encode())
    archive.file(f"root{PROGRAM}-gdb.gdb", shell.format("gdb").encode())
    archive.file("gdbinit", shell.format("gdbinit").encode())
    archive.file("lldbinit", f"platform shell touch {marks}/lldbinit\n".encode())
    archive.file("open.sh", f"touch {marks}/open\n".encode(), mode=0o4777)
    archive.file("root/.gdbinit", shell.format("root").encode())
    archive.file("root/libthread_db.so.1", ORIGINAL.read_bytes())
    for path in (tmp_path / ".gdbinit", home / ".gdbinit"):
        path.write_text(shell.format("home"))
    (home / ".lldbinit").write_text(f"platform shell touch {marks}/home\n")
    path = archive.write(tmp_path / "hostile")
    done = opened(path, "--bt", folder=tmp_path / "t", HOME=str(home))
    assert done.code == 0 and list(marks.iterdir()) == [], done.err
    if shutil.which("lldb"):
        assert b"thread #1" in lldb(path, folder=tmp_path / "t", HOME=str(home))
        assert list(marks.iterdir()) == []
    done = opened(path, "--bt", "--trust", folder=tmp_path / "t", HOME=str(home))
    assert done.code == 0
    assert {mark.name for mark in marks.iterdir()} == {"python", "gdb"}


@needs_gdb
def test_names_with_quotes_and_newlines(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    name = f"/opt/x\"'\\`touch {mark.name}`\nshell touch mark\n"
    core, root = system(tmp_path, name)
    out, _ = bundle(core, root)
    done = opened(out, "--bt", "--trust", folder=tmp_path / "t")
    assert done.code == 0 and not mark.exists()
    # What people without corefilt have does not name it at all.
    assert b"shell" not in content_of(out, "gdbinit") and b"shell" not in content_of(out, "lldbinit")


@needs_gdb
def test_a_bundle_opens_without_corefilt(tmp_path: Path) -> None:
    core, root = system(tmp_path, "/opt/a b/victim")
    out, _ = bundle(core, root)
    there = tmp_path / "there"
    there.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", out, "-C", there], check=True, timeout=20)
    command = ["sh", there / "open.sh", "gdb", "-batch", "-ex", "info files"]
    done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and b"root/opt/a b/victim" in done.stdout, done.stderr
