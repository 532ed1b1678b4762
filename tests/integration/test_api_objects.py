"""From Python: files without a descriptor, URLs, progress, cancelling, in place, notebooks, many cores at once."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import threading
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.opening import in_memory, in_pipe
from support.ready import descriptors
from support.run import assert_promises
from support.samples import ANON, sample_core

import corefilt
from corefilt.errors import (
    CancelledError,
    FilterError,
    InPlaceError,
    InputError,
    OutputError,
    UnstreamableError,
    UsageError,
)
from corefilt.filtering.hints import as_keywords
from corefilt.sizes import show_size

CORE = sample_core()


def expected(wanted: int) -> bytes:
    """Return what a filter makes of the core as a file."""
    with in_memory(CORE) as fd, in_memory() as out:
        corefilt.filter(fd, out, filter=wanted)
        return os.pread(out, len(CORE), 0)


class Raw(io.RawIOBase):
    """A file of Python's own that takes and gives little at a time; what is ``wrong`` is raised."""

    def __init__(self, content: bytes = b"", wrong: Exception | None = None, *, blocks: bool = True) -> None:
        self.content, self.wrong, self.blocks, self.at = bytearray(content), wrong, blocks, 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int | None:
        if not self.blocks:
            return None
        piece = bytes(self.content[self.at : self.at + min(len(room), 5000)])
        if not piece and self.wrong is not None:
            raise self.wrong
        self.at += len(piece)
        room[: len(piece)] = piece
        return len(piece)

    def write(self, piece: Any) -> int | None:
        if not self.blocks:
            return None
        if self.wrong is not None and len(self.content) > 9000:
            raise self.wrong
        self.content += piece[:5000]
        return min(len(piece), 5000)


# --- files without a descriptor ---------------------------------------------------------------------------


def test_bytesio_there_and_back() -> None:
    before = descriptors()
    out = io.BytesIO()
    report = corefilt.filter(io.BytesIO(CORE), out, filter=0x31)
    assert out.getvalue() == expected(0x31)
    assert (report.input, report.output, report.input_bytes) == ("BytesIO", "BytesIO", len(CORE))
    assert descriptors() == before


def test_bytesio_is_read_and_written_from_where_it_stands() -> None:
    source, out = io.BytesIO(b"head" + CORE), io.BytesIO(b"head")
    source.seek(4)
    out.seek(4)
    corefilt.filter(source, out, filter=0x31)
    assert out.getvalue() == b"head" + expected(0x31)
    assert not source.closed and not out.closed


def test_bytesio_can_be_looked_at_as_a_file_can() -> None:
    with corefilt.open(io.BytesIO(CORE)) as core:
        assert core.threads and len(core.read(ANON, 64)) == 64
        core.plan(0x1).write(out := io.BytesIO())
    assert_promises(CORE, out.getvalue())


@pytest.mark.parametrize("how", ["raw", "zip", "gzip", "buffered"])
def test_what_is_only_read_in_order(how: str, tmp_path: Path) -> None:
    path = tmp_path / "packed"
    if how == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("core", CORE)
        make: Any = zipfile.Path(path, "core").open
    elif how == "gzip":
        path.write_bytes(gzip.compress(CORE, 1))
        make = partial(gzip.open, path)
    else:
        make = lambda _: Raw(CORE) if how == "raw" else io.BufferedReader(Raw(CORE), 100)  # noqa: E731
    with make("rb") as source:
        corefilt.filter(source, tmp_path / "out", filter=0x31)
    assert (tmp_path / "out").read_bytes() == expected(0x31)


def test_what_compresses_is_written_compressed(tmp_path: Path) -> None:
    """Its descriptor would take the bytes as they are."""
    with gzip.open(tmp_path / "out.gz", "wb", 1) as out:
        corefilt.filter(io.BytesIO(CORE), out, filter=0x31)
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == expected(0x31)


@pytest.mark.parametrize("make", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile])
def test_temporary_files(make: Any) -> None:
    with make() as source, make() as out:
        source.write(CORE)
        source.seek(0)
        corefilt.filter(source, out, filter=0x31)
        out.seek(0)
        assert out.read() == expected(0x31)


