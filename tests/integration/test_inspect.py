"""``corefilt inspect``: the table and the JSON, what every bit would keep, and what a filter keeps."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.builder import VSYSCALL, Load, kernel_notes, make_core, page
from support.run import assert_error, corefilt
from support.samples import noise, sample_core

import corefilt as api
from corefilt.cli import main
from corefilt.filterbits import NAMES

PAGE = 4096
A, B = 0x10000, 0x20000
TOP = {
    "schema", "version", "input", "filter", "class", "machine", "page_size", "segments", "input_bytes",
    "inferred_bytes", "warnings", "mappings", "changes", "identity", "modules", "kinds", "crash",
}  # fmt: skip
PER_MAPPING = {
    "start", "end", "flags", "path", "file_offset", "kind", "certainty", "evidence", "present", "kept",
    "inferred_bytes", "bits",
}  # fmt: skip
LETTERS = re.compile(r"(?<= )(?:[Wh-][? ]){9}")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back the signal handlers that the command line sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def open_core(tmp_path: Path) -> Path:
    """Write a core with a mapping of every certainty."""
    path = tmp_path / "open-core"
    loads = [Load(A, noise(2)), Load(B, page(b"\x7fELF", 3)), Load(VSYSCALL, page(b"v"), flags="--x")]
    files = [(A, A + 2 * PAGE, 0, "/dev/zero (deleted)"), (B, B + 3 * PAGE, 0, "/data/lib")]
    path.write_bytes(make_core(loads, kernel_notes(files)))
    return path


def table(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> list[str]:
    """Return the lines of the table."""
    assert main(["inspect", *map(str, args)]) == code
    return capsys.readouterr().out.splitlines()


def as_json(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> dict[str, Any]:
    assert main(["inspect", *map(str, args), "--json"]) == code
    return json.loads(capsys.readouterr().out)


# --- the table --------------------------------------------------------------------------------------------


def row(lines: list[str], address: int) -> str:
    (found,) = (line for line in lines if line.startswith(f"{address:x}-"))
    return found


def test_the_first_line_names_the_core(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, open_core)[0] == f"{open_core}: ELF64 x86-64, 28.0 KiB, 3 mappings, 4.00 KiB pages"


def test_a_row_tells_all_of_a_mapping(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, open_core, "--filter", "all", "-v")
    heads = next(line for line in lines if line.startswith("address"))
    assert heads.split() == [
        "address", "size", "present", "kept", "flags", "kind", "certainty", "bits", "0-8", "offset", "file", "evidence",
    ]  # fmt: skip
    shared = row(lines, A)
    assert shared.startswith("10000-12000")
    assert shared.count("8.00 KiB") == 3
    assert re.search(r"rw- +shared-anonymous +inferred", shared)
    assert shared.endswith("/dev/zero (deleted)  NT_FILE names a file; named /dev/zero (deleted)")
    assert "exact" in row(lines, VSYSCALL)
    assert "could also be: private-file-backed, shared-file-backed" in row(lines, B)


def test_a_list_shows_evidence_only_of_what_is_ambiguous(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, open_core, "--all")
    assert row(lines, A).endswith(" /dev/zero (deleted)")
    assert re.search(r" private-file-written\? +/data/lib  .*could also be: private-file-backed", row(lines, B))
    assert not any("could also be" in line for line in table(capsys, open_core)[-3:])


@pytest.mark.parametrize(
    ("address", "bits"),
    [(A, "- W - - - - - - - "), (B, "W?- W?W?h?- - - - "), (VSYSCALL, "W W W W W W W W W ")],
)
def test_the_bits_are_letters(address: int, bits: str, open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = LETTERS.search(row(table(capsys, open_core, "-v"), address))
    assert found
    assert found[0] == bits


def test_a_filter_decides_what_is_kept(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, open_core, "--filter", "elf-headers", "--columns", "address,kept,dropped,inferred,evidence")
    assert "What filter 0x10 keeps:" in lines
    assert re.search(r"0 B +8.00 KiB +4.00 KiB +NT_FILE", row(lines, A))
    assert row(lines, A).endswith("dropped on a convention: dev-zero")
    assert re.search(r"4.00 KiB +8.00 KiB +0 B ", row(lines, B))
    assert "dropped on a convention" not in row(lines, B)


def test_the_overview_adds_up(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, open_core, "--filter", "elf-headers")
    begin = lines.index("What filter 0x10 keeps:") + 1
    assert [line.split() for line in lines[begin : begin + 5]] == [
        ["kind", "mappings", "present", "kept", "dropped"],
        ["private-file-written", "1", "12.0", "KiB", "50", "%", "4.00", "KiB", "8.00", "KiB"],
        ["shared-anonymous", "1", "8.00", "KiB", "33", "%", "0", "B", "8.00", "KiB"],
        ["special", "1", "4.00", "KiB", "17", "%", "4.00", "KiB", "0", "B"],
        ["total", "3", "24.0", "KiB", "100", "%", "8.00", "KiB", "16.0", "KiB"],
    ]
    assert lines[begin + 5 : begin + 9] == [
        "dropped on a convention: 4.00 KiB (dev-zero 4.00 KiB); --verbose explains them",
        "uncertain: 1 mapping, 12.0 KiB; ambiguous under this filter: 4.00 KiB",
        "  private-file-written? 1 mapping, 12.0 KiB: NT_FILE names a file; begins with the ELF magic; could also be: "
        "private-file-backed, shared-file-backed",
        "  try: --maps, --pid, --sysroot or --assume for kinds, --pid or --sysroot for header pages",
    ]


def test_what_is_settled_is_not_called_ambiguous(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ambiguous" in "\n".join(table(capsys, open_core))
    settled = "\n".join(table(capsys, open_core, "--assume", "/data/*=shared-file-backed"))
    assert "ambiguous" not in settled and "uncertain" not in settled


def test_an_uncertain_kind_is_not_ambiguous_where_the_filter_keeps_all_of_them(
    open_core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = table(capsys, open_core, "--filter", "all")
    assert "uncertain: 1 mapping, 12.0 KiB; ambiguous under this filter: nothing" in lines


@pytest.fixture
def headed(tmp_path: Path) -> Path:
    """A core that maps a file that is not ELF from its first byte, and the file below ``root``."""
    content = page(b"data", 3)
    file = tmp_path / "root/data/file"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    file.chmod(0o644)
    core = tmp_path / "core"
    core.write_bytes(make_core([Load(B, content, flags="r--")], kernel_notes([(B, B + 3 * PAGE, 0, "/data/file")])))
    return core


def test_a_header_page_stays_uncertain_when_the_kind_is_stated(
    headed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the mode of the file settles it; --strict, the summary and inspect count the same bytes and say so."""
    stated = ("--assume", "/data/file=private-file-backed")
    doubt = "its first page may be a header page (0x10): the mode or first bytes of its file are not known"
    lines = table(capsys, headed, *stated)
    at = lines.index("uncertain: 1 mapping, 12.0 KiB; ambiguous under this filter: 4.00 KiB")
    assert lines[at + 1].startswith("  private-file-backed? 1 mapping, 12.0 KiB: ")
    assert lines[at + 1].endswith(f"--assume says private-file-backed; {doubt}")
    assert lines[at + 2].endswith("--pid or --sysroot for header pages")
    assert re.search(r" private-file-backed\? +/data/file$", row(lines, B))
    assert doubt in as_json(capsys, headed, *stated)["mappings"][0]["evidence"]
    out = headed.with_name("out")
    strict = corefilt("0x33", headed, *stated, "-o", out, "--strict")
    assert_error(strict, "4.00 KiB in 1 mapping", "settle header pages with --sysroot DIR, or --pid PID", code=4)
    kept = corefilt("0x33", headed, *stated, "-o", out)
    assert any("ambiguous: 4.00 KiB" in line and "--pid or --sysroot header pages" in line for line in kept.err)


