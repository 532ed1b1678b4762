"""Which crashes are repeats: never those of another user, nor those of which something is not known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.frames import crash_core, image, tables

from corefilt.corefile.corefile import open_core
from corefilt.crash.recorded import RecordedSignature, parse_signature, read_signature, write_signature
from corefilt.crash.repeats import CrashSummary, ranks, summarize


def look(path: Path, raw: bytes, time: float = 1000.0, sysroot: Path | None = None) -> CrashSummary:
    path.write_bytes(raw)
    os.utime(path, (time, time))
    with open_core(path) as core:
        return summarize(core, sysroot=str(sysroot) if sysroot is not None else None)


def test_the_oldest_of_a_crash_is_the_first(tmp_path: Path) -> None:
    raw = crash_core()
    found = {name: look(tmp_path / name, raw, time) for name, time in (("b", 20), ("c", 30), ("a", 10))}
    assert ranks(found) == {"a": 1, "b": 2, "c": 3}
    assert len({summary.signature for summary in found.values()}) == 1
    assert found["a"].frames == ("victim+0x400800", "victim+0x400900", "victim+0x400a00")
    assert found["a"].time == 10


def test_another_function_or_user_is_no_repeat(tmp_path: Path) -> None:
    cores = {"a": crash_core(), "function": crash_core(1), "user": crash_core(uid=1000)}
    found = {name: look(tmp_path / name, raw) for name, raw in cores.items()}
    assert ranks(found) == {"a": 1, "function": 1, "user": 1}
    assert found["a"].signature == found["user"].signature != found["function"].signature


def test_whose_file_the_core_is_counts(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("gives files to others: needs root")
    found = {"a": look(tmp_path / "a", crash_core())}
    (tmp_path / "b").write_bytes(crash_core())
    os.chown(tmp_path / "b", 65534, 65534)
    with open_core(tmp_path / "b") as core:
        found["b"] = summarize(core)
    assert ranks(found) == {"a": 1, "b": 1} and found["a"].signature == found["b"].signature


def test_a_copy_that_belongs_to_another_is_no_repeat(tmp_path: Path) -> None:
    """The same build in two roots, of two owners: prepared stacks make no repeat of the daemon's own crash."""
    if os.geteuid():
        pytest.skip("gives files to others: needs root")
    functions = [(0x400800, 0x40, b"\x41\x0e\x10"), (0x400900, 0x40, b"\x0e\x28"), (0x400A00, 0x40, b"\x07\x10")]
    found = {}
    for name, uid in (("own", 0), ("copied", 65534), ("again", 0)):
        program = tmp_path / name / "bin" / "victim"
        program.parent.mkdir(parents=True)
        program.write_bytes(image(tables(functions)))
        os.chown(program, uid, uid)
        found[name] = look(tmp_path / f"{name}.core", crash_core(), sysroot=tmp_path / name)
    assert {name: summary.key.program for name, summary in found.items() if summary.key is not None} == {
        "own": "user 0", "copied": "user 65534", "again": "user 0",
    }  # fmt: skip
    assert ranks(found) == {"again": 1, "copied": 1, "own": 2}


def test_what_is_not_certain_is_no_repeat(tmp_path: Path) -> None:
    raw = bytearray(crash_core())
    # The call frame information goes.
    raw = raw.replace(b"\x01zR\x00", b"\x01zQ\x00")
    found = {name: look(tmp_path / name, bytes(raw)) for name in ("a", "b")}
    assert found["a"].quality == "pc-only" and found["a"].signature == found["b"].signature is not None
    assert ranks(found) == {}


def test_a_compressed_core_is_known_by_what_is_recorded(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "core.gz"
    assert look(path, gzip.compress(crash_core())).quality == "none"
    known = look(tmp_path / "core", crash_core())
    with open(path, "rb") as file:
        if not write_signature(file.fileno(), RecordedSignature("unwound", known.signature, known.kind)):
            pytest.skip("no attributes here")
    with open_core(path) as core:
        again = summarize(core)
    assert (again.signature, again.quality, again.frames) == (known.signature, "unwound", ())


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"1", b"1 unwound 0123456789abcdef", b"2 unwound 0123456789abcdef abort", b"1 sure 0123456789abcdef abort",
        b"1 unwound 0123456789ABCDEF abort", b"1 unwound 0123456789abcde abort", b"1 unwound 0123456789abcdef \xff",
        b"1 unwound 0123456789abcdef a\nb", b"\0" * 200,
    ],
)  # fmt: skip
def test_records_that_are_none(raw: bytes) -> None:
    assert parse_signature(raw) is None


def test_records(tmp_path: Path) -> None:
    for record in (
        RecordedSignature("unwound", "0123456789abcdef", "stack overflow"),
        RecordedSignature("none", None, "none"),
    ):
        again = parse_signature(record.encode())
        assert again is not None and again.encode() == record.encode()
        assert again.certain == record.signature
    assert RecordedSignature("partial", "0123456789abcdef", "abort").certain is None
    with open("/proc/self/status", "rb") as file:
        assert read_signature(file.fileno()) is None
        assert not write_signature(file.fileno(), RecordedSignature("none", None, "none"))


def test_a_summary_is_read_back(tmp_path: Path) -> None:
    found = look(tmp_path / "a", crash_core())
    again = CrashSummary.of_dict(found.as_dict())
    assert again.as_dict() == found.as_dict() and again.key is None
