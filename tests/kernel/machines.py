"""QEMU with its guest's memory from each of its backends, which map it in every way that there is."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kernel.dumps import huge_pages
from kernel.programs import CannotStartError, HarmedError, Program, ending, need, need_system, wait_until

MEBIBYTES = 16


def backends(folder: Path, memory: Path, huge: str) -> dict[str, str]:
    """Return the backends by name, in QEMU's own words; ``memory`` lies in /dev/shm."""
    found = {"ram": "memory-backend-ram", "ram shared": "memory-backend-ram,share=on"}
    for sharing in ("on", "off"):
        name = "shared" if sharing == "on" else "private"
        found[f"memfd {name}"] = f"memory-backend-memfd,share={sharing}"
        found[f"file {name}"] = f"memory-backend-file,share={sharing},mem-path={folder / sharing}"
        found[f"directory {name}"] = f"memory-backend-file,share={sharing},mem-path={folder}"
        found[f"/dev/shm {name}"] = f"memory-backend-file,share={sharing},mem-path={memory / sharing}"
        if huge != "-":
            found[f"huge memfd {name}"] = f"memory-backend-memfd,hugetlb=on,share={sharing}"
            found[f"hugetlbfs {name}"] = f"memory-backend-file,share={sharing},mem-path={huge}"
    return found


def ask(path: Path, command: str) -> dict[str, object]:
    """Have QEMU's monitor answer one command."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        words = client.makefile("rwb", buffering=0)
        words.readline()
        for each in ("qmp_capabilities", command):
            words.write(json.dumps({"execute": each}).encode() + b"\n")
            answer = json.loads(words.readline())
            while "event" in answer:
                answer = json.loads(words.readline())
        return answer["return"]


def running(path: Path) -> Callable[[], bool]:
    """Return what tells whether a machine runs."""

    def look() -> bool:
        try:
            return ask(path, "query-status")["status"] == "running"
        except OSError:
            return False

    return look


@contextmanager
def qemu(folder: Path) -> Iterator[Program]:
    """One machine for each backend, and one whose translated code is mapped twice."""
    need_system()
    (machine,) = need("qemu-system-x86_64")
    pids: dict[str, int] = {}
    looks = {}
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        memory = Path(stack.enter_context(TemporaryDirectory(prefix="corefilt-", dir="/dev/shm")))
        huge = stack.enter_context(huge_pages(folder, 4 * MEBIBYTES // 2))
        if huge == "-":
            raise CannotStartError("no huge pages here")
        for number, (name, backend) in enumerate(backends(folder, memory, huge).items()):
            path = folder / f"monitor-{number}"
            command = [machine, "-machine", "pc,memory-backend=ram", "-m", str(MEBIBYTES), "-display", "none"]
            command += ["-accel", "tcg,tb-size=8" + (",split-wx=on" if name == "ram" else ""), "-nodefaults"]
            command += ["-object", f"{backend},id=ram,size={MEBIBYTES}M", "-qmp", f"unix:{path},server=on,wait=off"]
            process = stack.enter_context(ending(command, signal.SIGTERM, **quiet))
            pids[f"qemu {name}"], looks[name] = process.pid, running(path)
            wait_until(looks[name], f"QEMU with {backend}")

        def check() -> None:
            stopped = [name for name, look in looks.items() if not look()]
            if stopped:
                raise HarmedError(f"QEMU no longer runs with {', '.join(stopped)}")

        yield Program(pids, check)
