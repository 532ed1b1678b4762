"""Walks of runtimes over processes that are made by hand: what is kept, what is not, and when nothing is."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from support.builder import EM_AARCH64, PT_LOAD, parse_core
from support.builds import of_a_plain_build
from support.fitting import assert_fits, pages
from support.jvm import JAVA, java_core
from support.opening import in_memory
from support.runtimes import EXE, HEAP, STACK, UNUSED, Made, Space, go_core, process, program, python_core
from support.samples import PAGE
from support.thinned import one_in

import corefilt
from corefilt.errors import UsageError
from corefilt.plan.fit.request import FitRequest, parse_runtimes
from corefilt.plan.fit.runtimes import reader
from corefilt.plan.fit.runtimes.python_layouts import TABLE, PythonLayout, published

MAKERS = {"go": go_core, "python": python_core, "java": java_core}


def small(core: bytes, **options: object) -> tuple[bytes, corefilt.Report]:
    """Filter with --minimal, or what else is said."""
    with in_memory(core) as fd, in_memory() as out:
        wanted: dict[str, object] = options or {"minimal": True}
        report = corefilt.filter(fd, out, filter="all", sync=False, **wanted)
        with open(f"/proc/self/fd/{out}", "rb") as file:
            return file.read(), report


@pytest.fixture(params=MAKERS)
def made(request: pytest.FixtureRequest) -> tuple[str, Made]:
    """A runtime's name and its core."""
    return request.param, MAKERS[request.param]()


