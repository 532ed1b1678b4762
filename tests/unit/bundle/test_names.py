"""Names in a bundle: links for the linker's names, and what is not unpacked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corefilt.bundle.names import Link, build_id_path, is_plain, links_for, why_unsafe

LIBC = b"/usr/lib/x86_64-linux-gnu/libc.so.6"
LOADER = b"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"


def test_merged_directories_are_links_before_all_others() -> None:
    found = links_for(
        [
            (b"/lib/x86_64-linux-gnu/libc.so.6", LIBC),
            (b"/lib64/ld-linux-x86-64.so.2", LOADER),
            (b"/lib/x86_64-linux-gnu/libstdc++.so.6", b"/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30"),
        ]
    )
    assert found.links == (
        Link(b"lib", b"usr/lib"),
        Link(b"lib64/ld-linux-x86-64.so.2", b"../usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
        Link(b"usr/lib/x86_64-linux-gnu/libstdc++.so.6", b"libstdc++.so.6.0.30"),
    )
    assert found.folders == found.by_name == ()


def test_directories_that_are_not_merged_stay() -> None:
    """A library that lies in /lib itself keeps /lib from being a link."""
    found = links_for([(b"/lib/libc.so.6", b"/usr/lib/libc.so.6"), (b"/lib/libm.so.6", b"/lib/libm-2.31.so")])
    assert found.links == (Link(b"lib/libc.so.6", b"../usr/lib/libc.so.6"), Link(b"lib/libm.so.6", b"libm-2.31.so"))


def test_names_with_steps_back() -> None:
    """A JVM is started with $ORIGIN/../lib: the directory that the name goes through has to be there."""
    found = links_for(
        [
            (b"/opt/jdk/bin/../lib/libjli.so", b"/opt/jdk/lib/libjli.so"),
            (b"/opt/other/bin/../lib/./libjli.so", b"/opt/jdk/lib/libjli.so"),
        ]
    )
    assert found.folders == (b"opt/jdk/bin", b"opt/other/bin")
    assert found.links == (Link(b"opt/other/lib/libjli.so", b"../../jdk/lib/libjli.so"),)


def test_names_that_are_not_absolute_are_found_by_their_last_part() -> None:
    found = links_for([(b"./libmine.so", b"/srv/app/libmine.so"), (b"", b"/srv/app/main")])
    assert found.by_name == (b"/srv/app/libmine.so",)
    assert found.links == ()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"/a", b"/a/b"),
        (b"/a/b/c", b"/a/b"),
        (b"/x/\0y", b"/a/b"),
        (b"/" + b"x" * 300, b"/a/b"),
        (b"/..", b"/a/b"),
        (b"/x", b"/a/../../etc/passwd"),
    ],
)
def test_names_that_cannot_be_links_are_left_out(name: bytes, path: bytes) -> None:
    assert links_for([(name, path)]).links == ()


def test_a_name_has_one_link() -> None:
    assert len(links_for([(b"/x", b"/a"), (b"/x", b"/b"), (b"/x/y", b"/a")]).links) == 1


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        (b"/usr/bin/a b", True),
        (b"/usr/bin/\xff\n\"'", True),
        (b"/usr//bin", False),
        (b"/usr/./bin", False),
        (b"/../etc/shadow", False),
        (b"usr/bin", False),
        (b"/", False),
        (b"/a\0b", False),
        (b"/" + b"a" * 256, False),
        (b"/a" * 64, False),
    ],
)
def test_plain_paths(path: bytes, plain: bool) -> None:
    assert is_plain(path) is plain


def test_where_debug_files_lie() -> None:
    assert build_id_path(b"\xab\xcd\xef") == b"/.build-id/ab/cdef.debug"


@pytest.mark.parametrize(
    ("name", "kind", "target", "words"),
    [
        ("root/usr/bin/x", "file", "", None),
        ("core", "file", "", None),
        ("debug/.build-id/ab/cd.debug", "file", "", None),
        ("root/usr/lib", "folder", "", None),
        ("root/usr/bin/x", "link", "../lib/y", None),
        ("root/lib", "link", "usr/lib", None),
        ("../core", "file", "", "could lead out"),
        ("/etc/cron.d/x", "file", "", "could lead out"),
        ("root/../../x", "file", "", "could lead out"),
        ("root//x", "file", "", "could lead out"),
        ("root/./x", "file", "", "could lead out"),
        ("root/a\0b", "file", "", "could lead out"),
        ("root/" + "a" * 256, "file", "", "too long"),
        ("root" + "/a" * 65, "file", "", "too long"),
        (".gdbinit", "file", "", "not part of a bundle"),
        ("root", "file", "", "not part of a bundle"),
        ("cwd/.gdbinit", "file", "", "not part of a bundle"),
        ("etc", "folder", "", "not part of a bundle"),
        ("core", "link", "root/x", "outside root/"),
        ("root", "link", "usr", "outside root/"),
        ("debug/x", "link", "y", "outside root/"),
        ("root/x", "link", "/etc/passwd", "could lead out"),
        ("root/x", "link", "..", "could lead out"),
        ("root/a/x", "link", "../..", "could lead out"),
        ("root/a/x", "link", "b/../../..", "could lead out"),
        ("root/a/x", "link", "", "could lead out"),
        ("root/a/x", "link", "y\0z", "could lead out"),
        ("root/x", "hard link", "root/y", "is a hard link"),
        ("root/x", "device", "", "is a device"),
    ],
)
def test_what_is_not_unpacked(name: str, kind: str, target: str, words: str | None) -> None:
    reason = why_unsafe(name, kind, target)
    assert reason is None if words is None else reason is not None and words in reason


def test_no_chain_of_links_leads_out(tmp_path: Path) -> None:
    """All links that are allowed, two deep, are made and followed: none of them ends above root/."""
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    targets = ("a", "a/b", "..", "../..", "x", "y", "x/..", "x/a", "../x", "../../y", "../a", ".", "/")
    allowed = [
        (place, target)
        for place in ("x", "y", "a/x", "a/b/x")
        for target in targets
        if why_unsafe(f"root/{place}", "link", target) is None
    ]
    assert ("a/b/x", "../..") in allowed and ("x", "..") not in allowed
    followed = 0
    for first, one in allowed:
        for second, two in allowed:
            if first == second:
                continue
            for place, target in ((first, one), (second, two)):
                (root / place).symlink_to(target)
            for place in (first, second):
                end = os.path.realpath(root / place)
                assert end == str(root) or end.startswith(f"{root}/"), (place, first, one, second, two)
                followed += 1
                (root / place).unlink()
    assert followed > 300
