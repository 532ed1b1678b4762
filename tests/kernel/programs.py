"""Real programs, started as their users start them, and twins of them that the kernel dumps.

A program goes on unharmed: forker.c makes it fork one child, the template, which never takes a step, and
every filter's twin is forked from that. So all twins of one visit have the same mappings, and the template can
be asked about them as long as the visit lasts.
"""

import errno
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kernel.dumps import (
    FILTERS,
    FULL,
    HERE,
    Core,
    Phdr,
    compile_c,
    dumping,
    huge_pages,
    may_change_system,
    only_file,
    read_tags,
    sweep,
    twin_folders,
)
from support.builds import PATIENCE

SOURCES = HERE / "programs_src"
ALL_FILTERS = range(FULL + 1)
SINGLE_BITS = tuple(1 << bit for bit in range(9))


class CannotStartError(Exception):
    """The program, or what it needs, is not here, or may not be visited."""


class HarmedError(AssertionError):
    """A program did not survive the visit."""


# ---- visits ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twin:
    """What is remembered of a twin's core: its headers and its length."""

    ident: bytes
    ehdr: dict[str, int]
    phdrs: list[Phdr]
    length: int

    @classmethod
    def of(cls, core: Core) -> "Twin":
        """Take the headers of a core, which can then go."""
        return cls(core.ident, core.ehdr, core.phdrs, len(core.data))


@dataclass
class Visit:
    """One process: its full core, its twins' headers, what /proc said of the template, and the template."""

    name: str
    folder: Path
    pid: int
    full: Path = field(init=False)
    maps: Path = field(init=False)
    smaps: Path = field(init=False)
    twins: dict[int, Twin] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)

    def portray(self) -> None:
        """Save maps and smaps of the template, as a user would."""
        self.maps, self.smaps = self.folder / "maps", self.folder / "smaps"
        for file in (self.maps, self.smaps):
            file.write_bytes(Path(f"/proc/{self.pid}", file.name).read_bytes())
        for line in self.maps.read_text(errors="surrogateescape").splitlines():
            fields = line.split(maxsplit=5)
            path = fields[5] if len(fields) == 6 else "(anonymous)"
            self.labels[int(fields[0].split("-")[0], 16)] = f"{fields[0]} {fields[1]} {fields[2]} {path}"

    def clear(self) -> None:
        """Remove the cores, once all is known of them."""
        for file in self.folder.iterdir():
            if file.is_file():
                file.unlink()

    def kernel_sizes(self, coredump_filter: int) -> list[int]:
        """Return p_filesz of every mapping as the kernel writes them: the most that any single bit keeps."""
        tables = [self.twins[0], *(self.twins[bit] for bit in SINGLE_BITS if bit & coredump_filter)]
        return [max(sizes) for sizes in zip(*map(load_sizes, tables), strict=True)]


def load_sizes(twin: Twin) -> list[int]:
    """Return p_filesz of every PT_LOAD, in order."""
    return [phdr.p_filesz for phdr in twin.phdrs if phdr.p_type == 1]


def compile_forker(folder: Path) -> Path:
    """Compile the program that forks others. Raises CannotCompileError."""
    return compile_c("forker.c", folder / "forker", "-O1")


