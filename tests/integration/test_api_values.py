"""From Python: values of a wrong type, and a core that is used after it was closed."""

from __future__ import annotations

import gzip
import inspect
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.samples import SHARED, sample_core

import corefilt
from corefilt.cli.generate.keywords import NOT, keywords
from corefilt.errors import CorefiltError, FilterError, InputError, SelectorError, UsageError
from corefilt.filtering.options import TABLE, taken_by
from corefilt.sizes import show_size

CORE = sample_core()
WRONG: list[object] = [[], ["x"], ("h=web1",), {}, {"p": 1}, "", "x", "2", b"x", None, -1, 0, 1.5, True, ...]
FILTER = [name for name, _ in taken_by("corefilt.filter()")]


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """Return a core as a file."""
    path = tmp_path / "core"
    path.write_bytes(CORE)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have names without a directory be made in an empty one."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def tried(call: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Have a call succeed, or raise one of corefilt's errors in one line, which names no flag but of a command."""
    try:
        call(*arguments, **options)
    except CorefiltError as error:
        assert "\n" not in str(error), error
        assert call.__name__ == "verify" or "--" not in str(error), error


def opened(place: Any, **options: Any) -> None:
    """Open a core and close it."""
    corefilt.open(place, **options).close()


# --- wrong types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILTER, "progress", "cancel", "storage_options", "filter"])
def test_filter_takes_a_value_or_says_what_is_wrong_with_it(name: str, core: Path) -> None:
    for value in WRONG:
        filtered({"filter": 0x31, "force": True, name: value}, name, core)


def filtered(options: dict[str, Any], name: str, core: Path) -> None:
    """Filter a core with options of which one may have a wrong type."""
    tried(corefilt.filter, core, io.BytesIO(), **options)
    # With what these need.
    if name in ("follow", "runtime", "unreadable", "fit_allocated", "ladder"):
        tried(corefilt.filter, core, io.BytesIO(), fit="64K", **options)
    elif name in ("directory", "values", "uses_pid"):
        tried(corefilt.filter, core, name="core.%p", **options)
    elif name in ("compact", "in_place"):
        tried(corefilt.filter, core, **{"in_place": True, **options})
    elif name == "loadmaps":
        tried(corefilt.filter, core, io.BytesIO(), format="fdpic", **options)


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_other_functions_take_a_value_or_say_what_is_wrong_with_it(value: Any, core: Path) -> None:
    from corefilt.verify import digest, verify

    if value not in (0, True):
        # Those are descriptors: standard input and output.
        tried(opened, value)
        tried(corefilt.filter, value, io.BytesIO(), filter=0x31)
        tried(corefilt.filter, core, value, filter=0x31)
    tried(opened, core, spool=value)
    tried(opened, core, storage_options=value)
    with corefilt.open(core) as it:
        tried(it.plan, value)
        for name, _ in taken_by("Core.plan()"):
            tried(it.plan, 0x31, **{name: value})
        plan = it.plan(0x31)
        for name in (*(name for name, _ in taken_by("Plan.write()")), "progress", "cancel", "storage_options"):
            tried(plan.write, io.BytesIO(), **{name: value})
    tried(digest, value)
    tried(verify, core, value)
    tried(verify, value, core)
    for name in ("filter", "assume", "maps", "pid", "sysroot", "dumper", "truncate", "scrubbed"):
        tried(verify, core, core, **{"filter": 0x1FF, name: value})


def test_a_wrong_type_is_said_in_one_line(core: Path) -> None:
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"values": ("h=web1",)}, "values is ('h=web1',)", "it can be a dictionary like {'h': 'web1'} or None"),
        ({"threads": 1.5}, "threads is 1.5", "it can be a number or None"),
        ({"threads": "9"}, "threads is '9'", "it can be 1 to 8"),
        ({"sparse": []}, "sparse is []", "it can be auto, always, never"),
        ({"sync": "no"}, "sync is 'no'", "it can be True or False"),
        ({"assume": 3}, "assume is 3", "it can be a text or a list of texts"),
        ({"pid": -1}, "pid: '-1' is not a process ID", "ps -e lists the processes"),
    ]
    for options, what, hint in wrong:
        with pytest.raises(UsageError) as caught:
            corefilt.filter(core, io.BytesIO(), filter=0x31, **options)
        assert (str(caught.value), caught.value.hint) == (what, hint)
    with pytest.raises(FilterError, match=r"filter \[\] is neither"):
        corefilt.filter(core, io.BytesIO(), filter=[])  # type: ignore[arg-type]


