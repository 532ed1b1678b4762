"""What is said of a run: the keys of the JSON, the summary, and nothing that could steer a terminal."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.builder import FileEntry, Load, kernel_notes, make_core, page, parse_core
from support.opening import in_memory, in_pipe, open_file
from support.run import corefilt, listing
from support.samples import noise, sample_core

import corefilt as api
from corefilt.cli import main
from corefilt.sizes import show_size

PAGE = 4096
A, B, C = 0x10000, 0x20000, 0x7F0000000000
TOP = {
    "schema", "version", "input", "output", "filter", "class", "machine", "page_size", "segments", "input_bytes",
    "output_bytes", "allocated_bytes", "kept_bytes", "dropped_bytes", "assumed_bytes", "inferred_bytes", "holes",
    "engine", "seconds", "warnings", "changes", "mappings",
}  # fmt: skip
PER_MAPPING = {
    "start", "end", "flags", "path", "file_offset", "kind", "certainty", "evidence", "present", "kept",
    "inferred_bytes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back the signal handlers that the command line sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def report_of(core: bytes | Path, *args: str | Path, tmp_path: Path, code: int = 0) -> dict[str, Any]:
    """Filter a core into a file and return the JSON report."""
    if isinstance(core, bytes):
        (tmp_path / "core").write_bytes(core)
        core = tmp_path / "core"
    report = tmp_path / "report"
    assert main([*map(str, args), str(core), "-o", str(tmp_path / "out"), f"--json={report}", "-f"]) == code
    return json.loads(report.read_text())


def hostile(path: bytes, data: bytes = b"x") -> bytes:
    return make_core([Load(A, page(data, 2))], kernel_notes([FileEntry(A, A + 2 * PAGE, 0, path)]))


# --- JSON -------------------------------------------------------------------------------------------------


def test_the_keys_are_those_of_schema_1(core: Path, tmp_path: Path) -> None:
    report = report_of(core, "0x33", tmp_path=tmp_path)
    assert set(report) == TOP
    assert report["mappings"]
    assert all(set(mapping) == PER_MAPPING for mapping in report["mappings"])
    assert report["schema"] == 1


def test_what_the_keys_hold(core: Path, tmp_path: Path) -> None:
    report = report_of(core, "default,-shared-anonymous", tmp_path=tmp_path)
    out = tmp_path / "out"
    expected = {
        "version": api.__version__,
        "input": str(core),
        "output": str(out),
        "filter": "0x31",
        "class": "ELF64",
        "machine": "x86-64",
        "page_size": PAGE,
        "segments": 14,
        "input_bytes": core.stat().st_size,
        "output_bytes": out.stat().st_size,
        "allocated_bytes": out.stat().st_blocks * 512,
        "holes": "kept",
        "warnings": [],
        "changes": [],
    }
    assert {key: report[key] for key in expected} == expected
    mappings = report["mappings"]
    assert report["kept_bytes"] == sum(mapping["kept"] for mapping in mappings)
    assert report["kept_bytes"] + report["dropped_bytes"] == sum(mapping["present"] for mapping in mappings)
    assert report["input_bytes"] - report["output_bytes"] == report["dropped_bytes"]
    assert 0 <= report["seconds"] < 60
    assert report["engine"] in ("copy_file_range", "readwrite")


def test_one_mapping(tmp_path: Path) -> None:
    report = report_of(sample_core(), "0x31", tmp_path=tmp_path)
    shared = next(mapping for mapping in report["mappings"] if mapping["path"] == "/dev/zero (deleted)")
    assert shared == {
        "start": "0x2000000",
        "end": "0x2004000",
        "flags": "rw-",
        "path": "/dev/zero (deleted)",
        "file_offset": 0,
        "kind": "shared-anonymous",
        "certainty": "inferred",
        "evidence": ["NT_FILE names a file", "named /dev/zero (deleted)", "dropped on a convention: dev-zero"],
        "present": 4 * PAGE,
        "kept": 0,
        "inferred_bytes": 4 * PAGE,
    }
    stack = next(mapping for mapping in report["mappings"] if mapping["start"] == "0x7ffd00000000")
    assert (stack["path"], stack["file_offset"]) == (None, None)


def test_the_last_page_of_the_address_space_ends_behind_it(tmp_path: Path) -> None:
    core = make_core([Load((1 << 64) - PAGE, page(b"x"))], kernel_notes([]))
    mapping = report_of(core, "all", tmp_path=tmp_path)["mappings"][0]
    assert (mapping["start"], mapping["end"]) == ("0xfffffffffffff000", "0x10000000000000000")


@pytest.mark.parametrize("path", [b"/tmp/\xff\xfe", b"/tmp/\xc3(", b"\xed\xa0\x80/surrogate"])
def test_names_that_are_not_utf8_come_in_hex(path: bytes, tmp_path: Path) -> None:
    mapping = report_of(hostile(path), "all", tmp_path=tmp_path)["mappings"][0]
    assert set(mapping) == PER_MAPPING | {"path_bytes"}
    assert bytes.fromhex(mapping["path_bytes"]) == path
    assert mapping["path"].encode() == path.decode("utf-8", "backslashreplace").encode()


@pytest.mark.parametrize("path", ["/tmp/\u00fc\u4e2d\U0001f41b", "/tmp/ \t", ""])
def test_names_that_are_utf8_come_as_they_are(path: str, tmp_path: Path) -> None:
    mapping = report_of(hostile(path.encode()), "all", tmp_path=tmp_path)["mappings"][0]
    assert (mapping["path"], "path_bytes" in mapping) == (path, False)


def test_a_contradiction_and_undecided_bytes_are_reported(tmp_path: Path) -> None:
    report = report_of(hostile(b"/data/table"), "shared-file-backed", tmp_path=tmp_path)
    assert report["assumed_bytes"] == 2 * PAGE
    assert report["mappings"][0]["evidence"][-1] == "could also be: private-file-backed, private-file-written"
    report = report_of(hostile(b"/anon_hugepage (deleted)"), "none", tmp_path=tmp_path)
    assert report["warnings"] == ["kept although the evidence contradicts itself: 1 mapping"]
    assert report["kept_bytes"] == 2 * PAGE


def test_bits_that_mean_nothing_are_a_warning_and_no_damage(core: Path, tmp_path: Path) -> None:
    report = report_of(core, "0000ffff", tmp_path=tmp_path)
    assert (report["filter"], len(report["warnings"])) == ("0x1ff", 1)


def test_damage_is_a_warning_a_change_and_exit_3(core: Path, tmp_path: Path) -> None:
    cut = core.read_bytes()[:-PAGE]
    report = report_of(cut, "all", tmp_path=tmp_path, code=3)
    (warning,) = report["warnings"]
    assert warning.startswith("the core is truncated: 4.00 KiB of its segments are missing; it was written to ")
    assert report["changes"] == ["p_filesz of 1 program header was set to what is present"]
    assert report["output_bytes"] == len(cut)


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_what_is_missing_is_told_by_mapping(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each: how much, of how much; ten of them in the summary would hide the rest of it."""
    loads = [Load(A + 0x10000 * i, page(b"x", 2), flags="rw-" if i % 2 else "r--") for i in range(12)]
    path = "/data/\x1b[2Jx"
    core = make_core(loads, kernel_notes([FileEntry(A + 0x10000, A + 0x12000, 0, path)]))
    data = parse_core(core)[1][1].p_offset
    cut = core[: data + PAGE + 5]
    report_at = tmp_path / "report"
    (tmp_path / "core").write_bytes(cut)
    if way == "file":
        done = corefilt("all", tmp_path / "core", "-o", tmp_path / "out", f"--json={report_at}")
    else:
        done = corefilt("all", "-o", tmp_path / "out", f"--json={report_at}", pipe=cut)
    assert done.code == 3
    report = json.loads(report_at.read_text())
    assert [row.get("missing") for row in report["mappings"]] == [PAGE - 5, *[2 * PAGE] * 11]
    assert [(row["present"], row["kept"]) for row in report["mappings"]] == [(PAGE + 5, PAGE + 5), *[(0, 0)] * 11]
    assert set(report["mappings"][0]) == PER_MAPPING | {"missing"}
    told = [line for line in done.err if line.startswith("  missing: ")]
    assert told[0] == "  missing: 10000-12000 r--: 4.00 KiB of 8.00 KiB"
    assert told[1] == "  missing: 20000-22000 rw-: 8.00 KiB of 8.00 KiB, /data/\\x1b[2Jx"
    assert told[8:] == ["  missing: 32.0 KiB of 4 more mappings (--json names them)"]