def test_a_file_is_called_by_its_name(core: Path, tmp_path: Path) -> None:
    """A file without a name by its descriptor, and a standard stream by what it is."""
    out = tmp_path / "copy.core"
    with core.open("rb") as source, out.open("wb") as target:
        report = corefilt.filter(source, target, filter=0x31)
    assert (report.input, report.output) == (str(core), str(out))
    assert f"{core} -> {out}: " in report.summary()
    with core.open("rb") as source, open(os.fsencode(out), "wb", buffering=0) as target:
        assert corefilt.filter(source, target, filter=0x31).output == str(out)
    with in_memory(CORE) as source_fd, tempfile.TemporaryFile() as unnamed:
        report = corefilt.filter(source_fd, unnamed, filter=0x31)
        assert (report.input, report.output) == (f"descriptor {source_fd}", f"descriptor {unnamed.fileno()}")


@pytest.mark.parametrize("output", ["file", "object", "compressed"])
@pytest.mark.parametrize("form", ["pipe", "gzip", "zstd:seekable", "GzipFile"])
def test_what_passes_once_is_written_once(form: str, output: str, tmp_path: Path) -> None:
    """The second time is an error that says why, whatever the plan, and nothing is made; a copy is written again."""
    packed = tmp_path / "core.packed"
    if form != "pipe":
        with io.BytesIO(CORE) as core:
            corefilt.filter(core, packed, filter="all", compress="gzip" if form == "GzipFile" else form)

    def opened(stack: ExitStack, *, spool: bool = False) -> corefilt.Core:
        place: Any = packed
        if form == "pipe":
            place = stack.enter_context(in_pipe(CORE))
        elif form == "GzipFile":
            place = stack.enter_context(gzip.GzipFile(packed))
        return stack.enter_context(corefilt.open(place, spool=spool))

    def made(name: str) -> Any:
        return io.BytesIO() if output == "object" else tmp_path / (f"{name}.zst" if output == "compressed" else name)

    with ExitStack() as stack:
        it = opened(stack)
        plan = it.plan(0x31)
        plan.write(made("first"))
        before = sorted(tmp_path.iterdir())
        for again in (plan, it.plan(0x1)):
            with pytest.raises(UnstreamableError, match="was read already") as caught:
                again.write(made("second"))
            assert "spool=True" in caught.value.hint
        assert sorted(tmp_path.iterdir()) == before
    with ExitStack() as stack:
        it = opened(stack, spool=True)
        for wanted in (0x31, 0x1):
            out = io.BytesIO()
            it.plan(wanted).write(out)
            assert out.getvalue() == expected(wanted)


def test_what_is_read_once_is_spooled_when_it_is_to_be_looked_into() -> None:
    with pytest.raises(UnstreamableError) as caught:
        corefilt.filter(Raw(CORE), io.BytesIO(), filter=0x31, minimal=True)
    assert "spool=True" in caught.value.hint and "--" not in caught.value.hint
    outputs = io.BytesIO(), io.BytesIO()
    corefilt.filter(Raw(CORE), outputs[0], filter=0x31, minimal=True, spool=True)
    corefilt.filter(io.BytesIO(CORE), outputs[1], filter=0x31, minimal=True)
    assert outputs[0].getvalue() == outputs[1].getvalue() != expected(0x31)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Raw(CORE[:9000], OSError(5, "the store is gone")), "the store is gone"),
        (Raw(CORE, blocks=False), "is non-blocking"),
        (io.BufferedWriter(Raw()), "not open for this"),
    ],
)
def test_what_cannot_be_read_says_why(source: Any, why: str) -> None:
    with source, pytest.raises(InputError, match=why):
        corefilt.filter(source, io.BytesIO(), filter=0x31)


