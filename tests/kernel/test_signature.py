"""Eleven bugs, crashed again and again: one signature for each, and the frames that eu-stack finds."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from kernel.dumps import HERE, compile_c, dumping

from corefilt.corefile.corefile import open_core
from corefilt.corefile.registers import Thread
from corefilt.crash.identity import identify
from corefilt.crash.image_files import ImageFiles
from corefilt.crash.modules import ModuleIndex
from corefilt.crash.process_memory import ProcessMemory
from corefilt.crash.signature import Crash, find_crash
from corefilt.crash.unwind.unwinder import Unwinder
from corefilt.evidence.sysroot import sysroot_for

BUGS = (
    "null write", "use after free", "assert", "double free", "uncaught exception", "pure virtual", "truncated map",
    "stack overflow", "watchdog", "callback", "thread",
)  # fmt: skip
CLASSES = {
    "null write": "fault SIGSEGV", "use after free": "fault SIGSEGV", "truncated map": "fault SIGBUS",
    "stack overflow": "stack overflow", "callback": "fault SIGSEGV", "thread": "fault SIGSEGV",
}  # fmt: skip
# Those of one caller and of the other; what hides its caller has one.
RUNS = 30


@pytest.fixture(scope="module")
def program(cores: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("no gcc and g++ in PATH")
    folder = tmp_path_factory.mktemp("bugs")
    subprocess.run(["gcc", "-O2", "-c", HERE / "bugs.c", "-o", folder / "c.o"], check=True)
    # Optimized further, it sees that the virtual function is pure.
    subprocess.run(["g++", "-O1", "-c", HERE / "bugs_cxx.cc", "-o", folder / "cxx.o"], check=True)
    subprocess.run(["g++", folder / "c.o", folder / "cxx.o", "-o", folder / "bugs", "-pthread"], check=True)
    return folder / "bugs"


def limits(coredump_filter: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))
    Path("/proc/self/coredump_filter").write_text(f"{coredump_filter:#x}\n")


def crashed(program: Path, bug: int, folder: Path, *, other: bool = False, coredump_filter: int = 0x33) -> Path:
    """The core of one run."""
    folder.mkdir(exist_ok=True)
    place = folder / f"{bug}-{len(os.listdir(folder))}"
    place.mkdir()
    with dumping():
        subprocess.run(
            [program, str(bug), *["other"] * other], cwd=place, capture_output=True, check=False, timeout=60,
            preexec_fn=lambda: limits(coredump_filter),
        )  # fmt: skip
    (core,) = place.iterdir()
    return core


def crash_of(path: Path, unwinder: str = "auto", sysroot: str | None = None) -> Crash:
    with open_core(path) as core:
        found = find_crash(core, unwinder=unwinder, sysroot=sysroot)
    assert found is not None
    return found


@pytest.mark.parametrize("bug", range(len(BUGS)), ids=BUGS)
def test_each_bug_has_one_signature(program: Path, bug: int, tmp_path: Path) -> None:
    first, second = (crash_of(crashed(program, bug, tmp_path)) for _ in range(2))
    assert first == second and first.quality == "unwound"
    assert first.kind == CLASSES.get(BUGS[bug], "abort")
    assert first.frames[0].module == os.fsencode(program)


@pytest.mark.parametrize("bug", [0, 4, 7, 9, 10], ids=lambda bug: BUGS[bug])
def test_frames_are_those_of_eu_stack(program: Path, bug: int, tmp_path: Path) -> None:
    if shutil.which("eu-stack") is None:
        pytest.skip("eu-stack is not installed")
    core = crashed(program, bug, tmp_path)
    ours, theirs = crash_of(core), crash_of(core, "eu-stack")
    assert (ours.signature, ours.frames) == (theirs.signature, theirs.frames)
    assert theirs.unwinder == "eu-stack"


def test_full_small_and_minimal_cores_have_the_same(program: Path, tmp_path: Path) -> None:
    from corefilt import filter as filter_core

    full = crashed(program, 9, tmp_path, coredump_filter=0x1FF)
    filter_core(full, tmp_path / "default", filter=0x33)
    filter_core(full, tmp_path / "minimal", filter=0x33, minimal=True)
    found = crash_of(full)
    assert found.quality == "unwound"
    assert crash_of(tmp_path / "default").signature == crash_of(tmp_path / "minimal").signature == found.signature
    # Without the binaries a full core tells it all the same, and a small one does not guess.
    (tmp_path / "empty").mkdir()
    assert crash_of(full, sysroot=str(tmp_path / "empty")).signature == found.signature
    assert crash_of(tmp_path / "default", sysroot=str(tmp_path / "empty")).quality == "pc-only"


def test_binary_of_another_build_is_not_used(program: Path, tmp_path: Path) -> None:
    core = crashed(program, 0, tmp_path)
    assert crash_of(core).quality == "unwound"
    there = tmp_path / "root" / program.relative_to("/")
    there.parent.mkdir(parents=True)
    shutil.copy("/proc/self/exe", there)
    assert crash_of(core, sysroot=str(tmp_path / "root")).quality == "pc-only"


def test_modules_are_those_of_eu_unstrip(program: Path, tmp_path: Path) -> None:
    if shutil.which("eu-unstrip") is None:
        pytest.skip("eu-unstrip is not installed")
    core = crashed(program, 0, tmp_path)
    done = subprocess.run(["eu-unstrip", "-n", f"--core={core}"], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    theirs = {(int(row[0].partition("+")[0], 16), row[1].partition("@")[0]) for row in rows}
    with open_core(core) as opened:
        found = identify(opened)
    assert {(m.start, m.build_id.hex()) for m in found.modules if m.build_id is not None} == theirs
    assert found.command_line is not None and found.command_line.arguments == (os.fsencode(program), b"0")


def test_a_crash_in_a_handler_is_that_of_what_was_interrupted(cores: None, tmp_path: Path) -> None:
    """The handler of a signal, and what the C library has on the stack below it, are not counted."""
    program = compile_c("handled.c", tmp_path / "handled", "-O1")
    found = []
    for which in (0, 1, 0, 1):
        crash = crash_of(crashed(program, which, tmp_path / "runs"))
        assert (crash.kind, crash.quality) == ("fault SIGSEGV", "unwound")
        assert [frame.module for frame in crash.frames] == [os.fsencode(program)] * 2 + [crash.frames[2].module]
        found.append((crash.signature, crash.frames[0].text, crash.frames[1].text))
    # Two functions were interrupted, below one caller.
    assert found[:2] == found[2:] and found[0][0] != found[1][0]
    assert found[0][1] != found[1][1] and found[0][2] == found[1][2]


@pytest.fixture(scope="module")
def program_of_32_bits(cores: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bugs32")
    if shutil.which("gcc") is None:
        pytest.skip("no gcc in PATH")
    made = subprocess.run(
        ["gcc", "-m32", "-O1", HERE / "handled.c", "-o", folder / "handled"], capture_output=True, check=False
    )
    with dumping():
        runs = made.returncode == 0 and subprocess.run([folder / "handled"], cwd=folder, check=False).returncode <= 0
    if not runs:
        pytest.skip("gcc -m32 makes no program that runs here")
    return folder / "handled"


def test_a_program_of_32_bits(program_of_32_bits: Path, tmp_path: Path) -> None:
    cores = [crashed(program_of_32_bits, which, tmp_path) for which in (0, 1, 0)]
    found = [crash_of(core) for core in cores]
    assert [crash.quality for crash in found] == ["unwound"] * 3
    assert found[0].signature == found[2].signature != found[1].signature
    assert found[0].frames[0].module == os.fsencode(program_of_32_bits)
    if shutil.which("eu-stack") is not None:
        assert crash_of(cores[0], "eu-stack").frames == found[0].frames


@pytest.mark.slow
def test_a_java_machine_that_gives_itself_up(cores: None, tmp_path: Path) -> None:
    """What reports the failure is never on top: two failures are two, and each is the same again."""
    if shutil.which("java") is None or shutil.which("javac") is None:
        pytest.skip("java and javac are not installed")
    subprocess.run(
        ["javac", "-nowarn", "-J-XX:-UsePerfData", "-d", tmp_path, HERE / "programs_src" / "Crash.java"],
        check=True, capture_output=True,
    )  # fmt: skip
    found: dict[str, list[Crash]] = {"write": [], "memory": []}
    for bug in ("write", "memory", "write", "memory"):
        place = tmp_path / f"{bug}-{len(found[bug])}"
        place.mkdir()
        with dumping():
            subprocess.run(
                [
                    "java", "-XX:-UsePerfData", "-Xmx32m", "-XX:+UseSerialGC", "-XX:+CrashOnOutOfMemoryError",
                    "-XX:ErrorFile=/dev/null", "-cp", tmp_path, "Crash", bug,
                ],
                cwd=place, capture_output=True, check=False, timeout=60, preexec_fn=lambda: limits(0x33),
            )  # fmt: skip
        (core,) = place.iterdir()
        found[bug].append(crash_of(core))
        with open_core(core) as opened:
            who = identify(opened)
            index = ModuleIndex(who.modules)
            files = ImageFiles(index, partial(sysroot_for, "/", opened.source.fd))
            trace = Unwinder(ProcessMemory(opened, opened.memory(), index, files)).unwind(
                Thread(opened.notes.crashed, opened.ehdr)
            )
            # The first one of the machine's own is the reporter.
            reporter = next(frame.start for frame in trace.frames if frame.module and frame.module.name == b"libjvm.so")
            bias = next(module.bias for module in who.modules if module.name == b"libjvm.so")
        assert reporter is not None and bias is not None
        assert all(not frame.text.endswith(f"+{reporter - bias:#x}") for frame in found[bug][-1].frames)
    assert found["write"][0].signature == found["write"][1].signature
    assert found["write"][0].signature != found["memory"][0].signature
    assert found["write"][0].kind == found["memory"][0].kind == "abort"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_runs_of_eleven_bugs(program: Path, tmp_path: Path) -> None:
    """None is split, no two are merged; a second caller adds one at most, and the watchdog may have two."""
    signatures: dict[str, set[str | None]] = {}
    callers: dict[str, set[str | None]] = {}
    for bug, name in enumerate(BUGS):
        for other, found in ((False, signatures), (True, callers)):
            for _ in range(RUNS if not other else 3):
                core = crashed(program, bug, tmp_path, other=other)
                crash = crash_of(core)
                assert crash.quality == "unwound", (name, crash)
                found.setdefault(name, set()).add(crash.signature)
                core.unlink()
    assert {
        name: len(found) for name, found in signatures.items() if len(found) > (2 if name == "watchdog" else 1)
    } == {}
    everything = [signature for name in BUGS for signature in signatures[name]]
    assert len(everything) == len(set(everything))
    assert all(len(callers[name] - signatures[name]) <= 1 for name in BUGS)


@pytest.mark.slow
def test_three_bugs_of_a_go_program(cores: None, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    (tmp_path / "main.go").write_text("""package main