def test_numbers_as_texts_and_paths_as_paths(core: Path, tmp_path: Path) -> None:
    corefilt.filter(core, io.BytesIO(), filter="0x31", threads="2", max_headers="1M")  # type: ignore[arg-type]
    report = corefilt.filter(core, filter=0x31, name="core.%h", directory=tmp_path, values={"h": "web1"})  # type: ignore[arg-type]
    assert report.output == str(tmp_path / "core.web1")


def test_one_text_is_a_list_of_one(core: Path) -> None:
    """Of all options that take a list; one that a text of several has does without."""
    lists = {name for name, record in TABLE.items() if record.default == () and record.keyword_default == ()}
    assert lists == {"assume"}
    selector = f"{SHARED:#x}=shared-file-backed"
    with corefilt.open(core) as it:
        one, many = it.plan(0x31, assume=selector), it.plan(0x31, assume=[selector])
        assert [m.kind for m in one.mappings] == [m.kind for m in many.mappings]
        assert [m.certainty for m in one.mappings].count("stated") == 1
        with pytest.raises(SelectorError, match=r"'\*libx\*=private-dax' matches no"):
            it.plan(0x31, assume="*libx*=private-dax")
    from corefilt.verify import verify

    corefilt.filter(core, core.with_name("out"), filter=0x31, assume=selector)
    assert verify(core, core.with_name("out"), filter=0x31, assume=selector).holds


# --- the reference ------------------------------------------------------------------------------------------


def test_the_reference_says_what_keywords_do() -> None:
    made = keywords("corefilt.filter()")
    assert (
        "``sync`` (``--no-sync`` sets it to ``False``; default: ``True``)\n   wait until the output is on the disk.\n"
    ) in made
    assert "``values`` (``--set``; default: ``None``)" in made and "like values={'h': 'web1'}." in made
    assert [name for name, _ in taken_by("corefilt.filter()") if f"``{name}`` (" not in made] == []


def test_a_flag_that_switches_off_says_so() -> None:
    """The reference turns its sense round by these words."""
    off = [record for record in TABLE.values() if record.default is True]
    assert off
    for record in off:
        assert record.flags[-1].startswith("--no-") and record.help.startswith(NOT)


def test_an_output_that_is_open_keeps_its_tail(tmp_path: Path, core: Path) -> None:
    """As docs/api.md says; the report tells the length of what was written."""
    memory = io.BytesIO(b"x" * 200_000)
    size = corefilt.filter(core, memory, filter=0x31).output_bytes
    assert size == memory.tell() and memory.getvalue()[size:] == b"x" * (200_000 - size)
    path = tmp_path / "out"
    path.write_bytes(b"x" * 200_000)
    with path.open("r+b") as file:
        corefilt.filter(core, file, filter=0x31)
        assert path.stat().st_size == 200_000
        file.truncate(file.tell())
    assert path.read_bytes() == memory.getvalue()[:size]


# --- closed -------------------------------------------------------------------------------------------------


@pytest.fixture
def decoy(tmp_path: Path) -> bytes:
    """Return another core, of which every page has other bytes."""
    return bytes(CORE[:0x1000]) + b"\xee" * (len(CORE) - 0x1000)


def compressed(core: Path) -> Path:
    """Return the core with gzip."""
    path = core.with_name("core.gz")
    path.write_bytes(gzip.compress(CORE))
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": lambda core: core,
    "descriptor": lambda core: os.open(core, os.O_RDONLY),
    "memory": lambda core: io.BytesIO(CORE),
    "object": lambda core: gzip.GzipFile(compressed(core)),
    "gz": compressed,
    "spooled": compressed,
}


@pytest.mark.parametrize("how", SOURCES)
def test_a_closed_core_reads_no_other_file(how: str, core: Path, tmp_path: Path, decoy: bytes) -> None:
    """Another file takes its descriptor's number, and nothing of it is read or written."""
    place = SOURCES[how](core)
    before = set(map(int, os.listdir("/proc/self/fd")))
    with corefilt.open(place, spool=how == "spooled") as it:
        number = place if isinstance(place, int) else it._file.source.fd
        plan, unused = it.plan(0x31), it.plan(0x1FF)
        kept, kinds = list(plan.by_kind()), plan.by_kind()
        next(kinds)
        address = it.mappings[0].start
    if isinstance(place, int):
        os.close(place)
    other = tmp_path / "other"
    other.write_bytes(decoy)
    taken = [os.open(other, os.O_RDONLY)]
    while max(taken) < number:
        taken.append(os.open(other, os.O_RDONLY))
    assert number in taken or number in before
    out = tmp_path / "out"
    uses: list[Callable[[], object]] = [
        lambda: it.read(address, 16),
        lambda: it.threads,
        lambda: it.modules,
        lambda: it.identity,
        lambda: it.plan(0x33),
        lambda: plan.write(out),
        lambda: plan.write(io.BytesIO()),
        lambda: unused.write(out),
    ]
    try:
        for use in uses:
            with pytest.raises(UsageError, match=r"^.*: is closed$") as caught:
                use()
            assert caught.value.hint == "use the core and its plans inside the with block"
        assert not out.exists()
        # What was found out before is there.
        assert [*kept[:1], *kinds] == kept == list(plan.by_kind())
        assert len(plan.mappings) == len(it.mappings) and not it.damaged
        assert repr(it).startswith("<corefilt.Core ") and repr(plan).startswith("<corefilt.Plan ")
        assert it._repr_html_() is not None
        it.close()
    finally:
        for fd in taken:
            os.close(fd)


