"""What lies beside a core: whether a map is that of its process, how it is joined, and what it stands in for."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.builder import EM_PPC, VSYSCALL, Load, kernel_notes, make_core, nt_file, page, parse_core
from support.builds import of_a_plain_build
from support.maps import Area, maps_text, saved, smaps_text
from support.opening import in_pipe, open_file, opened
from support.ready import descriptors
from support.samples import HUGE, PAGE, noise

import corefilt
from corefilt.corefile.nt_file import FileNote
from corefilt.errors import EvidenceError, UsageError
from corefilt.evidence.evidence import Evidence, join, path_of
from corefilt.evidence.evidence import beside as beside_core
from corefilt.evidence.gather import gather
from corefilt.io.sources import FileSource
from corefilt.plan.plan import Mapping
from corefilt.procfs.maps import parse

A, B, C, D = 0x10000, 0x20000, 0x30000, 0x40000
TABLE = "/data/table"
TWO = 2 * PAGE
LOADS = [Load(A, page(b"a", 2)), Load(B, page(b"b", 2), flags="r--"), Load(C, page(b"c", 2)), Load(D, page(b"d", 2))]
AREAS = [
    Area(A, A + TWO, "rw-p"),
    Area(B, B + TWO, "r--p", TABLE, PAGE, (8, 1), 7),
    Area(C, C + TWO, "rw-s", TABLE, 0, (8, 1), 7),
    Area(D, D + TWO, "rw-p", "[heap]"),
]
FILES = [(B, B + TWO, PAGE, TABLE), (C, C + TWO, 0, TABLE)]


def core_of(loads: Sequence[Load] = LOADS, files: object = FILES) -> bytes:
    return make_core(loads, kernel_notes(files))  # type: ignore[arg-type]


def joined(areas: Sequence[Area], core: bytes | None = None) -> dict[int, int]:
    """Return which mapping of the core has which line of the map."""
    with opened(core_of() if core is None else core) as it:
        return join(parse(maps_text(areas), "map"), it.maps)


def believed(folder: Path, areas: Sequence[Area], core: bytes | None = None, *, detailed: bool = False) -> list[str]:
    """Return the notices of a map that is believed. Raises EvidenceError for another."""
    with opened(core_of() if core is None else core) as it:
        evidence = gather(it, maps=saved(folder, areas, detailed=detailed))
        assert evidence is not None
        return evidence.notices


def refused(folder: Path, areas: Sequence[Area], core: bytes | None = None) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        believed(folder, areas, core)
    assert "\n" not in str(caught.value)
    assert "take the map of the process that dumped this core" in caught.value.hint
    return caught.value


def found(core: bytes, folder: Path, areas: Sequence[Area], *, detailed: bool = False) -> dict[int, Mapping]:
    with opened(core) as it:
        plan = it.plan("all", maps=saved(folder, areas, detailed=detailed))
        return {mapping.start: mapping for mapping in plan.mappings}


# --- joining ----------------------------------------------------------------------------------------------


def test_mappings_are_joined_by_address() -> None:
    assert joined(AREAS) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert joined(AREAS[::-1]) == {0: 3, 1: 2, 2: 1, 3: 0}
    assert joined([Area(0x1000, 0x2000), *AREAS, Area(VSYSCALL, VSYSCALL + PAGE, "--xp", "[vsyscall]")]) == {
        0: 1, 1: 2, 2: 3, 3: 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"start": B - PAGE}, id="it begins earlier"),
        pytest.param({"end": B + PAGE}, id="it ends earlier"),
        pytest.param({"perms": "rw-p"}, id="another protection"),
        pytest.param({"perms": "---p"}, id="no protection"),
        pytest.param({"offset": 0}, id="another offset"),
        pytest.param({"path": "[heap]", "inode": 0}, id="no file"),
    ],
)
def test_what_is_not_as_in_the_core_is_not_joined(change: dict[str, object]) -> None:
    assert joined([AREAS[0], replace(AREAS[1], **change), *AREAS[2:]]) == {0: 0, 2: 2, 3: 3}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"path": "/upper/table"}, id="another name"),
        pytest.param({"path": f"{TABLE} (deleted)"}, id="deleted since"),
        pytest.param({"perms": "r--s"}, id="shared"),
        pytest.param({"device": (0, 99)}, id="another device"),
        pytest.param({"inode": 1 << 40}, id="another inode"),
    ],
)
def test_names_and_devices_need_not_be_the_same(change: dict[str, object]) -> None:
    """On overlayfs and in a chroot they are not."""
    assert len(joined([AREAS[0], replace(AREAS[1], **change), *AREAS[2:]])) == 4  # type: ignore[arg-type]


def test_an_offset_counts_only_where_nt_file_gives_one() -> None:
    assert len(joined([replace(area, offset=area.offset + PAGE) for area in AREAS], core_of(files=None))) == 4


def test_the_unit_of_nt_file_is_no_matter() -> None:
    """gdb counts offsets in bytes, the kernel in pages."""
    core = make_core(LOADS, [*kernel_notes(None), nt_file([(B, B + TWO, PAGE, TABLE), (C, C + TWO, 0, TABLE)], 1)])
    assert len(joined(AREAS, core)) == 4


def test_a_core_of_32_bits() -> None:
    shape = {"bits": 32, "little_endian": False, "machine": EM_PPC}
    core = make_core(LOADS, kernel_notes(FILES, **shape), **shape)  # type: ignore[arg-type]
    assert len(joined(AREAS, core)) == 4


def test_the_first_and_the_last_page_of_all() -> None:
    last = (1 << 64) - PAGE
    core = make_core([Load(0, page(b"x")), Load(last, page(b"x"))], kernel_notes([]))
    assert joined([Area(0, PAGE), Area(last - PAGE, last)], core) == {0: 0}


# --- believing --------------------------------------------------------------------------------------------


def test_a_map_of_all_mappings_is_believed_in_silence(tmp_path: Path) -> None:
    assert believed(tmp_path, AREAS) == []


def test_a_map_of_most_mappings_is_believed_and_that_is_said(tmp_path: Path) -> None:
    assert believed(tmp_path, AREAS[:3]) == [f"{tmp_path}/saved-map: lacks 1 of 4 mappings"]


@pytest.mark.parametrize("fitting", [0, 1, 2])
def test_a_map_of_no_more_than_half_of_them_is_refused(fitting: int, tmp_path: Path) -> None:
    moved = [replace(area, start=area.start + (1 << 30), end=area.end + (1 << 30)) for area in AREAS[fitting:]]
    error = refused(tmp_path, [*AREAS[:fitting], *moved])
    assert str(error) == f"{tmp_path}/saved-map: does not match this core: it has {fitting} of 4 mappings"


def test_a_core_without_mappings_has_no_map(tmp_path: Path) -> None:
    assert "it has 0 of 0 mappings" in str(refused(tmp_path, AREAS, core_of([], [])))


def test_a_map_of_another_run_of_the_same_program(tmp_path: Path) -> None:
    """Only [vsyscall] has the same address."""
    gate = Load(VSYSCALL, page(b"v"), flags="--x")
    area = Area(VSYSCALL, VSYSCALL + PAGE, "--xp", "[vsyscall]")
    moved = [replace(area, start=area.start + PAGE, end=area.end + PAGE) for area in AREAS]
    assert "it has 1 of 5 mappings" in str(refused(tmp_path, [*moved, area], core_of([*LOADS, gate])))


def test_what_a_map_does_not_list_is_decided_by_the_core(tmp_path: Path) -> None:
    whole, partly = found(core_of(), tmp_path, AREAS), found(core_of(), tmp_path, AREAS[:3])
    assert (whole[D].certainty, whole[D].kind) == ("exact", "private-anonymous")
    assert (partly[D].certainty, partly[D].kind) == ("inferred", "private-anonymous")
    assert partly[C].evidence == whole[C].evidence


def test_without_any_option_nothing_is_gathered() -> None:
    with opened(core_of()) as it:
        assert gather(it) is None


# --- asking -----------------------------------------------------------------------------------------------


def test_two_maps_are_a_usage_error(tmp_path: Path) -> None:
    with opened(core_of()) as it:
        with pytest.raises(UsageError, match="--maps and --pid both give the map") as caught:
            it.plan("all", maps=saved(tmp_path, AREAS), pid=os.getpid())
        assert caught.value.exit_code == 2
        with pytest.raises(UsageError):
            beside_core(it.source, it.maps, maps="auto", pid=os.getpid())


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "empty"), (b"\x7fELF", ""), (maps_text(AREAS) + b"55d0", "line 5 is cut off")],
)
def test_a_map_that_was_named_and_cannot_be_used_is_an_error(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "map"
    if content is not None:
        path.write_bytes(content)
    with opened(core_of()) as it, pytest.raises(EvidenceError) as caught:
        it.plan("all", maps=str(path))
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_a_sysroot_that_is_none_is_an_error(tmp_path: Path) -> None:
    with opened(core_of()) as it, pytest.raises(EvidenceError, match="No such file"):
        it.plan("all", sysroot=str(tmp_path / "none"))


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = descriptors()
    maps = saved(tmp_path, AREAS)
    with opened(core_of()) as it:
        for _ in range(3):
            it.plan("all", sysroot=str(tmp_path), maps=maps)
        with pytest.raises(EvidenceError):
            it.plan("all", sysroot=str(tmp_path), maps=str(tmp_path / "none"))
    assert descriptors() == before


# --- looking for a map ------------------------------------------------------------------------------------


def looked_for(core: Path) -> list[str]:
    """Return the notices of --maps auto."""
    with open_file(core) as it:
        evidence = gather(it, maps="auto")
        assert evidence is not None
        return evidence.notices


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    path.write_bytes(core_of())
    return path


def test_a_map_beside_the_core_is_found(stored: Path) -> None:
    (stored.parent / "core.maps").write_bytes(maps_text(AREAS))
    assert looked_for(stored) == [f"the map is {stored}.maps"]
    (stored.parent / "core.smaps").write_bytes(smaps_text(AREAS))
    assert looked_for(stored) == [f"the map is {stored}.smaps"]


def test_what_does_not_fit_is_passed_over(stored: Path) -> None:
    (stored.parent / "core.smaps").write_bytes(smaps_text([Area(0x1000, 0x2000)]))
    (stored.parent / "core.maps").write_bytes(maps_text(AREAS)[:-60])
    (stored.parent / "maps").write_bytes(maps_text(AREAS[:3]))
    said = looked_for(stored)
    assert said[-1] == f"the map is {stored.parent}/maps"
    assert f"{stored.parent}/maps: lacks 1 of 4 mappings" in said


def test_what_did_not_fit_is_said_where_nothing_else_does(stored: Path) -> None:
    (stored.parent / "core.smaps").write_bytes(smaps_text([Area(0x1000, 0x2000)]))
    (stored.parent / "core.maps").write_bytes(maps_text(AREAS)[:-60])
    first, second, *others = looked_for(stored)
    assert first == f"{stored}.smaps: does not match this core: it has 0 of 4 mappings"
    assert second.startswith(f"{stored}.maps: line 4 is cut off: ")
    assert others == ["--maps auto found no map of this process"]


@pytest.mark.parametrize("content", [None, maps_text([Area(0x1000, 0x2000)]), b"garbage"])
def test_without_a_map_it_goes_on(content: bytes | None, stored: Path) -> None:
    if content is not None:
        (stored.parent / "core.maps").write_bytes(content)
    assert looked_for(stored)[-1] == "--maps auto found no map of this process"
    with open_file(stored) as it:
        without, auto = it.plan(0x31), it.plan(0x31, maps="auto")
        assert [auto.kept(m) for m in range(4)] == [without.kept(m) for m in range(4)]


def test_a_pipe_has_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what lies in the working directory."""
    (tmp_path / "maps").write_bytes(maps_text(AREAS))
    monkeypatch.chdir(tmp_path)
    with in_pipe(core_of()) as fd, open_file(fd) as it:
        evidence = gather(it, maps="auto")
        assert evidence is not None
        assert evidence.notices == ["--maps auto found no map of this process"]


