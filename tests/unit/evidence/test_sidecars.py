"""Where the text of a maps or smaps file is found: files, reports of apport, systemd's journal."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.builds import of_a_plain_build
from support.run import without_privileges

from corefilt.errors import EvidenceError
from corefilt.evidence import journal, sidecars
from corefilt.evidence import saved_text as savedmaps
from corefilt.evidence.sidecars import find_sidecars, read_sidecar

MAPS = (
    b"55d0c0a00000-55d0c0a01000 r--p 00000000 fe:01 1234                       /usr/bin/victim\n"
    b"7f0000000000-7f0000001000 rw-s 00000000 00:01 99                         /dev/zero (deleted)\n"
    b"7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n"
)
SMAPS = (
    b"55d0c0a00000-55d0c0a01000 r--p 00000000 fe:01 1234                       /usr/bin/victim\n"
    b"Size:                  4 kB\nVmFlags: rd mr mw me sd \n"
)
# A file's name may have any bytes; the kernel writes only its line ends as \012.
ODD = MAPS + b"7ffe00000000-7ffe00001000 r--p 00000000 fe:01 77                         /tmp/\xff\x1b[31m \xc3\xa9\n"
BOOT = "0123456789abcdef0123456789abcdef"
STORED = f"core.victim\\x2eexe.1000.{BOOT}.4242.1700000000000000"
STORE = "/var/lib/systemd/coredump"


def refused(path: Path | str, core: str | None = None) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        read_sidecar(path, core)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    return caught.value


def saved(folder: Path, content: bytes, name: str = "saved") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def found(core: Path) -> list[tuple[str, bytes]]:
    return [(sidecar.name, sidecar.text) for sidecar in find_sidecars(str(core))]


# Files of their own.


@pytest.mark.parametrize("text", [MAPS, SMAPS, ODD, MAPS.rstrip(b"\n"), MAPS * 2000])
def test_maps_and_smaps_are_returned_whole(tmp_path: Path, text: bytes) -> None:
    path = saved(tmp_path, text)
    sidecar = read_sidecar(path, None)
    assert (sidecar.name, sidecar.text) == (str(path), text)
    assert read_sidecar(os.fsencode(path), None).text == text


@pytest.mark.parametrize("file", ["maps", "smaps"])
def test_of_a_process_that_runs(file: str) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b".")
        child.stdout.read(1)  # its mappings are settled
        path = f"/proc/{child.pid}/{file}"
        text = read_sidecar(path, None).text
        assert without_sizes(text) == without_sizes(Path(path).read_bytes())
        child.stdin.close()


def without_sizes(smaps: bytes) -> bytes:
    """Leave out what the kernel changes under a process that sleeps: it takes pages back."""
    return re.sub(rb" +\d+ kB$", b"", smaps, flags=re.MULTILINE)


def test_a_pipe_that_brings_it_in_small_pieces() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            for byte in MAPS[:50]:
                pipe.write(bytes([byte]))
            pipe.write(MAPS[50:] * 3000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sidecar = read_sidecar(f"/dev/fd/{reading}", None)
    finally:
        os.close(reading)
        writer.join()
    assert sidecar.text == MAPS[:50] + MAPS[50:] * 3000
    assert sidecar.name == f"/dev/fd/{reading}"


def test_a_fifo_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(export([entry("/x", MAPS)]),))
    writer.start()
    assert read_sidecar(tmp_path / "fifo", None).text == MAPS
    writer.join()


def test_standard_input_of_the_shell(tmp_path: Path) -> None:
    script = (
        "import sys; from corefilt.evidence.sidecars import read_sidecar as r; print(len(r(sys.argv[1], None).text))"
    )
    told = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <(cat saved); "$0" -c "$1" /dev/stdin < saved', sys.executable, script],
        cwd=saved(tmp_path, MAPS).parent,
        capture_output=True,
    )
    assert told.stdout.split() == [b"%d" % len(MAPS)] * 2, told.stderr


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "is a directory" in str(refused(tmp_path))
    assert "is a device" in str(refused("/dev/zero"))
    assert "No such file" in str(refused(tmp_path / "none"))
    assert "embedded null" in str(refused("a\0b"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "cannot be read" in str(refused(tmp_path / "socket"))


@pytest.mark.parametrize(
    ("content", "word", "hint"),
    [
        (b"", "empty", "before"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\4\0" + bytes(100), "is a core", "beside"),
        (b"\x7fELF\2\2\1" + bytes(9) + b"\0\4" + bytes(100), "is a core", "beside"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\3\0" + bytes(100), "an ELF file", "beside"),
        (b"\x1f\x8b\x08\0rest", "gzip", "decompress it"),
        (b"\x28\xb5\x2f\xfdrest", "zstd", "decompress it"),
        (b"\xfd7zXZ\0rest", "xz", "decompress it"),
        (b"\x04\x22\x4d\x18rest", "lz4", "decompress it"),
        (b"BZh91AY", "bzip2", "decompress it"),
        (b"LPKSHHRH" + bytes(300), "journal's own file", "--file"),
        (b'[{"time":1700000000,"pid":4242}]\n', "coredumpctl --json", "-o export"),
        (b"55d0c0a00000-7ffd00021000 ---p 00000000 00:00 0        [rollup]\nRss: 4 kB\n", "smaps_rollup", "save smaps"),
        (b"55d0c0a00000 default file=/usr/bin/victim mapped=1\n", "neither", "smaps"),
        (b"4242:   /usr/bin/victim\n", "neither", "smaps"),
        (b"README\nis a text\n", "neither", "smaps"),
        (bytes(5000), "neither", "smaps"),
    ],
)
def test_what_is_none_of_these(tmp_path: Path, content: bytes, word: str, hint: str) -> None:
    error = refused(saved(tmp_path, content))
    assert word in str(error)
    assert hint in error.hint


def test_no_more_is_read_than_a_map_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, MAPS)
    monkeypatch.setattr(savedmaps, "MOST", len(MAPS))
    assert read_sidecar(path, None).text == MAPS
    monkeypatch.setattr(savedmaps, "MOST", len(MAPS) - 1)
    assert "longer" in str(refused(path))


# Reports of apport.


def gzipped(value: bytes, piece: int = 100, *, trailer: bool = True) -> list[bytes]:
    """The lines that problem_report.py writes: the header, pieces of a stream, and its end, each in base64."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    blocks = [b"\x1f\x8b\x08\x08\0\0\0\0\x02\xffProcMaps\0"]
    blocks += [packer.compress(value[at : at + piece]) + packer.flush(zlib.Z_SYNC_FLUSH)
               for at in range(0, len(value), piece)]  # fmt: skip
    end = struct.pack("<LL", zlib.crc32(value), len(value))
    blocks.append(packer.flush() + (end if trailer else b""))
    return [base64.b64encode(block) for block in blocks]


