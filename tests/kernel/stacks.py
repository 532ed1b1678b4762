"""Cores of language runtimes that are deep in code of theirs: the programs are `programs_src/stacks.py` and its kin.

Each function lets a program run to the end that it is told (`how`), or kills it once it is ready; it gives the program
and the core. All raise CannotStartError.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kernel.programs import PATIENCE, SOURCES, CannotStartError, need, output_of
from kernel.victims import crashed

# Ways to end that are not a crash of their own.
WAITING = ("wait", "deadlock")


def said(command: list[str], core: Path) -> str:
    """What a tool prints of a core, wherever that lies; warnings included."""
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=4 * PATIENCE, stdin=subprocess.DEVNULL,
        env=os.environ | {"DEBUGINFOD_URLS": ""},
    )  # fmt: skip
    return (done.stdout + done.stderr).decode(errors="replace").replace(str(core), "CORE")


def core_of(folder: Path, command: list[str], how: str) -> Path:
    """Run a program to its end."""
    (folder / "crash").mkdir(exist_ok=True)
    return crashed([*command, how], folder / "crash", after="ready" if how in WAITING else None)


def python(folder: Path, sizes: Sequence[int], how: str, before: Sequence[str] = ()) -> tuple[str, Path]:
    """The system's CPython: threads, depth, heap."""
    program = os.path.realpath("/usr/bin/python3")
    if not Path(program).exists():
        raise CannotStartError("no /usr/bin/python3")
    return program, core_of(folder, [*before, program, str(SOURCES / "stacks.py"), *map(str, sizes)], how)


def go(
    folder: Path, sizes: Sequence[int], how: str, before: Sequence[str] = (), *,
    build: Sequence[str] = (), c: bool = False,
) -> tuple[str, Path]:  # fmt: skip
    """A program of Go: goroutines, depth, heap; ``build`` are options of the compiler, ``c`` adds threads of C."""
    compiler, *_ = need("go", *(["gcc"] if c else []))
    program = str(folder / "stacks")
    environment = os.environ | {
        "CGO_ENABLED": str(int(c)),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=mod",
        "HOME": str(folder),
    }
    sources = [str(SOURCES / name) for name in ("stacks.go", *(["native.go"] if c else []))]
    output_of([compiler, "build", *build, "-o", program, *sources], cwd=folder, env=environment)
    return program, core_of(folder, [*before, "env", "GOTRACEBACK=crash", program, *map(str, sizes)], how)


def java(
    folder: Path, options: Sequence[str], sizes: Sequence[int], how: str, before: Sequence[str] = ()
) -> tuple[str, Path]:
    """A JVM: threads, depth, heap."""
    machine, compiler = need("java", "javac")
    output_of([compiler, "-nowarn", "-d", str(folder), str(SOURCES / "Stacks.java")])
    program = os.path.realpath(machine)
    command = [*before, program, *options, "-XX:-UsePerfData", f"-XX:ErrorFile={folder}/error", "-cp", str(folder)]
    return program, core_of(folder, [*command, "Stacks", *map(str, sizes)], how)