def test_a_core_on_standard_input_is_looked_up(stored: Path) -> None:
    (stored.parent / "core.maps").write_bytes(maps_text(AREAS))
    with open(stored, "rb") as file, open_file(file) as it:
        evidence = gather(it, maps="auto")
        assert evidence is not None
        assert evidence.notices == [f"the map is {stored}.maps"]


# --- names ------------------------------------------------------------------------------------------------


def test_a_map_gives_the_names_that_nt_file_does_not(tmp_path: Path) -> None:
    with_note, without = found(core_of(), tmp_path, AREAS), found(core_of(files=None), tmp_path, AREAS)
    for address in (A, B, C, D):
        one, other = with_note[address], without[address]
        assert (one.path, one.file_offset) == (other.path, other.file_offset)
        assert (one.kind, one.certainty) == (other.kind, other.certainty)
    assert [without[address].path for address in (A, B, C, D)] == [None, TABLE.encode(), TABLE.encode(), None]
    assert [without[address].file_offset for address in (B, C)] == [PAGE, 0]


def test_a_map_that_is_not_of_all_mappings_gives_no_names(tmp_path: Path) -> None:
    """What it does not list would count as memory."""
    mappings = found(core_of(files=None), tmp_path, AREAS[:3])
    assert [mappings[address].path for address in (A, B, C, D)] == [None] * 4
    assert "shared-anonymous" in mappings[D].finding.others()