def test_what_is_missing_of_the_notes_is_told(tmp_path: Path) -> None:
    core = make_core([Load(A, page(b"x"))], kernel_notes([], threads=3))
    notes = parse_core(core)[1][0]
    (tmp_path / "core").write_bytes(core[: notes.p_offset + 400])
    done = corefilt("all", tmp_path / "core", "-o", tmp_path / "out")
    whole = 20 + 336
    assert (
        f"  changed: the notes end with the last whole one; {show_size(400 - whole)} of a cut note come after it"
        in done.err
    )
    assert f"  missing: the notes: {show_size(notes.p_filesz - whole)} of {show_size(notes.p_filesz)}" in done.err
    assert "  missing: 10000-11000 rw-: 4.00 KiB of 4.00 KiB" in done.err
    with open_file(tmp_path / "core") as cut:
        assert (cut.mappings[0].present, cut.mappings[0].missing) == (0, PAGE)


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_section_headers_that_are_lost(way: str, tmp_path: Path) -> None:
    """Those of gdb's are gone; the one of PN_XNUM follows from the table."""
    xnum = make_core([Load(A, page(b"x"))], kernel_notes([]), xnum=True)
    with in_pipe(xnum[:-1]) if way == "pipe" else in_memory(xnum[:-1]) as fd:
        report = api.filter(fd, tmp_path / "xnum", filter="all")
    assert report.damaged
    assert report.changes == ["section header 0, which counts 2 program headers (PN_XNUM), was made anew"]
    assert (tmp_path / "xnum").read_bytes() == xnum
    if way == "file":
        gdbs = make_core([Load(A, page(b"x"))], kernel_notes([]), layout="gcore")
        with in_memory(gdbs[:-1]) as fd:
            report = api.filter(fd, tmp_path / "gdbs", filter="all")
        assert report.changes == ["the reference to missing section headers was removed"]


