"""Packages by what dpkg and rpm note; databases of both are made here as those programs make them."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from corefilt.bundle.packages import packages_of
from corefilt.bundle.rpm import DIRINDEXES, DIRNAMES, NAME, RELEASE, VERSION
from corefilt.evidence.sysroot import Sysroot

DATABASE = "usr/lib/sysimage/rpm/rpmdb.sqlite"
LIBC = b"/usr/lib64/libc.so.6"


@pytest.fixture
def sysroot(tmp_path: Path) -> Iterator[Sysroot]:
    with closing(Sysroot(tmp_path)) as opened:
        yield opened


def header(name: str, folders: list[str], files: list[tuple[int, str]]) -> bytes:
    """A header of a package, with the tags that a look-up asks for."""
    values = [
        (NAME, 6, name.encode() + b"\0", 1),
        (VERSION, 6, b"2.34\0", 1),
        (RELEASE, 6, b"60.el9\0", 1),
        (DIRINDEXES, 4, b"".join(struct.pack(">I", at) for at, _ in files), len(files)),
        (1117, 8, b"".join(text.encode() + b"\0" for _, text in files), len(files)),
        (DIRNAMES, 8, b"".join(text.encode() + b"\0" for text in folders), len(folders)),
    ]
    index = data = b""
    for tag, kind, raw, count in values:
        index += struct.pack(">IIII", tag, kind, len(data), count)
        data += raw
    return struct.pack(">II", len(values), len(data)) + index + data


def database(folder: Path, rows: list[tuple[str, int, bytes]]) -> None:
    """Rows of (last name, number of the file, header), each of a package of its own."""
    path = folder / DATABASE
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        made.execute("CREATE TABLE Basenames (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
        for n, (name, index, blob) in enumerate(rows, 1):
            made.execute("INSERT INTO Packages VALUES (?, ?)", (n, blob))
            made.execute("INSERT INTO Basenames VALUES (?, ?, ?)", (name, n, index))
        made.commit()


def test_rpm(tmp_path: Path, sysroot: Sysroot) -> None:
    folders = ["/etc/", "/usr/lib64/"]
    files = [(0, "ld.so.conf"), (1, "libc.so.6")]
    database(tmp_path, [
        ("libc.so.6", 1, header("other", ["/", "/opt/"], files)), ("libc.so.6", 1, header("glibc", folders, files)),
        ("libm.so.6", 0, header("old", ["/lib/"], [(0, "libm.so.6")])),
    ])  # fmt: skip
    found = packages_of([LIBC, b"/usr/lib/libm.so.6", b"/usr/lib/none", b"/usr/lib64/\xff"], sysroot)
    assert found == {LIBC: ("glibc", "2.34-60.el9"), b"/usr/lib/libm.so.6": ("old", "2.34-60.el9")}


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff" * 8,
        header("x", [], [(1, "libc.so.6")]),
        header("x", ["/usr/lib64/"], [(1 << 31, "libc.so.6")]),
        header("x", ["/usr/lib64/"], [(0, "libc.so.6")])[:-13],
        header("x", ["/usr/lib64/"], [(0, "libc.so.6")])[:40],
        struct.pack(">II", 1, 8) + struct.pack(">IIII", DIRINDEXES, 4, 1 << 31, 1),
    ],
    ids=range(7),
)
def test_headers_that_lie(tmp_path: Path, sysroot: Sysroot, blob: bytes) -> None:
    good = header("glibc", ["/usr/lib64/"], [(0, "libc.so.6")])
    database(tmp_path, [("libc.so.6", 0, blob), ("libc.so.6", 0, good)])
    assert packages_of([LIBC], sysroot) == {LIBC: ("glibc", "2.34-60.el9")}


def test_databases_that_lie(tmp_path: Path, sysroot: Sysroot) -> None:
    """What is not a database, and one that would count for ever."""
    path = tmp_path / DATABASE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 500)
    assert packages_of([LIBC], sysroot) == {}
    path.unlink()
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE Packages (hnum, blob)")
        made.execute(
            "CREATE VIEW Basenames AS WITH RECURSIVE n(key, hnum, idx) AS "
            "(SELECT 'x', 0, 0 UNION ALL SELECT 'x', hnum + 1, 0 FROM n) SELECT * FROM n"
        )
        made.commit()
    assert packages_of([LIBC], sysroot) == {}


@pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="rpmbuild is not installed")
def test_what_rpm_writes(tmp_path: Path, sysroot: Sysroot) -> None:
    spec = tmp_path / "app.spec"
    spec.write_text(
        "Name: app\nVersion: 1.2\nRelease: 3\nSummary: x\nLicense: MIT\n%description\nx\n%install\n"
        "mkdir -p %{buildroot}/opt/app\necho x > %{buildroot}/opt/app/victim\n%files\n/opt/app/victim\n"
    )
    build = ["rpmbuild", "--quiet", "--define", f"_topdir {tmp_path}/top", "--define", "debug_package %{nil}"]
    subprocess.run([*build, "-bb", spec], check=True, capture_output=True, timeout=60)
    (package,) = (tmp_path / "top" / "RPMS").rglob("*.rpm")
    install = ["rpm", "--root", tmp_path, "--dbpath", "/usr/lib/sysimage/rpm", "-i", "--nodeps", "--force-debian"]
    subprocess.run([*install, "--ignorearch", "--ignoreos", package], check=True, capture_output=True, timeout=60)
    assert packages_of([b"/opt/app/victim"], sysroot) == {b"/opt/app/victim": ("app", "1.2-3")}


def test_dpkg(tmp_path: Path, sysroot: Sysroot) -> None:
    """A package for several architectures, one listed without /usr, and what is not installed any more."""
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "libc6:amd64.list").write_text("/.\n/lib/x86_64-linux-gnu/libc.so.6\n")
    (info / "gone.list").write_text("/usr/bin/gone\n")
    (info / "app.list").write_text("/usr/bin/app\n")
    (info.parent / "status").write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 2.36-9\n"
        "Description: a: b\n c: d\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n"
        "Package: ../../x\nStatus: install ok installed\nVersion: 1\n\n"
        "Package: app\nStatus: hold ok installed\nArchitecture: all\nVersion: 3\n"
    )
    libc = b"/usr/lib/x86_64-linux-gnu/libc.so.6"
    found = packages_of([libc, b"/usr/bin/gone", b"/usr/bin/app"], sysroot)
    assert found == {libc: ("libc6", "2.36-9"), b"/usr/bin/app": ("app", "3")}