def test_a_closed_core_that_was_not_looked_at_shows_its_repr(core: Path) -> None:
    with corefilt.open(core) as it:
        pass
    assert it._repr_html_() is None and "13 mappings" in repr(it)
    with pytest.raises(UsageError, match="is closed"):
        assert it.mappings


def test_an_open_source_has_an_ordinary_descriptor(core: Path) -> None:
    """Only what is not there costs a look."""
    with corefilt.open(core) as it:
        source = it._file.source
        assert "fd" in vars(source) and not inspect.getattr_static(type(source), "fd", None)
        with pytest.raises(AttributeError, match="no attribute 'colour'"):
            source.colour  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(InputError):
        corefilt.open(core.with_name("nothing"))


# --- looked at ----------------------------------------------------------------------------------------------


def test_what_mappings_digests_and_verdicts_show_of_themselves(core: Path) -> None:
    from corefilt.verify import digest, verify

    with corefilt.open(core) as it:
        first = it.mappings[0]
        assert repr(first).startswith(f"<corefilt.Mapping {first.start:#x}-{first.end:#x} {first.flags}")
        assert f": {first.kind} ({first.certainty}), " in repr(first)
    out = core.with_name("out")
    report = corefilt.filter(core, out, filter=0x31)
    assert repr(verify(core, out)) == f"<corefilt.verify.Verdict {core} -> {out}: holds>"
    one = digest(core)[1]
    assert repr(one) == f"<corefilt.verify.Digest of segment 1: {show_size(one.bytes)}, {one.xxh3_128}>"
    raw = bytearray(out.read_bytes())
    raw[-1] ^= 1
    out.write_bytes(raw)
    verdict = verify(core, out)
    assert repr(verdict) == f"<corefilt.verify.Verdict {core} -> {out}: broken in 1 place>"
    assert repr(verdict.findings) == f"[<corefilt.verify.Finding {verdict.findings[0]}>]"
    assert report.output_bytes == len(raw)


def test_a_core_that_is_given_as_bytes_is_no_part_of_a_message(core: Path, tmp_path: Path) -> None:
    """A core in memory is a BytesIO: bytes are a path, and an error shows the path."""
    from corefilt.verify import digest, verify

    data = core.read_bytes()
    calls: list[Callable[[], object]] = [
        lambda: corefilt.open(data),
        lambda: corefilt.filter(data, tmp_path / "out", filter=0x31),
        lambda: corefilt.filter(core, data, filter=0x31),
        lambda: verify(data, core),
        lambda: digest(data),
        lambda: corefilt.batch(data, tmp_path / "to", filter=0x31),
    ]
    for call in calls:
        with pytest.raises(CorefiltError) as caught:
            call()
        assert len(f"{caught.value}{caught.value.hint}") < 200
    with pytest.raises(UsageError, match="have a NUL") as caught:
        corefilt.open(data)
    assert caught.value.hint == "io.BytesIO(DATA) gives a core in memory"


@pytest.mark.parametrize("name", ["a\nb\x1b[31m", b"a\nb\x1b[31m\xff"])
def test_a_message_is_printable(name: str | bytes, core: Path, tmp_path: Path) -> None:
    """Whoever chooses a name does not choose what a log shows."""
    there = tmp_path / os.fsdecode(name)
    there.write_bytes(core.read_bytes())
    calls: list[Callable[[], object]] = [
        lambda: corefilt.open(name),
        lambda: corefilt.filter(core, there, filter=0x31),
        lambda: corefilt.filter(there, there, filter=0x31, force=True),
        lambda: corefilt.batch(os.fsdecode(name), tmp_path / "to", filter=0x31),
    ]
    for call in calls:
        with pytest.raises(CorefiltError) as caught:
            call()
        assert (str(caught.value) + caught.value.hint).isprintable()
        assert "a\\nb\\x1b[31m" in str(caught.value)