def test_the_names_of_nt_file_go_before_those_of_a_map(tmp_path: Path) -> None:
    areas = [replace(area, path="/lower" + str(area.path)) if area.inode else area for area in AREAS]
    assert found(core_of(), tmp_path, areas)[B].path == TABLE.encode()


@pytest.mark.parametrize("path", [b"/tmp/\xff", b"/tmp/a\0b", b"", b"/tmp/" + b"x" * 70000])
@pytest.mark.parametrize(("bits", "little_endian", "machine"), [(64, True, 62), (64, False, 21), (32, False, EM_PPC)])
def test_a_note_that_would_hold_names(path: bytes, bits: int, little_endian: bool, machine: int) -> None:
    core = make_core(LOADS, [], bits=bits, little_endian=little_endian, machine=machine)
    with opened(core) as it:
        note = FileNote.of([(A, A + TWO, 3 * PAGE, path), (B, B + TWO, 0, b"/other")], it.ehdr)
    assert (note.count, note.start(0), note.end(0), note.offset(0)) == (2, A, A + TWO, 3 * PAGE)
    assert note.path(0) == path.replace(b"\0", b"?")[: 1 << 16]
    assert (note.start(1), note.offset(1), note.path(1)) == (B, 0, b"/other")


def test_one_plans_map_is_no_evidence_for_the_next_plan(tmp_path: Path) -> None:
    """A core stays what it is, whatever one plan was made by."""
    with opened(core_of(files=None)) as it:
        before = [mapping.path for mapping in it.mappings], [mapping.kind for mapping in it.mappings]
        it.plan("all", maps=saved(tmp_path, AREAS))
        assert ([mapping.path for mapping in it.mappings], [mapping.kind for mapping in it.mappings]) == before