def test_what_had_left_is_not_said_to_be_mended() -> None:
    """From a pipe into a pipe the headers claim what never came, and the report says that, too."""
    core = make_core([Load(A, noise(2))], kernel_notes([]))
    done = corefilt("all", pipe=core[:-PAGE])
    assert (done.code, done.out) == (3, core[:-PAGE])
    assert not [line for line in done.err if "changed:" in line]
    assert [line for line in done.err if "the headers were written before the end of the core was seen" in line]
    assert "  missing: 10000-12000 rw-: 4.00 KiB of 8.00 KiB" in done.err


@pytest.mark.parametrize("wanted", ["all", "0x1"])
def test_a_damaged_core_down_a_pipe_is_reported_as_it_left(wanted: str) -> None:
    """The headers had gone before the end was seen; the counts had not."""
    core = make_core(
        [Load(A, noise(2)), Load(B, noise(4, 1))], kernel_notes([(A, A + 2 * PAGE, 0, "/dev/zero (deleted)")])
    )
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe:
        try:
            with in_pipe(core[: -3 * PAGE]) as fd:
                report = api.filter(fd, writer, filter=wanted)
        finally:
            os.close(writer)
        out = pipe.read()
    assert report.damaged
    assert report.output_bytes == len(out)
    assert report.input_bytes == len(core) - 3 * PAGE
    assert report.kept_bytes == (3 if wanted == "all" else 1) * PAGE


