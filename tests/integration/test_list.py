"""``corefilt list``: one line a core, in order, by what is noted on the file and what the core tells."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.builder import Load, make_core, nt_prpsinfo, nt_prstatus, page
from support.frames import crash_core
from support.run import Done, assert_error, assert_usage, corefilt
from support.samples import sample_core

from corefilt.crash.recorded import ATTRIBUTE, read_signature
from corefilt.store.listing import candidates, look


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four cores of different times, and what is none."""
    folder = tmp_path / "cores"
    (folder / "below").mkdir(parents=True)
    cores = {
        "one": crash_core(), "below/two": crash_core(1, uid=1000), "three.gz": gzip.compress(crash_core()),
        "silent": sample_core(), "notes.txt": b"no core at all", "empty": b"",
    }  # fmt: skip
    for n, (name, raw) in enumerate(cores.items(), 1):
        (folder / name).write_bytes(raw)
        os.utime(folder / name, (1000 * n, 1000 * n))
    os.symlink("one", folder / "link")
    os.link(folder / "one", folder / "other-name")
    os.mkfifo(folder / "fifo")
    return folder


def listed(folder: Path, *args: str | Path) -> list[dict[str, Any]]:
    done = corefilt("list", folder, "--json", *args)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [os.path.basename(core["source"]) for core in found]


def test_cores_come_oldest_first_and_once(folder: Path) -> None:
    found = listed(folder)
    assert names(found)[0] in ("one", "other-name")
    assert names(found)[1:] == ["two", "three.gz", "silent"]
    assert [core["time"] for core in found] == [1000, 2000, 3000, 4000]
    assert [core["compression"] for core in found] == [None, None, "gzip", None]
    assert [core["uid"] for core in found[:2]] == [0, 1000]
    assert names(listed(folder, "--reverse")) == names(found)[::-1]
    assert names(listed(folder, "--sort", "size"))[0] == "three.gz"
    assert names(listed(folder, "--sort", "name"))[0] == "two"


def test_every_line_fits_the_schema(folder: Path) -> None:
    from importlib.resources import files

    schema = json.loads(files("corefilt.cli").joinpath("schema.json").read_text())
    validator = Draft202012Validator({**schema, "anyOf": [{"$ref": "#/$defs/list"}]})
    os.rename(folder / "silent", os.fsencode(folder) + b"/sil\xffent")
    found = listed(folder)
    assert len(found) == 4 and not [error.message for core in found for error in validator.iter_errors(core)]
    (raw,) = [core["source_path_bytes"] for core in found if "source_path_bytes" in core]
    assert bytes.fromhex(raw).endswith(b"/sil\xffent")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--uid", "1000"), ["two"]),
        (("--executable", "*/victim"), ["one", "two", "three.gz", "silent"]),
        (("--executable", "/bin/*"), ["one", "two", "three.gz"]),
        (("--executable", "/usr/*"), []),
        (("--signal", "SIGABRT"), ["one", "two", "three.gz", "silent"]),
        (("--signal", "11"), []),
    ],
)
def test_filters(folder: Path, options: tuple[str, ...], wanted: list[str]) -> None:
    (folder / "other-name").unlink()
    found = names(listed(folder, *options))
    assert found == wanted


@pytest.mark.parametrize(
    ("glob", "fits"),
    [("victim", True), ("*/victim", True), ("v*m", True), ("/usr/*", False), ("*/vic", False), ("victim/", False)],
)
def test_a_name_in_place_of_an_executable_is_of_any_directory(tmp_path: Path, glob: str, fits: bool) -> None:
    """A core that does not list files, as before Linux 3.7, has the name of its first thread only."""
    core = tmp_path / "core"
    core.write_bytes(make_core([Load(0x1000, page(b"x"))], [nt_prstatus(77), nt_prpsinfo(77)]))
    (found,) = listed(core)
    assert (found["executable"], found["comm"]) == (None, "victim")
    assert bool(listed(core, "--executable", glob)) == fits


def test_signatures_are_noted_on_the_files(folder: Path) -> None:
    found = {os.path.basename(core["source"]): core for core in listed(folder / "below")}
    signature = found["two"]["signature"]
    assert found["two"]["quality"] == "unwound" and len(signature) == 16
    try:
        noted = os.getxattr(folder / "below" / "two", ATTRIBUTE)
    except OSError:
        pytest.skip("no attributes here")
    assert noted == f"1 unwound {signature} external".encode()
    assert names(listed(folder, "--signature", signature)) == ["two"]
    # What is noted is believed, so that a compressed core has a signature, too.
    os.setxattr(folder / "three.gz", ATTRIBUTE, noted)
    assert names(listed(folder, "--signature", signature)) == ["two", "three.gz"]