def test_a_file_that_only_writes_and_one_that_is_closed() -> None:
    class Writer:
        def write(self, piece: bytes) -> int:
            return len(piece)

    with pytest.raises(InputError, match=r"Writer: cannot be read: it has no read\(\)"):
        corefilt.open(Writer())  # type: ignore[arg-type]
    closed = io.BytesIO(CORE)
    closed.close()
    with pytest.raises(InputError, match="closed"):
        corefilt.open(closed)
    with pytest.raises(UsageError, match="not list"):
        corefilt.open([CORE])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (Raw(wrong=OSError(28, "No space left on device")), "No space left"),
        (Raw(wrong=ValueError("quota\nis used up")), "quota"),
        (Raw(blocks=False), "accepts no data now"),
        (io.BufferedReader(Raw()), "not open for this"),
    ],
)
def test_what_cannot_be_written_says_why(out: Any, why: str) -> None:
    with pytest.raises(OutputError, match=why):
        corefilt.filter(io.BytesIO(CORE), out, filter=0x31)


def test_an_error_leaves_nothing_in_the_output() -> None:
    out = io.BytesIO(b"mine")
    with pytest.raises(InputError):
        corefilt.filter(io.BytesIO(CORE[:100]), out, filter=0x31)
    assert out.getvalue() == b"mine"


# --- URLs -------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[str]:
    """Give a folder of its own in fsspec's file system in memory."""
    pytest.importorskip("fsspec", reason="pip install '.[test-cloud]' brings fsspec")
    yield f"memory://{uuid.uuid4().hex}"


def test_urls_in_and_out(memory: str, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(CORE)
    corefilt.filter(f"file://{tmp_path}/core", f"{memory}/in", filter="all")
    report = corefilt.filter(f"{memory}/in", f"{memory}/small", filter=0x31)
    assert (report.input, report.output) == (f"{memory}/in", f"{memory}/small")
    corefilt.filter(f"{memory}/small".replace("memory", "Memory"), f"file://{tmp_path}/small", filter="all")
    assert (tmp_path / "small").read_bytes() == expected(0x31)
    with pytest.raises(OutputError, match="exists") as caught:
        corefilt.filter(f"{memory}/in", f"{memory}/small", filter=0x31)
    assert caught.value.hint == "force=True replaces it"
    corefilt.filter(f"{memory}/in", f"{memory}/small", filter=0x1, force=True)
    with corefilt.open(f"{memory}/in") as core:
        assert core.name == f"{memory}/in" and len(core.mappings) == 13


def test_files_of_fsspec(memory: str) -> None:
    import fsspec

    with fsspec.open(f"{memory}/in", "wb") as file:
        file.write(CORE)
    with fsspec.open(f"{memory}/in", "rb") as source, fsspec.open(f"{memory}/out", "wb") as out:
        corefilt.filter(source, out, filter=0x31)
    with fsspec.open(f"{memory}/out", "rb") as file:
        assert file.read() == expected(0x31)


def test_local_files_of_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason="pip install '.[test-cloud]' brings fsspec")
    (tmp_path / "core.gz").write_bytes(gzip.compress(CORE, 1))
    with (
        fsspec.open(f"file://{tmp_path}/core.gz", "rb", compression="gzip") as source,
        fsspec.open(f"file://{tmp_path}/out", "wb") as out,
    ):
        corefilt.filter(source, out, filter=0x31)
    assert (tmp_path / "out").read_bytes() == expected(0x31)


