"""The chains that the dynamic linker leaves for debuggers, also those that a hostile process made."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.bundles import BASE, DEBUG, linked_core

from corefilt.corefile import link_map
from corefilt.corefile.corefile import open_core
from corefilt.corefile.link_map import LinkMaps, read_link_maps

OBJECTS = [(b"/lib/libm.so.6", "/usr/lib/libm.so.6"), (b"./libown.so", "/srv/libown.so")]


def read(folder: Path, core: bytes) -> LinkMaps | None:
    path = folder / "core"
    path.write_bytes(core)
    with open_core(path) as opened:
        return read_link_maps(opened, opened.memory())


def test_names_and_where_the_objects_are(tmp_path: Path) -> None:
    found = read(tmp_path, linked_core(OBJECTS))
    assert found is not None and found.debugs == (DEBUG,)
    assert [linked.name for linked in found.objects] == [b"", b"/lib/libm.so.6", b"./libown.so"]
    assert BASE < found.objects[0].dynamic == found.dynamic[0] < found.objects[1].dynamic


@pytest.mark.parametrize(
    ("debug", "debugs", "objects"),
    [
        # A second namespace with the same chain, and one that leads to itself.
        (struct.pack("<6Q", 2, DEBUG + 48, 0, 0, 0, 0), 1, 3),
        (struct.pack("<6Q", 2, DEBUG + 48, 0, 0, 0, DEBUG), link_map.MOST_NAMESPACES, 192),
        (struct.pack("<6Q", 1, 0, 0, 0, 0, 0), 1, 0),
        (struct.pack("<6Q", 1, 0xDEAD000, 0, 0, 0, 0), 1, 0),
        # The first struct link_map leads back to itself.
        (struct.pack("<6Q5Q", 1, DEBUG + 48, 0, 0, 0, 0, 0, DEBUG, 0, DEBUG + 48, 0), 1, 1),
    ],
)
def test_chains_without_an_end(tmp_path: Path, debug: bytes, debugs: int, objects: int) -> None:
    found = read(tmp_path, linked_core(OBJECTS, debug=debug))
    assert found is not None
    assert (len(found.debugs), len(found.objects)) == (debugs, objects)


def test_no_more_objects_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_map, "MOST_OBJECTS", 2)
    found = read(tmp_path, linked_core(OBJECTS))
    assert found is not None and len(found.objects) == 2


def test_a_core_without_the_programs_headers(tmp_path: Path) -> None:
    core = bytearray(linked_core(OBJECTS))
    at = core.index(struct.pack("<QQ", 3, BASE + 64))
    core[at + 8 : at + 16] = struct.pack("<Q", 0xDEAD000)
    assert read(tmp_path, bytes(core)) is None