def test_facts_that_were_noted_come_before_those_of_the_core(folder: Path) -> None:
    path = folder / "silent"
    try:
        for name, value in (("pid", "77"), ("uid", "1000"), ("signal", "11"), ("exe", "/opt/x"), ("timestamp", "9")):
            os.setxattr(path, f"user.coredump.{name}", value.encode())
        os.setxattr(path, "user.corefilt.keep", b"")
    except OSError:
        pytest.skip("no attributes here")
    first = listed(folder)[0]
    found = [first[name] for name in ("pid", "uid", "signal", "executable", "time")]
    assert found == [77, 1000, 11, "/opt/x", 9]
    assert first["kept"] and first["time_source"] == "attribute of the file"


def test_lines_for_people(folder: Path) -> None:
    done: Done = corefilt("list", folder)
    head, *lines = done.out.decode().splitlines()
    assert head.split() == ["TIME", "PID", "UID", "SIGNAL", "SIZE", "SIGNATURE", "EXECUTABLE", "FILE"]
    assert len(lines) == 4 and lines[0].startswith("1970-01-01 00:16:40 UTC     4242      0  SIGABRT")
    assert "/bin/victim" in lines[0] and lines[2].split()[-3] == "-"


def test_a_file_and_a_report(folder: Path, tmp_path: Path) -> None:
    assert names(listed(folder / "one")) == ["one"]
    done = corefilt("list", folder, f"--json={tmp_path / 'list.ndjson'}")
    assert done.code == 0 and not done.out
    assert len((tmp_path / "list.ndjson").read_text().splitlines()) == 4


def test_what_cannot_be_meant(folder: Path) -> None:
    assert_error(corefilt("list", folder / "none"), "No such file")
    assert_usage(corefilt("list", folder, "--uid", "root"), "--uid")
    assert_usage(corefilt("list", folder, "--signature", "abc"), "--signature")
    assert_usage(corefilt("list", folder, "--signal", "SIGNONE"), "--signal")
    assert_error(corefilt("list", folder, "--sysroot", folder / "none"), "none: No such file", "name an existing")


def test_what_is_damaged_is_told_and_the_rest_is_listed(folder: Path) -> None:
    (folder / "broken").write_bytes(crash_core()[:70])
    done = corefilt("list", folder, "--json")
    assert done.code == 1 and len(done.out.splitlines()) == 4
    assert len(done.err) == 1 and "broken" in done.err[0]


def test_a_file_that_went_away_is_told(folder: Path) -> None:
    from corefilt.errors import InputError

    found = candidates([str(folder / "one")])
    (folder / "one").unlink()
    with pytest.raises(InputError, match="No such file"):
        look(found[0])


def test_with_a_sysroot_a_signature_that_is_not_certain_is_computed_again(folder: Path) -> None:
    """Somebody has fetched the files since; what is certain is not doubted."""
    core = folder / "one"
    (whole,) = listed(core)
    assert whole["quality"] == "unwound"
    for before, after in (("pc-only", "unwound"), ("unwound", "unwound")):
        try:
            os.setxattr(core, ATTRIBUTE, f"1 {before} 0123456789abcdef external".encode())
        except OSError:
            pytest.skip("no attributes of users in this file system")
        (found,) = listed(core)
        assert (found["quality"], found["signature"]) == (before, "0123456789abcdef")
        (again,) = listed(core, "--sysroot", "/")
        assert again["quality"] == after
        assert again["signature"] == (whole["signature"] if before == "pc-only" else "0123456789abcdef")
        assert listed(core) == [again]


def test_an_annotation_has_the_signature(folder: Path, tmp_path: Path) -> None:
    core, annotated, again = folder / "one", tmp_path / "annotated", tmp_path / "again"
    assert corefilt("all", core, "-o", annotated, "--annotate").code == 0
    assert corefilt("verify", core, annotated).code == 0
    signature = listed(core)[0]["signature"]
    said = f"1 unwound {signature} external"
    assert said in corefilt("inspect", annotated).out.decode()
    # It is there once, and tells of a core whose stack is lost.
    assert corefilt("all", annotated, "-o", again, "--annotate").code == 0
    assert again.read_bytes().count(said.encode()) == 1 and again.stat().st_size == annotated.stat().st_size
    assert corefilt("none", annotated, "-o", tmp_path / "none").code == 0
    for _ in range(2):
        (found,) = listed(tmp_path / "none")
        assert (found["signature"], found["quality"]) == (signature, "unwound")
    with open(tmp_path / "none", "rb") as file:
        noted = read_signature(file.fileno())
    assert noted is None or noted.certain is None
    # Without --annotate nothing says it.
    assert corefilt("all", core, "-o", tmp_path / "plain").code == 0
    assert signature.encode() not in (tmp_path / "plain").read_bytes()
