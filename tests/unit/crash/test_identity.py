"""What a core tells of its process: command line, signal, modules and writer, of every machine's shape."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from support.builder import (
    AT_PAGESZ,
    AT_PHDR,
    AT_SYSINFO_EHDR,
    EM_386,
    EM_AARCH64,
    EM_MIPS,
    EM_PPC64,
    EM_S390,
    EM_X86_64,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_auxv,
    nt_prpsinfo,
    nt_prstatus,
    page,
)
from support.run import corefilt as run_corefilt

import corefilt
from corefilt.corefile.corefile import open_core
from corefilt.crash.command_line import PRPSINFO, STACK, TITLE, environment
from corefilt.crash.identity import Identity, identify
from corefilt.errors import InputError

AT_RANDOM, AT_EXECFN, NT_SIGINFO = 25, 31, 0x53494749
STACK_AT = 0x7FFF0000
SHAPES = [
    (EM_X86_64, 64, True),
    (EM_386, 32, True),
    (EM_AARCH64, 64, True),
    (EM_S390, 64, False),
    (EM_PPC64, 64, False),
    (EM_MIPS, 32, False),
]


def stack_of(
    argv: list[bytes], envp: list[bytes], *, bits: int = 64, little: bool = True, written: bytes | None = None,
    shuffled: bool = False, padding: int = 0,
) -> tuple[Load, dict[int, int]]:  # fmt: skip
    """The first stack as create_elf_tables leaves it, and the auxiliary vector; ``written`` is put over argv."""
    size = 0x4000
    strings = b"".join(text + b"\0" for text in [*argv, *envp, b"/usr/bin/victim"])
    first = STACK_AT + size - 16 - len(strings)
    starts, at = [], first
    for text in [*argv, *envp, b"/usr/bin/victim"]:
        starts.append(at)
        at += len(text) + 1
    if written is not None:
        strings = written + strings[len(written) :]
    random = first - 64 - padding & ~15
    auxv = {AT_PAGESZ: 4096, AT_RANDOM: random, AT_EXECFN: starts[-1]}
    pointers = starts[: len(argv)]
    pairs = [word for pair in auxv.items() for word in pair]
    words = [len(argv), *(reversed(pointers) if shuffled else pointers), 0, *starts[len(argv) : -1], 0, *pairs, 0, 0]
    packed = struct.pack(f"{'<' if little else '>'}{len(words)}{'Q' if bits == 64 else 'I'}", *words)
    data = bytearray(size)
    low = random - len(packed) - 16 & ~15
    data[low - STACK_AT : low - STACK_AT + len(packed)] = packed
    data[first - STACK_AT : first - STACK_AT + len(strings)] = strings
    return Load(STACK_AT, bytes(data)), auxv


def core_of(
    folder: Path, stack: Load, auxv: dict[int, int], args: str, *, machine: int = EM_X86_64, bits: int = 64,
    little: bool = True,
) -> Path:  # fmt: skip
    notes = [
        nt_prstatus(77, bits, little, machine=machine),
        nt_prpsinfo(77, bits, little, machine=machine, args=args),
        nt_auxv(auxv, bits, little),
    ]
    target = folder / "core"
    target.write_bytes(make_core([stack], notes, bits=bits, little_endian=little, machine=machine))
    return target


def identity(path: Path) -> Identity:
    with open_core(path) as core:
        return identify(core)


@pytest.mark.parametrize(("machine", "bits", "little"), SHAPES)
def test_command_line_is_the_stack_s(tmp_path: Path, machine: int, bits: int, little: bool) -> None:
    argv = [b"victim", b"--name", b"two words", b"", b"x" * 300]
    stack, auxv = stack_of(argv, [b"HOME=/", b"PASSWORD=secret"], bits=bits, little=little)
    path = core_of(
        tmp_path, stack, auxv, "victim --name two words  " + "x" * 60, machine=machine, bits=bits, little=little
    )
    found = identity(path)
    assert found.command_line is not None
    assert found.command_line.arguments == tuple(argv)
    assert found.command_line.source == STACK
    assert found.execfn == b"/usr/bin/victim"
    assert found.environment is None
    assert "secret" not in repr(found) and "secret" not in str(found.as_dict()) + str(found.lines())


def test_the_name_of_the_start_is_not_called_the_executable(tmp_path: Path) -> None:
    """A core that does not list files, as before Linux 3.7."""
    stack, auxv = stack_of([b"victim"], [])
    path = core_of(tmp_path, stack, auxv, "victim ")
    found = identity(path)
    assert found.executable is None and "started as: /usr/bin/victim" in found.lines()
    shown = run_corefilt("inspect", path).out.decode()
    assert "\n  started as    /usr/bin/victim\n" in shown and "executable" not in shown


def test_environment_is_told_on_request_alone(tmp_path: Path) -> None:
    stack, auxv = stack_of([b"victim"], [b"HOME=/", b"PASSWORD=secret"])
    with open_core(core_of(tmp_path, stack, auxv, "victim ")) as core:
        assert environment(core, core.memory()) == [b"HOME=/", b"PASSWORD=secret"]
        asked = identify(core, with_environment=True)
    assert asked.environment == (b"HOME=/", b"PASSWORD=secret")
    assert asked.as_dict()["environment"] == ["HOME=/", "PASSWORD=secret"]
    assert "environment: PASSWORD=secret" in asked.lines()


@pytest.mark.parametrize("asked", [True, False])
def test_inspect_shows_the_environment_on_request_alone(asked: bool, tmp_path: Path) -> None:
    stack, auxv = stack_of([b"victim"], [b"PASSWORD=sec\x1bret"])
    core_of(tmp_path, stack, auxv, "victim ")
    more = ["--environment"] if asked else []
    shown = run_corefilt("inspect", tmp_path / "core", *more)
    told = run_corefilt("inspect", tmp_path / "core", "--json", *more)
    assert (b"PASSWORD=sec\\x1bret" in shown.out) == asked
    known = json.loads(told.out)["identity"]
    assert known.get("environment") == (["PASSWORD=sec\\x1bret"] if asked else None)
    assert (b"PASSWORD" in told.out) == asked


def test_arguments_that_getopt_moved_keep_their_order(tmp_path: Path) -> None:
    stack, auxv = stack_of([b"victim", b"file", b"-v"], [b"A=1"], shuffled=True)
    found = identity(core_of(tmp_path, stack, auxv, "victim file -v "))
    assert found.command_line is not None and found.command_line.arguments == (b"victim", b"file", b"-v")


def test_more_pointers_than_a_page(tmp_path: Path) -> None:
    argv = [b"%d" % n for n in range(600)]
    stack, auxv = stack_of(argv, [b"N%d=1" % n for n in range(200)])
    found = identity(core_of(tmp_path, stack, auxv, b" ".join(argv)[:79].decode()))
    assert found.command_line is not None and found.command_line.arguments == tuple(argv)


def test_title_that_the_program_wrote(tmp_path: Path) -> None:
    title = b"victim: idle worker"
    stack, auxv = stack_of([b"/usr/bin/victim", b"-D", b"/data"], [b"A=1"], written=title.ljust(25, b"\0"))
    found = identity(core_of(tmp_path, stack, auxv, title.decode()))
    assert found.command_line is not None
    assert (found.command_line.arguments, found.command_line.source) == ((title,), TITLE)
    assert any("rewritten by the program" in line for line in found.lines())


def test_arguments_that_the_program_moved(tmp_path: Path) -> None:
    stack, auxv = stack_of([b"systemd", b"--user"], [b"A=1"])
    found = identity(core_of(tmp_path, stack, auxv, "(sd-pam)"))
    assert found.command_line is not None
    assert (found.command_line.arguments, found.command_line.source) == ((b"(sd-pam)",), PRPSINFO)


def test_stack_that_is_not_in_the_core(tmp_path: Path) -> None:
    stack, auxv = stack_of([b"victim", b"a b"], [b"A=1"])
    gone = Load(stack.vaddr, memsz=len(stack.data))
    found = identity(core_of(tmp_path, gone, auxv, "victim a b "))
    assert found.command_line is not None
    assert (found.command_line.arguments, found.command_line.source) == ((b"victim a b",), PRPSINFO)


SIGNALS = [
    (11, 1, b"\x10\x32\x54\x76", "SIGSEGV", "SEGV_MAPERR", 0x76543210),
    (7, 2, b"\x00\x10\x00\x00", "SIGBUS", "BUS_ADRERR", 0x1000),
    (8, 1, b"\x00\x10\x00\x00", "SIGFPE", "FPE_INTDIV", 0x1000),
    (11, 0x80, bytes(4), "SIGSEGV", "SI_KERNEL", None),
    (11, 77, b"\x00\x10\x00\x00", "SIGSEGV", None, 0x1000),
]


@pytest.mark.parametrize(("number", "code", "address", "name", "code_name", "fault"), SIGNALS)
def test_signal_with_its_address(
    tmp_path: Path, number: int, code: int, address: bytes, name: str, code_name: str | None, fault: int | None
) -> None:
    info = struct.pack("<iiii", number, 0, code, 0) + address.ljust(112, b"\0")
    notes = [nt_prstatus(77), nt_prpsinfo(77), Note("CORE", NT_SIGINFO, info)]
    (tmp_path / "core").write_bytes(make_core([Load(0x1000, page())], notes))
    found = identity(tmp_path / "core").signal
    assert found is not None
    assert (found.number, found.name, found.code, found.code_name, found.address) == (
        number, name, code, code_name, fault,
    )  # fmt: skip
    assert found.as_dict()["address"] == (f"{fault:#x}" if fault is not None else None)


@pytest.mark.parametrize(("sender", "words"), [(77, "sent by the process itself"), (5, "sent by process 5 of user 9")])
def test_signal_with_its_sender(tmp_path: Path, sender: int, words: str) -> None:
    info = struct.pack("<iiiiii", 6, 0, 0, 0, sender, 9).ljust(128, b"\0")
    notes = [nt_prstatus(77), nt_prpsinfo(77), Note("CORE", NT_SIGINFO, info)]
    (tmp_path / "core").write_bytes(make_core([Load(0x1000, page())], notes))
    found = identity(tmp_path / "core").signal
    assert found is not None
    assert (found.sender_pid, found.sender_uid, found.address) == (sender, 9, None)
    assert words in found.words


def test_signal_of_mips_has_its_code_in_another_place(tmp_path: Path) -> None:
    info = struct.pack(">iiiI", 10, 2, 0, 0x1000).ljust(128, b"\0")
    notes = [nt_prstatus(77, 32, False, machine=EM_MIPS), Note("CORE", NT_SIGINFO, info)]
    core = make_core([Load(0x1000, page())], notes, bits=32, little_endian=False, machine=EM_MIPS)
    (tmp_path / "core").write_bytes(core)
    found = identity(tmp_path / "core").signal
    assert found is not None
    assert (found.name, found.code_name, found.address) == ("SIGBUS", "BUS_ADRERR", 0x1000)


def image(build_id: bytes, *, vaddr: int = 0, second: int | None = None, big: bool = False) -> bytes:
    """The first page of a shared object of two segments with a build-id."""
    order = ">" if big else "<"
    note = struct.pack(order + "III", 4, len(build_id), 3) + b"GNU\0" + build_id
    second = 0x2000 if second is None else second
    phdrs = [
        (1, 5, 0, vaddr, 0x1000, 0x1000),
        (1, 6, second, vaddr + 0x2000, 0x1000, 0x1800),
        (4, 4, 0x200, vaddr + 0x200, len(note), len(note)),
    ]
    raw = b"\x7fELF" + bytes([2, 1 + big, 1]) + bytes(9)
    raw += struct.pack(order + "HHIQQQIHHHHHH", 3, EM_X86_64, 1, 0, 64, 0, 0, 64, 56, len(phdrs), 0, 0, 0)
    for kind, flags, offset, start, filesz, memsz in phdrs:
        raw += struct.pack(order + "IIQQQQQQ", kind, flags, offset, start, start, filesz, memsz, 4096)
    return raw.ljust(0x200, b"\0") + note


def test_modules_with_their_build_ids(tmp_path: Path) -> None:
    base, vdso = 0x400000, 0x7000000
    files = [
        (base, base + 0x1000, 0, "/lib/one.so"),
        (base + 0x2000, base + 0x3000, 0x2000, "/lib/one.so"),
        (0x500000, 0x501000, 0, "/data"),
        (0x600000, 0x601000, 0, "/lib/gone.so"),
    ]
    loads = [
        Load(base, page(image(b"\xab" * 20)), flags="r-x"),
        Load(base + 0x2000, page(b"x")),
        Load(0x500000, page(b"no image")),
        Load(0x600000, memsz=0x1000, flags="r-x"),
        Load(vdso, page(image(b"\xcd" * 20), 2), flags="r-x"),
    ]
    notes = kernel_notes(files, {AT_SYSINFO_EHDR: vdso, AT_PHDR: base + 64})
    (tmp_path / "core").write_bytes(make_core(loads, notes))
    found = identity(tmp_path / "core")
    assert [(module.start, module.end, module.path, module.build_id) for module in found.modules] == [
        (base, base + 0x4000, b"/lib/one.so", b"\xab" * 20),
        (0x600000, 0x601000, b"/lib/gone.so", None),
        (vdso, vdso + 0x4000, b"[vdso]", b"\xcd" * 20),
    ]
    assert (found.executable, found.build_id, found.writer) == (b"/lib/one.so", b"\xab" * 20, "kernel")


def test_module_of_which_the_core_holds_the_first_page_in_its_second_mapping(tmp_path: Path) -> None:
    """Both segments of a small file begin in its first page; a filter kept the one that was written to."""
    files = [(0x400000, 0x401000, 0, "/one"), (0x402000, 0x403000, 0, "/one")]
    loads = [
        Load(0x400000, memsz=0x1000, flags="r-x"),
        Load(0x402000, page(image(b"\xab" * 20, vaddr=0x400000, second=0))),
    ]
    (tmp_path / "core").write_bytes(make_core(loads, kernel_notes(files)))
    (module,) = identity(tmp_path / "core").modules
    assert (module.start, module.bias, module.build_id) == (0x400000, 0, b"\xab" * 20)


@pytest.mark.parametrize(
    ("layout", "writer"), [("kernel", "kernel"), ("createdump", "createdump"), ("delve", "delve"), ("gcore", "gdb")]
)
def test_writer(tmp_path: Path, layout: str, writer: str) -> None:
    notes = kernel_notes()
    if layout == "delve":
        notes = [Note(b"", note.type, note.desc) for note in notes]
    (tmp_path / "core").write_bytes(make_core([Load(0x1000, page(b"a"))], notes, layout=layout))
    assert identity(tmp_path / "core").writer == writer


@pytest.mark.parametrize("at", range(0, 0x4000, 509))
def test_damaged_stacks_are_no_error(tmp_path: Path, at: int) -> None:
    stack, auxv = stack_of([b"victim", b"a"], [b"A=1"])
    data = bytearray(stack.data)
    data[at : at + 600] = b"\xff" * len(data[at : at + 600])
    found = identity(core_of(tmp_path, Load(stack.vaddr, bytes(data)), auxv, "victim a "))
    assert found.command_line is not None


def test_pipe_tells_what_its_notes_do(tmp_path: Path) -> None:
    import os

    stack, auxv = stack_of([b"victim"], [b"A=1"])
    raw = core_of(tmp_path, stack, auxv, "victim ").read_bytes()
    reading, writing = os.pipe()
    os.write(writing, raw[:60000])
    os.close(writing)
    try:
        with open_core(reading) as core:
            found = identify(core)
    finally:
        os.close(reading)
    assert (found.pid, found.modules, found.threads) == (77, None, None)
    assert found.as_dict()["threads"] is None
    assert found.command_line is not None and found.command_line.source == PRPSINFO


def test_public_names(tmp_path: Path) -> None:
    stack, auxv = stack_of([b"victim"], [b"A=1"])
    with corefilt.open(core_of(tmp_path, stack, auxv, "victim ")) as core:
        assert core.identity.pid == 77
        assert [(thread.tid, thread.crashed) for thread in core.threads] == [(77, True)]
        assert core.command_line is not None and core.command_line.arguments == (b"victim",)
        assert core.signal is not None and core.signal.name == "SIGABRT"
        assert core.modules == ()


def test_notes_cut_short_are_told_as_little_as_they_hold(tmp_path: Path) -> None:
    stack, auxv = stack_of([b"victim"], [b"A=1"])
    raw = core_of(tmp_path, stack, auxv, "victim ").read_bytes()
    for length in range(64, 1200, 13):
        (tmp_path / "cut").write_bytes(raw[:length])
        try:
            identity(tmp_path / "cut")
        except InputError:
            continue
