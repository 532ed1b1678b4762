"""Programs that crash in several ways, each with its core: what is cut to fit, and shown beside the whole."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from kernel import servers
from kernel.dumps import CannotCompileError, compile_c, only_file
from kernel.programs import (
    PATIENCE,
    SOURCES,
    CannotStartError,
    compile_forker,
    dumped_here,
    need,
    open_folder,
    template_of,
)


def unlimited() -> None:
    """Let a child dump core, whatever its size."""
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def crashed(command: list[str], folder: Path, after: str | None = None) -> Path:
    """Run a program until it dies, or kill it once it has said something; give its core."""
    with (
        dumped_here(),
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=unlimited
        ) as process,
    ):
        if after is not None:
            line = process.stdout.readline()
            process.send_signal(signal.SIGABRT)
            assert line.strip() == after
        process.wait(PATIENCE)
    return only_file(folder)


def ours(how: str, threads: int, *options: str) -> Callable[[Path], tuple[str, Path]]:
    """A crash of fit.c."""

    def start(folder: Path) -> tuple[str, Path]:
        (folder / "crash").mkdir()
        flags = ("-O1", "-fno-omit-frame-pointer", "-pthread", *options)
        try:
            program = compile_c("fit.c", folder / "fit", *flags)
        except CannotCompileError as error:
            raise CannotStartError(str(error)) from None
        return str(program), crashed([str(program), how, str(threads), "20"], folder / "crash")

    return start


def python(folder: Path) -> tuple[str, Path]:
    """CPython with twenty threads."""
    interpreter = os.path.realpath(need("python3")[0])
    return interpreter, crashed([interpreter, str(SOURCES / "threads.py")], folder)


def java(folder: Path) -> tuple[str, Path]:
    """A JVM with compiled and interpreted frames on twenty threads of ours and as many of its own."""
    machine, compiler = need("java", "javac")
    (folder / "crash").mkdir()
    subprocess.run([compiler, "-d", folder, SOURCES / "Threads.java"], check=True)
    command = [os.path.realpath(machine), "-Xmx128m", "-XX:-UsePerfData", "-cp", str(folder), "Threads"]
    return command[0], crashed(command, folder / "crash", after="ready")


def postgresql(folder: Path) -> tuple[str, Path]:
    """A backend that works with shared memory."""
    with open_folder() as home:
        (home / "data").mkdir()
        dumps = home / "dumps"
        dumps.mkdir(mode=0o777)
        try:
            forker = compile_forker(home)
        except CannotCompileError as error:
            raise CannotStartError(str(error)) from None
        with servers.postgresql(home / "data") as running:
            pid = running.pids["postgresql backend"]
            owner = Path(f"/proc/{pid}").stat()
            os.chown(dumps, owner.st_uid, owner.st_gid)
            program = os.readlink(f"/proc/{pid}/exe")
            with dumped_here(), template_of(pid, forker, dumps) as (_, dump):
                dump(0x1FF)
        return program, Path(shutil.move(only_file(dumps), folder / "core"))


VICTIMS: dict[str, Callable[[Path], tuple[str, Path]]] = {
    "threads": ours("threads", 200),
    "handler": ours("handler", 5),
    "handler within the stack": ours("handler-within", 5),
    "handler of a fiber": ours("handler-fiber", 5),
    "overflow": ours("overflow", 5),
    "overflow in a thread": ours("overflow-thread", 5),
    "overflow without handler": ours("bare", 5),
    "fiber": ours("fiber", 5),
    "32-bit threads": ours("threads", 20, "-m32"),
    "32-bit handler": ours("handler", 5, "-m32"),
    "python": python,
    "java": java,
    "postgresql": postgresql,
}
