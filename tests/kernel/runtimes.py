"""Interpreters, virtual machines and programs that users run: each answers on a pipe as long as it is visited."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from kernel.dumps import huge_pages
from kernel.programs import (
    SOURCES,
    CannotStartError,
    HarmedError,
    Program,
    conversing,
    ending,
    need,
    need_system,
    output_of,
    wait_until,
)
from support.builds import INTERPRETER


@contextmanager
def java(folder: Path, name: str = "java", *options: str) -> Iterator[Program]:
    """A JVM as it comes, with a small heap and mapped files."""
    machine, compiler = need("java", "javac")
    output_of([compiler, "-J-XX:-UsePerfData", "-d", str(folder), str(SOURCES / "Mapped.java")])
    command = [machine, "-Xmx128m", "-XX:-UsePerfData", *options, "-cp", str(folder), "Mapped", str(folder)]
    with conversing(command, name) as program:
        yield program


def java_g1(folder: Path) -> AbstractContextManager[Program]:
    """G1, whatever the machine's size would have chosen."""
    return java(folder, "java g1", "-XX:+UseG1GC")


def java_zgc(folder: Path) -> AbstractContextManager[Program]:
    """ZGC, whose heap is a memfd that is mapped several times."""
    return java(folder, "java zgc", "-XX:+UseZGC")


@contextmanager
def java_large_pages(folder: Path) -> Iterator[Program]:
    """G1 with heap and compiled code in huge pages, and ZGC with its heap in a memfd of them."""
    need_system()
    with huge_pages(folder, 160) as hugetlbfs, ExitStack() as stack:
        if hugetlbfs == "-":
            raise CannotStartError("no huge pages here")
        pids: dict[str, int] = {}
        checks = []
        small = ("-XX:+UseLargePages", "-Xms64m", "-Xmx64m", "-XX:ReservedCodeCacheSize=16m")
        for name, collector in (("java large pages", "-XX:+UseG1GC"), ("java zgc large pages", "-XX:+UseZGC")):
            home = folder / collector.removeprefix("-XX:+")
            home.mkdir()
            running = stack.enter_context(java(home, name, *small, collector))
            pids |= running.pids
            checks.append(running.check)
        yield Program(pids, lambda: [check() for check in checks])


def python_with_numpy() -> str:
    """Return the system's CPython, if it has numpy."""
    interpreter = "/usr/bin/python3"
    has_numpy = [interpreter, "-c", "import numpy"]
    if not Path(interpreter).exists() or subprocess.run(has_numpy, capture_output=True, check=False).returncode:
        raise CannotStartError(f"no {interpreter} with numpy")
    return interpreter


@contextmanager
def python(folder: Path) -> Iterator[Program]:
    """The system's CPython and numpy, and a worker of multiprocessing."""
    interpreter = python_with_numpy()
    with conversing([interpreter, str(SOURCES / "shared.py"), str(folder)], "python", "python worker") as program:
        yield program


@contextmanager
def node(folder: Path) -> Iterator[Program]:
    """Node with worker threads."""
    (interpreter,) = need("node")
    with conversing([interpreter, str(SOURCES / "workers.js"), str(folder)], "node") as program:
        yield program


@contextmanager
def huge(folder: Path) -> Iterator[Program]:
    """CPython and numpy on huge pages of every kind."""
    need_system()
    interpreter = python_with_numpy()
    with huge_pages(folder, 10) as hugetlbfs:
        if hugetlbfs == "-":
            raise CannotStartError("no huge pages here")
        with conversing([interpreter, str(SOURCES / "huge.py"), hugetlbfs], "huge pages") as running:
            yield running


@contextmanager
def sqlite(folder: Path) -> Iterator[Program]:
    """A writer and a reader of one database in WAL mode, mapped by both."""
    with ExitStack() as stack:
        command = [INTERPRETER, str(SOURCES / "wal.py"), str(folder / "database")]
        writer = stack.enter_context(conversing([*command, "write"], "sqlite writer"))
        reader = stack.enter_context(conversing([*command, "read"], "sqlite reader"))

        def check() -> None:
            writer.check()
            reader.check()

        yield Program(writer.pids | reader.pids, check)


@contextmanager
def wheel(folder: Path) -> Iterator[Program]:
    """A wheel whose libraries auditwheel has rewritten (patchelf), fetched for this visit."""
    need_system()
    packages = folder / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*install, "--target", str(packages), "plyvel"], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise CannotStartError(f"no wheel of plyvel: {done.stderr.strip().splitlines()[-1:]}")
    command = [INTERPRETER, str(SOURCES / "leveldb.py"), str(packages), str(folder / "database")]
    with conversing(command, "wheel (plyvel)") as program:
        yield program


@contextmanager
def emacs(folder: Path) -> Iterator[Program]:
    """Emacs in batch mode; what it dumped when it was built (.pdmp) is mapped and written to."""
    (editor,) = need("emacs")
    with conversing([editor, "-Q", "--batch", "-l", str(SOURCES / "answering.el")], "emacs") as program:
        yield program


@contextmanager
def mono(folder: Path) -> Iterator[Program]:
    """Mono, which maps programs and libraries of a format that is not ELF."""
    machine, compiler = need("mono", "mcs")
    program = folder / "mapped.exe"
    output_of([compiler, f"-out:{program}", str(SOURCES / "mapped.cs")])
    with conversing([machine, str(program), str(folder / "file")], "mono") as running:
        yield running


@contextmanager
def go(folder: Path) -> Iterator[Program]:
    """A program without a C library."""
    (compiler,) = need("go")
    program = folder / "mapped"
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=mod",
        "HOME": str(folder),
    }
    output_of([compiler, "build", "-o", str(program), str(SOURCES / "mapped.go")], cwd=folder, env=environment)
    with conversing([str(program), str(folder / "file")], "go") as running:
        yield running


@contextmanager
def chromium(folder: Path) -> Iterator[Program]:
    """A browser without a screen, its renderer, and its other helpers; without a sandbox, as root has to run it."""
    need_system()
    (browser,) = need("chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    page = "data:text/html,<script>let a = new Float64Array(1e6).fill(1)</script>text"
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    quiet["env"] = os.environ | {"TMPDIR": str(folder), "HOME": str(folder)}
    with ending([browser, *options, f"--user-data-dir={folder / 'data'}", page], signal.SIGTERM, **quiet) as process:
        wait_until(lambda: "renderer" in helpers_of(process.pid), "Chromium's renderer")
        found = helpers_of(process.pid)

        def check() -> None:
            gone = [name for name, pid in found.items() if not Path(f"/proc/{pid}").exists()]
            if gone or process.poll() is not None:
                raise HarmedError(f"Chromium lost {', '.join(gone)}")

        yield Program({f"chromium {name}": pid for name, pid in {"browser": process.pid, **found}.items()}, check)


def helpers_of(parent: int) -> dict[str, int]:
    """Return what descends from a browser, by its --type; of several of one type, one."""
    found: dict[str, int] = {}
    waiting = [parent]
    while waiting:
        pid = waiting.pop()
        try:
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        waiting += children
        kind = words.partition("--type=")[2].replace("\0", " ").split(" ")[0]
        if kind in ("renderer", "utility", "gpu-process"):
            found[kind] = pid
    return found
