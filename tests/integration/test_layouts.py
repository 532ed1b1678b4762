"""Layouts that other tools write: read from a file, a pipe and in place, or refused by their right name."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.builder import (
    EM_386,
    EM_PPC64,
    NT_AUXV,
    NT_PRPSINFO,
    NT_PRSTATUS,
    FileEntry,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_prstatus,
    parse_core,
    parse_notes,
)
from support.instants import assert_valid, copied, in_place, table_of
from support.opening import open_file
from support.run import assert_error, assert_promises, corefilt, listing
from support.samples import PAGE, noise, sample_core

import corefilt as api
from corefilt.corefile.elf import Ehdr
from corefilt.errors import NotACoreError
from corefilt.filtering.inplace_file import SECTOR, high_halves

FILTERS = ("0x0", "0x1", "0x31", "0x33", "all")
LAYOUTS = ("createdump", "delve")
by_layout = pytest.mark.parametrize("layout", LAYOUTS)
by_shape = pytest.mark.parametrize(("bits", "little_endian"), [(64, True), (64, False), (32, True), (32, False)])


def small(layout: str, bits: int = 64, little_endian: bool = True, **options: object) -> bytes:
    """Make a core of anonymous memory, a file and shared memory, in another tool's layout."""
    shape = {"bits": bits, "little_endian": little_endian, "machine": EM_386 if bits == 32 else 62}
    if bits == 64 and not little_endian:
        shape["machine"] = EM_PPC64
    files = [FileEntry(0x30000, 0x32000, 0, "/srv/table.db"), FileEntry(0x40000, 0x42000, 0, "/dev/zero (deleted)")]
    loads = [
        Load(0x10000, noise(2, 1)),
        Load(0x30000, noise(2, 2), flags="r--"),
        Load(0x40000, noise(2, 3)),
        Load(0x50000, noise(3, 4)),
    ]
    return make_core(loads, kernel_notes(files, threads=3, **shape), layout=layout, **shape, **options)  # type: ignore[arg-type]


# --- tables at other places -------------------------------------------------------------------------------


@by_layout
@by_shape
@pytest.mark.parametrize("flt", FILTERS)
def test_a_file_is_filtered(layout: str, bits: int, little_endian: bool, flt: str, tmp_path: Path) -> None:
    before = small(layout, bits, little_endian)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(before)
    done = corefilt(flt, core, "-o", out)
    assert done.code == 0, done.err
    after = out.read_bytes()
    assert_promises(before, after)
    assert parse_notes(after) == parse_notes(before)
    assert corefilt("verify", core, out, "--filter", flt).code == 0
    if flt == "all":
        assert after == before
    elif flt != "0x33":
        assert len(after) < len(before)