def report(**fields: bytes | list[bytes]) -> bytes:
    """A report: text as apport writes it, and lists of lines as binary fields."""
    text = b"ProblemType: Crash\n"
    for key, value in fields.items():
        if isinstance(value, list):
            text += b"%s: base64\n" % key.encode() + b"".join(b" %s\n" % line for line in value)
        elif b"\n" in value:
            text += b"%s:\n %s\n" % (key.encode(), value.replace(b"\n", b"\n "))
        else:
            text += b"%s: %s\n" % (key.encode(), value)
    return text


CORE_FIELD = gzipped(b"\x7fELF" + bytes(3000))
STRIPPED = MAPS.strip()  # as apport does


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (report(Date=b"Mon", ProcMaps=STRIPPED, ProcStatus=b"Name:\tx\nPid:\t1", CoreDump=CORE_FIELD), MAPS),
        (report(ProcMaps=STRIPPED)[:-1], STRIPPED),
        (report(ProcMaps=ODD.strip()), ODD),
        (report(ProcMaps=MAPS.splitlines()[0], CoreDump=CORE_FIELD), MAPS.splitlines(keepends=True)[0]),
        (report(CoreDump=CORE_FIELD, ProcMaps=gzipped(ODD)), ODD),
        (report(ProcMaps=gzipped(ODD), Tags=b"x"), ODD),
        (report(CoreDump=CORE_FIELD, ProcMaps=[b"".join(base64.b64encode(zlib.compress(SMAPS)).split())]), SMAPS),
        (report(ProcMapsOld=b"no", NotProcMaps=b"no", ProcMaps=STRIPPED), MAPS),
        # A file's name must not end the field, nor a field in another pretend to be one.
        (report(ProcCmdline=b"x\nProcMaps: no", ProcMaps=STRIPPED), MAPS),
        (b"Date: Mon\n" + report(ProcMaps=STRIPPED), MAPS),
    ],
)
def test_procmaps_of_a_report(tmp_path: Path, content: bytes, text: bytes) -> None:
    path = saved(tmp_path, content, "_usr_bin_victim.1000.crash")
    sidecar = read_sidecar(path, None)
    assert sidecar.text == text
    assert sidecar.name == f"{path} (ProcMaps)"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (report(ProcMapsOld=STRIPPED), "without the field ProcMaps"),
        (report(CoreDump=CORE_FIELD), "without the field ProcMaps"),
        (report(ProcMaps=b"Error: [Errno 13] Permission denied: 'maps'"), "Permission denied"),
        (report(ProcMaps=b""), "empty"),
        (b"ProblemType: Crash\nProcMaps:", "without"),
        (report(ProcMaps=gzipped(MAPS)[:-1]), "cut off"),
        (report(ProcMaps=[b"!!!"]), "cut off"),
        (report(ProcMaps=[b"AAA"]), "cannot be decompressed"),
        (report(ProcMaps=[base64.b64encode(b"\x28\xb5\x2f\xfd rest of it")]), "cannot be decompressed"),
        (report(ProcMaps=[]), "cut off"),
        (report(ProcMaps=gzipped(b"\x00\x1b[31m" * 10)), "no mappings"),
    ],
)
def test_reports_that_cannot_be_used(tmp_path: Path, content: bytes, word: str) -> None:
    assert word in str(refused(saved(tmp_path, content)))


