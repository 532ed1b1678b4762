"""Signatures of backtraces made by hand: what they say, when they count, and that damage ends them."""

from __future__ import annotations

import pytest

from corefilt.corefile.elf import Phdrs
from corefilt.crash.modules import Module
from corefilt.crash.recorded import PARTIAL, PC_ONLY, UNWOUND
from corefilt.crash.signature import COUNTED, Crash, signed
from corefilt.crash.skipped import counted
from corefilt.crash.unwind.unwinder import Backtrace, Frame

PROGRAM = Module(0x400000, 0x500000, b"/bin/program", b"\x01" * 20, 0x400000, Phdrs(0))
LIBC = Module(0x700000, 0x900000, b"/lib/libc.so.6", b"\x02" * 20, 0x700000, Phdrs(0))
JVM = Module(0xA00000, 0xB00000, b"/jvm/libjvm.so", b"\x03" * 20, 0xA00000, Phdrs(0))


def frame(start: int | None, module: Module | None = PROGRAM, *, how: str = "cfi", **more: object) -> Frame:
    return Frame((start or 0x400999) + 5, start, module, how, **more)  # type: ignore[arg-type]


def crash(*frames: Frame, kind: str = "abort", complete: bool = False) -> Crash:
    trace = Backtrace()
    trace.frames, trace.complete = list(frames), complete
    return signed(kind, trace, "test")


def main() -> list[Frame]:
    return [frame(0x401000), frame(0x402000), frame(0x403000), frame(0x404000)]


def test_three_functions_by_build_and_start() -> None:
    found = crash(*main())
    assert [named.text for named in found.frames] == [
        f"{'01' * 20}+0x1000", f"{'01' * 20}+0x2000", f"{'01' * 20}+0x3000",
    ]  # fmt: skip
    assert found.quality == UNWOUND and found.signature is not None
    assert len(found.signature) == 16 and int(found.signature, 16) >= 0
    assert found.signature == "be4affae3333e4d8", "a signature is kept for years: another one is another version"


def test_where_it_was_loaded_and_in_which_instruction_do_not_count() -> None:
    moved = PROGRAM.but(start=0x7F0000, end=0x8F0000, bias=0x7F0000)
    frames = [each.but(start=(each.start or 0) + 0x3F0000, pc=each.pc + 0x3F0007, module=moved) for each in main()]
    assert crash(*frames).signature == crash(*main()).signature


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "fault SIGSEGV"},
        {"frames": [frame(0x401100), *main()[1:]]},
        {"frames": [main()[0].but(module=PROGRAM.but(build_id=b"\x09" * 20)), *main()[1:]]},
        {"frames": [main()[1], main()[0], main()[2]]},
    ],
    ids=["class", "function", "build", "order"],
)
def test_what_tells_crashes_apart(other: dict[str, object]) -> None:
    frames = other.get("frames", main())
    assert isinstance(frames, list)
    assert crash(*frames, kind=str(other.get("kind", "abort"))).signature != crash(*main()).signature


def test_the_c_library_on_top_is_skipped_and_below_it_counts() -> None:
    assert crash(frame(0x701000, LIBC), frame(0x702000, LIBC), *main()).signature == crash(*main()).signature
    between = crash(main()[0], frame(0x701000, LIBC), *main()[1:])
    assert [named.module for named in between.frames] == [b"/bin/program", b"/lib/libc.so.6", b"/bin/program"]


@pytest.mark.parametrize(
    "name",
    ["libc.so.6", "libc-2.31.so", "libc.musl-x86_64.so.1", "ld-linux-x86-64.so.2", "ld-musl-x86_64.so.1", "[vdso]",
     "libstdc++.so.6.0.30", "libc++abi.so.1", "libgcc_s.so.1", "libasan.so.8", "libpthread.so.0",
     "libclang_rt.asan-x86_64.so", "libc.so.6 (deleted)"],
)  # fmt: skip
def test_modules_that_are_skipped(name: str) -> None:
    module = LIBC.but(path=b"/x/" + name.encode() if name != "[vdso]" else name.encode())
    assert counted([frame(0x701000, module), *main()], aborted=False) == main()


@pytest.mark.parametrize("name", ["libcrypto.so.3", "libcurl.so.4", "program", "libldap.so", "libstdcxx.so"])
def test_modules_that_are_not(name: str) -> None:
    frames = [frame(0x701000, LIBC.but(path=b"/x/" + name.encode())), *main()]
    assert counted(frames, aborted=True) == frames


def test_frames_of_a_handler_are_not_those_of_the_crash() -> None:
    handler = [frame(0x40A000), frame(0x40B000), frame(0x701000, LIBC, signal=True)]
    assert crash(*handler, *main()).signature == crash(*main()).signature


def test_reporter_of_java_is_skipped_where_the_machine_gives_itself_up() -> None:
    reporter = [frame(0x701000, LIBC), frame(0xA01000, JVM), frame(0xA02000, JVM)]
    assert crash(*reporter, *main()).frames[0].module == b"/bin/program"
    alone = crash(*reporter, complete=True)
    assert alone.quality == PARTIAL, "without a frame of its own it is like every other"
    assert crash(frame(0xA03000, JVM), *main(), kind="fault SIGSEGV").frames[0].module == b"/jvm/libjvm.so"


def test_runtime_of_go_is_skipped_by_name() -> None:
    runtime = [frame(0x40A000, how="go", name=b"runtime.raise"), frame(0x40B000, how="go", name=b"runtime.gopanic")]
    mine = [frame(0x40C000, how="go", name=b"main.bug"), *main()[:2]]
    found = crash(*runtime, *mine)
    assert found.quality == UNWOUND and found.frames[0].function == "main.bug"


def test_end_of_the_stack_is_enough_and_its_loss_is_not() -> None:
    assert crash(*main()[:2], complete=True).quality == UNWOUND
    assert crash(*main()[:2]).quality == PARTIAL
    assert crash(main()[0]).quality == PC_ONLY
    assert crash(main()[0], complete=True).quality == PC_ONLY


@pytest.mark.parametrize(
    "bad",
    [frame(None), frame(0x402000, how="x29"), frame(0x402000, None),
     frame(0x402000, PROGRAM.but(build_id=None))],
    ids=["function not known", "by frame pointers", "in no module", "no build-id"],
)  # fmt: skip
def test_frames_that_are_not_certain_never_count_as_seen_before(bad: Frame) -> None:
    assert crash(main()[0], bad, *main()[1:]).quality == PARTIAL


def test_stack_overflow_is_the_set_of_what_is_called_again_and_again() -> None:
    cycle = [frame(0x401000), frame(0x402000)]
    first = crash(*cycle * 20, kind="stack overflow")
    later = crash(frame(0x709000, LIBC), *cycle[::-1] * 30, kind="stack overflow")
    assert first.signature == later.signature and first.quality == later.quality == UNWOUND
    assert len(first.frames) == 2
    assert crash(*main(), kind="stack overflow").quality == PARTIAL


def test_nothing_known_has_no_signature() -> None:
    found = crash()
    assert (found.signature, found.frames) == (None, ())
    assert found.as_dict()["signature"] is None and COUNTED == 3


def test_as_json_and_for_people() -> None:
    found = crash(*main())
    told = found.as_dict()
    assert list(told) == ["signature", "version", "class", "quality", "unwinder", "frames"]
    assert told["version"] == 1 and told["class"] == "abort"
    assert found.lines()[0].startswith(f"crash: {found.signature}, abort, unwound")
    assert found.recorded.encode() == f"1 unwound {found.signature} abort".encode()