@by_layout
def test_section_headers_and_program_headers_are_where_the_header_says(layout: str, tmp_path: Path) -> None:
    """readelf complains of nothing that it did not complain of before."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(small(layout))
    assert corefilt("0x1", core, "-o", out).code == 0
    said = [
        subprocess.run(["readelf", "-hlSnW", path], capture_output=True, text=True, check=True).stderr.splitlines()
        for path in (core, out)
    ]
    assert [line.partition("'")[0] for line in said[1]] == [line.partition("'")[0] for line in said[0]]


@by_layout
@pytest.mark.parametrize("flt", FILTERS)
def test_in_place_is_as_a_copy(layout: str, flt: str, tmp_path: Path) -> None:
    before = small(layout)
    core, again = tmp_path / "core", tmp_path / "again"
    core.write_bytes(before)
    least = copied(before, int(flt, 16) if flt != "all" else 0x1FF, tmp_path)
    done = corefilt(flt, core, "-i")
    assert done.code == 0, done.err
    assert_valid(before, core.read_bytes(), least)
    holed = core.read_bytes()
    assert corefilt(flt, core, "-i").code == 0
    assert core.read_bytes() == holed
    assert corefilt("all", core, "-o", again).code == 0
    assert again.read_bytes() == least
    assert corefilt(flt, core, "-i", "--compact").code == 0
    assert core.read_bytes() == least


@pytest.mark.parametrize("flt", FILTERS)
def test_section_headers_before_the_payload_pass_through_a_pipe(flt: str, tmp_path: Path) -> None:
    before = small("createdump")
    core, out, piped = (tmp_path / name for name in ("core", "out", "piped"))
    core.write_bytes(before)
    assert corefilt(flt, core, "-o", out).code == 0
    assert corefilt(flt, "-o", piped, pipe=before).code == 0
    assert piped.read_bytes() == out.read_bytes()
    done = corefilt(flt, pipe=before)
    assert done.code == 0
    assert_promises(before, done.out)


def test_a_count_that_only_such_a_section_header_has(tmp_path: Path) -> None:
    """createdump of many mappings: PN_XNUM, and the count stands before the table."""
    before = small("createdump", xnum=True)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(before)
    done = corefilt("0x1", core, "-o", out)
    assert done.code == 0, done.err
    assert_promises(before, out.read_bytes())
    piped = corefilt("0x1", "-o", tmp_path / "piped", pipe=before)
    assert piped.code == 0, piped.err
    assert (tmp_path / "piped").read_bytes() == out.read_bytes()


def test_program_headers_apart_from_the_elf_header_by_a_pipe(tmp_path: Path) -> None:
    """What lies between both comes as it is."""
    before = bytearray(make_core([Load(0x10000, noise(2, 1), offset=0x4000)], kernel_notes()))
    ehdr, _ = parse_core(before)
    size = ehdr.phnum * ehdr.e_phentsize
    before[0x2000 : 0x2000 + size] = before[ehdr.e_phoff : ehdr.e_phoff + size]
    before[ehdr.e_phoff : ehdr.e_phoff + size] = noise(1, 2)[:size]
    struct.pack_into("<Q", before, 0x20, 0x2000)
    (tmp_path / "core").write_bytes(before)
    for coredump_filter in ("0x10", "all"):
        out, piped = tmp_path / f"out{coredump_filter}", tmp_path / f"piped{coredump_filter}"
        assert corefilt(coredump_filter, tmp_path / "core", "-o", out).code == 0
        assert corefilt(coredump_filter, "-o", piped, pipe=bytes(before)).code == 0
        assert piped.read_bytes() == out.read_bytes()
        assert parse_core(out.read_bytes())[0].e_phoff == 0x2000


@pytest.mark.parametrize("pages", [3, 700])
def test_program_headers_behind_the_payload_need_a_file(pages: int, tmp_path: Path) -> None:
    before = make_core([Load(0x10000, noise(pages, 1))], kernel_notes(), layout="delve")
    out = tmp_path / "out"
    for args in ((), ("-o", out)):
        assert_error(corefilt("0x33", *args, pipe=before), "e_phoff", "delve", "name the core as a file", "--spool")
    assert not out.exists()
    assert corefilt("0x33", "--spool", "-o", out, pipe=before).code == 0
    assert out.read_bytes() == before


def test_nothing_is_cut_off_that_has_its_headers_at_the_end(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(small("delve"))
    assert_error(corefilt("all", core, "--truncate", "16K", "-o", tmp_path / "out"), "e_phoff", "--fit")
    assert listing(tmp_path).keys() == {"core"}


def test_payload_over_the_program_headers_is_refused(tmp_path: Path) -> None:
    core = tmp_path / "core"
    before = small("delve")
    for phdr, field, value in ((0, "p_filesz", len(before)), (1, "p_offset", parse_core(before)[0].e_phoff)):
        core.write_bytes(small("delve", patch={f"phdr[{phdr}].{field}": value}))
        assert_error(corefilt("0x33", core, "-o", tmp_path / "out"), f"program header {phdr}", field, "headers")


@pytest.mark.parametrize("shift", [1, 4, 7])
@by_shape
def test_numbers_that_two_sectors_share_are_not_torn(
    shift: int, bits: int, little_endian: bool, tmp_path: Path
) -> None:
    """Old and new headers by sector in any mix, at both steps, where no program header is aligned."""
    notes = kernel_notes([], bits=bits, little_endian=little_endian)
    notes.append(Note("CORE", 0x77, bytes(shift)))
    shape = {"bits": bits, "little_endian": little_endian}
    loads = [Load(0x100000 * n, random.Random(n).randbytes(300 * n)) for n in range(1, 60)]
    raw = b"".join(note.encode(little_endian) for note in notes)[: -(-shift % 4) or None]
    before = make_core(loads, raw, layout="delve", **shape)  # type: ignore[arg-type]
    path = tmp_path / "core"
    path.write_bytes(before)
    in_place(path, 0x0, force=True)
    after = path.read_bytes()
    least = copied(before, 0x0, tmp_path)
    at, old = table_of(before)
    new = table_of(after)[1]
    ehdr = Ehdr(before[:64])
    between = bytes(high_halves(old, new, ehdr))
    draw = random.Random(shift)
    steps = [(old, between), (between, new)] if between != old else [(old, new)]
    for first, second in steps:
        for _ in range(30):
            mixed = bytearray(before[:at] + first + before[at + len(first) :])
            done = before[:at] + second + before[at + len(second) :]
            for start in range(0, len(before), SECTOR):
                if draw.random() < 0.5:
                    mixed[start : start + SECTOR] = done[start : start + SECTOR]
            assert_valid(before, bytes(mixed), least)


def test_notes_without_a_name_tell_of_the_process(tmp_path: Path) -> None:
    """delve leaves it out: AUXV, and the stack pointers that --minimal goes by, are found all the same."""
    stack = 0x7FFD00000000
    notes = [
        Note(b"Delve Header", 0x444C5645, b"linux/amd64\n"),
        *(
            Note(b"", note.type, note.desc)
            for note in kernel_notes([], stack_pointers=[stack + 0x800])
            if note.type in (NT_PRPSINFO, NT_AUXV, NT_PRSTATUS)
        ),
    ]
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(make_core([Load(0x10000, noise(50, 1)), Load(stack, noise(2, 2))], notes, layout="delve"))
    with open_file(core) as it:
        assert it.notes.auxv
        assert [mapping.kind for mapping in it.mappings][-1] == "private-anonymous"
        assert it.notes.stack_pointers == [stack + 0x800]
    done = corefilt("all", core, "--minimal", "-o", out)
    assert done.code == 0
    assert any("1 of 1 thread;" in line for line in done.err), done.err


def program(folder: Path) -> Path:
    (folder / "main.go").write_text(
        'package main\n\nimport "fmt"\n\nvar kept = make([]byte, 1<<20)\n\n'
        "//go:noinline\nfunc inner(n int) int { kept[n] = 7; return int(kept[n]) }\n\n"
        "func main() { fmt.Println(inner(5)) }\n"
    )
    (folder / "go.mod").write_text("module victim\n\ngo 1.19\n")
    target = folder / "victim"
    subprocess.run(
        ["go", "build", "-o", target, "-gcflags=all=-N -l", "."], cwd=folder, check=True, capture_output=True,
        env={"PATH": "/usr/local/go/bin:/usr/bin:/bin", "HOME": str(folder), "GOTOOLCHAIN": "local"}, timeout=240,
    )  # fmt: skip
    return target


def delve(folder: Path, *args: str | Path, commands: str) -> str:
    script = folder / "commands"
    script.write_text(commands)
    done = subprocess.run(
        ["dlv", *args, "--init", script, "--allow-non-terminal-interactive=true"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.slow
def test_delve_reads_what_becomes_of_its_own_dump(tmp_path: Path) -> None:
    for tool in ("dlv", "go", "gdb"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    target, core, out = program(tmp_path), tmp_path / "core", tmp_path / "out"
    delve(tmp_path, "exec", target, commands=f"break main.inner\ncontinue\ndump {core}\nexit\n")
    if not core.exists():
        pytest.skip("delve cannot trace processes here")
    ehdr, phdrs = parse_core(core.read_bytes())
    assert ehdr.e_phoff > phdrs[0].p_offset
    # Which thread comes first in delve's dump is chance.
    asked = "goroutine 1 bt\nexit\n"
    original = delve(tmp_path, "core", target, core, commands=asked)
    assert "main.inner" in original
    for args in (("-o", out), ("-i",)):
        assert corefilt("0x33", core, *args).code == 0
        made = out if "-o" in args else core
        assert delve(tmp_path, "core", target, made, commands=asked) == original
        gdb = ["gdb", "-nx", "-batch", "-iex", "set auto-load off", "-ex", "thread apply all bt", target, made]
        traced = subprocess.run(gdb, capture_output=True, text=True, timeout=60, check=False).stdout
        assert "main.inner" in traced
        assert "main.main" in traced


# --- NT_FILE in bytes -------------------------------------------------------------------------------------


def files_note(rows: list[tuple[int, int, int, str]], unit: int = PAGE) -> Note:
    """NT_FILE with the numbers as they are given."""
    words = [len(rows), unit, *(word for start, end, offset, _ in rows for word in (start, end, offset))]
    names = b"".join(name.encode() + b"\0" for *_, name in rows)
    return Note("CORE", 0x46494C45, struct.pack(f"<{len(words)}Q", *words) + names)


A = 0x10000
IN_BYTES = {
    "neighbours": [(A, A + PAGE, 0, "/lib/a.so"), (A + PAGE, A + 3 * PAGE, PAGE, "/lib/a.so")],
    "further in": [(A, A + PAGE, 8 * PAGE, "/lib/a.so"), (A + PAGE, A + 3 * PAGE, 9 * PAGE, "/lib/a.so")],
    "no file reaches so far": [(A, A + PAGE, 1 << 52, "/srv/a"), (A + 2 * PAGE, A + 3 * PAGE, 0, "/srv/b")],
}
IN_PAGES = {
    "neighbours": [(A, A + PAGE, 0, "/lib/a.so"), (A + PAGE, A + 3 * PAGE, 1, "/lib/a.so")],
    "a large file at 16 MiB": [(A, A + PAGE, 0x1000, "/srv/a"), (A + 2 * PAGE, A + 3 * PAGE, 0x2000, "/srv/a")],
    "neighbours 16 MiB into it": [
        (A, A + (16 << 20), 0x1000, "/srv/a"), (A + (16 << 20), A + (32 << 20), 0x2000, "/srv/a"),
    ],
    "neighbours of two files": [(A, A + PAGE, 0, "/lib/a.so"), (A + PAGE, A + 3 * PAGE, 0x1000, "/lib/b.so")],
    "only beginnings": [(A, A + PAGE, 0, "/lib/a.so"), (A + PAGE, A + 2 * PAGE, 0, "/lib/a.so")],
}  # fmt: skip


@pytest.mark.parametrize("case", IN_BYTES)
def test_offsets_in_bytes_are_read_as_bytes_and_that_is_said(case: str, tmp_path: Path) -> None:
    rows = IN_BYTES[case]
    core, out = tmp_path / "core", tmp_path / "out"
    loads = [Load(start, noise((end - start) // PAGE)) for start, end, _, _ in rows]
    core.write_bytes(make_core(loads, [nt_prstatus(1), files_note(rows)], layout="createdump"))
    with open_file(core) as it:
        assert [mapping.file_offset for mapping in it.mappings] == [offset for *_, offset, _ in rows]
    done = corefilt("all", core, "-o", out)
    assert done.code == 0
    assert any("NT_FILE" in line and "in bytes" in line for line in done.err), done.err
    assert out.read_bytes() == core.read_bytes()
    inspected = corefilt("inspect", core)
    assert any("in bytes" in line for line in (*inspected.err, inspected.out.decode()))


@pytest.mark.parametrize("case", IN_PAGES)
def test_offsets_in_pages_are_read_as_pages(case: str, tmp_path: Path) -> None:
    rows = IN_PAGES[case]
    core = tmp_path / "core"
    loads = [Load(start, b"", memsz=end - start) for start, end, _, _ in rows]
    core.write_bytes(make_core(loads, [nt_prstatus(1), files_note(rows)]))
    with open_file(core) as it:
        assert [mapping.file_offset for mapping in it.mappings] == [offset * PAGE for *_, offset, _ in rows]
        assert it.notes.notices == []


# --- memory of machines -----------------------------------------------------------------------------------


def guest(*names: str, machine: int = 62, cpus: int = 2) -> bytes:
    """Make what QEMU's dump-guest-memory writes: PRSTATUS and a note of each CPU, physical memory without flags."""
    notes = [nt_prstatus(cpu + 1) for cpu in range(cpus)]
    notes += [Note(name, 0, bytes(440)) for name in names for _ in range(cpus)]
    ram = [
        Load(0, noise(2, 1), flags="", paddr=0, align=0),
        Load(0xC0000, noise(2, 2), flags="", paddr=0xC0000, align=0),
    ]
    return make_core(ram, notes, machine=machine)