def test_a_report_passes_in_little_memory(tmp_path: Path) -> None:
    # A core in base64 may be one line; here it is only a run of one letter.
    path = tmp_path / "report"
    with open(path, "wb") as file:
        file.write(b"ProblemType: Crash\nCoreDump: base64\n ")
        for _ in range(64):
            file.write(b"A" * (1 << 20))
        file.write(b"\n" + report(ProcMaps=STRIPPED))
    tracemalloc.start()
    try:
        assert read_sidecar(path, None).text == MAPS
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_small_report_of_a_large_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savedmaps, "MOST", 1 << 20)
    large = MAPS + bytes(64 << 20)
    path = saved(tmp_path, report(ProcMaps=gzipped(large, len(large))))
    del large
    assert path.stat().st_size < 1 << 18
    tracemalloc.start()
    try:
        assert "longer" in str(refused(path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# systemd's journal.


def entry(core: str | None, maps: bytes | None, **more: bytes) -> dict[str, bytes]:
    fields = {"__CURSOR": b"s=1;i=2", "MESSAGE": b"Process 4242 (victim) dumped core.\n\nStack trace"}
    if core is not None:
        fields["COREDUMP_FILENAME"] = os.fsencode(core)
    fields["COREDUMP_EXE"] = b"/usr/bin/victim"
    if maps is not None:
        fields["COREDUMP_PROC_MAPS"] = maps
    return fields | more


def export(entries: list[dict[str, bytes]]) -> bytes:
    """What `journalctl -o export` writes (output_export in logs-show.c)."""
    text = b""
    for fields in entries:
        for name, value in fields.items():
            if value.isascii() and value.decode().isprintable():
                text += b"%s=%s\n" % (name.encode(), value)
            else:
                text += b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)
        text += b"\n"
    return text


def as_json(value: bytes) -> object:
    """A field as journalctl writes it today: text if it is printable, otherwise numbers."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return list(value)
    return text if "\x1b" not in text else list(value)


def json_lines(entries: list[dict[str, bytes]]) -> bytes:
    return b"".join(
        json.dumps({name: as_json(value) for name, value in fields.items()}, ensure_ascii=False).encode() + b"\n"
        for fields in entries
    )


def json_sequence(entries: list[dict[str, bytes]]) -> bytes:
    return b"".join(b"\x1e" + json_lines([fields]) for fields in entries)


def json_pretty(entries: list[dict[str, bytes]]) -> bytes:
    return b"".join(json.dumps(json.loads(json_lines([fields])), indent="\t").encode() + b"\n" for fields in entries)


FORMS = [export, json_lines, json_sequence, json_pretty]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("maps", [MAPS, SMAPS, ODD, MAPS.splitlines()[0]])
def test_the_only_entry_is_taken_whatever_its_name(tmp_path: Path, form: type, maps: bytes) -> None:
    path = saved(tmp_path, form([entry("/other/core", maps)]))
    for core in (None, "/some/core"):
        sidecar = read_sidecar(path, core)
        assert sidecar.text == maps
        assert sidecar.name == f"{path} (COREDUMP_PROC_MAPS)"
    # Entries without maps do not count.
    path = saved(tmp_path, form([entry("/a", None), entry("/b", MAPS), entry(None, None)]))
    assert read_sidecar(path, "/some/core").text == MAPS


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("core", "name"),
    [
        ("core.1", "{folder}/core.1"),
        ("core.1", "{folder}/core.1.zst"),
        ("core.1", "/var/lib/systemd/coredump/core.1.lz4"),
        ("core.1.zst", "/var/lib/systemd/coredump/core.1"),
        ("core.1.xz", "/var/lib/systemd/coredump/core.1.xz"),
        ("core.\udcff\n1", "/x/core.\udcff\n1.zst"),
    ],
)
def test_the_entry_of_the_core_among_several(tmp_path: Path, form: type, core: str, name: str) -> None:
    own = name.format(folder=tmp_path)
    entries = [entry("/a/core.11", SMAPS), entry(own, ODD), entry("/a/core", MAPS), entry(None, MAPS)]
    path = saved(tmp_path, form(entries))
    assert read_sidecar(path, str(tmp_path / core)).text == ODD


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_path_is_worth_more_than_the_name(tmp_path: Path, form: type) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "core.1")
    entries = [entry("/a/core.1", MAPS), entry(str(tmp_path / "core.1"), ODD), entry("/b/core.1", SMAPS)]
    path = saved(tmp_path, form(entries))
    assert read_sidecar(path, str(tmp_path / "core.1")).text == ODD
    assert read_sidecar(path, str(tmp_path / "link")).text == ODD


@pytest.mark.parametrize("form", FORMS)
def test_none_of_several_is_the_cores(tmp_path: Path, form: type) -> None:
    path = saved(tmp_path, form([entry("/a/core.1", MAPS), entry("/a/core.2", MAPS), entry(None, None)]))
    error = refused(path, "/x/core.3")
    assert "has 2 entries" in str(error)
    assert "COREDUMP_FILENAME is /x/core.3" in str(error)
    assert "journalctl -o export" in error.hint
    assert "no name" in str(refused(path))


@pytest.mark.parametrize("form", FORMS)
def test_no_entry_has_maps(tmp_path: Path, form: type) -> None:
    error = refused(saved(tmp_path, form([entry("/a/core.1", None), entry(None, None)])), "/a/core.1")
    assert "no entry with COREDUMP_PROC_MAPS" in str(error)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("maps", "word"), [(b"", "empty"), (b"[4.5K blob data]", "blob data")])
def test_a_field_that_holds_no_maps(tmp_path: Path, form: type, maps: bytes, word: str) -> None:
    assert word in str(refused(saved(tmp_path, form([entry("/a/core.1", maps)])), "/a/core.1"))


def test_what_json_left_out_for_its_length(tmp_path: Path) -> None:
    text = b'{"COREDUMP_FILENAME":"/a/core.1","COREDUMP_PROC_MAPS":null}\n'
    error = refused(saved(tmp_path, text), "/a/core.1")
    assert "null" in str(error)
    assert "--all" in error.hint
    # The same entry once more, with --all.
    path = saved(tmp_path, text + json_lines([entry("/a/core.1", MAPS)]))
    assert read_sidecar(path, "/a/core.1").text == MAPS


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(MAPS.decode()),
        json.dumps([MAPS.decode(), "second"]),
        json.dumps([None, list(MAPS)]),
        json.dumps([list(MAPS), "second"]),
        "[ " + ", ".join(map(str, MAPS)) + " ]",
    ],
)
def test_json_values_of_every_shape(tmp_path: Path, value: str) -> None:
    names = '["/b/core", [47,97,47,99,111,114,101,46,49], null]'
    other = '{"COREDUMP_FILENAME":"/b/core","COREDUMP_PROC_MAPS":"x"}'
    text = f'\n{other}\n\n {{"COREDUMP_FILENAME":{names},"A":{{"b":[]}},"COREDUMP_PROC_MAPS":{value}}} \r\n'
    assert read_sidecar(saved(tmp_path, text.encode()), "/a/core.1").text == MAPS


def test_old_journalctl_writes_bytes_as_they_are(tmp_path: Path) -> None:
    value = ODD.replace(b"\x1b", b"\\u001b").replace(b"\n", b"\\n")
    assert read_sidecar(saved(tmp_path, b'{"COREDUMP_PROC_MAPS":"' + value + b'"}'), None).text == ODD


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"{\n}\n{",
        b'{"COREDUMP_PROC_MAPS":',
        b'{"COREDUMP_PROC_MAPS":1}',
        b'{"COREDUMP_PROC_MAPS":[256]}',
        b'{"COREDUMP_PROC_MAPS":[-1]}',
        b'{"COREDUMP_PROC_MAPS":[1.5]}',
        b'{"COREDUMP_PROC_MAPS":[[["x"]]]}',
        b'{"COREDUMP_PROC_MAPS":{"a":"b"}}',
        b'{"COREDUMP_PROC_MAPS":"\\ud800"}',
        b'{"COREDUMP_PROC_MAPS":[' + b"9" * 5000 + b"]}",
        b'{"COREDUMP_FILENAME":2,"COREDUMP_PROC_MAPS":"x"}',
        b'{"a":' + b"[" * 200000,
        b'{}\n"text"\n',
        b"{}\n[]\n",
    ],
)
def test_json_that_is_no_journal(tmp_path: Path, text: bytes) -> None:
    assert "JSON" in str(refused(saved(tmp_path, text)))


def test_one_json_object_has_a_greatest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(f"/a/core.{n}", MAPS) for n in range(3)]
    for form in (json_lines, json_pretty):
        path = saved(tmp_path, form(entries))
        monkeypatch.setattr(journal, "MOST_JSON", len(form(entries[:1])))
        assert read_sidecar(path, "/a/core.2").text == MAPS
        monkeypatch.setattr(journal, "MOST_JSON", len(form(entries[:1])) - 1)
        error = refused(path, "/a/core.2")
        assert "longer" in str(error)
        assert "-o export" in error.hint


@of_a_plain_build
def test_json_that_takes_more_memory_than_there_is(tmp_path: Path) -> None:
    path = saved(tmp_path, b'{"a":[' + b"{}," * 4000000 + b"{}]}\n")
    script = (
        "import resource, sys\n"
        "from corefilt.evidence.sidecars import EvidenceError, find_sidecars, read_sidecar\n"
        "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\n"
        "try: read_sidecar(sys.argv[1], None)\n"
        "except EvidenceError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert told.stdout == f"{path}: needs more memory than is available\n", told.stderr


def test_export_without_its_last_line_end(tmp_path: Path) -> None:
    whole = export([entry("/a/core.1", MAPS)])
    assert read_sidecar(saved(tmp_path, whole[:-1]), None).text == MAPS
    assert read_sidecar(saved(tmp_path, whole + b"\n\n"), None).text == MAPS


def test_export_that_is_cut_off(tmp_path: Path) -> None:
    whole = export([entry("/a/core.1", MAPS)])
    for length in range(whole.index(b"COREDUMP_PROC_MAPS"), len(whole) - 1, 11):
        refused(saved(tmp_path, whole[:length]))
    assert "cut off in entry 1" in str(refused(saved(tmp_path, whole[:-10])))


def test_lengths_in_an_export_are_only_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for field in (b"COREDUMP_PROC_MAPS", b"COREDUMP_FILENAME", b"COREDUMP"):
        for length in (1 << 64) - 1, 1 << 40, len(MAPS) + 2, len(MAPS) - 2, 0:
            path = saved(tmp_path, b"__CURSOR=x\n" + field + b"\n" + struct.pack("<Q", length) + MAPS + b"\n\n")
            refused(path)
    path = saved(tmp_path, export([entry("/a/core.1", MAPS)]))
    monkeypatch.setattr(savedmaps, "MOST", len(MAPS) - 1)
    assert "longer" in str(refused(path))


@pytest.mark.parametrize("line", [b"lower=1\n", b"NO-DASH=1\n", b"A" * 65 + b"=1\n", b"=1\n", b"A" * 70000])
def test_lines_that_no_export_has(tmp_path: Path, line: bytes) -> None:
    error = refused(saved(tmp_path, export([entry("/a", None)]) + line + export([entry("/b", MAPS)])))
    assert "entry 2" in str(error)


def test_other_fields_of_an_export_pass_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "export"
    with open(path, "wb") as file:
        file.write(b"__CURSOR=x\nCOREDUMP\n" + struct.pack("<Q", 64 << 20))
        file.truncate(file.tell() + (64 << 20))
        file.seek(0, os.SEEK_END)
        file.write(b"\nCOREDUMP_CMDLINE=" + b"x" * (8 << 20) + b"\n" + export([entry("/a/core.1", MAPS)]))
    tracemalloc.start()
    try:
        assert read_sidecar(path, None).text == MAPS
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_first_of_a_field_that_stands_twice(tmp_path: Path) -> None:
    one = export([entry("/a/core.1", MAPS)])[:-1]
    twice = one + b"COREDUMP_FILENAME=/b/core.2\nCOREDUMP_PROC_MAPS=x\n\n" + export([entry("/c", SMAPS)])
    path = saved(tmp_path, twice)
    assert read_sidecar(path, "/a/core.1").text == MAPS
    assert read_sidecar(path, "/b/core.2").text == MAPS


# What is beside a core.


@pytest.fixture(autouse=True)
def no_journal(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a folder first in PATH, whose journalctl knows nothing until a test says otherwise."""
    folder = tmp_path_factory.mktemp("bin")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    journalctl(folder, "exit 0")
    return folder


def journalctl(folder: Path, script: str) -> None:
    path = folder / "journalctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nothing_beside(core: Path) -> None:
    assert found(core) == []


def test_an_abrt_folder(tmp_path: Path) -> None:
    core = saved(tmp_path, b"core", "coredump")
    saved(tmp_path, MAPS, "maps")
    saved(tmp_path, b"Name:\tx\n", "proc_pid_status")
    assert found(core) == [(f"{tmp_path}/maps", MAPS)]


def test_what_apport_unpack_writes(tmp_path: Path) -> None:
    core = saved(tmp_path, b"core", "CoreDump")
    saved(tmp_path, STRIPPED, "ProcMaps")
    assert found(core) == [(f"{tmp_path}/ProcMaps", STRIPPED)]


def test_smaps_comes_first_and_the_cores_own_name(tmp_path: Path) -> None:
    core = saved(tmp_path, b"core", "core.4242.zst")
    order = [
        "core.4242.zst.smaps", "core.4242.smaps", "smaps", "core.4242.zst.maps", "core.4242.maps", "maps", "ProcMaps",
    ]  # fmt: skip
    for name in order:
        saved(tmp_path, MAPS + name.encode(), name)
    saved(tmp_path, report(ProcMaps=STRIPPED), "a.crash")
    assert [name for name, _ in found(core)] == [
        *(f"{tmp_path}/{name}" for name in order),
        f"{tmp_path}/a.crash (ProcMaps)",
    ]


def test_beside_a_symlink_and_beside_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        saved(tmp_path / name, MAPS, "maps")
    saved(tmp_path / "there", b"core", "core")
    (tmp_path / "here" / "link").symlink_to("../there/core")
    assert [name for name, _ in found(tmp_path / "here" / "link")] == [
        f"{tmp_path}/{n}/maps" for n in ("here", "there")
    ]
    monkeypatch.chdir(tmp_path / "there")
    assert found(Path("core")) == [("./maps", MAPS)]


def test_what_only_has_such_a_name_is_passed_over(core: Path) -> None:
    folder = core.parent
    os.mkfifo(folder / "smaps")  # would block whoever opens it
    (folder / "maps").mkdir()
    saved(folder, report(ProcMaps=STRIPPED), "ProcMaps")
    (folder / "core.smaps").symlink_to("/dev/zero")
    (folder / "core.maps").symlink_to("nowhere")
    os.mkfifo(folder / "a.crash")
    saved(folder, b"game over", "b.crash")
    saved(folder, report(ProcMaps=b"Error: unable"), "c.crash")
    saved(folder, report(ProcMaps=STRIPPED), "d.crash")
    saved(folder, report(ProcMaps=STRIPPED), "e.crash.old")
    assert found(core) == [(f"{folder}/d.crash (ProcMaps)", MAPS)]


def test_a_pipe_that_nobody_named_is_left_alone(core: Path) -> None:
    os.mkfifo(core.parent / "maps")
    pipe = os.open(core.parent / "maps", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(pipe, MAPS)
        assert found(core) == []
        assert os.read(pipe, 4096) == MAPS
    finally:
        os.close(pipe)


def test_what_may_not_be_read_is_passed_over(core: Path) -> None:
    saved(core.parent, SMAPS, "smaps").chmod(0)
    saved(core.parent, MAPS, "maps")
    saved(core.parent, report(ProcMaps=STRIPPED), "a.crash").chmod(0)
    script = (
        "import sys\n"
        "from corefilt.evidence.sidecars import EvidenceError, find_sidecars, read_sidecar\n"
        "for found in find_sidecars(sys.argv[1]): print(found.name)\n"
        "try: read_sidecar(sys.argv[2], None)\n"
        "except EvidenceError as error: print(error)\n"
    )
    smaps = f"{core.parent}/smaps"
    command = [*without_privileges(), sys.executable, "-c", script, core, smaps]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.stdout.splitlines() == [f"{core.parent}/maps", f"{smaps}: cannot be read: Permission denied"], told


def test_reports_nearest_in_time_first_and_not_all_of_them(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = core.stat().st_mtime
    for n, away in enumerate((-500, 2, -1, 90000, 30)):
        path = saved(core.parent, report(ProcMaps=STRIPPED), f"{n}.crash")
        os.utime(path, (0, moment + away))
    monkeypatch.setattr(sidecars, "MOST_REPORTS", 4)
    assert [os.path.basename(name) for name, _ in found(core)] == [f"{n}.crash (ProcMaps)" for n in (2, 1, 4, 0)]
    monkeypatch.setattr(sidecars, "MOST_NAMES", 0)
    assert found(core) == []


def test_only_the_beginning_of_a_report_is_searched(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = report(A=b"x" * 3000, ProcMaps=STRIPPED, CoreDump=CORE_FIELD)
    path = saved(core.parent, content, "a.crash")
    reach = content.index(b"CoreDump: base64\n") + len(b"CoreDump: base64\n")
    monkeypatch.setattr(sidecars, "MOST_OF_REPORT", reach)
    assert found(core) == [(f"{path} (ProcMaps)", MAPS)]
    monkeypatch.setattr(sidecars, "MOST_OF_REPORT", reach - 100)
    assert found(core) == []
    assert read_sidecar(path, None).text == MAPS


def test_nothing_is_read_before_it_is_asked_for(core: Path) -> None:
    saved(core.parent, SMAPS, "smaps")
    later = saved(core.parent, MAPS, "maps")
    sidecars_found = find_sidecars(str(core))
    assert next(sidecars_found).text == SMAPS
    later.write_bytes(ODD)
    assert next(sidecars_found).text == ODD


# What the journal says of a core.


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A core under the name that systemd-coredump gives."""
    return saved(tmp_path, b"core", STORED)


def test_the_journal_is_asked_for_the_core(stored: Path, no_journal: Path, tmp_path: Path) -> None:
    saved(tmp_path, export([entry(f"{stored}.zst", MAPS)]), "answer")
    journalctl(
        no_journal, f'printf "%s\\n" "$@" > "{tmp_path}/asked"; cat > "{tmp_path}/stdin"; cat "{tmp_path}/answer"'
    )
    saved(tmp_path, SMAPS, "smaps")
    assert found(stored) == [(f"{tmp_path}/smaps", SMAPS), ("journal (COREDUMP_PROC_MAPS)", MAPS)]
    assert (tmp_path / "stdin").read_bytes() == b""
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--output=export",
        "--all",
        "--no-pager",
        "--quiet",
        *(
            f"COREDUMP_FILENAME={folder}/{STORED}{suffix}"
            for folder in (tmp_path, STORE)
            for suffix in ("", ".zst", ".lz4", ".xz")
        ),
    ]


@pytest.mark.parametrize(
    "name", ["core", "core.4242", "core.victim.1000.4242.17", f"core.{BOOT}.4242.17", "x" + STORED]
)
def test_the_journal_is_not_asked_for_other_cores(tmp_path: Path, no_journal: Path, name: str) -> None:
    saved(tmp_path, export([entry("/a", MAPS)]), "answer")
    journalctl(no_journal, f'touch "{tmp_path}/asked"; cat "{tmp_path}/answer"')
    assert found(saved(tmp_path, b"core", name)) == []
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("name", [STORED + ".zst", STORED + ".lz4", STORED + ".xz", f"core.v.{BOOT}.4242.17000000"])
def test_names_that_systemd_gives(tmp_path: Path, no_journal: Path, name: str) -> None:
    saved(tmp_path, export([entry("/a", MAPS)]), "answer")
    journalctl(no_journal, f'cat "{tmp_path}/answer"')
    assert found(saved(tmp_path, b"core", name)) == [("journal (COREDUMP_PROC_MAPS)", MAPS)]


def test_any_core_in_systemds_folder(tmp_path: Path, no_journal: Path) -> None:
    folder = tmp_path / "var/lib/systemd/coredump"
    folder.mkdir(parents=True)
    saved(tmp_path, export([entry("/a", MAPS)]), "answer")
    journalctl(no_journal, f'cat "{tmp_path}/answer"')
    assert found(saved(folder, b"core", "unpacked")) == [("journal (COREDUMP_PROC_MAPS)", MAPS)]


def gone(pid: int) -> bool:
    """Whether a process has ended; nobody may be there to wait for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("script", ["wait", "exec >&-; wait", "while :; do echo A=1; sleep 0.05; done"])
def test_a_journalctl_that_does_not_end(
    stored: Path, no_journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(journal, "JOURNAL_SECONDS", 0.5)
    journalctl(no_journal, f'echo $$ > "{tmp_path}/pids"; sleep 60 & echo $! >> "{tmp_path}/pids"; {script}')
    begun = time.monotonic()
    assert found(stored) == []
    assert time.monotonic() - begun < 5
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    while not all(gone(pid) for pid in pids) and time.monotonic() - begun < 5:
        time.sleep(0.01)
    assert all(gone(pid) for pid in pids)


def test_a_journalctl_that_says_too_much(stored: Path, no_journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_JOURNAL", 1 << 20)
    monkeypatch.setattr(journal, "JOURNAL_SECONDS", 30.0)
    journalctl(no_journal, "exec cat /dev/zero")
    begun = time.monotonic()
    assert found(stored) == []
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    "script", ["exit 1", "echo garbage", "echo A=1; kill -9 $$", "cat /dev/urandom | head -c 70000"]
)
def test_a_journalctl_that_fails(stored: Path, no_journal: Path, script: str) -> None:
    journalctl(no_journal, script)
    assert found(stored) == []


def test_no_journalctl(stored: Path, no_journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(stored) == []
    saved(tmp_path, b"\x7fELF", "journalctl").chmod(0o755)
    assert found(stored) == []


def test_a_folder_of_path_must_be_absolute(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The current folder may be the one where the core lies, and anybody's.
    saved(tmp_path, export([entry("/a", MAPS)]), "answer")
    journalctl(tmp_path, f'/bin/cat "{tmp_path}/answer"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".:")
    assert found(stored) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [text for _, text in found(stored)] == [MAPS]


def test_signals_of_children_may_be_ignored(stored: Path, no_journal: Path, tmp_path: Path) -> None:
    saved(tmp_path, export([entry("/a", MAPS)]), "answer")
    journalctl(no_journal, f'cat "{tmp_path}/answer"')
    script = (
        "import signal, sys, time, corefilt.evidence.journal as j, corefilt.evidence.sidecars as s\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "all_of = j._all_of\n"
        "j._all_of = lambda *a: (all_of(*a), time.sleep(0.3))[0]\n"
        "print(len(list(s.find_sidecars(sys.argv[1]))))"
    )
    told = subprocess.run([sys.executable, "-c", script, stored], capture_output=True, text=True)
    assert told.stdout == "1\n", told.stderr


@pytest.fixture(scope="module")
def real_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal file with three entries, one of them with maps of more than 4096 bytes."""
    beside = "/usr/lib/systemd:/lib/systemd"
    writer = shutil.which("systemd-journal-remote", path=f"{os.environ['PATH']}:{beside}")
    if writer is None:
        pytest.skip("needs systemd-journal-remote (Debian: the package of that name)")
    if not Path("/usr/bin/journalctl").exists():
        pytest.skip("needs /usr/bin/journalctl")
    folder = tmp_path_factory.mktemp("journal")
    entries = []
    for n, (name, maps) in enumerate([(STORED, ODD), ("core.other", MAPS * 100), ("core.third", SMAPS)]):
        fields = entry(f"{STORE}/{name}.zst", maps)
        fields["__REALTIME_TIMESTAMP"] = b"%d" % (1700000000000000 + n)
        fields["__MONOTONIC_TIMESTAMP"] = b"%d" % (5 + n)
        fields["_BOOT_ID"] = BOOT.encode()
        entries.append(fields)
    path = folder / "real.journal"
    subprocess.run([writer, f"--output={path}", "-"], input=export(entries), check=True, capture_output=True)
    return path


def written(journal: Path, *options: str) -> bytes:
    command = ["/usr/bin/journalctl", f"--file={journal}", "--no-pager", "--quiet", *options]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", ["export", "json", "json-pretty", "json-seq"])
def test_what_the_real_journalctl_writes(tmp_path: Path, real_journal: Path, form: str) -> None:
    path = saved(tmp_path, written(real_journal, "-o", form, "--all"))
    assert read_sidecar(path, f"/elsewhere/{STORED}").text == ODD
    assert read_sidecar(path, "core.other").text == MAPS * 100
    assert "has 3 entries" in str(refused(path, "core.fourth"))
    if form != "export":
        path = saved(tmp_path, written(real_journal, "-o", form))
        assert read_sidecar(path, f"/elsewhere/{STORED}").text == ODD
        assert "--all" in refused(path, "core.other").hint


def test_the_real_journal_knows_the_core(stored: Path, no_journal: Path, real_journal: Path) -> None:
    journalctl(no_journal, f'exec /usr/bin/journalctl --file="{real_journal}" "$@"')
    assert found(stored) == [("journal (COREDUMP_PROC_MAPS)", ODD)]
    assert found(saved(stored.parent, b"core", STORED.replace("4242", "4243"))) == []


@pytest.mark.skipif(not Path("/usr/bin/journalctl").exists(), reason="needs /usr/bin/journalctl")
def test_the_journal_of_this_machine_takes_the_question(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert journal._run_journalctl([f"COREDUMP_FILENAME={stored}"]) == b""


# Whatever it is.

PIECES = st.sampled_from(
    [
        MAPS, SMAPS, ODD, b"ProblemType: Crash\n", b"ProcMaps:\n", b"ProcMaps: base64\n", b" ", b"\n", b"\n\n", b"{",
        b"}", b"\n}\n", b"\x1e", b"[", b"]", b'"', b",", b":", b"COREDUMP_PROC_MAPS", b"COREDUMP_FILENAME", b"=",
        b"__CURSOR=x\n", b"\n" + struct.pack("<Q", 3), b"abc\n", b"null", b"\xff" * 8, b" " + gzipped(MAPS)[0] + b"\n",
        b'{"COREDUMP_PROC_MAPS":"x"}\n', b"/core", b"AAAA", b"\\ud800",
    ]
) | st.binary(max_size=20)  # fmt: skip


# Twice the examples where others are looked for.
MORE = 2 if settings.get_current_profile_name() == "explore" else 1


@settings(max_examples=200 * MORE, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=12).map(b"".join)))
@example(b'{"COREDUMP_PROC_MAPS":[[]]}')
@example(b"A=\nA\n")
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = saved(tmp_path, content)
    try:
        text = read_sidecar(path, "/a/core").text
    except EvidenceError as error:
        assert str(path) in str(error)
    else:
        assert savedmaps.MAPPING.match(text)


@settings(max_examples=75 * MORE, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(PIECES, max_size=12).map(b"".join))
def test_finding_never_fails(tmp_path: Path, no_journal: Path, content: bytes, answer: bytes) -> None:
    core = saved(tmp_path, b"core", STORED)
    for name in ("maps", "ProcMaps", "x.crash"):
        saved(tmp_path, content, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_run_journalctl", lambda _: answer)
        for _, text in found(core):
            assert savedmaps.MAPPING.match(text)


@pytest.mark.parametrize("core", ["", "-", "/", "a\0b", "\ud800", "/nowhere/core", "x/" * 5000, f"/nowhere/{STORED}"])
def test_cores_that_are_not_there(core: str) -> None:
    assert list(find_sidecars(core)) == []


def test_a_loop_of_symlinks(tmp_path: Path) -> None:
    (tmp_path / "core").symlink_to("core")
    assert found(tmp_path / "core") == []


def test_a_folder_is_listed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = saved(tmp_path, b"", "core")
    saved(tmp_path, report(ProcMaps=MAPS), "a.crash")
    os.utime(tmp_path, (10, 10))
    listed: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert [len(found(core)) for _ in range(3)] == [1, 1, 1]
    assert len(listed) == 1
    # Just changed, it could change again within a tick of the clock.
    for count, name in ((2, "b.crash"), (3, "c.crash")):
        saved(tmp_path, report(ProcMaps=MAPS), name)
        assert len(found(core)) == count
    assert len(listed) == 3