@contextmanager
def template_of(pid: int, forker: Path, folder: Path) -> Iterator[tuple[int, Callable[[int], None]]]:
    """Fork a template from a process; give its pid, and what lets a twin of it dump into the folder."""
    command = [str(forker), "fork", str(pid), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:

        def answer() -> list[bytes]:
            words = process.stdout.readline().split()
            if not words:
                reason = process.stderr.read().decode().strip()
                raise CannotStartError(reason) if os.strerror(errno.EPERM) in reason else HarmedError(reason)
            return words

        def dump(coredump_filter: int) -> None:
            process.stdin.write(f"{coredump_filter:#x}\n".encode())
            process.stdin.flush()
            assert answer() == [b"core"]

        yield int(answer()[1]), dump
        process.stdin.close()
        words = process.stderr.read()
        if process.wait(PATIENCE) != 0:
            raise HarmedError(words.decode().strip())


@contextmanager
def dumped_here() -> Iterator[None]:
    """Keep the sysctls by which cores land where the process is. Raises CannotStartError if they do not."""
    with dumping() as reason:
        if reason is not None:
            raise CannotStartError(reason)
        yield


@contextmanager
def visit(name: str, pid: int, forker: Path, folder: Path) -> Iterator[Visit]:
    """Dump a running process under all FILTERS; the template lives as long as the body runs."""
    folder.mkdir()
    dumps = folder / "dumps"
    dumps.mkdir()
    os.chown(dumps, *owner_of(pid))
    with dumped_here(), template_of(pid, forker, dumps) as (template, dump):
        visited = Visit(name, folder, template)
        visited.portray()
        for coredump_filter in (*FILTERS, FULL):
            dump(coredump_filter)
            core = only_file(dumps)
            visited.twins[coredump_filter] = Twin.of(Core(core))
            if coredump_filter == FULL:
                visited.full = core.rename(folder / "full")
            else:
                core.unlink()
        yield visited


@contextmanager
def visit_zoo(program: Path, forker: Path, folder: Path) -> Iterator[Visit]:
    """Let the zoo dump as it does by itself, and hold one of its twins while the body runs.

    The one that is held has no core yet: its own filter is missing from ``twins`` until the visit is over.
    """
    (folder / "files").mkdir(parents=True)
    shutil.copytree(program.parent / "images", folder / "images")
    names = twin_folders(folder, (FULL, *FILTERS))
    held = FILTERS[-1]
    with ExitStack() as stack:
        hugetlbfs = stack.enter_context(huge_pages(folder, 12))
        stack.enter_context(dumped_here())
        zoo = [str(program), "wild", str(folder), hugetlbfs, *names]
        template, release = stack.enter_context(held_twin([str(forker), "hold", f"{held:#x}", *zoo]))
        stack.callback(sweep, parent_of(template))
        visited = Visit("zoo", folder, template)
        visited.portray()
        visited.full = only_file(folder / f"{FULL:#x}")
        visited.twins = {value: Twin.of(Core(only_file(folder / f"{value:#x}"))) for value in (FULL, *FILTERS[:-1])}
        tags, _, _ = read_tags(folder, Core(visited.full))
        visited.labels |= tags
        yield visited
        release()
        visited.twins[held] = Twin.of(Core(only_file(folder / f"{held:#x}")))


@contextmanager
def held_twin(command: list[str]) -> Iterator[tuple[int, Callable[[], None]]]:
    """Run `forker hold`; give the pid of what is held, and what lets it die and waits for the end of all."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:

        def release() -> None:
            process.stdin.close()
            words = process.stderr.read()
            if process.wait(PATIENCE) != 0:
                raise HarmedError(words.decode().strip())

        try:
            words = process.stdout.readline().split()
            if not words:
                raise HarmedError(process.stderr.read().decode().strip())
            yield int(words[1]), release
        except BaseException:
            process.kill()
            raise


def status_of(pid: int, field_name: str) -> list[str]:
    """Return the words of one line of a process's status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field_name}:"))
    return line.split()[1:]


def parent_of(pid: int) -> int:
    """Return the parent's pid."""
    return int(status_of(pid, "PPid")[0])


def owner_of(pid: int) -> tuple[int, int]:
    """Return the user and group that a process makes files as; the owner of /proc/PID is root once it changed them."""
    return int(status_of(pid, "Uid")[3]), int(status_of(pid, "Gid")[3])


# ---- programs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A running program: the processes worth a visit by name, and a check that it does its work."""

    pids: dict[str, int]
    check: Callable[[], None]


def need(*names: str) -> list[str]:
    """Find programs in PATH. Raises CannotStartError."""
    paths = [shutil.which(name) for name in names]
    for name, path in zip(names, paths, strict=True):
        if path is None:
            raise CannotStartError(f"no {name} in PATH")
    return paths


def need_system() -> None:
    """Refuse to start servers or to touch sysctls unless asked to. Raises CannotStartError."""
    if not may_change_system():
        raise CannotStartError("starts servers or reserves huge pages: only with COREFILT_TEST_SYSTEM=1 and as root")


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Look every so often until something is true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise CannotStartError(f"waited {PATIENCE} seconds for {what}")
        time.sleep(0.1)


def output_of(command: list[str], **options: object) -> str:
    """Run a client to its end. Raises HarmedError with its words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)
    if done.returncode != 0:
        raise HarmedError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def ending(command: list[str], number: signal.Signals, **options: object) -> Iterator[subprocess.Popen]:
    """Run something as long as the body runs, then send it a signal and wait."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextmanager
def conversing(command: list[str], *names: str) -> Iterator[Program]:
    """Run a program of ours: it says "ready PID...", answers lines, and ends with its input."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        words = process.stdout.readline().split()
        if words[:1] != ["ready"]:
            process.kill()
            raise CannotStartError(f"{command[0]}: {process.stderr.read().strip().splitlines()[-1:]}")

        def ask() -> str:
            process.stdin.write("sum\n")
            process.stdin.flush()
            return process.stdout.readline()

        first = ask()

        def check() -> None:
            if ask() != first:
                raise HarmedError(f"{command[0]} no longer answers {first.strip()}")

        try:
            yield Program(dict(zip(names, map(int, words[1:]), strict=True)), check)
        finally:
            process.stdin.close()
            if process.wait(PATIENCE) != 0:
                raise HarmedError(f"{command[0]} ended with {process.returncode}: {process.stderr.read().strip()}")


def answers(ask: Callable[[], object]) -> bool:
    """Tell whether a client that may come too early is answered."""
    try:
        ask()
    except HarmedError:
        return False
    return True


def as_user(name: str) -> dict[str, object]:
    """Return the options of subprocess that run something as another user. Raises CannotStartError."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise CannotStartError(f"no user {name}") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def own_folder(folder: Path, user: str) -> None:
    """Give the folder to a server's user."""
    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a temporary folder that other users can pass through, for as long as the body runs."""
    with tempfile.TemporaryDirectory(prefix="corefilt-programs-") as name:
        os.chmod(name, 0o755)
        yield Path(name)