def test_all_that_leads_to_frames_is_kept(made: tuple[str, Made]) -> None:
    out, report = small(made[1].core)
    assert_fits(made[1].core, out)
    kept = pages(out)
    assert not [hex(address) for address in made[1].needed if address // PAGE * PAGE not in kept]
    assert not [address for address in kept if address >= UNUSED]
    assert not [warning for warning in report.warnings if "runtime" in warning]


def test_what_is_said_of_it() -> None:
    report = small(python_core().core)[1]
    assert report.fit.runtimes[0].as_dict() == {
        "name": "python", "kept": True, "threads": 2, "frames": 4, "missing": [], "reason": None
    }  # fmt: skip
    assert "runtime: python, 2 threads, 4 frames reachable" in report.summary()
    assert "runtime: go, 4 goroutines reachable" in small(go_core().core)[1].summary()


@pytest.mark.parametrize("version", ["go1.17", "go1.23.1"])
def test_of_goroutines_that_ended_the_stack_is_not_kept(version: str) -> None:
    out, report = small(go_core(version).core)
    assert report.fit.runtimes[0].threads == 4
    assert [HEAP + 0x10000 + (2 * n + 1) * PAGE in pages(out) for n in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("major", [17, 21])
def test_frames_of_java_are_counted(major: int) -> None:
    """Interpreted and native ones, compiled ones with what is inlined, and those of a thread that runs."""
    out, report = small(java_core(major).core)
    assert "runtime: java, 3 threads, 8 frames reachable" in report.summary()
    assert JAVA + 0x50000 in pages(out)
    assert not [address for address in pages(out) if address >= JAVA + 0x80000 and address < 2 * JAVA]


def test_frames_of_a_machine_that_is_not_known_are_not_counted() -> None:
    report = small(java_core(machine=EM_AARCH64).core)[1]
    assert "runtime: java, 3 threads reachable" in report.summary()


def test_a_thread_that_runs_outside_java_has_no_frames() -> None:
    """As jhsdb shows it."""
    walk = small(java_core(running="elsewhere").core)[1].fit.runtimes[0]
    assert (walk.frames, walk.missing) == (5, [])


def test_a_thread_that_runs_an_interpreted_method() -> None:
    walk = small(java_core(running="interpreted").core)[1].fit.runtimes[0]
    assert (walk.frames, walk.missing) == (6, [])


def test_a_frame_that_nothing_describes() -> None:
    report = small(java_core(place=44).core)[1]
    assert "java, 3 threads, 3 frames reachable; missing: frames of 1 thread, which could not" in report.summary()


def test_symbols_by_the_hash_of_gnu() -> None:
    report = small(python_core(gnu=True).core)[1]
    assert (report.fit.runtimes[0].threads, report.fit.runtimes[0].frames) == (2, 4)


def test_where_allgs_is_by_the_symbols_of_the_file(tmp_path: Path) -> None:
    """It is where nothing would look for it."""
    core, _ = go_core(allgs=0x104, sections=3)
    place = tmp_path / "usr/bin/service"
    place.parent.mkdir(parents=True)
    place.write_bytes(program({"main.main": EXE, "runtime.allgs": EXE + PAGE + 0x104}))
    report = small(core, minimal=True, sysroot=tmp_path)[1]
    assert report.fit.runtimes[0].threads == 4
    for wrong in ({"main.main": EXE}, {"runtime.allgs": EXE + PAGE + 0x800}):
        place.write_bytes(program(wrong))
        report = small(core, minimal=True, sysroot=tmp_path)[1]
        assert report.fit.runtimes[0].reason == "runtime.allgs was not found"
    place.write_bytes(program({})[: 2 * PAGE])
    assert "not found" in small(core, minimal=True, sysroot=tmp_path)[1].fit.runtimes[0].reason


GO_VARIABLES = ("allgs", "allglen", "allm", "iscgo", "firstmoduledata", "g0", "m0")


@pytest.mark.parametrize("how", ["all are known", "one is not", "a C library is in it"])
def test_of_a_programs_data_the_pages_that_delve_reads_are_kept(how: str, tmp_path: Path) -> None:
    """If symbols say where all of these are, and if gdb needs nothing of them; else all of its data are kept."""
    data = EXE + PAGE
    core, needed = go_core(data_pages=5, sections=3)
    symbols = {f"runtime.{name}": data + 3 * PAGE for name in GO_VARIABLES} | {"runtime.allgs": data + 0x100}
    if how == "one is not":
        del symbols["runtime.allm"]
    elif how == "a C library is in it":
        # A byte that is not 0.
        symbols["runtime.iscgo"] += 1
    place = tmp_path / "usr/bin/service"
    place.parent.mkdir(parents=True)
    place.write_bytes(program(symbols, 5))
    kept = pages(small(core, minimal=True, sysroot=tmp_path)[0])
    assert [n for n in range(5) if data + n * PAGE in kept] == ([0, 3] if how == "all are known" else [0, 1, 2, 3, 4])
    assert all(address // PAGE * PAGE in kept for address in needed)


def test_build_information_behind_the_first_mapping_of_the_data() -> None:
    """What the dynamic linker has written to is a mapping of its own."""
    core, needed = go_core(data_pages=3, info_page=2)
    out, report = small(core)
    assert report.fit.runtimes[0].threads == 4
    assert all(address // PAGE * PAGE in pages(out) for address in needed)


@pytest.mark.parametrize("on", ["goroutine", "g0"])
def test_a_stack_that_go_allocated_ends_where_go_says(on: str) -> None:
    """Not 256 KiB above the stack pointer, nor behind a thread pointer in the same mapping."""
    core, needed = go_core(on=on)
    kept = pages(small(core)[0])
    assert all(address // PAGE * PAGE in kept for address in needed)
    # The unused halves of the other goroutines' stacks, and the whole stack of signals.
    assert not [n for n in range(5) if HEAP + 0x10000 + 2 * n * PAGE in kept]
    assert HEAP + 0x8A000 not in kept
    assert HEAP + 0x8B000 not in kept
    if on == "g0":
        assert HEAP + 0x88000 not in kept


@of_a_plain_build
def test_words_and_goroutines_are_not_compared_each_with_each() -> None:
    """32,000 words of a stack and 40,000 times one goroutine that runs would be a billion."""
    space, data, array, g, count = Space(), EXE + PAGE, HEAP + 0x100000, HEAP, 40_000
    space.put(data, b"\xff Go buildinf:" + b"\x08\x02" + bytes(16) + b"\x08go1.19.8")
    space.words(data + 0x100, array, count, count)
    space.words(array, *[g] * count)
    space.words(g, HEAP + 0x10000, HEAP + 0x12000)
    space.words(g + 48, HEAP + PAGE, HEAP + 0x11000, EXE, g)
    space.words(HEAP + 0x10000, *[0] * 1024)
    space.words(STACK, *range(HEAP, HEAP + 32768))
    core = process(space, "/usr/bin/service", {}, 1, stack_pointers=[STACK + 512])
    began = time.process_time()
    assert small(core)[1].fit.runtimes[0].threads == count
    assert time.process_time() - began < 15


def test_none_keeps_nothing_of_it(made: tuple[str, Made]) -> None:
    out, report = small(made[1].core, minimal=True, runtime="none")
    assert not report.fit.runtimes
    assert len(out) < len(small(made[1].core)[0])


@one_in(3)
def test_a_walk_is_kept_whole_or_not_at_all(made: tuple[str, Made], step: int) -> None:
    """With each size there is either all of it or as much as without it, and a warning."""
    _name, (core, needed) = made
    least = small(core, fit=len(core) - 8 * PAGE)[1].fit.smallest
    whole = 0
    for size in range(least, len(core) - 8 * PAGE, 3 * PAGE * step):
        out, report = small(core, fit=size)
        assert len(out) <= size
        walk = report.fit.runtimes[0]
        kept = pages(out)
        if walk.kept:
            whole += 1
            assert all(address // PAGE * PAGE in kept for address in needed)
        else:
            assert whole == 0
            assert "--fit allows" in walk.reason
            assert walk.reason in report.summary()
    assert whole


@pytest.mark.parametrize(
    "core",
    [
        go_core("go1.11").core,
        go_core("go9.1").core,
        go_core(count=0).core,
        python_core("/usr/bin/python3.6").core,
        python_core("/usr/bin/python").core,
        python_core("/usr/lib/jvm/lib/server/libjvm.so").core,
    ],
    ids=["Go 1.11", "Go 9.1", "no goroutines", "CPython 3.6", "a Python without a version", "a libjvm without tables"],
)
def test_what_is_not_known_is_left_alone(core: bytes) -> None:
    """The output is that of --runtime none, with one warning."""
    out, report = small(core)
    assert out == small(core, minimal=True, runtime="none")[0]
    assert sum("runtime" in notice for notice in report.notices) == 1
    assert not report.fit.runtimes[0].kept


@pytest.mark.parametrize("limit", ["MOST_STEPS", "MOST_KEPT"])
def test_a_walk_without_an_end_in_sight_keeps_nothing(
    limit: str, made: tuple[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, limit, 30 if limit == "MOST_STEPS" else 0)
    out, report = small(made[1].core)
    assert out == small(made[1].core, minimal=True, runtime="none")[0]
    assert "more than" in report.fit.runtimes[0].reason
    assert sum("runtime" in notice for notice in report.notices) == 1


def test_frames_in_a_circle_cost_their_thread_alone() -> None:
    report = small(python_core(endless=True).core)[1]
    assert report.fit.runtimes[0].missing == ["frames of 1 thread"]
    assert "1 frames" not in report.summary()


def test_a_runtime_that_is_not_there_is_told_of(made: tuple[str, Made]) -> None:
    report = small(made[1].core, minimal=True, runtime="go" if made[0] == "python" else "python")[1]
    assert "no such runtime was found" in report.fit.runtimes[0].reason


def test_parts_of_memory_that_are_cut_cost_no_fault(made: tuple[str, Made]) -> None:
    """Whichever page is not in the core, the rest is walked or left alone."""
    core = made[1].core
    ehdr, phdrs = parse_core(core)
    at = 64
    for n, phdr in enumerate(phdrs):
        if phdr.p_type == PT_LOAD and phdr.p_filesz and phdr.p_vaddr < UNUSED:
            for filesz in (0, phdr.p_filesz // 2 // PAGE * PAGE):
                cut = bytearray(core)
                struct.pack_into("<Q", cut, at + 56 * n + 32, filesz)
                out, _ = small(bytes(cut))
                assert_fits(bytes(cut), out)
    assert ehdr.e_phoff == at


# --- options ------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert parse_runtimes("auto") == ("auto",)
    assert parse_runtimes("none") == ()
    assert parse_runtimes("python,go,python") == ("python", "go")
    assert parse_runtimes(["python"]) == ("python",)
    for wrong in ("", "perl", "go,none", "auto,go", "go,"):
        with pytest.raises(UsageError):
            parse_runtimes(wrong)


def test_it_goes_with_what_cuts() -> None:
    with pytest.raises(UsageError, match="--runtime needs --minimal or --fit"):
        FitRequest(runtime="go")
    assert FitRequest(minimal=True).runtimes == ("auto",)
    assert FitRequest(fit=1, runtime="none").runtimes == ()


# --- CPython's layouts --------------------------------------------------------------------------------------

# What a process of CPython 3.13.0 published, in the order of its _Py_DebugOffsets.
OFFSETS_3_13 = [
    283320, 608, 632,
    194968, 7272, 7264, 7344, 7400, 7656, 7640, 7648, 16, 7752, 0, 7768, 7760,
    304, 0, 8, 16, 72, 152, 160, 232, 32,
    80, 8, 0, 56, 72, 70,
    208, 112, 120, 128, 136, 68, 52, 96, 104, 200,
    16, 8, 416, 24, 88, 168, 32, 24, 16, 40, 24, 16, 48, 32, 40, 24, 16, 32, 16, 24, 40, 16, 32, 64, 32, 16, 40,
    240, 200,
]  # fmt: skip


def raw(version: int, offsets: list[int], free_threaded: int = 0) -> bytes:
    """What stands at the beginning of _PyRuntime."""
    return b"xdebugpy" + struct.pack(f"<{2 + len(offsets)}Q", version << 16, free_threaded, *offsets)


def test_published_offsets_of_3_13() -> None:
    found = published(raw(0x030D, OFFSETS_3_13), "<")
    assert isinstance(found, PythonLayout)
    assert found[:10] == ((3, 13), 632, 7264, 7344, (7656, 7640, 7648), 8, 304, None, 72, 8)
    assert (found.code, found.localsplus, found.owner, found.nlocalsplus) == (0, 72, 70, 72)
    assert (found.filename, found.linetable, found.instructions) == (112, 136, 200)
    assert (found.ascii, found.compact, found.type_size, found.tagged) == (40, 56, 416, False)


def test_published_offsets_of_3_14() -> None:
    """By the order of the fields alone: each has its own number here."""
    found = published(raw(0x030E, list(range(1, 90))), "<")
    assert isinstance(found, PythonLayout)
    assert (found.interpreters, found.interpreter_next, found.threads) == (3, 6, 7)
    assert found.dictionaries == (10, 11, 12)
    assert (found.thread_size, found.thread_next, found.frame) == (20, 22, 24)
    assert (found.previous, found.code, found.localsplus, found.owner) == (30, 31, 33, 34)
    assert (found.filename, found.name, found.qualname, found.linetable) == (38, 39, 40, 41)
    assert (found.nlocalsplus, found.localsplusnames, found.localspluskinds) == (42 + 4, 44, 45)
    assert found.tagged


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (raw(0x030D, OFFSETS_3_13, free_threaded=1), "free-threaded"),
        (raw(0x030F, OFFSETS_3_13), "3.15 is not known"),
        (raw(0x030D, OFFSETS_3_13[:-20]), "cut short"),
        (raw(0x030D, [1 << 40] * len(OFFSETS_3_13)), "not those of CPython"),
        (b"xdebug", "no offsets"),
    ],
)
def test_offsets_that_cannot_be_used(content: bytes, reason: str) -> None:
    assert reason in str(published(content, "<"))


def test_the_table_of_older_versions() -> None:
    """What offsetof gives with the headers of Debian's 3.11.2 and of 3.12.1."""
    old, new = TABLE[3, 11], TABLE[3, 12]
    assert (old.interpreters, old.threads, old.through, old.frame, old.previous, old.code) == (40, 16, 56, 8, 48, 32)
    assert (new.interpreters, new.threads, new.through, new.frame, new.previous, new.code) == (40, 72, 56, 0, 8, 0)
    assert old.dictionaries == (888, 904, 912)
    assert new.dictionaries == (944, 352, 360)
    assert (old.nlocalsplus, old.instructions, old.ascii, old.compact) == (76, 184, 48, 72)
    assert (new.nlocalsplus, new.instructions, new.ascii, new.compact) == (72, 192, 40, 56)