def test_storage_options_reach_the_store(memory: str) -> None:
    options = {"client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}}
    pytest.importorskip("s3fs", reason="pip install '.[test-cloud]' brings s3fs")
    from corefilt.io.remote.url import Remote

    assert Remote("S3://bucket/core", options)._connected(fresh=False)[0].client_kwargs == options["client_kwargs"]
    with pytest.raises(UsageError, match="nonsense"):
        corefilt.open("sftp://host/core", storage_options={"nonsense": object()})


@pytest.mark.parametrize("url", ["gopher://host/core", "s4://bucket/core"])
def test_a_scheme_that_is_not_known_is_one_line(url: str) -> None:
    for call in (lambda: corefilt.open(url), lambda: corefilt.filter(io.BytesIO(CORE), url, filter=0)):
        with pytest.raises(UsageError, match="does not support"):
            call()


# --- while it runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [io.BytesIO(CORE), Raw(CORE)])
def test_progress_is_told_of_a_file_and_of_an_object(source: Any) -> None:
    told: list[tuple[int, int | None]] = []
    corefilt.filter(source, io.BytesIO(), filter=0x31, progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {len(CORE)}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert 0 < told[-1][0] <= len(CORE)


def test_a_run_is_cancelled(tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(CancelledError, match="cancelled"):
        corefilt.filter(io.BytesIO(CORE), tmp_path / "out", filter=0x31, progress=lambda *_: stop.set(), cancel=stop)
    with pytest.raises(CancelledError), corefilt.open(io.BytesIO(CORE)) as core:
        core.plan(0x31).write(tmp_path / "out", cancel=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_the_callback_raises_ends_the_run(tmp_path: Path) -> None:
    def fails(done: int, total: int | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        corefilt.filter(io.BytesIO(CORE), tmp_path / "out", filter=0x31, progress=fails)
    assert list(tmp_path.iterdir()) == []


# --- in place ---------------------------------------------------------------------------------------------


def test_in_place(core: Path) -> None:
    report = corefilt.filter(core, filter=0x31, in_place=True)
    assert (report.output, core.stat().st_size) == (str(core), len(CORE))
    corefilt.filter(core, filter=0x31, in_place=True, compact=True)
    assert core.stat().st_size < len(CORE)


def test_in_place_says_what_it_does_not_do_in_the_words_of_the_call(core: Path) -> None:
    with pytest.raises(UsageError) as caught:
        corefilt.filter(core, filter=0x31, in_place=True, fit="1M")
    assert str(caught.value) == "in_place=True cannot move anything, and fit does"
    assert caught.value.hint == "use output=OUT"
    with pytest.raises(UsageError, match="in_place=True and output cannot be combined"):
        corefilt.filter(core, "out", filter=0x31, in_place=True)
    with pytest.raises(UsageError, match="only a regular file named by its path"):
        corefilt.filter(io.BytesIO(CORE), filter=0x31, in_place=True)
    with pytest.raises(UsageError, match="missing output"):
        corefilt.filter(core, filter=0x31)
    os.link(core, core.with_name("other"))
    with pytest.raises(InPlaceError) as other:
        corefilt.filter(core, filter=0x31, in_place=True)
    assert other.value.hint == "force=True goes ahead, output=OUT writes another file"
    assert core.read_bytes() == CORE


@pytest.mark.parametrize(
    ("flags", "keywords"),
    [
        ("-f replaces it", "force=True replaces it"),
        ("settle kinds with --assume SELECTOR=KIND", "settle kinds with assume=['SELECTOR=KIND']"),
        ("with --sysroot DIR, or --pid PID", "with sysroot=DIR, or pid=PID"),
        ("--unknown keep keeps them", "unknown='keep' keeps them"),
        ("--set h=VALUE sets it", "values={'h': 'VALUE'} sets it"),
        ("add --name TEMPLATE", "add name=TEMPLATE"),
        ("leave --engine and COREFILT_ENGINE out", "leave engine and COREFILT_ENGINE out"),
        ("or add --spool to keep a copy", "or add spool=True to keep a copy"),
        ("--no-sync does not wait", "sync=False does not wait"),
        ("corefilt install --pipe-limit 4", "corefilt install --pipe-limit 4"),
        ("default,-shared-anonymous", "default,-shared-anonymous"),
        ("-o FILE names a file", "output=FILE names a file"),
    ],
)
def test_hints_name_keywords(flags: str, keywords: str) -> None:
    assert as_keywords(flags) == keywords


# --- looked at --------------------------------------------------------------------------------------------


def test_what_they_show_of_themselves(core: Path) -> None:
    with corefilt.open(core) as it:
        plan = it.plan(0x31)
        report = plan.write(core.with_name("out"))
        assert repr(it) == f"<corefilt.Core {str(core)!r}: x86-64, 13 mappings>"
        assert repr(plan) == (
            f"<corefilt.Plan 0x31 of {str(core)!r}: keeps {show_size(report.kept_bytes)}, "
            f"drops {show_size(report.dropped_bytes)}>"
        )
        assert repr(report).startswith(f"<corefilt.Report {core} -> {core}".removesuffix("core"))
        for shown in (it, plan, report):
            html = shown._repr_html_()
            assert html.startswith("<table><caption>") and html.endswith("</table>")
            assert "<td>private-anonymous</td>" in html
            assert [name for name in dir(shown) if name.startswith("_")] == []
        assert set(report.as_dict()) - {"schema", "class", "fit"} <= set(dir(report))
    assert {"read", "threads", "modules", "signal", "command_line", "plan", "mappings"} <= set(dir(it))
    assert set(dir(corefilt)) == {*corefilt.__all__, "__version__"}


def test_a_hostile_name_is_no_html(tmp_path: Path) -> None:
    path = tmp_path / "<script>\x1b[2J"
    path.write_bytes(CORE)
    with corefilt.open(path) as it:
        html = it._repr_html_()
    assert "<script>" not in html and "\x1b" not in html


def test_mappings_are_records() -> None:
    """What pandas.DataFrame asks of a record: a mapping of names to values."""
    from collections.abc import Mapping as AnyMapping

    with corefilt.open(io.BytesIO(CORE)) as it:
        rows = [dict(mapping) for mapping in it.mappings]
        assert all(isinstance(mapping, AnyMapping) for mapping in it.mappings)
        first = it.mappings[0]
    assert list(rows[0]) == [
        "start", "end", "flags", "path", "file_offset", "present", "missing", "kind", "certainty", "evidence",
    ]  # fmt: skip
    assert all(rows[0][name] == getattr(first, name) for name in rows[0])
    with pytest.raises(KeyError):
        first["finding"]
    assert {first} == {first} and hash(first) == hash(first)


def test_pandas_takes_mappings() -> None:
    pandas = pytest.importorskip("pandas", reason="not installed; nothing of corefilt needs it")
    with corefilt.open(io.BytesIO(CORE)) as it:
        frame = pandas.DataFrame(it.mappings)
    assert list(frame.columns)[:2] == ["start", "end"]
    assert int(frame["present"].sum()) == sum(mapping.present for mapping in it.mappings)


# --- many cores -------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give a folder with two cores, one that is truncated, and a file that is none."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, content in {"a": CORE, "b": CORE, "cut": CORE[:-1], "text": b"hello"}.items():
        (folder / name).write_bytes(content)
    return folder


def test_batch(archive: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    outcomes = corefilt.batch(
        archive, tmp_path / "to", filter=0x31, jobs=1, sync=False, progress=lambda *pair: told.append(pair)
    )
    found = {os.path.basename(outcome.source): outcome for outcome in outcomes}
    assert {name: outcome.status for name, outcome in found.items()} == {
        "a": "filtered", "b": "filtered", "cut": "filtered", "text": "skipped",
    }  # fmt: skip
    assert "truncated" in found["cut"].damage
    assert (tmp_path / "to" / "a").read_bytes() == expected(0x31)
    assert told[-1] == (3 * len(CORE) - 1, 3 * len(CORE) - 1)


def test_a_batch_is_cancelled_and_goes_on(archive: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(CancelledError):
        corefilt.batch(
            [archive], tmp_path / "to", filter=0x31, jobs=1, sync=False, progress=lambda *_: stop.set(), cancel=stop
        )
    assert len(list((tmp_path / "to").glob("[!.]*"))) == 1
    statuses = [outcome.status for outcome in corefilt.batch(archive, tmp_path / "to", filter=0x31, sync=False)]
    assert sorted(statuses) == ["filtered", "filtered", "skipped", "unchanged"]


def test_a_batch_refuses_what_cannot_be_meant(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="in_place"):
        corefilt.batch(archive, tmp_path, filter=0x31, in_place=True)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="jobs is 0"):
        corefilt.batch(archive, tmp_path, filter=0x31, jobs=0)
    with pytest.raises(FilterError):
        corefilt.batch(archive, tmp_path, filter="nonsense")
    with pytest.raises(UsageError, match="missing to=DIR or replace"):
        corefilt.batch(archive, filter=0x31)