def test_json_on_standard_output(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0x33", str(core), "-o", str(core.with_name("out")), "--json"]) == 0
    said = capsys.readouterr()
    assert set(json.loads(said.out)) == TOP
    assert said.out.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("inspect", "core"), ("inspect", "core", "--sort", "nonsense"), ("verify", "core", "core"), ("digest", "core"),
        ("list", "."), ("list", ".", "--sort", "nonsense"), ("restore", "core"), ("doctor",), ("status",),
        ("show", "PID"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_without_f_replaces_a_report_and_no_other_file(
    args: tuple[str, ...], core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(core.parent)
    args = tuple(str(os.getpid()) if word == "PID" else word for word in args)
    kept, report = core.with_name("kept"), core.with_name("report")
    kept.write_bytes(core.read_bytes())
    done = corefilt(*args, "--json=kept")
    assert kept.read_bytes() == core.read_bytes()
    if "nonsense" not in args:
        assert done.code == 2
        assert any("kept: exists, and is not a report" in line for line in done.err)
    for before in (b"", b'{"schema": 1}\n'):
        report.write_bytes(before)
        corefilt(*args, "--json=report")
        assert report.read_bytes().startswith(b'{"schema": 1, ') and report.stat().st_size > 20


def test_json_and_the_core_do_not_share_standard_output(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0x33", str(core), "--json"]) == 2
    said = capsys.readouterr()
    assert "both go to standard output" in said.err
    assert said.out == ""


def test_json_beside_a_core_on_standard_output(core: Path, tmp_path: Path) -> None:
    done = corefilt("0x33", core, f"--json={tmp_path / 'report'}")
    report = json.loads((tmp_path / "report").read_text())
    assert (report["output"], report["output_bytes"], report["holes"]) == ("standard output", len(done.out), "none")
    assert report["allocated_bytes"] is None


@pytest.mark.parametrize("name", ["core", "out", "link"])
def test_the_report_overwrites_neither_core(name: str, core: Path) -> None:
    """Promise 4: the input is safe, and the output is whole."""
    before = core.read_bytes()
    os.link(core, core.with_name("link"))
    out = core.with_name("out")
    code = main(["0x33", str(core), "-o", str(out), f"--json={core.with_name(name)}"])
    assert core.read_bytes() == before
    assert code != 0 or out.read_bytes().startswith(b"\x7fELF")


def test_a_report_that_cannot_be_written_is_an_error(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0x33", str(core), "-o", str(core.with_name("out")), f"--json={core.parent}/no/report"]) == 1
    assert "cannot be written" in capsys.readouterr().err


# --- failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "args", "code", "kind", "message"),
    [
        pytest.param(b"", [], 1, "NotACoreError", "is empty", id="empty"),
        pytest.param(b"\x7fELF\x02\x01", [], 1, "DamagedCoreError", "ends in the ELF header", id="cut"),
        pytest.param(hostile(b"/d"), ["--engine", "splice"], 1, "EngineError", "needs a pipe", id="engine"),
        pytest.param(hostile(b"/d"), ["--assume", "/e=special"], 1, "SelectorError", "matches no map", id="selector"),
        pytest.param(hostile(b"/d"), ["--strict"], 4, "UndecidedError", "depend on an assumption", id="strict"),
    ],
)
@pytest.mark.parametrize("target", ["-", "file"])
def test_a_failure_is_an_object_too(
    content: bytes,
    args: list[str],
    code: int,
    kind: str,
    message: str,
    target: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, file = tmp_path / "core", tmp_path / "report"
    path.write_bytes(content)
    option = "--json" if target == "-" else f"--json={file}"
    assert main(["0x8", str(path), "-o", str(tmp_path / "out"), option, *args]) == code
    said = capsys.readouterr()
    answer = json.loads(said.out if target == "-" else file.read_text())
    assert set(answer) == {"schema", "error"}
    assert set(answer["error"]) == {"type", "message", "hint", "exit_code"}
    assert (answer["schema"], answer["error"]["type"], answer["error"]["exit_code"]) == (1, kind, code)
    assert message in answer["error"]["message"]
    assert message in said.err
    assert not (tmp_path / "out").exists()


# --- dry run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("wanted", [0x0, 0x10, 0x31, 0x1FF])
def test_a_dry_run_writes_nothing_and_tells_what_would_be(wanted: int, piped: bool, core: Path, tmp_path: Path) -> None:
    args = [f"{wanted:#x}", "-" if piped else str(core), "-o", str(tmp_path / "out")]
    report = tmp_path / "report"

    def run(*more: str) -> dict[str, Any]:
        done = corefilt(*args, f"--json={report}", *more, pipe=core.read_bytes() if piped else None)
        assert (done.code, done.out) == (0, b"")
        text = report.read_text()
        report.unlink()
        return json.loads(text)

    dry = run("--dry-run")
    assert not (tmp_path / "out").exists()
    wet = run()
    differ = {"output", "allocated_bytes", "seconds", "holes", "engine"}
    assert {key: dry[key] for key in TOP - differ} == {key: wet[key] for key in TOP - differ}
    assert (dry["output"], dry["allocated_bytes"]) == (None, None)


def test_a_dry_run_needs_no_force_and_no_output(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(core.parent)
    assert main(["0x33", str(core), "-n"]) == 0
    assert main(["0x33", str(core), "-n", "--json"]) == 0
    said = capsys.readouterr()
    assert "would become" in said.err
    assert json.loads(said.out)["output"] is None
    assert listing(core.parent) == before


def test_a_dry_run_of_a_truncated_pipe_says_so(core: Path) -> None:
    done = corefilt("all", "-", "-n", "-o", core.with_name("out"), pipe=core.read_bytes()[:-1])
    assert done.code == 3
    assert any("truncated" in line for line in done.err)


# --- words ------------------------------------------------------------------------------------------------


def said_of(core: Path, *args: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    wanted, *options = args
    assert main([wanted, str(core), "-o", str(core.with_name("out")), "-f", "--sparse", "never", *options]) == code
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_the_summary_tells_what_happened(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said_of(core, "0x31", capsys=capsys).splitlines()
    assert lines[0].startswith(f"corefilt: {core} -> {core.with_name('out')}: ")
    assert "14 segments, filter 0x31 (private-anonymous, elf-headers, private-huge)" in lines[0]
    assert lines[1].split() == ["kind", "kept", "dropped", "ambiguous"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:] if not line.startswith("  ambiguous:")}
    assert rows["shared-anonymous"] == ["0", "B", "16.0", "KiB", "-"]
    assert "not-dumped" not in rows
    assert lines[-2] == (
        "  ambiguous: 8.00 KiB depend on an assumption and were kept; corefilt inspect shows which; "
        "--maps, --pid, --sysroot or --assume settle kinds, --pid or --sysroot header pages"
    )
    named = "dropped on a convention: 28.0 KiB (dev-zero 16.0 KiB, image-text 12.0 KiB)"
    assert lines[-1] == f"  {named}; --verbose explains them"


def test_conventions_that_drop_the_same_bytes_are_said_to_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each convention is counted once for a mapping, by however many rules it is named."""
    core = tmp_path / "core"
    core.write_bytes(hostile(b"/SYSV00000000 (deleted)"))
    assert "dropped on a convention: 8.00 KiB (sysv 8.00 KiB); --verbose" in said_of(core, "0x31", capsys=capsys)
    core.write_bytes(make_core([Load(A, page(b"x"))], kernel_notes([])))
    said = said_of(core, "0x4", capsys=capsys)
    assert "4.00 KiB (nt-file 4.00 KiB, special-shape 4.00 KiB, which overlap); --verbose" in said
    said = said_of(core, "0x4", "-v", capsys=capsys)
    assert "dropped on a convention: 4.00 KiB (bytes that need several are listed under each)\n" in said


def test_the_bytes_that_conventions_drop_are_counted_by_mapping_and_in_all(core: Path, tmp_path: Path) -> None:
    """What nothing but a convention rules out would otherwise be kept; what is kept is not counted."""
    report = report_of(core, "0x31", tmp_path=tmp_path)
    assert report["inferred_bytes"] == sum(mapping["inferred_bytes"] for mapping in report["mappings"]) == 7 * PAGE
    for mapping in report["mappings"]:
        assert mapping["kept"] + mapping["inferred_bytes"] <= mapping["present"]
        names = [text for text in mapping["evidence"] if text.startswith("dropped on a convention: ")]
        assert bool(names) is bool(mapping["inferred_bytes"])
    assert report_of(core, "all", tmp_path=tmp_path)["inferred_bytes"] == 0


def test_verbose_explains_every_convention(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(core, "0x31", "-v", capsys=capsys)
    assert "  dropped on a convention: 28.0 KiB\n" in said
    assert "    image-text: 12.0 KiB (an unwritable segment of an ELF image was not written to)\n" in said
    assert "    dev-zero: 16.0 KiB (/dev/zero (deleted) is shared anonymous memory)\n" in said


@pytest.mark.parametrize(("unknown", "verb"), [("keep", "kept"), ("guess", "guessed"), ("drop", "dropped")])
def test_undecided_bytes_are_counted_with_what_became_of_them(
    unknown: str, verb: str, core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(core, "0x33", "--unknown", unknown, capsys=capsys)
    assert f"ambiguous: 8.00 KiB depend on an assumption and were {verb};" in said


def test_verbose_tells_more(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(core, "0x31", "-v", "--engine", "readwrite", capsys=capsys)
    assert "engine: readwrite; holes: none; page size: 4096; ELF64 x86-64" in said


def test_verbose_names_kinds_that_have_no_bytes(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    core.write_bytes(make_core([Load(A, memsz=PAGE), Load(C, page(b"x"))], kernel_notes([(C, C + PAGE, 0, "/data/x")])))
    row = "private-anonymous          0 B         0 B           -"
    assert row not in said_of(core, "all", capsys=capsys)
    assert row in said_of(core, "all", "-v", capsys=capsys)


def test_quiet_says_nothing_unless_something_is_wrong(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said_of(core, "0x31", "-q", capsys=capsys) == ""
    assert said_of(core, "0000ffff", "-q", capsys=capsys).count("\n") == 1
    core.write_bytes(core.read_bytes()[:-1])
    os.utime(core, (0, 0))
    said = said_of(core, "0x31", "-q", capsys=capsys, code=3)
    assert said == f"corefilt: {core}: the core is truncated: 1 B of its segments are missing\n"


def test_a_pipe_into_a_pipe_says_what_it_could_not_know(core: Path) -> None:
    loads = [Load(A, page(b"text", 2), flags="r--")]
    core.write_bytes(make_core(loads, kernel_notes([(A, A + 2 * PAGE, 0, "/data/text")])))
    note = "the input cannot be read twice, so payload was not examined: 1 mapping keeps a page"
    assert any(note in line for line in corefilt("0x10", pipe=core.read_bytes()).err)
    assert not any(note in line for line in corefilt("0x10", core).err)


def test_strict_writes_nothing_while_bytes_are_undecided(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = core.with_name("out")
    assert main(["0x33", str(core), "-o", str(out), "--strict"]) == 4
    assert "8.00 KiB in 1 mapping depend on an assumption" in capsys.readouterr().err
    assert not out.exists()
    settled = ["--assume", "/var/lib/victim/*=shared-file-backed"]
    assert main(["0x33", str(core), "-o", str(out), "--strict", *settled]) == 0
    assert out.exists()


def test_strict_minds_only_what_the_filter_asks(core: Path) -> None:
    assert main(["all", str(core), "-o", str(core.with_name("out")), "--strict"]) == 0


def test_strict_from_a_pipe_leaves_no_file(core: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    done = corefilt("0x33", "-", "-o", folder / "out", "--strict", pipe=core.read_bytes())
    assert (done.code, list(folder.iterdir())) == (4, [])


# --- what could steer a terminal ---------------------------------------------------------------------------

STEERING = [
    pytest.param(b"\x1b]0;owned\x07\x1b[2J", id="escape sequences"),
    pytest.param(b"a\ncorefilt: all is well", id="a line of its own"),
    pytest.param(b"a\rb", id="carriage return"),
    pytest.param("\u202efdp.eroc \x9b31m".encode(), id="direction and C1"),
    pytest.param(b"\xff\x1b\xfe", id="no UTF-8"),
]


def assert_harmless(said: str | bytes, lines: int | None = None) -> None:
    text = said.decode("utf-8", "surrogateescape") if isinstance(said, bytes) else said
    assert not [c for c in text if not c.isprintable() and c != "\n" and not "\udc80" <= c <= "\udcff"]
    assert "\ncorefilt: all is well" not in text


@pytest.mark.parametrize("name", STEERING)
def test_names_in_a_core_reach_no_terminal_raw(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(hostile(b"/tmp/" + name))
    for done in (
        corefilt("0x8", path, "-o", tmp_path / "out", "-v", "--json"),
        corefilt("inspect", path),
        corefilt("inspect", path, "--json"),
        corefilt("0x8", path, "--strict"),
    ):
        assert_harmless(done.out)
        assert_harmless("\n".join(done.err))
    lines = corefilt("inspect", path).out.decode().splitlines()
    assert len([line for line in lines if line.startswith(f"{A:x}-")]) == 1
    # A line for the mapping, the others for the core and its kinds.
    assert len(lines) == 18


@pytest.mark.parametrize("name", STEERING)
@pytest.mark.parametrize("content", [hostile(b"/d"), hostile(b"/d")[:-1], b""], ids=["whole", "cut", "empty"])
def test_names_of_files_reach_no_terminal_raw(name: bytes, content: bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(content)
    text = os.fsdecode(path)
    for args in (["0x8", text, "-n"], ["0x8", text, "-n", "-q"], ["inspect", text], ["0x8", text, "-o", text]):
        done = corefilt(*args)
        assert_harmless(done.out)
        assert_harmless("\n".join(done.err))


def test_a_hostile_note_name_is_shown_escaped(tmp_path: Path) -> None:
    from support.builder import Note

    (tmp_path / "core").write_bytes(make_core([Load(A, page(b"x"))], [Note(b"FreeBSD\x1b[2J\0", 1, b"")]))
    done = corefilt("0x33", tmp_path / "core")
    assert done.code == 1
    assert_harmless("\n".join(done.err))


def test_the_report_is_an_object_of_python(core: Path) -> None:
    with in_memory() as out:
        report = api.filter(core, out, filter=0x31)
    assert isinstance(report, api.Report)
    assert set(report.as_dict()) == TOP
    assert report.filter is api.CoredumpFilter(0x31)
    assert not report.damaged