def test_the_mode_of_the_file_settles_a_header_page(headed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settling = ("--assume", "/data/file=private-file-backed", "--sysroot", str(headed.with_name("root")))
    said = "\n".join(table(capsys, headed, *settling))
    assert "uncertain" not in said and "header page" not in said
    assert corefilt("0x33", headed, *settling, "-o", headed.with_name("out"), "--strict").code == 0


def test_the_old_fdpic_dumper_leaves_no_header_page_in_doubt(headed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, headed, "--dumper", "fdpic-old", "--assume", "/data/file=private-file-backed")
    assert not any("header page" in text for text in report["mappings"][0]["evidence"])


@pytest.mark.parametrize(("unknown", "kept"), [("keep", 3 * PAGE), ("guess", 3 * PAGE), ("drop", 0)])
def test_what_becomes_of_what_is_open(
    unknown: str, kept: int, open_core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = as_json(capsys, open_core, "--filter", "private-anonymous", "--unknown", unknown)
    assert report["mappings"][1]["kept"] == kept


def test_an_assumption_is_shown_as_stated(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, open_core, "--assume", "/data/*=shared-file-backed", "-v")
    assert re.search(r"shared-file-backed +stated", row(lines, B))
    assert "--assume says shared-file-backed" in row(lines, B)


def test_the_table_is_never_cut_where_no_terminal_is(tmp_path: Path) -> None:
    path = "/very/long" * 60
    (tmp_path / "core").write_bytes(make_core([Load(A, noise(1))], kernel_notes([(A, A + PAGE, 0, path)])))
    done = corefilt("inspect", tmp_path / "core")
    assert done.code == 0
    assert path in re.sub(r"\s+", "", done.out.decode())


def test_markup_in_names_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "/tmp/[bold]x[/bold] [link=file:///]y[/link]"
    (tmp_path / "core").write_bytes(make_core([Load(A, noise(1))], kernel_notes([(A, A + PAGE, 0, name)])))
    assert name in row(table(capsys, tmp_path / "core"), A)


# --- JSON -------------------------------------------------------------------------------------------------


def test_the_keys_of_the_json(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, open_core)
    assert set(report) == TOP
    assert all(set(mapping) == PER_MAPPING for mapping in report["mappings"])
    assert (report["schema"], report["version"], report["filter"]) == (1, api.__version__, "0x33")
    assert report["input_bytes"] == open_core.stat().st_size
    assert [mapping["start"] for mapping in report["mappings"]] == [f"{at:#x}" for at in (A, B, VSYSCALL)]


def test_the_bits_in_json(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bits = {mapping["start"]: mapping["bits"] for mapping in as_json(capsys, open_core)["mappings"]}
    assert all(list(each) == list(NAMES) for each in bits.values())
    assert bits[f"{B:#x}"] == {
        "private-anonymous": "W?", "shared-anonymous": "-", "private-file-backed": "W?", "shared-file-backed": "W?",
        "elf-headers": "h?", "private-huge": "-", "shared-huge": "-", "private-dax": "-", "shared-dax": "-",
    }  # fmt: skip
    assert set(bits[f"{VSYSCALL:#x}"].values()) == {"W"}


def test_a_filter_in_json(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = as_json(capsys, open_core, "--filter", "0x10")
    assert report["filter"] == "0x10"
    assert [mapping["kept"] for mapping in report["mappings"]] == [0, PAGE, PAGE]
    assert [mapping["inferred_bytes"] for mapping in report["mappings"]] == [PAGE, 0, 0]
    assert report["inferred_bytes"] == PAGE


@pytest.mark.parametrize("kind", ["shared-anonymous", "shared-file-backed"])
def test_what_is_stated_is_dropped_on_no_convention(
    kind: str, open_core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the first, a convention says the same; the second contradicts it."""
    stated = ("--filter", "0x10", "--assume", f"{A:#x}={kind}", "--assume", f"{B:#x}=shared-file-backed")
    report = as_json(capsys, open_core, *stated)
    assert [mapping["certainty"] for mapping in report["mappings"][:2]] == ["stated", "stated"]
    assert [mapping["inferred_bytes"] for mapping in report["mappings"]] == [0, 0, 0]
    assert "convention" not in json.dumps(report)
    assert not any("convention" in line for line in table(capsys, open_core, *stated, "-v"))


def test_json_into_a_file_leaves_the_table(open_core: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = table(capsys, open_core, f"--json={tmp_path / 'report'}")
    assert row(lines, A)
    assert set(json.loads((tmp_path / "report").read_text())) == TOP


def test_names_that_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "core").write_bytes(make_core([Load(A, noise(1))], kernel_notes([(A, A + PAGE, 0, b"/tmp/\xff")])))
    (mapping,) = as_json(capsys, tmp_path / "core")["mappings"]
    assert (mapping["path"], mapping["path_bytes"]) == ("/tmp/\\xff", b"/tmp/\xff".hex())


# --- inputs -----------------------------------------------------------------------------------------------


def test_a_pipe_shows_what_the_tables_tell(open_core: Path) -> None:
    """Nothing has been seen of the payload, and nothing is said of it."""
    done = corefilt("inspect", pipe=open_core.read_bytes())
    assert (done.code, done.err) == (0, ())
    assert "standard input: ELF64" in done.out.decode()
    assert "begins with" not in done.out.decode()
    assert "begins with the ELF magic" in corefilt("inspect", open_core).out.decode()


def test_a_spooled_pipe_is_a_file(open_core: Path, tmp_path: Path) -> None:
    data = sample_core(layout="gcore")
    assert_error(corefilt("inspect", pipe=data), "gcore")
    done = corefilt("inspect", "--spool", "-v", pipe=data)
    assert done.code == 0
    assert "RELRO" not in done.out.decode()
    assert "writable segment of an ELF image" in done.out.decode()


def test_a_damaged_core_is_shown_and_said_to_be(open_core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_core.write_bytes(open_core.read_bytes()[:-1])
    os.utime(open_core, (0, 0))
    assert main(["inspect", str(open_core)]) == 3
    said = capsys.readouterr()
    assert row(said.out.splitlines(), A)
    assert said.err == f"corefilt: {open_core}: the core is truncated: 1 B of its segments are missing\n"


def test_what_is_no_core_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("nothing of the kind")
    assert main(["inspect", str(tmp_path / "text")]) == 1
    said = capsys.readouterr()
    assert (said.out, "not an ELF file" in said.err) == ("", True)


def test_a_core_without_mappings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "core").write_bytes(make_core([], kernel_notes([])))
    assert as_json(capsys, tmp_path / "core")["mappings"] == []
    assert table(capsys, tmp_path / "core")[0].endswith("4.00 KiB, 0 mappings, 4.00 KiB pages")
