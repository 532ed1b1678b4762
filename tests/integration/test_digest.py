"""``corefilt digest``: xxh3_128 of what every segment has in the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import xxhash
from support.archives import PACK
from support.builder import Load, kernel_notes, make_core, page, parse_core
from support.cutting import cut_under_windows
from support.run import assert_error, corefilt
from support.samples import noise, sample_core, tagged

from corefilt.cli import main
from corefilt.errors import NotACoreError
from corefilt.verify import digest


@pytest.mark.parametrize(
    "core",
    [sample_core(), tagged(), make_core([Load(0x1000, noise(1))], kernel_notes(bits=32), bits=32)],
    ids=["sample", "memory tags", "32 bits"],
)
def test_digests_are_those_of_the_bytes(core: bytes, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core)
    expected = [
        (i, phdr.p_filesz, xxhash.xxh3_128_hexdigest(core[phdr.p_offset : phdr.p_offset + phdr.p_filesz]))
        for i, phdr in enumerate(parse_core(core)[1])
    ]
    assert [(one.segment, one.bytes, one.xxh3_128) for one in digest(path)] == expected


def test_holes_are_zeros(tmp_path: Path) -> None:
    """Whether zeros are written, or a hole, or a hole around a little data, the digest is that of the bytes."""
    sizes = 3 << 20
    loads = [Load(0x1000, page(b"x")), Load(1 << 30, filesz=sizes, memsz=sizes, offset=0x2000)]
    head = make_core(loads, kernel_notes())
    sparse, written = tmp_path / "sparse", tmp_path / "written"
    for path in (sparse, written):
        path.write_bytes(head)
        os.truncate(path, 0x2000 + sizes)
    with written.open("r+b") as file:
        file.seek(0x2000)
        file.write(bytes(sizes))
    for path in (sparse, written):
        with path.open("r+b") as file:
            file.seek(0x2000 + (1 << 20) + 5)
            file.write(b"data")
    assert sparse.stat().st_blocks < written.stat().st_blocks
    one, other = digest(sparse), digest(written)
    assert [d.as_dict() for d in one] == [d.as_dict() for d in other]
    assert one[2].xxh3_128 == xxhash.xxh3_128_hexdigest(written.read_bytes()[0x2000:])


def test_command(core: Path) -> None:
    done = corefilt("digest", core)
    assert (done.code, done.err) == (0, ())
    lines = done.out.decode().splitlines()
    found = digest(core)
    assert len(lines) == len(found) + 1 and max(map(len, lines)) <= 80
    assert lines[0].split() == ["xxh3_128", "segment", "present", "address", "flags", "type"]
    assert lines[2].split() == [found[1].xxh3_128, "1", "16.0", "KiB", "1000000", "rw-", "PT_LOAD"]
    report = json.loads(corefilt("digest", core, "--json").out)
    assert (report["schema"], report["input"]) == (1, str(core))
    assert report["segments"] == [one.as_dict() for one in found]
    assert set(report["segments"][0]) == {"segment", "type", "start", "end", "flags", "bytes", "missing", "xxh3_128"}


def test_a_file_url_is_a_path(core: Path) -> None:
    url = f"file://{core}"
    assert corefilt("digest", url).out == corefilt("digest", core).out
    assert corefilt("verify", url, url, "--filter", "all").code == 0
    assert_error(corefilt("digest", "file://host/core"), "does not support file://", "file:///PATH", code=2)


@pytest.mark.parametrize("command", [("digest",), ("verify", "file://CORE"), ("0xno",)])
def test_a_report_is_not_written_over_a_core_that_a_file_url_names(command: tuple[str, ...], core: Path) -> None:
    before = core.read_bytes()
    words = [word.replace("CORE", str(core)) for word in command]
    assert corefilt(*words, f"file://{core}", f"--json={core}").code == 2
    assert core.read_bytes() == before


def test_a_report_and_a_core_do_not_go_to_one_file_that_does_not_exist_yet(core: Path) -> None:
    out = core.with_name("out")
    done = corefilt("all", core, "-o", f"file://{out}", f"--json={out}")
    assert_error(done, "is a core of this run", code=2)
    assert not out.exists()


def test_a_cut_core(core: Path) -> None:
    os.truncate(core, core.stat().st_size - 100)
    done = corefilt("digest", core)
    assert done.code == 3
    assert "bytes of 1 segment are missing" in done.err[0]
    last = digest(core)[-1]
    assert (last.bytes, last.missing) == (3996, 100)
    assert last.xxh3_128 == xxhash.xxh3_128_hexdigest(core.read_bytes()[-3996:])


def test_a_core_that_is_cut_while_it_is_read(
    core: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pages are gone when they are touched: the command says so, with exit code 1."""
    cut_under_windows(monkeypatch, str(core))
    assert main(["digest", str(core)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        f"corefilt: {core}: was truncated while it was read, or its disk failed",
        "  try: wait until nobody writes to it",
    ]
    assert core.stat().st_size == 0


def test_a_compressed_core(core: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(PACK["zstd"](core.read_bytes()))
    assert corefilt("digest", tmp_path / "packed").out == corefilt("digest", core).out
    (tmp_path / "packed").write_bytes(PACK["gzip"](core.read_bytes())[:-3000])
    done = corefilt("digest", tmp_path / "packed")
    assert done.code == 3
    assert done.err[-1].endswith("the gzip stream that holds the core is cut off")


@pytest.mark.parametrize("form", PACK)
def test_what_stands_behind_a_compressed_core(form: str, core: Path, tmp_path: Path) -> None:
    """All of the core is there, but something else than a copy was made."""
    packed = tmp_path / "packed"
    packed.write_bytes(PACK[form](core.read_bytes()) + b"garbage\n")
    done = corefilt("digest", packed, "--json")
    report = json.loads(done.out)
    assert done.code == 3
    assert report["damage"] == f"8 B after the end of the {form} stream are not part of it"
    assert report["segments"] == [one.as_dict() for one in digest(core)]
    assert digest(packed).damage == report["damage"]
    assert digest(core).damage is None


def test_no_core(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("text")
    with pytest.raises(NotACoreError):
        digest(path)
    assert_error(corefilt("digest", path), "not an ELF file")
    assert_error(corefilt("digest", tmp_path / "no"), "No such file")
    assert_error(corefilt("digest", tmp_path), "not a regular file")
