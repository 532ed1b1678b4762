"""`corefilt inspect` as it is seen: on terminals of 80 and 120 columns, as lists, CSV, groups, modules, by address."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from support.builder import Load, kernel_notes, make_core, page
from support.run import Done, assert_error, corefilt
from support.samples import ANON, SHARED, STACK, sample_core
from support.terminal import on_a_terminal

import corefilt as api
from corefilt.errors import UnstreamableError
from corefilt.text import counted

PAGE = 4096
GUARD = 0x7FFC00000000


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    return path


def lines_at(width: int, *args: str | Path) -> list[str]:
    """The lines that a terminal of so many columns shows."""
    said = on_a_terminal(*args, width=width, without="COLUMNS", TERM="dumb", PYTHONUTF8="1")
    return said.decode().replace("\r\n", "\n").splitlines()


def shown(*args: str | Path, code: int = 0) -> list[str]:
    done = corefilt("inspect", *args)
    assert done.code == code, done.err
    return done.out.decode().splitlines()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("more", [(), ("--all",), ("--group-by", "file"), ("--modules",), (hex(ANON),)], ids=str)
def test_no_line_is_wider_than_the_terminal(width: int, more: tuple[str, ...], core: Path) -> None:
    lines = lines_at(width, "inspect", core, *more)
    assert max(map(len, lines)) <= width


def test_a_terminal_shows_whose_core_a_bar_and_the_largest(core: Path) -> None:
    lines = lines_at(80, "inspect", core)
    assert lines[0].startswith(str(core)[:40])
    assert any(line.startswith("  written by") for line in lines)
    (kind,) = (line for line in lines if line.startswith("private-anonymous "))
    assert kind.endswith("\u2588" * 3), kind
    assert lines[-1].split()[-1] != "mappings"
    assert f"The largest 10 of {len(shown(core, '--csv')) - 1} mappings (--all lists every one):" in lines


def test_host_and_kernel_come_from_what_abrt_put_beside_the_core(core: Path) -> None:
    told = core.rename(core.parent / "coredump")
    assert not any(line.startswith("  host") for line in shown(told))
    (told.parent / "hostname").write_text("web1\x1b[31m\n")
    (told.parent / "kernel").write_text("5.14.0-503.el9.x86_64\n")
    lines = shown(told)
    assert "  host          web1\\x1b[31m (abrt)" in lines
    assert any(line.startswith("  written by ") and "Linux 5.14.0-503.el9.x86_64" in line for line in lines)
    identity = json.loads("".join(shown(told, "--json")))["identity"]
    assert (identity["host_source"], identity["kernel"]) == ("abrt", "5.14.0-503.el9.x86_64")


def test_files_are_cut_in_the_middle(tmp_path: Path) -> None:
    path = "/usr/lib/" + "deep/" * 20 + "libname.so.6"
    (tmp_path / "core").write_bytes(make_core([Load(ANON, page(b"x"))], kernel_notes([(ANON, ANON + PAGE, 0, path)])))
    last = lines_at(80, "inspect", tmp_path / "core")[-1]
    assert last.endswith("libname.so.6") and "\u2026" in last and len(last) <= 80
    assert path in shown(tmp_path / "core")[-1]
    assert any(path in line for line in lines_at(80, "inspect", tmp_path / "core", "-v"))


def test_wide_characters_take_their_columns(tmp_path: Path) -> None:
    path = "/\u4e2d\u6587" * 30
    (tmp_path / "core").write_bytes(make_core([Load(ANON, page(b"x"))], kernel_notes([(ANON, ANON + PAGE, 0, path)])))
    from rich.cells import cell_len

    assert max(map(cell_len, lines_at(80, "inspect", tmp_path / "core"))) <= 80


def test_never_more_lines_than_mappings_and_a_few(tmp_path: Path) -> None:
    loads = [Load(0x10000 * (1 + i), page(b"x")) for i in range(300)]
    (tmp_path / "core").write_bytes(make_core(loads, kernel_notes([])))
    for more in ((), ("--all",), ("-v", "--all")):
        assert len(lines_at(80, "inspect", tmp_path / "core", *more)) <= 300 + 25
    assert len(shown(tmp_path / "core")) < 40


def rows(*args: str | Path) -> list[dict[str, str]]:
    done = corefilt("inspect", *args, "--csv")
    assert done.code == 0, done.err
    return list(csv.DictReader(io.StringIO(done.out.decode())))


def test_csv_says_what_json_says(core: Path) -> None:
    report = json.loads(corefilt("inspect", core, "--json").out)
    found = rows(core)
    assert [(row["start"], int(row["present"]), int(row["kept"]), row["kind"]) for row in found] == [
        (mapping["start"], mapping["present"], mapping["kept"], mapping["kind"]) for mapping in report["mappings"]
    ]
    assert [row["file"] for row in found] == [mapping["path"] or "" for mapping in report["mappings"]]


def test_names_with_commas_and_quotes_are_one_field(tmp_path: Path) -> None:
    path = '/tmp/a,"b"\nc'
    (tmp_path / "core").write_bytes(make_core([Load(ANON, page(b"x"))], kernel_notes([(ANON, ANON + PAGE, 0, path)])))
    assert rows(tmp_path / "core")[0]["file"] == '/tmp/a,"b"\\nc'


@pytest.mark.parametrize("sort", ["size", "address", "kind", "file"])
def test_sorting(sort: str, core: Path) -> None:
    found = rows(core, "--sort", sort)
    keys: dict[str, Any] = {
        "size": lambda row: (-int(row["present"]), -int(row["size"])),
        "address": lambda row: int(row["start"], 16),
        "kind": lambda row: row["kind"],
        "file": lambda row: (not row["file"], row["file"]),
    }
    assert [keys[sort](row) for row in found] == sorted(map(keys[sort], found))
    assert len(found) == len(rows(core))
    top = rows(core, "--sort", sort, "--top", "3")
    assert [keys[sort](row) for row in top] == [keys[sort](row) for row in found[:3]]


def test_kinds_that_are_asked_for(core: Path) -> None:
    found = rows(core, "--kind", "special,shared-anonymous")
    assert {row["kind"] for row in found} == {"special", "shared-anonymous"}
    report = json.loads(corefilt("inspect", core, "--kind", "special", "--json").out)
    assert {mapping["kind"] for mapping in report["mappings"]} == {"special"}
    assert any(
        line.startswith("All ") and line.endswith("of kind special:") for line in shown(core, "--kind", "special")
    )


def test_columns_that_are_asked_for(core: Path) -> None:
    done = corefilt("inspect", core, "--all", "--columns", "end,file")
    lines = done.out.decode().splitlines()
    at = next(i for i, line in enumerate(lines) if line.split() == ["end", "file"])
    assert lines[at + 1].split() == [f"{ANON + 4 * PAGE:x}"]


@pytest.mark.parametrize("by", ["kind", "file"])
def test_groups_add_up(by: str, core: Path) -> None:
    every = rows(core)
    found = rows(core, "--group-by", by)
    for column in ("size", "present", "kept", "dropped"):
        assert sum(int(row[column]) for row in found) == sum(int(row[column]) for row in every)
    assert sum(int(row["mappings"]) for row in found) == len(every)
    assert len(found) == len({row[by] for row in every})
    lines = shown(core, "--group-by", by, "--top", "1")
    assert [line.split("  ")[0] for line in lines[1:]] == [found[0]["name"], counted(len(found) - 1, "other"), "total"]


def test_modules_are_the_same_in_all_forms(core: Path) -> None:
    report = json.loads(corefilt("inspect", core, "--json").out)
    assert rows(core, "--modules") == [
        {key: module[key] or "" for key in ("start", "end", "build_id", "path")} for module in report["modules"]
    ]
    lines = shown(core, "--modules")
    assert len(lines) == 1 + len(report["modules"]) > 1
    assert any("/usr/lib/libvictim.so.1" in line for line in lines)


def address(core: Path, at: int, *more: str) -> dict[str, Any]:
    report = json.loads(corefilt("inspect", core, hex(at), "--json", *more).out)
    (found,) = report["addresses"]
    return found


def test_an_address_that_is_there(core: Path) -> None:
    found = address(core, ANON + 5)
    raw = core.read_bytes()
    assert found["state"] == "present" and found["kept"]
    assert bytes.fromhex(found["bytes"]) == raw[found["core_offset"] : found["core_offset"] + 16]
    assert not address(core, ANON + 5, "--filter", "none")["kept"]
    assert "default (0x33) keeps this byte" in "\n".join(shown(core, hex(ANON)))


def test_an_address_that_is_not_mapped(core: Path) -> None:
    found = address(core, 0x10)
    assert (found["state"], found["core_offset"]) == ("unmapped", None)
    assert shown(core, "0x10")[0].startswith("0x10: not mapped: the process had nothing mapped there")


def test_an_address_that_was_dropped(core: Path) -> None:
    assert address(core, GUARD)["state"] == "dropped"
    small = core.with_name("small")
    assert corefilt("0x31", core, "-o", small).code == 0
    found = address(small, SHARED)
    assert found["state"] == "dropped"
    assert found["why"] == "none of this mapping was dumped; these bits of coredump_filter keep it: shared-anonymous"


def test_an_address_that_in_place_took_out(core: Path) -> None:
    assert corefilt("0x31", core, "-i").code == 0
    assert "corefilt -i" in address(core, SHARED)["why"]


def test_an_address_that_is_zero(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(make_core([Load(ANON, page(b"", 2) + page(b"x"))], kernel_notes([])))
    found = address(core, ANON + 9)
    assert (found["state"], found["why"]) == ("zero", "its page holds zeros only")
    assert address(core, ANON + 2 * PAGE)["state"] == "present"


def test_an_address_behind_the_end_of_a_truncated_core(core: Path) -> None:
    raw = core.read_bytes()
    core.write_bytes(raw[: -2 * PAGE])
    done = corefilt("inspect", core, "0xffffffffff600000", "--json")
    assert done.code == 3
    (found,) = json.loads(done.out)["addresses"]
    assert found["state"] == "missing" and "truncated" in found["why"]


def test_an_address_of_a_pipe_is_told_by_the_headers(core: Path) -> None:
    done = corefilt("inspect", "-", hex(STACK), pipe=core.read_bytes())
    assert done.code == 0
    assert done.out.decode().startswith(f"{STACK:#x}: not read: the core is read from a pipe; its headers say")


def test_an_address_of_a_compressed_core_is_told_by_the_headers(core: Path) -> None:
    packed = core.with_name("core.gz")
    packed.write_bytes(gzip.compress(core.read_bytes()))
    lines = corefilt("inspect", packed, hex(STACK)).out.decode().splitlines()
    assert lines[0].startswith(f"{STACK:#x}: not read: the core is compressed; its headers say that the byte is there")
    (place,) = [line.split() for line in lines if line.startswith("  core ")]
    assert place[:2] == ["core", "at"] and place[2].isalnum() and len(place) == 3
    assert corefilt("inspect", packed, hex(STACK), "--spool").out.startswith(f"{STACK:#x}: present".encode())


def test_many_mappings_are_streamed(tmp_path: Path) -> None:
    """All rows come, once each, in every form."""
    loads = [Load(0x10000 * (1 + i), page(b"x")) for i in range(2500)]
    (tmp_path / "core").write_bytes(make_core(loads, kernel_notes([])))
    starts = [f"{load.vaddr:#x}" for load in loads]
    assert [
        mapping["start"] for mapping in json.loads(corefilt("inspect", tmp_path / "core", "--json").out)["mappings"]
    ] == starts
    assert [row["start"] for row in rows(tmp_path / "core")] == starts
    lines = shown(tmp_path / "core", "--all")[-len(loads) :]
    assert [f"0x{line.partition('-')[0]}" for line in lines] == starts


def test_what_an_earlier_run_did_is_told(core: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    assert corefilt("0x33", core, "-o", small, "--minimal").code == 0
    assert any("--fit or --minimal" in line for line in shown(small))
    assert corefilt("0x31", core, "-i").code == 0
    assert any("filtered in place" in line for line in shown(core))


def test_memory_is_read_by_address(core: Path) -> None:
    raw = core.read_bytes()
    with api.open(core) as it:
        assert repr(it) == f"<corefilt.Core {str(core)!r}: x86-64, {len(it.mappings)} mappings>"
        data = it.read(ANON + 5, 16)
        assert data == raw[raw.index(data) :][:16] and len(data) == 16
        assert it.read(ANON + 4 * PAGE - 3, 16) == it.read(ANON + 4 * PAGE - 3, 3) != b""
        assert it.read(GUARD, 16) == it.read(0x10, 16) == it.read(ANON, 0) == b""


# --- what passes only once --------------------------------------------------------------------------------


def passing(core: Path, how: str, *args: str) -> Done:
    """Inspect a core that comes compressed or by a pipe."""
    if how == "a pipe":
        return corefilt("inspect", "-", *args, pipe=core.read_bytes())
    packed = core.with_name("core.gz")
    packed.write_bytes(gzip.compress(core.read_bytes()))
    return corefilt("inspect", packed, *args)


PASSING = pytest.mark.parametrize("how", ["a pipe", "a compressed core"])


@PASSING
@pytest.mark.parametrize(
    "asked",
    [
        ("--modules",),
        ("--modules", "--csv"),
        ("--modules", "--json"),
        ("--environment",),
        ("--environment", "--json"),
        ("--unwinder", "eu-stack"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_is_refused_where_it_was_asked_for(asked: tuple[str, ...], how: str, core: Path) -> None:
    done = passing(core, how, *asked)
    if "--json" in asked:
        assert done.code == 1 and json.loads(done.out)["error"]["exit_code"] == 1
        done = Done(done.code, b"", done.err)
    assert_error(done, f"{asked[0]}", f"and {how} cannot be read twice", "try: ", "add --spool")


@PASSING
def test_a_copy_has_what_could_not_be_read(how: str, core: Path) -> None:
    assert passing(core, how, "--modules", "--spool").out == corefilt("inspect", core, "--modules").out
    assert "  not read " not in passing(core, how, "--spool").out.decode()


@PASSING
def test_a_summary_says_once_what_was_not_read(how: str, core: Path) -> None:
    done = passing(core, how)
    assert done.code == 0 and not any("--spool" in line for line in done.err)
    told = [line for line in done.out.decode().splitlines() if "not read" in line]
    assert told == ["  not read      threads, modules, writer, crash (--spool reads them)"]
    assert not any("not read" in line for line in shown(core))


@PASSING
def test_null_is_what_was_not_read_and_none_is_what_is_not_there(how: str, core: Path, tmp_path: Path) -> None:
    report = json.loads(passing(core, how, "--json").out)
    assert (report["modules"], report["identity"]["threads"], report["crash"]) == (None, None, None)
    plain = tmp_path / "without"
    plain.write_bytes(make_core([Load(ANON, page(b"x"))], kernel_notes()))
    assert json.loads(corefilt("inspect", plain, "--json").out)["modules"] == []


def test_python_refuses_what_was_not_read(core: Path) -> None:
    packed = core.with_name("core.gz")
    packed.write_bytes(gzip.compress(core.read_bytes()))
    with api.open(packed) as opened:
        for name in ("threads", "modules"):
            with pytest.raises(UnstreamableError, match=f"{name} are read in any order") as refused:
                getattr(opened, name)
            assert "spool=True" in refused.value.hint
        assert (opened.identity.threads, opened.identity.modules) == (None, None)
    with api.open(packed, spool=True) as opened:
        assert opened.threads and opened.modules