import "os"

var p *int
var a []int
var m map[string]int

//go:noinline
func nilWrite() { *p = 1 }

//go:noinline
func index(n int) { a[n] = 1 }

//go:noinline
func nilMap() { m["a"] = 1 }

func main() {
	switch os.Args[1] {
	case "nilWrite":
		nilWrite()
	case "index":
		index(len(os.Args))
	case "nilMap":
		nilMap()
	}
}
""")
    environment = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(tmp_path / "cache"), "GOTRACEBACK": "crash"}
    subprocess.run(["go", "build", "-o", "program", "main.go"], cwd=tmp_path, env=environment, check=True)
    found = {}
    for bug in ("nilWrite", "index", "nilMap"):
        crashes = []
        for run in range(3):
            place = tmp_path / f"{bug}-{run}"
            place.mkdir()
            with dumping():
                subprocess.run(
                    ["../program", bug], cwd=place, env=environment, capture_output=True, check=False, timeout=60,
                    preexec_fn=lambda: limits(0x33),
                )  # fmt: skip
            (core,) = place.iterdir()
            crashes.append(crash_of(core))
        assert len({crash.signature for crash in crashes}) == 1
        assert crashes[0].quality == "unwound" and crashes[0].frames[0].function == f"main.{bug}"
        found[bug] = crashes[0].signature
    assert len(set(found.values())) == 3
