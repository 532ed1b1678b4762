"""``--sysroot``: what a core has of mapped files, held against the files, from the command line to the finding."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kernel.dumps import dumping, only_file
from support.builder import PT_NOTE, Image, Load, Note, elf_image, kernel_notes, library, make_core, page
from support.builds import INTERPRETER
from support.maps import Area, saved
from support.opening import open_file
from support.ready import descriptors
from support.run import assert_error, corefilt, environment, kept_sizes, listing
from support.samples import HEAP, PAGE, noise, sample_core

A, B, C = 0x10001000, 0x20001000, 0x30001000
LIBRARY = 0x7F0000001000
TABLE = "/data/table"
STORED = noise(4, 9)
NT_GNU_BUILD_ID = 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def store(root: Path, name: str, content: bytes, mode: int = 0o644) -> Path:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def mapped(*places: tuple[int, bytes, int, str], name: str | bytes = TABLE) -> bytes:
    """Make a core of a heap and of mappings of one file: (address, bytes, file offset, flags)."""
    return make_core(
        [HEAP, *(Load(address, data, flags=flags) for address, data, _, flags in places)],
        kernel_notes([(address, address + len(data), offset, name) for address, data, offset, _ in places]),
    )


def look(core: bytes | Path, root: Path, *options: str, piped: bool = False, code: int = 0) -> dict[str, Any]:
    """Return the JSON of inspect, and its mappings by their addresses under "at"."""
    path = root.parent / "the-core"
    if isinstance(core, bytes):
        path.write_bytes(core)
        core = path
    args = ["inspect", "-" if piped else core, "--sysroot", root, "--json", *options]
    done = corefilt(*args, pipe=core.read_bytes() if piped else None)
    assert done.code == code, done.err
    report: dict[str, Any] = json.loads(done.out)
    report["at"] = {int(mapping["start"], 16): mapping for mapping in report["mappings"]}
    return report


def kinds(mapping: dict[str, Any]) -> str:
    """Return all kinds that are left, in order."""
    others = mapping["evidence"][-1] if mapping["certainty"] == "assumed" else ""
    names = others.removeprefix("could also be: ").split(", ") if others.startswith("could") else []
    return " ".join(sorted({mapping["kind"], *names}))


def reasons(mapping: dict[str, Any]) -> str:
    return "; ".join(mapping["evidence"])


def written(data: bytes, at: int) -> bytes:
    """Change a byte."""
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def identified(build_id: bytes, size: int = 4) -> bytes:
    """Make a program that is one segment, with a build-id in its first page."""
    note = Note("GNU", NT_GNU_BUILD_ID, build_id).encode()
    segments = [Image(0, size * PAGE, "r-x"), Image(0x200, len(note), type=PT_NOTE)]
    image = bytearray(elf_image(segments, size=size * PAGE))
    image[0x200 : 0x200 + len(note)] = note
    return bytes(image)


# --- written or not ---------------------------------------------------------------------------------------


def test_pages_that_differ_from_the_file_were_written_to(root: Path) -> None:
    store(root, TABLE, STORED)
    core = mapped(
        (A, written(STORED, 2 * PAGE + 7), 0, "rw-"),
        (B, STORED, 0, "rw-"),
        (C, written(STORED, PAGE)[PAGE:], PAGE, "r--"),
    )
    found = look(core, root)["at"]
    assert f"differs from its file at {A + 2 * PAGE:#x}" in found[A]["evidence"]
    assert f"differs from its file at {C:#x}" in found[C]["evidence"]
    # Which a shared mapping does not show: but who tells that this very file was mapped?
    assert kinds(found[A]) == kinds(found[C]) == "private-file-written shared-file-backed"
    # That nothing differs says nothing.
    assert "differs" not in reasons(found[B])
    assert kinds(found[B]) == "private-file-backed private-file-written shared-file-backed"


def test_with_a_build_id_it_is_the_very_file(root: Path) -> None:
    image = identified(bytes(range(20)))
    store(root, "/opt/tool", image, 0o755)
    core = mapped(
        (A, image[:PAGE], 0, "rw-"), (B, written(image, PAGE)[PAGE : 2 * PAGE], PAGE, "r-x"), name="/opt/tool"
    )
    found = look(core, root)["at"][B]
    assert (found["kind"], found["certainty"]) == ("private-file-written", "inferred")


def test_text_with_a_breakpoint_in_it(root: Path) -> None:
    """The image says that its text is written by nobody; the file says that somebody did."""
    loads, files = library(LIBRARY, "/opt/lib.so")
    data = b"".join(load.data for load in loads[:5])
    store(root, "/opt/lib.so", data)
    loads[1] = Load(LIBRARY + 0x1000, written(loads[1].data, PAGE + 5), flags="r-x")
    core = make_core([HEAP, *loads], kernel_notes(files))
    found = look(core, root)["at"]
    assert found[LIBRARY + 0x1000]["kind"] == "private-file-written"
    assert found[LIBRARY + 0x3000]["kind"] == "private-file-backed"
    assert found[LIBRARY + 0x5000]["kind"] == "private-file-written"


@pytest.mark.parametrize(
    "dumped",
    [
        pytest.param(STORED[:PAGE] + bytes(PAGE) + STORED[2 * PAGE :], id="a page that could not be read"),
        pytest.param(bytes(4 * PAGE), id="nothing could be read"),
    ],
)
def test_pages_of_zeros_prove_nothing(dumped: bytes, root: Path) -> None:
    store(root, TABLE, STORED)
    assert "differs" not in reasons(look(mapped((A, dumped, 0, "rw-")), root)["at"][A])


def test_what_lies_behind_the_files_end_proves_nothing(root: Path) -> None:
    store(root, TABLE, STORED[: PAGE + 100])
    dumped = STORED[: PAGE + 100] + b"x" * (PAGE - 100)
    assert "differs" not in reasons(look(mapped((A, dumped, 0, "rw-")), root)["at"][A])


def test_what_is_decided_already_is_not_held_against_anything(root: Path) -> None:
    core = mapped((A, STORED, 0, "rw-"), name="/dev/zero (deleted)")
    assert look(core, root)["warnings"] == []


# --- header pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "mode", "bit"),
    [
        pytest.param(b"text", 0o755, "h", id="executable"),
        pytest.param(b"text", 0o641, "h", id="executable for somebody"),
        pytest.param(b"text", 0o644, "-", id="not executable"),
        pytest.param(b"#!/bin/sh\n", 0o644, "-", id="a script that is not executable"),
        pytest.param(b"#!/bin/sh\n", 0o755, "h", id="a script that is"),
    ],
)
def test_the_mode_of_the_file_tells_whether_it_has_a_header_page(
    content: bytes, mode: int, bit: str, root: Path
) -> None:
    data = page(content, 2)
    store(root, TABLE, data, mode)
    maps = saved(root.parent, [Area(HEAP.vaddr, HEAP.vaddr + 2 * PAGE), area(A, 2, "r--p")])
    found = look(mapped((A, data, 0, "r--")), root, "--maps", maps)["at"][A]
    assert found["bits"]["elf-headers"] == bit


def area(start: int, pages: int, perms: str, offset: int = 0) -> Area:
    return Area(start, start + pages * PAGE, perms, TABLE, offset, (8, 1), 7)


def test_the_file_begins_with_what_a_pipe_has_brought_already(root: Path) -> None:
    """Of ELF files that are not executable the first bytes count; from pipe to pipe only the file shows them."""
    data = elf_image([Image(0, PAGE, "r-x"), Image(PAGE, PAGE)], size=2 * PAGE)
    maps = saved(root.parent, [Area(HEAP.vaddr, HEAP.vaddr + 2 * PAGE), area(A, 2, "r--p")])
    core = mapped((A, data, 0, "r--"))
    assert look(core, root, "--maps", maps, piped=True)["at"][A]["bits"]["elf-headers"] == "h?"
    store(root, TABLE, data)
    assert look(core, root, "--maps", maps, piped=True)["at"][A]["bits"]["elf-headers"] == "h"


# --- files that are not the ones --------------------------------------------------------------------------


def told(report: dict[str, Any], why: str, name: str = TABLE) -> None:
    assert [f"{name} below --sysroot was not used: it {why}"] == report["warnings"]
    (mapping,) = (mapping for mapping in report["mappings"] if mapping["path"] is not None)
    assert f"not compared with its file below --sysroot, which {why}" in mapping["evidence"]
    assert "differs" not in reasons(mapping)


def test_a_file_that_is_not_there(root: Path) -> None:
    told(look(mapped((A, STORED, 0, "rw-")), root), "does not exist")


def test_a_file_that_was_changed_after_the_dump(root: Path) -> None:
    core = root.parent / "the-core"
    core.write_bytes(mapped((A, STORED, 0, "rw-")))
    path = store(root, TABLE, noise(4))
    os.utime(path, ns=(0, core.stat().st_mtime_ns + 1))
    told(look(core, root), "was changed after the dump")
    os.utime(path, ns=(0, core.stat().st_mtime_ns))
    assert "differs" in reasons(look(core, root)["at"][A])


def test_a_program_of_another_build(root: Path) -> None:
    name = "/opt/tool"
    store(root, name, identified(b"another build-id!!!!"), 0o755)
    image = identified(bytes(range(20)))
    report = look(mapped((A, image, 0, "rw-"), name=name), root)
    told(report, f"has build-id {b'another build-id!!!!'.hex()}, what was mapped had {bytes(range(20)).hex()}", name)


def test_a_file_that_is_too_small(root: Path) -> None:
    store(root, TABLE, STORED[:PAGE])
    told(
        look(mapped((A, STORED, 4 * PAGE, "rw-")), root), f"is too small for what was mapped of it (at byte {4 * PAGE})"
    )


@pytest.mark.parametrize(("kind", "why"), [("folder", "is a directory"), ("fifo", "is a FIFO")])
def test_what_is_no_file(kind: str, why: str, root: Path) -> None:
    (root / "data").mkdir()
    {"folder": os.mkdir, "fifo": os.mkfifo}[kind](root / "data/table")
    told(look(mapped((A, STORED, 0, "rw-")), root), why)


def test_links_do_not_lead_out_of_the_folder(root: Path) -> None:
    store(root.parent, "secret", noise(4))
    (root / "data").mkdir()
    (root / "data/table").symlink_to("../../secret")
    told(look(mapped((A, STORED, 0, "rw-")), root), "does not exist")


def test_three_files_are_named_and_the_others_counted(root: Path) -> None:
    loads = [Load(A + i * 8 * PAGE, noise(1, i)) for i in range(5)]
    core = make_core(loads, kernel_notes([(x.vaddr, x.vaddr + PAGE, 0, f"/f/{i}") for i, x in enumerate(loads)]))
    warnings = look(core, root)["warnings"]
    assert warnings[:3] == [f"/f/{i} below --sysroot was not used: it does not exist" for i in range(3)]
    assert warnings[3:] == ["2 more files below --sysroot not used"]


@pytest.mark.parametrize(
    "name", [b"/tmp/\x1b[2J", b"/tmp/a\ncorefilt: all is well", b"/tmp/\xff\xfe", "/\u202e".encode()]
)
def test_names_in_notices_reach_no_terminal_raw(name: bytes, root: Path) -> None:
    path = root.parent / "the-core"
    path.write_bytes(mapped((A, STORED, 0, "rw-"), name=name))
    for args in (["0x33", path, "-o", root.parent / "out"], ["0x33", path, "-n", "-q"], ["inspect", path]):
        done = corefilt(*args, "--sysroot", root)
        assert done.code == 0
        assert all(line.isprintable() for line in done.err), done.err
        assert not any(line.startswith("corefilt: all is well") for line in done.err)


def test_a_sysroot_that_is_not_there_is_an_error(core: Path) -> None:
    before = listing(core.parent)
    for args in (["0x33", core, "-o", core.with_name("out")], ["inspect", core]):
        assert_error(
            corefilt(*args, "--sysroot", core.with_name("none")), "No such file or directory", "existing directory"
        )
    assert_error(corefilt("0x33", core, "-o", core.with_name("out"), "--sysroot", core), "Not a directory")
    assert listing(core.parent) == before


# --- pipes ------------------------------------------------------------------------------------------------


def sample(root: Path) -> bytes:
    """Make a core of a library with a breakpoint, a table that was written to far behind its begin, and a script."""
    loads, files = library(LIBRARY, "/opt/lib.so")
    store(root, "/opt/lib.so", b"".join(load.data for load in loads[:5]))
    loads[1] = Load(LIBRARY + 0x1000, written(loads[1].data, PAGE + 5), flags="r-x")
    store(root, TABLE, STORED)
    store(root, "/data/run", page(b"run", 3), 0o755)
    others = [
        Load(A, written(STORED, 3 * PAGE)),
        Load(B, STORED, flags="r--"),
        Load(C, page(b"run", 3), flags="r--"),
    ]
    places = [(A, A + 4 * PAGE, 0, TABLE), (B, B + 4 * PAGE, 0, TABLE), (C, C + 3 * PAGE, 0, "/data/run")]
    return make_core([HEAP, *others, *loads], kernel_notes([*places, *files]))


@pytest.mark.parametrize(
    ("wanted", "unknown"),
    [
        # Each filter once in a plain run, and each policy.
        pytest.param(wanted, unknown, marks=() if (n + k) % 3 == 0 or wanted == "0x33" else pytest.mark.slow)
        for n, wanted in enumerate(("0x0", "0x1", "0x4", "0x8", "0x10", "0x14", "0x33", "0x1ff"))
        for k, unknown in enumerate(("keep", "guess", "drop"))
    ],
)
def test_from_a_pipe_into_a_file_is_from_a_file_into_a_file(wanted: str, unknown: str, root: Path) -> None:
    core = root.parent / "the-core"
    core.write_bytes(sample(root))
    options = ["--sysroot", str(root), "--unknown", unknown]
    from_file, from_pipe = root.parent / "from-file", root.parent / "from-pipe"
    assert corefilt(wanted, core, "-o", from_file, *options).code == 0
    assert corefilt(wanted, "-", "-o", from_pipe, *options, pipe=core.read_bytes()).code == 0
    assert from_pipe.read_bytes() == from_file.read_bytes()


@pytest.mark.parametrize("wanted", ["0x0", "0x10", "0x1ff"])
def test_the_note_from_a_pipe_says_nothing_else(wanted: str, root: Path) -> None:
    """Of what has bytes left; what was not written cannot be held against anything at the end."""
    core, out = root.parent / "the-core", root.parent / "out"
    core.write_bytes(sample(root))
    options = ["--sysroot", str(root), "--annotate", "-f", "-o", str(out)]
    records = []
    for source, data in ((core, None), ("-", core.read_bytes())):
        assert corefilt(wanted, source, *options, pipe=data).code == 0
        with open_file(out) as it:
            there = {(each.start, each.end) for each in it.mappings if each.present}
            records.append({at: each for at, each in it.notes.records.items() if at in there})
    from_file, from_pipe = records
    assert list(from_file) == list(from_pipe)
    assert not [at for at in from_file if from_file[at].possible & ~from_pipe[at].possible]
    if wanted == "0x1ff":
        assert [each.possible for each in from_file.values()] == [each.possible for each in from_pipe.values()]


def test_from_a_pipe_into_a_pipe_the_payload_has_passed(root: Path) -> None:
    core = sample(root)
    done = corefilt("0x1", "--sysroot", root, pipe=core)
    assert done.code == 0
    assert any("the payload of a pipe has passed before it can be compared with files" in line for line in done.err)
    whole = corefilt("0x1", "-", "--sysroot", root, "-o", root.parent / "out", pipe=core)
    assert not any("has passed" in line for line in whole.err)
    # Modes and first bytes are looked at all the same.
    assert kept_sizes(corefilt("0x10", "--sysroot", root, "--unknown", "guess", pipe=core).out)[3] == PAGE
    assert kept_sizes(corefilt("0x10", "--unknown", "guess", pipe=core).out)[3] == 0


def test_a_dry_run_of_a_pipe_says_so_too(root: Path) -> None:
    done = corefilt("0x1", "-", "-n", "-o", root.parent / "out", "--sysroot", root, pipe=sample(root))
    assert done.code == 0
    assert any("has passed" in line for line in done.err)


def test_a_pipe_that_ends_too_early(root: Path) -> None:
    core = sample(root)[: -5 * PAGE]
    (root.parent / "the-core").write_bytes(core)
    outs = []
    for source, data in ((root.parent / "the-core", None), ("-", core)):
        out = root.parent / f"out{len(outs)}"
        done = corefilt("0x1", source, "-o", out, "--sysroot", root, pipe=data)
        assert done.code == 3
        outs.append(out.read_bytes())
    assert outs[0] == outs[1]


# --- as the kernel dumps it -------------------------------------------------------------------------------

# Two private mappings of one file, of which one is written to, and one of a program that is not ELF.
VICTIM = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
held = [mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) for _ in range(2)]
held[0][5000] = 0
bytes(held[0]), bytes(held[1])
script = os.open(sys.argv[2], os.O_RDONLY)
held.append(mmap.mmap(script, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_core_of_the_kernels(root: Path) -> None:
    table, script = store(root, "/data/table", STORED), store(root, "/data/run", page(b"run", 3), 0o755)
    folder = root.parent / "dump"
    folder.mkdir()

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    with dumping() as reason:
        if reason:
            pytest.skip(reason)
        with subprocess.Popen(
            [INTERPRETER, "-I", "-c", VICTIM, str(table), str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, preexec_fn=unlimited, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            Path(f"/proc/{process.pid}/coredump_filter").write_text("0x1ff")
            maps = root.parent / "saved-map"
            maps.write_bytes(Path(f"/proc/{process.pid}/maps").read_bytes())
            process.send_signal(signal.SIGABRT)
    core = only_file(folder)
    try:
        report = look(core, Path("/"), "--maps", str(maps))
        found = [mapping for mapping in report["mappings"] if mapping["path"] == str(table)]
        assert sorted((kinds(mapping), mapping["certainty"]) for mapping in found) == [
            ("private-file-backed private-file-written", "assumed"),
            ("private-file-written", "inferred"),
        ]
        (run,) = (mapping for mapping in report["mappings"] if mapping["path"] == str(script))
        assert run["bits"]["elf-headers"] == "h"
        assert "its file is executable" in run["evidence"]
    finally:
        shutil.rmtree(folder)


def test_many_plans_hold_one_descriptor(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(sample_core())
    with open_file(core) as it:
        it.plan("all", sysroot="/")
        before = descriptors()
        for _ in range(5):
            it.plan("all", sysroot="/")
        assert descriptors() == before


# --- as whom ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("how", ["owner", "attribute"])
def test_root_uses_no_file_that_the_owner_of_the_core_may_not_read(how: str, root: Path, tmp_path: Path) -> None:
    for folder in (root, *root.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    path = tmp_path / "core"
    store(root, TABLE, STORED, 0o600)
    path.write_bytes(mapped((A, STORED, 0, "r--")))
    (root / "data").chmod(0o755)
    assert look(path, root)["warnings"] == []
    if how == "owner":
        os.chown(path, 54321, 54321)
    else:
        try:
            os.setxattr(path, "user.coredump.uid", b"54321")
        except OSError as error:
            pytest.skip(f"no attributes here: {error.strerror}")
    assert look(path, root)["warnings"] == [
        f"{TABLE} below --sysroot was not used: it cannot be opened: Permission denied"
    ]
    os.chown(root / "data/table", 54321, 54321)
    assert look(path, root)["warnings"] == []
