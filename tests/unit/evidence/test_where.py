"""On which host and kernel a core was written, by what tells so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corefilt.evidence.when import ABRT, ATTRIBUTE
from corefilt.evidence.where import APPORT, HOSTNAME, host_of, kernel_of


def host(path: Path) -> tuple[str, str] | None:
    with open(path, "rb") as file:
        return host_of(file.fileno(), str(path))


def made(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def test_of_a_core_that_nothing_is_noted_of(tmp_path: Path) -> None:
    (tmp_path / "hostname").write_text("web1\n")
    (tmp_path / "kernel").write_text("6.1.0\n")
    path = made(tmp_path / "core.web1.77")
    assert host(path) is None and kernel_of(str(path)) is None


def test_by_an_attribute(tmp_path: Path) -> None:
    path = made(tmp_path / "coredump")
    (tmp_path / "hostname").write_text("web2\n")
    try:
        os.setxattr(path, HOSTNAME, b"web1")
    except OSError:
        pytest.skip("no attributes here")
    assert host(path) == ("web1", ATTRIBUTE)
    os.setxattr(path, HOSTNAME, b"we\nb1")
    assert host(path) == ("web2", ABRT)


@pytest.mark.parametrize("name", ["coredump", "coredump.lz4"])
def test_by_what_abrt_put_beside_it(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / name)
    (tmp_path / "hostname").write_text("web1.example.org\n")
    (tmp_path / "kernel").write_text("5.14.0-503.el9.x86_64\n")
    assert host(path) == ("web1.example.org", ABRT)
    assert kernel_of(str(path)) == ("5.14.0-503.el9.x86_64", ABRT)


@pytest.mark.parametrize("held", [b"", b"\n", b"a\nb", b"a\0b", b"x" * 256])
def test_what_is_no_short_line_is_passed_over(tmp_path: Path, held: bytes) -> None:
    path = made(tmp_path / "coredump")
    (tmp_path / "hostname").write_bytes(held)
    assert host(path) is None


def test_links_and_pipes_are_not_opened(tmp_path: Path) -> None:
    path = made(tmp_path / "coredump")
    (tmp_path / "secret").write_text("web1\n")
    (tmp_path / "hostname").symlink_to("secret")
    os.mkfifo(tmp_path / "kernel")
    assert host(path) is None and kernel_of(str(path)) is None


def test_by_what_apport_unpack_wrote(tmp_path: Path) -> None:
    path = str(made(tmp_path / "CoreDump"))
    assert kernel_of(path) is None
    (tmp_path / "Uname").write_text("Linux 5.15.0-91-generic x86_64")
    assert kernel_of(path) == ("5.15.0-91-generic", APPORT)
    (tmp_path / "Uname").write_text("GNU 0.9 x86_64")
    assert kernel_of(path) is None