# --- devices ----------------------------------------------------------------------------------------------


def beside(folder: Path, areas: Sequence[Area]) -> Evidence:
    """Return the evidence of a map that fits a core made for it."""
    core = make_core(
        [Load(area.start, memsz=area.end - area.start, flags=area.perms[:3]) for area in areas], kernel_notes(None)
    )
    with opened(core) as it:
        evidence = gather(it, maps=saved(folder, areas))
        assert evidence is not None
        return evidence


def file_at(start: int, size: int, device: int, path: str = "/mnt/file", offset: int = 0) -> Area:
    return Area(start, start + size, "rw-s", path, offset, (0, device), 7)


def test_one_mapping_that_has_not_the_shape_of_huge_pages_speaks_for_its_device(tmp_path: Path) -> None:
    evidence = beside(
        tmp_path,
        [
            file_at(HUGE, HUGE, 1),
            file_at(4 * HUGE, HUGE + PAGE, 1),
            file_at(8 * HUGE, HUGE, 2),
            file_at(12 * HUGE, HUGE, 3, offset=PAGE),
            file_at(16 * HUGE + PAGE, HUGE, 4),
            file_at(20 * HUGE, HUGE, 5, "/anon_hugepage (deleted)"),
        ],
    )
    assert [evidence.small_pages((0, device), HUGE) for device in range(1, 7)] == [True, None, True, True, False, None]


def test_a_small_mapping_goes_before_a_name(tmp_path: Path) -> None:
    """Anybody can name a file so."""
    for order in (1, -1):
        areas = [file_at(HUGE, HUGE, 1, "/anon_hugepage (deleted)"), file_at(4 * HUGE, PAGE, 1)][::order]
        assert beside(tmp_path, sorted(areas, key=lambda area: area.start)).small_pages((0, 1), HUGE) is True


