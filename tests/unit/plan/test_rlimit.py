"""RLIMIT_CORE: limits as people write them, and the cut against a naive count of what the kernel would write."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import subprocess
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builder import (
    EM_386,
    EM_AARCH64,
    EM_X86_64,
    PT_AARCH64_MEMTAG_MTE,
    PT_LOAD,
    PT_NOTE,
    Load,
    Note,
    kernel_notes,
    make_core,
    page,
    parse_core,
    patched,
)
from support.limited import NOTES, PATTERNS, SHAPES, XSAVE_LAYOUT, A, B, patterned, write_sparse
from support.opening import in_pipe, open_file
from support.run import COREFILT, assert_error, assert_usage, corefilt, environment, finish, listing, start
from support.samples import noise, sample_core
from support.thinned import one_in

import corefilt as api
from corefilt.errors import EngineError, NoCoreError, UnstreamableError, UsageError
from corefilt.plan import rlimit
from corefilt.plan.rlimit import DumpBudget
from corefilt.sizes import Limit, parse_limit, show_size

PAGE = 4096
C = 0x80000
LIMITLESS = (1 << 64) - 1


# --- limits as people write them --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("0", 0), ("1", 1), ("4095", 4095), ("64K", 65536), ("64 K", 65536), ("1.5M", 3 << 19), ("2g", 2 << 30),
        (7, 7), (65536, 65536),
        ("9223372036854775808", 1 << 63), ("18446744073709551615", LIMITLESS), ("unlimited", LIMITLESS),
    ],
)  # fmt: skip
def test_a_limit(value: int | str, size: int) -> None:
    limit = parse_limit(value)
    assert limit.size == size
    assert str(limit) == f"RLIMIT_CORE = {size} (--truncate {value})"
    assert limit.cuts == (size < 1 << 63)


@pytest.mark.parametrize("value", ["", "-1", "-4096", "much", "64X", "0x1000", "Unlimited", "rlimit "])
def test_nonsense(value: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse_limit(value)


@pytest.mark.parametrize("value", [-1, 1 << 65, "18446744073709551616", "16384P"])
def test_what_no_limit_can_be(value: int | str) -> None:
    with pytest.raises(UsageError, match="is not between 0 and"):
        parse_limit(value)


@pytest.mark.parametrize(("soft", "size"), [(0, 0), (100_000, 100_000), (resource.RLIM_INFINITY, LIMITLESS)])
def test_the_limit_of_this_process(soft: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, resource.RLIM_INFINITY))
    limit = parse_limit("rlimit")
    assert limit.size == size
    assert str(limit) == f"RLIMIT_CORE = {size} (--truncate rlimit, this process's soft limit)"


@pytest.mark.parametrize("value", ["0", "1", "4095", "rlimit"])
def test_below_a_page_nothing_is_written(value: str, core: Path) -> None:
    out = core.with_name("out")
    out.write_bytes(b"before")
    process = start(
        "0x33", core, "-o", out, "-f", "--truncate", value,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (17, resource.RLIM_INFINITY)),
    )  # fmt: skip
    done = finish(process)
    size = {"rlimit": "17 (--truncate rlimit, this process's soft limit)"}.get(value, f"{value} (--truncate {value})")
    assert_error(done, f"the kernel would write no core: RLIMIT_CORE = {size} is less than one page (4096 bytes)")
    assert listing(core.parent).keys() == {"core", "out"}
    assert out.read_bytes() == b"before"
    assert corefilt("0x33", core, "-n", "--truncate", "4095").code == 1


def test_below_a_page_a_pipe_is_answered_too(core: Path) -> None:
    done = corefilt("0x33", "--truncate", "4095", pipe=core.read_bytes())
    assert_error(done, "the kernel would write no core")
    assert done.out == b""


@pytest.mark.parametrize("value", ["9223372036854775808", "18446744073709551615", "unlimited", "1P"])
def test_what_is_above_all_cores_cuts_none(value: str, core: Path) -> None:
    for args in ((), ("--truncate", value)):
        done = corefilt("0x33", core, "-o", core.with_name(f"out{len(args)}"), *args)
        assert done.code == 0
        assert not any("cut" in line or "guess" in line for line in done.err)
    assert core.with_name("out0").read_bytes() == core.with_name("out2").read_bytes()
    piped = corefilt("0x33", pipe=core.read_bytes()).out
    assert corefilt("0x33", "--truncate", value, pipe=core.read_bytes()).out == piped


@pytest.mark.parametrize("value", ["much", "-1", "", "18446744073709551616"])
def test_usage(value: str, core: Path) -> None:
    assert_usage(corefilt("0x33", core.with_name("none"), "--truncate", value), repr(value))
    assert_usage(corefilt("0x33", core, f"--truncate={value}"), repr(value))
    assert listing(core.parent).keys() == {"core"}


def test_the_least_limit_is_a_page_of_the_machine(tmp_path: Path) -> None:
    big = make_core([Load(A, noise(16), memsz=1 << 16)], kernel_notes(page_size=1 << 16), page_size=1 << 16)
    (tmp_path / "core").write_bytes(big)
    with pytest.raises(NoCoreError, match="less than one page \\(65536 bytes\\)"):
        api.filter(tmp_path / "core", tmp_path / "out", filter="all", truncate=65535)
    api.filter(tmp_path / "core", tmp_path / "out", filter="all", truncate=65536)
    assert 0 < (tmp_path / "out").stat().st_size < PAGE


# --- counting ---------------------------------------------------------------------------------------------


@given(limit=st.integers(0, 300), lengths=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 40)), max_size=12))
def test_counting_runs_is_counting_pieces(limit: int, lengths: list[tuple[int, int]]) -> None:
    account = DumpBudget(limit)
    at, written, end, fits = 0, 0, 0, True
    for length, unit in lengths:
        for piece in [unit] * (length // unit) + ([length % unit] if length % unit else []):
            fits = fits and written + piece <= limit
            if fits:
                written, end = written + piece, at + piece
            at += piece
        if not account.refused:
            account.emit(at - length, at, unit)
    assert (account.written, account.end, account.refused) == (written, end, not fits)


def naive_pieces(path: Path, *, zeros_are_holes: bool = False) -> tuple[int, list[tuple[int, int]]]:
    """Return the length of a core, and the pieces that the kernel writes of it, by a reader of this file."""
    data = path.read_bytes()
    ehdr, phdrs = parse_core(data)
    order = "<>"[not ehdr.little_endian]
    page_size = next(phdr.p_align for phdr in phdrs if phdr.p_type == PT_LOAD)
    pieces = [(0, ehdr.e_ehsize), *((ehdr.e_phoff + i * ehdr.e_phentsize, ehdr.e_phentsize) for i in range(ehdr.phnum))]
    present: dict[int, list[bool]] = {}
    with path.open("rb") as file:

        def hole(at: int, length: int) -> bool:
            if zeros_are_holes:
                return not any(data[at : at + length])
            try:
                written = os.lseek(file.fileno(), at, os.SEEK_DATA) < at + length
            except OSError:
                written = False
            return not written or (at + length == len(data) and not any(data[at:]))

        for phdr in phdrs:
            at, end = phdr.p_offset, phdr.p_offset + phdr.p_filesz
            if phdr.p_type == PT_NOTE:
                while at < end:
                    namesz, descsz, kind = struct.unpack_from(order + "III", data, at)
                    desc = at + 12 + -(-namesz // 4) * 4
                    step = 16 if kind == 0x205 and ehdr.e_machine in (EM_386, EM_X86_64) else max(descsz, 1)
                    pieces += [(at, 12), (at + 12, namesz), *((desc + i, step) for i in range(0, descsz, step))]
                    at = desc + -(-descsz // 4) * 4
            elif phdr.p_type == PT_LOAD:
                pages = range(at, end, page_size)
                present[phdr.p_vaddr] = [not hole(place, page_size) for place in pages]
                pieces += [(place, page_size) for place in pages if not hole(place, page_size)]
            elif zeros_are_holes:
                pieces += [(place, 128) for place in range(at, end, 128) if not hole(place, 128)]
            else:
                there = zip(range(at, end, 128), present[phdr.p_vaddr], strict=True)
                pieces += [(place, 128) for place, counts in there if counts]
    if ehdr.e_shoff:
        pieces.append((ehdr.e_shoff, ehdr.e_shentsize))
    return len(data), pieces


def cut_of(length: int, pieces: list[tuple[int, int]], limit: int) -> int:
    """Say how long the kernel leaves a core of these pieces under a limit, one by one."""
    written = size = 0
    for place, piece in pieces:
        if written + piece > limit:
            return size
        written += piece
        size = place + piece
    return length if size < length and written + 1 <= limit else size


def naive_cut(path: Path, limit: int, *, zeros_are_holes: bool = False) -> int:
    """Say how long the kernel leaves this core under a limit."""
    return cut_of(*naive_pieces(path, zeros_are_holes=zeros_are_holes), limit)


def interesting(size: int, seed: int, step: int) -> list[int]:
    """Choose limits: some at random, and those around whole pages behind what comes before the pages."""
    return [4096, 4097, size - 1, size, size + 1, *random.Random(seed).sample(range(4096, size), 40)[::step]]


@one_in(3)
@pytest.mark.parametrize("wanted", ["all", "0x1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cut_is_the_naive_count(shape: str, wanted: str, step: int, tmp_path: Path) -> None:
    """For every shape of core, from a file to a file: the length, and the beginning of what it would be uncut."""
    patterns = random.Random(shape).choices(PATTERNS, k=7)
    core, holes = patterned(patterns, **dict(SHAPES[shape]))
    source, uncut, cut = tmp_path / "core", tmp_path / "uncut", tmp_path / "cut"
    write_sparse(source, core, holes)
    api.filter(source, uncut, filter=wanted, unknown="drop")
    pieces, lengths = naive_pieces(uncut), set()
    for limit in interesting(uncut.stat().st_size, 1, step):
        report = api.filter(source, cut, filter=wanted, unknown="drop", truncate=limit, force=True, sync=False)
        content = cut.read_bytes()
        assert len(content) == cut_of(*pieces, limit) == report.output_bytes, limit
        assert content == uncut.read_bytes()[: len(content)]
        assert not any("guess" in notice for notice in report.notices)
        lengths.add(len(content))
    assert len(lengths) > (5 if step == 1 else 3)


@given(patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=6), limit=st.integers(4096, 1 << 17))
def test_any_pattern_of_holes(patterns: list[str], limit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("pattern")
    core, holes = patterned(patterns)
    write_sparse(folder / "core", core, holes)
    api.filter(folder / "core", folder / "cut", filter="all", truncate=limit, sync=False)
    assert (folder / "cut").read_bytes() == core[: naive_cut(folder / "core", limit)]


def test_a_written_page_of_zeros_counts_and_a_hole_does_not(tmp_path: Path) -> None:
    for letter, fits in ((".", True), ("0", False)):
        core, holes = patterned([f"x{letter}xx"])
        write_sparse(tmp_path / "core", core, holes)
        data = parse_core(core)[1][1].p_offset
        report = api.filter(tmp_path / "core", tmp_path / "cut", filter="all", truncate=data + 2 * PAGE, force=True)
        assert report.output_bytes == data + (3 if fits else 2) * PAGE


def test_a_hole_before_the_refused_page_is_not_in_the_file(tmp_path: Path) -> None:
    core, holes = patterned(["x...x"])
    write_sparse(tmp_path / "core", core, holes)
    data = parse_core(core)[1][1].p_offset
    report = api.filter(tmp_path / "core", tmp_path / "cut", filter="all", truncate=data + PAGE)
    assert report.output_bytes == (tmp_path / "cut").stat().st_size == data + PAGE


def test_the_last_byte_behind_holes_must_fit(tmp_path: Path) -> None:
    """A core that ends in holes has one zero at its end, which counts as one byte."""
    core, holes = patterned(["x", "..."])
    write_sparse(tmp_path / "core", core, holes)
    pieces = naive_pieces(tmp_path / "core")
    written = next(limit for limit in range(4096, 1 << 20) if cut_of(*pieces, limit) == len(core)) - 1
    for limit, size in ((written + 1, len(core)), (written, len(core) - 3 * PAGE)):
        report = api.filter(tmp_path / "core", tmp_path / "cut", filter="all", truncate=limit, force=True)
        assert report.output_bytes == size


def test_holes_of_a_terabyte_are_free(tmp_path: Path) -> None:
    head = make_core([Load(A, noise(1)), Load(B, memsz=1 << 40)], NOTES, patch={"phdr[2].p_filesz": 1 << 40})
    source = tmp_path / "core"
    source.write_bytes(head)
    try:
        os.truncate(source, len(head) + (1 << 40))
    except OSError:
        pytest.skip("this file system holds no file of a terabyte")
    report = api.filter(source, tmp_path / "cut", filter="all", truncate="64K")
    assert (report.output_bytes, report.changes) == (source.stat().st_size, [])
    assert report.allocated_bytes is not None
    assert report.allocated_bytes < 1 << 20


# --- pipes ------------------------------------------------------------------------------------------------

BUSY = ["x0.x", "..x.", "xx..", "x", "0x0x", "...", "0"]


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """Write a core with pages of every sort."""
    core, holes = patterned(BUSY)
    write_sparse(tmp_path / "core", core, holes)
    return tmp_path / "core"


def test_into_a_pipe_go_the_bytes_of_the_file(busy: Path) -> None:
    size = busy.stat().st_size
    for limit in [4096, 8000, 30_000, size - 2 * PAGE, size]:
        done = corefilt("all", busy, "--truncate", str(limit))
        assert done.code == 0
        assert done.out == busy.read_bytes()[: naive_cut(busy, limit)]
        assert not any("guess" in line for line in done.err)


def dribbled(content: bytes, fd: int) -> Iterator[None]:
    """Feed a pipe in pieces of every size."""
    chance, at = random.Random(7), 0
    with open(fd, "wb", buffering=0) as pipe:
        while at < len(content):
            at += pipe.write(content[at : at + chance.choice((1, 3, 100, 4096, 10_000))]) or 0
    yield


@pytest.mark.parametrize("way", ["to a file", "to a stream", "spooled"])
def test_from_a_pipe_zeros_are_holes_and_that_is_said(busy: Path, way: str) -> None:
    size = busy.stat().st_size
    content = busy.read_bytes()
    for limit in [4096, 5000, *random.Random(1).sample(range(4096, size), 12), size - 1]:
        reader, writer = os.pipe()
        feeding = threading.Thread(target=lambda fd: list(dribbled(content, fd)), args=(writer,))
        feeding.start()
        if way == "to a stream":
            end, into = os.pipe()
            with open(into, "wb") as stream:
                report = api.filter(reader, stream, filter="all", truncate=limit)
            with open(end, "rb") as stream:
                out = stream.read()
        else:
            report = api.filter(
                reader, busy.with_name("out"), filter="all", truncate=limit, force=True, spool=way == "spooled"
            )
            out = busy.with_name("out").read_bytes()
        feeding.join()
        os.close(reader)
        cut = naive_cut(busy, limit, zeros_are_holes=True)
        assert out == content[:cut], limit
        assert report.output_bytes == cut
        assert not report.damaged
        notice = "where the kernel would have cut is a guess: a pipe does not tell which pages were holes"
        assert any(told.startswith(notice) for told in report.notices) == (limit < size)
        assert any(change.startswith(f"cut at {cut} of {size} bytes") for change in report.changes) == (cut < size)


def test_what_is_cut_off_is_read_nevertheless(tmp_path: Path) -> None:
    """Who writes into the pipe is not told off, and the end of the input is seen."""
    content = make_core([Load(A, noise(1500))], NOTES)
    (tmp_path / "core").write_bytes(content)
    (tmp_path / "short").write_bytes(content[:-1])
    script = 'cat "$1" | "${@:2}" | wc -c; echo ${PIPESTATUS[*]}'
    for name, codes in (("core", "0 0 0"), ("short", "0 3 0")):
        command = ["bash", "-c", script, "bash", tmp_path / name, *COREFILT, "all", "--truncate", "64K"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        size, *rest = done.stdout.splitlines()
        assert rest == [codes]
        assert PAGE < int(size) <= 1 << 16


def test_a_pipe_is_not_cut_without_writing(busy: Path) -> None:
    with in_pipe(busy.read_bytes()) as fd, open_file(fd) as core:
        plan = core.plan("all")
        from corefilt.filtering.options import Options
        from corefilt.filtering.write import write_plan

        with pytest.raises(UnstreamableError, match="cannot tell where a limit cuts a pipe"):
            write_plan(plan, busy.with_name("out"), Options(truncate=8000, dry_run=True))
    done = corefilt("all", "-n", "-o", busy.with_name("out"), "--truncate", "8000", "--spool", pipe=busy.read_bytes())
    assert done.code == 0
    assert any("cut at" in line for line in done.err)


def test_an_engine_that_does_not_see_the_bytes(busy: Path) -> None:
    with in_pipe(busy.read_bytes()) as fd:
        reader, writer = os.pipe()
        with open(writer, "wb") as out, pytest.raises(EngineError, match="engine='splice' cannot do"):
            api.filter(fd, out, filter="all", truncate=8000, engine="splice")
        os.close(reader)
    report = api.filter(busy, busy.with_name("out"), filter="all", truncate=8000, engine="copy_file_range")
    assert report.engine == "copy_file_range"


def test_standard_input_that_begins_in_the_middle_of_a_file(busy: Path) -> None:
    content = busy.read_bytes()
    shifted = busy.with_name("shifted")
    core, holes = patterned(BUSY)
    write_sparse(shifted, bytes(PAGE) + core, {0, *(hole + PAGE for hole in holes)})
    for limit in (5000, 20_000, 40_000):
        with shifted.open("rb") as file:
            file.seek(PAGE)
            api.filter(file, busy.with_name("out"), filter="all", truncate=limit, force=True)
        assert busy.with_name("out").read_bytes() == content[: naive_cut(busy, limit)]


# --- when it is a guess -----------------------------------------------------------------------------------


def notices_of(core: Path, **options: object) -> list[str]:
    report = api.filter(core, core.with_name("out"), filter="all", force=True, **options)  # type: ignore[arg-type]
    return [notice for notice in report.notices if "guess" in notice]


def test_a_copy_without_its_holes(tmp_path: Path) -> None:
    """Pages of zeros and not one hole: it may have been copied so. A page of noise says nothing."""
    dense, _ = patterned(["x0.x", "xxx"])
    (tmp_path / "core").write_bytes(dense)
    size = naive_cut(tmp_path / "core", 1 << 40)
    (guess,) = notices_of(tmp_path / "core", truncate=size - PAGE)
    assert "has pages of zeros and no hole at all" in guess
    assert notices_of(tmp_path / "core", truncate=size) == []
    assert notices_of(tmp_path / "core", truncate=parse_core(dense)[1][1].p_offset) == []
    (tmp_path / "core").write_bytes(sample_core())
    assert notices_of(tmp_path / "core", truncate=20_000) == []


def test_a_core_of_gdbs(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(make_core([Load(A, noise(3)), Load(B, noise(2))], NOTES, layout="gcore"))
    (guess,) = notices_of(tmp_path / "core", truncate=8192)
    assert "does not have the kernel's layout" in guess
    assert (tmp_path / "out").stat().st_size < 8192


# --- what is told -----------------------------------------------------------------------------------------


def test_the_report_tells_of_the_cut(core: Path) -> None:
    """The exit code is that of success: a core that was to be cut is cut."""
    out = core.with_name("out")
    size = core.stat().st_size
    done = corefilt("all", core, "-o", out, "--truncate", "20000", "--json")
    report = json.loads(done.out)
    assert done.code == 0
    assert out.stat().st_size == report["output_bytes"] < size
    kept = {row["start"]: row["kept"] for row in report["mappings"]}
    ehdr, phdrs = parse_core(out.read_bytes())
    length = out.stat().st_size
    loads = [phdr for phdr in phdrs if phdr.p_type == PT_LOAD]
    assert kept == {f"{p.p_vaddr:#x}": min(p.p_filesz, max(0, length - p.p_offset)) for p in loads}
    assert report["kept_bytes"] == sum(kept.values())
    lost = sum(p.p_filesz for p in loads) - sum(kept.values())
    assert report["kept_bytes"] + report["dropped_bytes"] == sum(p.p_filesz for p in loads)
    short = sum(1 for p in loads if kept[f"{p.p_vaddr:#x}"] < p.p_filesz)
    change = (
        f"cut at {length} of {size} bytes, as the kernel cuts under RLIMIT_CORE = 20000 (--truncate 20000): "
        f"{show_size(lost)} of {short} mappings dropped"
    )
    assert report["changes"] == [change]
    assert f"  changed: {change}" in done.err
    assert ehdr.phnum == len(phdrs)


def test_notes_that_are_cut_are_named(core: Path) -> None:
    content = make_core([Load(A, noise(2))], [*NOTES, Note("LINUX", 0x202, bytes(9000))])
    core.write_bytes(content)
    report = api.filter(core, core.with_name("out"), filter="all", truncate=4096)
    lost = parse_core(content)[1][0].p_filesz + 2 * PAGE - ((report.output_bytes or 0) - (64 + 2 * 56))
    assert report.changes[0].endswith(f"{show_size(lost)} of 1 mapping and of the notes dropped")


def test_a_cut_in_the_program_headers(tmp_path: Path) -> None:
    loads = [Load(A + 0x10000 * i, page(b"x")) for i in range(100)]
    (tmp_path / "core").write_bytes(make_core(loads, NOTES))
    report = api.filter(tmp_path / "core", tmp_path / "out", filter="all", truncate=4096)
    assert report.output_bytes == 64 + 72 * 56
    assert (tmp_path / "out").read_bytes() == (tmp_path / "core").read_bytes()[: 64 + 72 * 56]
    done = corefilt("all", tmp_path / "core", "--truncate", "4096")
    assert done.out == (tmp_path / "out").read_bytes()


def test_damaged_input_is_damaged_still(core: Path) -> None:
    core.write_bytes(core.read_bytes()[:-PAGE])
    done = corefilt("all", core, "-o", core.with_name("out"), "--truncate", "20000")
    assert done.code == 3
    assert any("the core is truncated" in line for line in done.err)
    assert any("cut at" in line for line in done.err)


def test_a_dry_run_tells_where(core: Path) -> None:
    wet = api.filter(core, core.with_name("out"), filter="0x33", truncate=20_000)
    core.with_name("out").unlink()
    done = corefilt("0x33", core, "-n", "--truncate", "20000", "--json")
    told = json.loads(done.out)
    assert (told["output_bytes"], told["changes"]) == (wet.output_bytes, wet.changes)
    assert listing(core.parent).keys() == {"core"}


def test_a_plan_is_not_cut_with_its_output(core: Path) -> None:
    with api.open(core) as it:
        plan = it.plan("all")
        first = plan.write(core.with_name("first"), truncate="20000")
        second = plan.write(core.with_name("second"))
    assert first.kept_bytes < second.kept_bytes
    assert core.with_name("second").read_bytes() == core.read_bytes()
    assert core.with_name("first").read_bytes() == core.read_bytes()[: first.output_bytes]


def test_with_a_note_of_kinds_the_note_counts(busy: Path) -> None:
    uncut, cut = busy.with_name("uncut"), busy.with_name("cut")
    api.filter(busy, uncut, filter="all", annotate=True)
    for limit in (4096, 5000, 12_000, 30_000):
        api.filter(busy, cut, filter="all", annotate=True, truncate=limit, force=True)
        assert cut.read_bytes() == uncut.read_bytes()[: cut.stat().st_size]
        if uncut.stat().st_size % PAGE == 0:
            assert cut.stat().st_size == naive_cut(uncut, limit)


def test_a_limit_says_where_it_is_from() -> None:
    assert str(Limit(5, "ulimit -c")) == "RLIMIT_CORE = 5 (ulimit -c)"


def test_hostile_tables_end(tmp_path: Path) -> None:
    """Notes of nothing, notes over the table, tags that are larger than their pages: an answer, and an end."""
    hostile: list[Callable[[], bytes]] = [
        lambda: make_core([Load(A, noise(1))], bytes(1 << 20)),
        lambda: make_core([Load(A, noise(1))], struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 1) * 100),
        lambda: make_core(
            [Load(A, noise(2)), Load(A, noise(1), type=PT_AARCH64_MEMTAG_MTE, memsz=PAGE)], NOTES, machine=EM_AARCH64
        ),
        lambda: make_core([Load(A, noise(2)), Load(C, filesz=3 * PAGE, memsz=3 * PAGE, offset=0x2000)], NOTES),
    ]
    for i, make in enumerate(hostile):
        source = tmp_path / f"core{i}"
        source.write_bytes(make())
        for limit in (4096, 10_000, 100_000):
            report = api.filter(source, tmp_path / "out", filter="all", truncate=limit, force=True)
            assert (report.output_bytes or 0) <= source.stat().st_size


@one_in(5)
@pytest.mark.parametrize("names", ["X", "GN", "GNU", "LINUX", "COREFILT", ",A,AB,ABCDEFGHIJK,CORE"])
def test_names_of_every_length_are_padded_alike(names: str, step: int, tmp_path: Path) -> None:
    """Name and descriptor are a piece each, and padding is free: every limit around every piece."""
    lengths = names.split(",")
    notes = [Note(name, 7 + i, b"x" * (1 + i % 9)) for i, name in enumerate(lengths * (400 // len(lengths)))]
    source, cut = tmp_path / "core", tmp_path / "cut"
    source.write_bytes(make_core([Load(A, noise(2))], notes))
    with source.open("rb") as file:
        end = parse_core(file.read())[1][1].p_offset
    pieces = naive_pieces(source)
    for limit in [*range(PAGE, PAGE + 60, step), *range(end - 60, end, step)]:
        api.filter(source, cut, filter="all", truncate=limit, force=True, sync=False)
        assert cut.stat().st_size == cut_of(*pieces, limit), limit
    with in_pipe(source.read_bytes()) as fd:
        api.filter(fd, cut, filter="all", truncate=PAGE + 17, force=True, sync=False)
    assert cut.stat().st_size == cut_of(*pieces, PAGE + 17)


def test_notes_are_looked_at_one_by_one_no_further_than_others_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile core has millions of them; what stands behind counts like pages."""
    source = tmp_path / "core"
    source.write_bytes(make_core([Load(A, noise(2))], [Note("A", 7, b"x")] * 2000))
    looked_at: list[int] = []
    note = rlimit.InputMap.note

    def counted(self: rlimit.InputMap, run: rlimit.PieceRun) -> bytes:
        looked_at.append(run.start)
        return note(self, run)

    monkeypatch.setattr(rlimit.InputMap, "note", counted)
    monkeypatch.setattr(rlimit, "MOST_WALKED", 200)
    api.filter(source, tmp_path / "cut", filter="all", truncate=10 * PAGE, sync=False)
    assert len(looked_at) == -(-200 // len(Note("A", 7, b"x").encode()))
    assert (tmp_path / "cut").read_bytes() == source.read_bytes()[: (tmp_path / "cut").stat().st_size]


@pytest.mark.parametrize("pattern", ["x.", "x.0", "0", "..x", "x.x.", "x0", ".", "0."])
def test_holes_at_the_end_of_any_mapping(pattern: str, tmp_path: Path) -> None:
    """The kernel's last byte of a core that ends in holes is not taken for a page, wherever else zeros are."""
    for patterns in ([pattern], ["x" + pattern, pattern], [pattern, "x"]):
        core, holes = patterned(patterns)
        source = tmp_path / "core"
        write_sparse(source, core, holes)
        for limit in range(PAGE, len(core) + PAGE, PAGE // 2):
            api.filter(source, tmp_path / "cut", filter="all", truncate=limit, force=True, sync=False)
            assert (tmp_path / "cut").read_bytes() == core[: naive_cut(source, limit)], (patterns, limit)


def test_bytes_that_segments_share_count_once(tmp_path: Path) -> None:
    """A core is not cut before the limit because a damaged table names some of its pages twice."""
    loads = [
        Load(A, noise(2), offset=0x2000),
        Load(B, filesz=PAGE, memsz=PAGE, offset=0x3000),
        Load(C, noise(2, 1), offset=0x4000),
    ]
    source, cut = tmp_path / "core", tmp_path / "cut"
    source.write_bytes(make_core(loads, NOTES))
    with open_file(source) as core:
        padding = 0x2000 - core.table.p_offset[0] - core.table.p_filesz[0]
    for pages in (4, 3, 2, 1):
        limit = 0x2000 - padding + pages * PAGE
        api.filter(source, cut, filter="all", truncate=limit, force=True, sync=False)
        assert cut.stat().st_size == 0x2000 + pages * PAGE, pages


def test_memory_tags_are_cut_in_blocks_of_a_page_each(tmp_path: Path) -> None:
    """Every limit around the last of them, with holes, from a file and from a pipe."""
    core, holes = patterned(["x0.x", "..x.", "xxxx"], **dict(SHAPES["memory tags"]))
    source, cut = tmp_path / "core", tmp_path / "cut"
    write_sparse(source, core, holes)
    for piped in (False, True):
        pieces = naive_pieces(source, zeros_are_holes=piped)
        all_of_it = bisect_left(range(len(core)), len(core), key=partial(cut_of, *pieces))
        lengths = set()
        for limit in range(all_of_it - 1100, all_of_it + 1, 60):
            with in_pipe(core) if piped else source.open("rb") as it:
                api.filter(it, cut, filter="all", truncate=limit, force=True, sync=False)
            assert cut.stat().st_size == cut_of(*pieces, limit), (piped, limit)
            lengths.add(cut.stat().st_size)
        assert len(lengths) > 5


def test_what_came_down_a_pipe_is_looked_through_in_turns(busy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page once, however much is read at a time."""
    content = busy.read_bytes()
    for turn in (1, 2 * PAGE, 3 * PAGE + 5):
        monkeypatch.setattr(rlimit, "SCRATCH", turn)
        for limit in range(2 * PAGE, len(content), 3 * PAGE + 7):
            with in_pipe(content) as fd:
                api.filter(fd, busy.with_name("out"), filter="all", truncate=limit, force=True, sync=False)
            assert busy.with_name("out").read_bytes() == content[: naive_cut(busy, limit, zeros_are_holes=True)]


def test_a_page_of_zeros_anywhere_makes_it_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the cut leaves: the first page of a mapping, the last one, and those between."""
    monkeypatch.setattr(rlimit, "SCRATCH", 2 * PAGE)
    for pattern in ("0xxxxx", "x0xxxx", "xxxx0x"):
        dense, _ = patterned(["xx", pattern])
        (tmp_path / "core").write_bytes(dense)
        place = parse_core(dense)[1][2].p_offset + pattern.index("0") * PAGE
        assert notices_of(tmp_path / "core", truncate=len(dense) - 1), pattern
        assert notices_of(tmp_path / "core", truncate=place) == [], pattern


def test_notes_that_do_not_follow_the_table_are_no_kernels(tmp_path: Path) -> None:
    """Nor is a core whose first program header is not that of its notes."""
    core = make_core([Load(A, noise(2)), Load(B, noise(3))], NOTES)
    size = len(core)
    for patch in ({"phdr[0].p_offset": parse_core(core)[1][0].p_offset + 4}, {"phdr[0].p_type": 5}):
        (tmp_path / "core").write_bytes(patched(core, patch))
        (guess,) = notices_of(tmp_path / "core", truncate=size - 1)
        assert "does not have the kernel's layout" in guess
    (tmp_path / "core").write_bytes(core)
    assert notices_of(tmp_path / "core", truncate=size - 1) == []


@pytest.mark.parametrize("machine", [EM_X86_64, EM_AARCH64])
def test_records_of_an_xsave_layout_are_pieces_of_their_own(machine: int, tmp_path: Path) -> None:
    """On x86 alone: elsewhere a note of that type is written at once."""
    source, cut, lengths = tmp_path / "core", tmp_path / "cut", set()
    notes = [Note("FILLER", 7, noise(2)), XSAVE_LAYOUT]
    source.write_bytes(make_core([Load(A, noise(2))], notes, machine=machine))
    end = parse_core(source.read_bytes())[1][0].p_offset + len(b"".join(note.encode() for note in notes))
    for limit in range(end - 130, end + 8, 5):
        api.filter(source, cut, filter="all", truncate=limit, force=True, sync=False)
        assert cut.stat().st_size == naive_cut(source, limit), limit
        lengths.add(cut.stat().st_size)
    assert (len(lengths) > 6) == (machine == EM_X86_64)
