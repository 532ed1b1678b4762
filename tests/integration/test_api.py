"""From Python: the public names, and what they promise."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, page
from support.builds import UNTRACED
from support.maps import Area, saved
from support.opening import in_memory, in_pipe
from support.ready import descriptors
from support.run import assert_promises, kept_sizes
from support.samples import ANON, PAGE, SHARED, sample_core

import corefilt
from corefilt.errors import (
    AnnotationError,
    DamagedCoreError,
    EngineError,
    EvidenceError,
    FilterError,
    InputError,
    NotACoreError,
    OutputError,
    SelectorError,
    UndecidedError,
    UnstreamableError,
    UsageError,
)

PUBLIC = {"Core", "CoredumpFilter", "CorefiltError", "Mapping", "Plan", "Report", "batch", "filter", "open"}
CORE = sample_core()
A, B = 0x10000, 0x20000


def expected(wanted: int) -> bytes:
    with in_memory(CORE) as fd, in_memory() as out:
        corefilt.filter(fd, out, filter=wanted)
        return os.pread(out, len(CORE), 0)


# --- names ------------------------------------------------------------------------------------------------


def test_the_public_names() -> None:
    assert set(corefilt.__all__) == PUBLIC
    assert all(getattr(corefilt, name) is not None for name in PUBLIC)
    assert corefilt.Core.__module__ == "corefilt.api"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'corefilt' has no attribute 'verify_all'"):
        corefilt.verify_all  # noqa: B018
    assert not hasattr(corefilt, "__path__x")


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement loads in a fresh interpreter."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **UNTRACED}, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_loads_nothing() -> None:
    assert loaded_by("import corefilt") == {"corefilt"}


def test_a_name_loads_what_it_needs() -> None:
    names = loaded_by("import corefilt; corefilt.CoredumpFilter")
    assert "corefilt.filterbits" in names
    assert not names & {"corefilt.corefile.corefile", "corefilt._fast", "corefilt.filtering.write"}


def test_filtering_loads_nothing_heavy() -> None:
    names = loaded_by("import corefilt; corefilt.filter; corefilt.open; corefilt.Report")
    assert "corefilt._fast" in names
    assert not names & {"rich", "json", "argparse", "typing", "dataclasses", "tempfile", "subprocess"}


def test_the_package_is_typed() -> None:
    assert (Path(corefilt.__file__).parent / "py.typed").exists()
    assert (Path(corefilt.__file__).parent / "_fast.pyi").exists()


def test_errors_are_one_tree() -> None:
    tree = {
        UsageError: 2, FilterError: 2, InputError: 1, NotACoreError: 1, DamagedCoreError: 1, UnstreamableError: 1,
        OutputError: 1, EngineError: 1, EvidenceError: 1, AnnotationError: 1, SelectorError: 1, UndecidedError: 4,
    }  # fmt: skip
    assert all(issubclass(kind, corefilt.CorefiltError) for kind in tree)
    assert {kind: kind("message").exit_code for kind in tree} == tree
    assert typing.cast(UsageError, FilterError("x", "y")).hint == "y"


# --- as the design shows it -------------------------------------------------------------------------------


def test_a_core_is_filtered_by_path(core: Path) -> None:
    report = corefilt.filter(str(core), str(core.with_name("small.core")), filter=0x31)
    assert isinstance(report, corefilt.Report)
    small = core.with_name("small.core").read_bytes()
    assert_promises(CORE, small)
    assert (report.output_bytes, report.input_bytes) == (len(small), len(CORE))
    assert report.output == str(core.with_name("small.core"))


def test_a_core_is_opened_looked_at_and_written(core: Path) -> None:
    out = core.with_name("small.core")
    with corefilt.open(core) as it:
        assert isinstance(it, corefilt.Core)
        mappings = list(it.mappings)
        plan = it.plan(corefilt.CoredumpFilter.DEFAULT)
        assert isinstance(plan, corefilt.Plan)
        report = plan.write(out)
    assert all(isinstance(mapping, corefilt.Mapping) for mapping in mappings)
    assert isinstance(report, corefilt.Report)
    assert out.read_bytes() == expected(0x33)


def test_a_plan_from_a_pipe_is_settled_at_the_end(core: Path) -> None:
    with in_pipe(CORE) as fd, corefilt.open(fd) as it:
        it.plan(0x10, unknown="guess").write(core.with_name("small.core"))
    with in_memory(CORE) as fd, in_memory() as out:
        corefilt.filter(fd, out, filter=0x10, unknown="guess")
        assert core.with_name("small.core").read_bytes() == os.pread(out, len(CORE), 0)


def test_a_plan_can_be_written_twice_from_a_file(core: Path) -> None:
    with corefilt.open(core) as it:
        plan = it.plan("0x31")
        for name in ("one", "two"):
            plan.write(core.with_name(name))
    assert core.with_name("one").read_bytes() == core.with_name("two").read_bytes() == expected(0x31)


def test_the_options_of_a_plan(core: Path) -> None:
    out = core.with_name("small.core")
    with corefilt.open(core) as it:
        plan = it.plan(0x33)
        with pytest.raises(UndecidedError):
            plan.write(out, strict=True)
        assert not out.exists()
        assert plan.write(out, engine="readwrite", sparse="never", sync=False).engine == "readwrite"
        with pytest.raises(OutputError, match="exists"):
            plan.write(out)
        plan.write(out, force=True)
        it.plan(0x33, assume=["/var/lib/victim/*=shared-file-backed"]).write(out, strict=True, force=True)


def test_a_plan_keeps_its_assumptions_in_a_pipe(core: Path) -> None:
    out = core.with_name("small.core")
    assume = ["/var/lib/victim/*=private-anonymous", f"{SHARED:#x}=shared-anonymous"]
    with in_pipe(CORE) as fd, corefilt.open(fd) as it:
        piped = it.plan("none", assume=assume, unknown="drop").write(out)
    with corefilt.open(core) as it:
        plan = it.plan("none", assume=assume, unknown="drop")
        assert piped.kinds == list(plan.by_kind())


def test_evidence_beside_a_core(core: Path, tmp_path: Path) -> None:
    with corefilt.open(core) as it:
        gate = 1 << 63
        areas = [
            Area(each.start, each.end, f"{each.flags}s", each.path, each.file_offset or 0, (8, 1), 7)
            if each.path in (b"/dev/zero (deleted)", b"/var/lib/victim/table.db")
            else Area(each.start, each.end, f"{each.flags}p", each.path or "", each.file_offset or 0, (8, 1), 7)
            for each in it.mappings
            if each.path and each.start < gate
        ]
        areas += [
            Area(each.start, each.end, f"{each.flags}p", "[vdso]" if each.kind == "special" else "")
            for each in it.mappings
            if not each.path and each.start < gate
        ]
    maps, out = saved(tmp_path, areas), core.with_name("small.core")
    report = corefilt.filter(core, out, filter=0x8, maps=maps, strict=True)
    assert report.assumed_bytes == 0
    assert report.notices == [f"{maps}: lacks 1 of 13 mappings"]
    with corefilt.open(core) as it:
        plan = it.plan(0x8, maps=maps)
        assert [plan.kept(m) for m in range(13)] == kept_sizes(out.read_bytes())
        plan.write(out, force=True, annotate=True)
    with corefilt.open(out) as it:
        table = next(each for each in it.mappings if each.path == b"/var/lib/victim/table.db")
        assert (table.kind, table.certainty) == ("shared-file-backed", "inferred")
        assert table.evidence == ("recorded as inferred, by the core, maps",)


def test_a_plan_from_a_pipe_keeps_its_evidence(core: Path, tmp_path: Path) -> None:
    areas = [Area(A, A + PAGE, "rw-p"), Area(B, B + PAGE, "rw-s", "/data/table", 0, (8, 1), 7)]
    loads = [Load(A, page(b"a")), Load(B, page(b"b"))]
    data = make_core(loads, kernel_notes([(B, B + PAGE, 0, "/data/table")]))
    with in_pipe(data) as fd, corefilt.open(fd) as it:
        it.plan(0x8, maps=saved(tmp_path, areas)).write(core.with_name("small.core"), strict=True)
    assert kept_sizes(core.with_name("small.core").read_bytes()) == [0, PAGE]


# --- mappings ---------------------------------------------------------------------------------------------


def test_a_mapping_has_all_that_is_known(core: Path) -> None:
    with corefilt.open(core) as it:
        found = {mapping.start: mapping for mapping in it.mappings}
        shared = found[SHARED]
        assert (shared.end, shared.flags, shared.present) == (SHARED + 0x4000, "rw-", 0x4000)
        assert (shared.path, shared.file_offset) == (b"/dev/zero (deleted)", 0)
        assert (shared.kind, shared.certainty) == ("shared-anonymous", "inferred")
        assert shared.evidence == ("NT_FILE names a file", "named /dev/zero (deleted)")
        assert (found[ANON].path, found[ANON].file_offset) == (None, None)
        assert len(found) == len(it.mappings) == 13


def test_what_a_core_tells_of_itself(core: Path) -> None:
    with corefilt.open(core) as it:
        assert (it.machine, it.damaged, it.warnings) == ("x86-64", False, [])
        assert (it.name, it.size, it.elf_class, it.page_size) == (str(core), len(CORE), "ELF64", PAGE)
        found = next(mapping for mapping in it.mappings if mapping.start == ANON)
        assert it.read(ANON, found.present + PAGE)[:PAGE] == CORE[CORE.index(it.read(ANON, PAGE)) :][:PAGE]
        assert it.read(0, 8) == b"" and it.read(ANON, 0) == b""
    core.write_bytes(CORE[:-1])
    with corefilt.open(core) as it:
        assert (it.damaged, len(it.warnings)) == (True, 1)


def test_memory_of_a_pipe_is_not_read(core: Path) -> None:
    with in_pipe(CORE) as fd, corefilt.open(fd) as it, pytest.raises(UnstreamableError, match="passes only once"):
        it.read(ANON, 8)
    with in_pipe(CORE) as fd, corefilt.open(fd, spool=True) as it:
        assert len(it.read(ANON, 8)) == 8
    packed = core.with_name("core.gz")
    packed.write_bytes(gzip.compress(CORE))
    with corefilt.open(packed) as it, pytest.raises(UnstreamableError) as caught:
        it.read(ANON, 8)
    assert caught.value.hint == "add spool=True to keep a temporary copy, or decompress it"


def test_what_a_plan_keeps(core: Path) -> None:
    with corefilt.open(core) as it:
        plan = it.plan(0x31)
        kept = [plan.kept(m) for m in range(len(plan.mappings))]
        assert kept == kept_sizes(expected(0x31))
        assert sum(kept) == sum(row[1] for row in plan.by_kind())


@pytest.mark.parametrize(
    "wanted", [0x31, "0x31", "default,-shared-anonymous", "00000031", corefilt.CoredumpFilter(0x31)], ids=repr
)
def test_a_filter_comes_in_any_form(wanted: int | str, core: Path) -> None:
    corefilt.filter(core, core.with_name("out"), filter=wanted)
    assert core.with_name("out").read_bytes() == expected(0x31)


def test_33_as_a_number_is_33() -> None:
    with in_memory(CORE) as fd, in_memory() as out:
        assert corefilt.filter(fd, out, filter=33).filter == 0x21
        with pytest.raises(FilterError, match="could be decimal"):
            corefilt.filter(fd, out, filter="33")


# --- places -----------------------------------------------------------------------------------------------


def test_places_of_every_kind(core: Path) -> None:
    folder = core.parent
    corefilt.filter(os.fsencode(core), os.fsencode(folder / "bytes"), filter=0x31)
    with open(core, "rb") as source, open(folder / "file", "w+b") as sink:
        corefilt.filter(source, sink, filter=0x31)
        assert not source.closed
        assert not sink.closed
        sink.write(b"behind")
    with open(core, "rb") as source, open(folder / "fd", "wb") as sink:
        corefilt.filter(source.fileno(), sink.fileno(), filter=0x31)
        os.fstat(source.fileno())
    assert (folder / "file").read_bytes() == expected(0x31) + b"behind"
    assert (folder / "bytes").read_bytes() == (folder / "fd").read_bytes() == expected(0x31)


def test_a_binary_file_counts_from_where_it_stands(core: Path) -> None:
    core.write_bytes(b"before" + CORE)
    out = core.with_name("out")
    with open(core, "rb") as source, open(out, "wb") as sink:
        assert source.read(6) == b"before"
        sink.write(b"header")
        corefilt.filter(source, sink, filter=0x31)
    assert out.read_bytes() == b"header" + expected(0x31)


def test_closing_leaves_the_callers_descriptor_open() -> None:
    with in_memory(CORE) as fd:
        with corefilt.open(fd):
            pass
        os.fstat(fd)


def test_nothing_stays_open(core: Path) -> None:
    """Neither after success nor after any failure."""
    before = descriptors()
    corefilt.filter(core, core.with_name("out"), filter=0x31)
    for kind, arguments in {
        OutputError: {"filter": 0x31},
        UndecidedError: {"filter": 0x33, "strict": True, "force": True},
        SelectorError: {"filter": 0x33, "assume": ["/none=special"], "force": True},
        EngineError: {"filter": 0x33, "engine": "splice", "force": True},
        UsageError: {"filter": 0x33, "unknown": "toss", "force": True},
        EvidenceError: {"filter": 0x33, "maps": "/none", "sysroot": "/", "force": True},
    }.items():
        with pytest.raises(kind):
            corefilt.filter(core, core.with_name("out"), **arguments)
    with pytest.raises(InputError):
        corefilt.filter(core.with_name("none"), core.with_name("out"), filter=0x31)
    with pytest.raises(NotACoreError):
        corefilt.open("/dev/null").close()
    assert descriptors() == before


def test_an_error_is_a_sentence_with_a_hint(core: Path) -> None:
    with pytest.raises(corefilt.CorefiltError) as caught:
        corefilt.filter(core, core, filter=0x31)
    assert str(caught.value) == f"{core}: is the input itself"
    assert caught.value.hint == "write to another file"
    assert core.read_bytes() == CORE


def test_text_files_are_no_place_for_a_core(core: Path) -> None:
    """They would encode it."""
    with (
        open(core.with_name("text"), "w+", encoding="utf-8") as text,
        pytest.raises(UsageError, match="is a text file"),
    ):
        corefilt.filter(core, text, filter=0x31)  # type: ignore[arg-type]
    assert core.with_name("text").read_bytes() == b""