def test_memory_is_on_no_device(tmp_path: Path) -> None:
    evidence = beside(tmp_path, [Area(HUGE, HUGE + PAGE), Area(4 * HUGE, 4 * HUGE + PAGE, path="[heap]")])
    assert evidence.small_pages((0, 0), HUGE) is None
    assert evidence.memory_device(HUGE) is None


@pytest.mark.parametrize("path", ["/memfd:x (deleted)", "/SYSV0000002a (deleted)", "/dev/zero (deleted)"])
def test_the_device_of_memory_with_names(path: str, tmp_path: Path) -> None:
    small, huge = file_at(HUGE, PAGE, 1, path), file_at(4 * HUGE, HUGE, 2, path)
    assert beside(tmp_path, [small, huge]).memory_device(HUGE) == (0, 1)
    assert beside(tmp_path, [huge]).memory_device(HUGE) is None


def test_without_a_map_no_device_is_known() -> None:
    assert Evidence().small_pages((0, 1), HUGE) is None
    assert Evidence().memory_device(HUGE) is None
    assert Evidence().area(0) is None
    assert Evidence().file_names() is None


def test_mappings_that_look_alike_lie_on_different_devices(tmp_path: Path) -> None:
    """Without NT_FILE and with a map that is not of all mappings, all are nameless; still they are not the same."""
    size = 2 * HUGE
    areas = [
        file_at(size, HUGE, 1, "/small/a"),
        file_at(2 * size, HUGE, 2, "/perhaps-huge/b"),
        file_at(3 * size, PAGE, 1, "/small/c"),
    ]
    loads = [Load(area.start, page(b"x", (area.end - area.start) // PAGE)) for area in areas]
    core = make_core([*loads, Load(4 * size, page(b"y"))], kernel_notes(None))
    mappings = found(core, tmp_path, areas)
    assert not {"shared-huge", "private-huge"} & {mappings[size].kind, *mappings[size].finding.others()}
    assert "shared-huge" in (mappings[2 * size].kind, *mappings[2 * size].finding.others())


@of_a_plain_build
@pytest.mark.parametrize(
    "path", [pytest.param("/memfd:java_heap (deleted)", id="memfd"), pytest.param("/mnt/pool", id="file")]
)
def test_the_time_grows_with_the_mappings_only(path: str, tmp_path: Path) -> None:
    """A garbage collector maps its heap in thousands of pieces of 2 MiB."""
    areas = [file_at(2 * i * HUGE, HUGE, 1, path) for i in range(1, 10_001)]
    core = make_core(
        [Load(area.start, memsz=HUGE) for area in areas],
        kernel_notes([(area.start, area.end, 0, path) for area in areas]),
    )
    maps = saved(tmp_path, areas)
    with opened(core) as it:
        began = time.process_time()
        it.plan("all", maps=maps)
        assert time.process_time() - began < 10


def test_a_filter_by_a_map_keeps_what_the_map_says(tmp_path: Path) -> None:
    """To the end: the private copy goes with bit 0, the shared file with bit 3."""
    core = tmp_path / "core"
    core.write_bytes(core_of([replace(LOADS[1], data=noise(2), flags="rw-"), LOADS[2]], FILES))
    areas = [replace(AREAS[1], perms="rw-p"), AREAS[2]]
    areas = [replace(areas[0], anonymous=8), replace(areas[1], flags="rd wr sh mr mw me ms sd")]
    maps = saved(tmp_path, areas, detailed=True)
    out = tmp_path / "out"
    for wanted, sizes in ((0x1, [TWO, 0]), (0x8, [0, TWO]), (0x0, [0, 0]), (0x4, [TWO, 0])):
        corefilt.filter(core, out, filter=wanted, maps=maps, unknown="keep", force=True)
        assert [phdr.p_filesz for phdr in parse_core(out.read_bytes())[1][1:]] == sizes


def test_a_spooled_core_has_no_place_of_its_own(tmp_path: Path) -> None:
    with open(tmp_path / "gone", "w+b") as file:
        source = FileSource(file.fileno(), "standard input", size=0, owned=False)
        assert path_of(source) == str(tmp_path / "gone")
        os.unlink(tmp_path / "gone")
        assert path_of(source) is None