@pytest.mark.parametrize(
    ("core", "words"),
    [
        (guest("QEMU"), ("virtual machine's memory", "QEMU note", "crash")),
        (guest("QEMU", machine=EM_386), ("virtual machine's memory", "QEMU note")),
        (guest("QEMU", "VMCOREINFO"), ("memory", "note")),
        (guest("VMCOREINFO"), ("dump of a kernel", "VMCOREINFO note", "makedumpfile")),
        (guest("VBCORE"), ("VirtualBox",)),
        (guest(), ("machine's memory", "p_flags", "p_paddr")),
        # Too many CPUs for their QEMU notes to be looked at.
        (guest("QEMU", cpus=6000), ("memory",)),
    ],
)
def test_memory_of_a_machine_is_refused(core: bytes, words: tuple[str, ...], tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(core)
    assert_error(corefilt("none", path, "-o", out), *words)
    assert_error(corefilt("none", "-o", out, pipe=core), *words)
    assert_error(corefilt("none", path, "-i"), *words)
    assert path.read_bytes() == core
    assert not out.exists()
    batch = corefilt("batch", "none", path, "--to", tmp_path / "to", "-v")
    assert batch.code == 0
    assert any(words[0] in line for line in batch.err)
    assert not any("not done yet" in line for line in batch.err)


def test_a_core_of_qemu_itself_is_filtered(tmp_path: Path) -> None:
    """It has QEMU's name, and guest memory in mappings with flags."""
    notes = kernel_notes([(0x10000, 0x12000, 0, "/usr/bin/qemu-system-x86_64")])
    core = make_core([Load(0x10000, noise(2, 1)), Load(0x40000000, noise(4, 2))], notes)
    assert corefilt("0x33", "-o", tmp_path / "out", pipe=core).code == 0


def test_a_process_without_flags_is_filtered(tmp_path: Path) -> None:
    """p_paddr alone says nothing, nor do flags."""
    for loads in ([Load(A, noise(1), flags="", paddr=A)], [Load(A, noise(1), flags="")]):
        core = make_core(loads, kernel_notes() if loads[0].paddr else [nt_prstatus(1)])
        assert corefilt("all", "-o", tmp_path / "out", "-f", pipe=core).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("system", ["x86_64", "i386"])
@pytest.mark.parametrize("args", ["", "-p "])
def test_a_dump_that_qemu_made_is_refused(system: str, args: str, tmp_path: Path) -> None:
    if shutil.which(f"qemu-system-{system}") is None:
        pytest.skip(f"qemu-system-{system} is not installed")
    dump = tmp_path / "dump"
    machine = subprocess.Popen(
        [f"qemu-system-{system}", "-accel", "tcg", "-m", "4", "-S", "-display", "none", "-monitor", "stdio"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    machine.communicate(f"dump-guest-memory {args}{dump}\nquit\n", timeout=60)
    assert_error(corefilt("none", dump, "-o", tmp_path / "out"), "virtual machine's memory", "QEMU note")


# --- what is not an ELF core ----------------------------------------------------------------------------------


def zipped(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("core", data)
    return made.getvalue()


def tarred(data: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo("core")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def esp(core: bytes, words: int, version: int) -> bytes:
    return struct.pack(f"<{words}I", 4 * words + len(core), version, *[1] * (words - 2)) + core


CORE = sample_core()
NAMED: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "minidump": (lambda: b"MDMP\x93\xa7\0\0" + bytes(100), ("minidump", "MDMP", "minidump-2-core")),
    "kdump": (lambda: b"KDUMP   \6\0\0\0" + bytes(100), ("kdump", "KDUMP", "makedumpfile")),
    "diskdump": (lambda: b"DISKDUMP\6\0\0\0" + bytes(100), ("diskdump", "DISKDUMP", "makedumpfile")),
    "flattened": (lambda: b"makedumpfile" + bytes(100), ("flattened", "makedumpfile -R")),
    "Mach-O": (lambda: b"\xcf\xfa\xed\xfe\x07\0\0\1" + bytes(100), ("Mach-O", "0xcffaedfe", "lldb")),
    "Mach-O, 32 bits": (lambda: b"\xfe\xed\xfa\xce" + bytes(100), ("Mach-O", "0xfeedface", "lldb")),
    "zip": (lambda: zipped(CORE), ("zip archive", "0x504b0304", "corefilt batch")),
    "tar": (lambda: tarred(CORE), ("tar archive", "ustar", "byte 257", "corefilt batch")),
    "tar.gz": (lambda: gzip.compress(tarred(CORE)), ("tar archive", "in gzip", "corefilt batch")),
    "apport": (lambda: b"ProblemType: Crash\nArchitecture: amd64\n" * 20, ("apport", "ProblemType", "corefilt batch")),
    "hs_err": (
        lambda: b"#\n# A fatal error has been detected by the Java Runtime Environment:\n#\n" + b"# x\n" * 50,
        ("JVM (hs_err)", "Core dump"),
    ),
    "ESP-IDF": (lambda: esp(CORE, 5, 0x00050100), ("ESP-IDF", "byte 20", "tail -c +21")),
    "ESP-IDF, chip_rev": (lambda: esp(CORE, 6, 0x000D0103), ("ESP-IDF", "byte 24", "tail -c +25")),
    "other prefix": (lambda: b"prefix\n" + CORE, ("other bytes before it", "byte 7", "tail -c +8")),
    "lz4 -l": (lambda: b"\x02\x21\x4c\x18\x08\0\0\0" + bytes(100), ("lz4 -l", "0x02214c18", "lz4 -dc")),
    "lzma": (lambda: lzma.compress(CORE, format=lzma.FORMAT_ALONE), (".lzma", "xz -dc")),
    "zlib": (lambda: zlib.compress(CORE), ("zlib", "0x789c", "pigz -dc")),
    "base64": (lambda: b"f0VMRgIBAQAAAAAA\n" * 20, ("base64", "base64 -d")),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_core_is_named(name: str, tmp_path: Path) -> None:
    """One line with what it is and by which bytes, and one with what to try; the same from everywhere."""
    make, words = NAMED[name]
    data = make()
    path, out = tmp_path / "input", tmp_path / "out"
    path.write_bytes(data)
    for done in (
        corefilt("0x33", path, "-o", out),
        corefilt("0x33", path),
        corefilt("0x33", "-o", out, pipe=data),
        corefilt("inspect", path),
        corefilt("0x33", path, "-i"),
    ):
        assert_error(done, "ELF", "signature", *words)
        assert len(done.err) == 2
    assert listing(tmp_path).keys() == {"input"}
    with pytest.raises(NotACoreError, match=r"not an ELF core but .* \(signature"):
        api.open(path)


@pytest.mark.parametrize("name", sorted(set(NAMED) - {"zip", "tar", "tar.gz", "apport"}))
def test_batch_gives_the_same_as_its_reason(name: str, tmp_path: Path) -> None:
    make, words = NAMED[name]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "input").write_bytes(make())
    done = corefilt("batch", "0x33", folder, "--to", tmp_path / "to", "-v")
    assert done.code == 0, done.err
    told = b"\n".join([done.out, "\n".join(done.err).encode()]).decode()
    assert words[0] in told, told


@pytest.mark.parametrize("data", [b"x\x9c" + b"not zlib at all" * 10, b"]\0\0\1\0abcdefgh" * 9, b"some text\n" * 60])
def test_what_is_not_known_is_not_guessed(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(data)
    done = corefilt("0x33", path)
    assert_error(done, "not an ELF file")
    assert len(done.err) == 1
