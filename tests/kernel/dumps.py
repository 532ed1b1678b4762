"""Lets the kernel dump one process under many filters, and reads what it wrote.

The programs beside this file set their mappings up once and fork a twin per filter, so what differs between
two cores is the kernel's answer to the filter and nothing else. The reader below shares no code with
corefilt: a mistake in corefilt's idea of ELF must not hide itself.
"""

import ctypes
import fcntl
import json
import mmap
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from support.builds import PATIENCE
from support.run import Done, corefilt

HERE = Path(__file__).parent
PAGE = resource.getpagesize()
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
FULL = 0x1FF
FILTERS = (0x0, *(1 << bit for bit in range(9)), 0x3, 0x7, 0xF, 0x13, 0x31, 0x33, 0x7F)

# What the kernel keeps of a mapping, by its category in the zoo: the bits of which any keeps the whole of it,
# and the bit that keeps one page when none of those is set.
CATEGORIES = {
    "never": (0x0, 0x0),
    "anon": (0x1, 0x0),
    "shared-unlinked": (0x2, 0x0),
    "shared-linked": (0x8, 0x0),
    "file": (0x4, 0x0),
    "file+header": (0x4, 0x10),
    "written": (0x5, 0x0),
    "written+header": (0x5, 0x10),
    "huge-private": (0x20, 0x0),
    "huge-shared": (0x40, 0x0),
}


def rule(category: str, coredump_filter: int, length: int) -> int:
    """Return how many bytes of a mapping the rules of a kernel of 5.19 or later keep."""
    whole, header = CATEGORIES[category]
    if coredump_filter & whole:
        return length
    return PAGE if coredump_filter & header else 0


# ---- what this machine allows ----------------------------------------------------------------------------


def why_no_cores() -> str | None:
    """Say why a crash would leave no core in the working directory, or None when it would."""
    pattern = CORE_PATTERN.read_text().strip()
    if not pattern or pattern[0] in "|@" or "/" in pattern:
        return f"core_pattern is {pattern!r}: cores do not land in the working directory"
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return "the hard limit of RLIMIT_CORE is 0"
    return None


def may_change_system() -> bool:
    """Tell whether sysctls and mounts may be touched: only if asked to, and able to."""
    return os.environ.get("COREFILT_TEST_SYSTEM") == "1" and os.geteuid() == 0


def kernel_version() -> tuple[int, int]:
    """Return the running kernel's version, as far as rules of dumping depend on it."""
    major, minor = re.match(r"(\d+)\.(\d+)", os.uname().release).groups()
    return int(major), int(minor)


class _Turns:
    """Lets one process change what holds for the whole machine while no other process of tests depends on it.

    The lock is on the sysctl that matters most. Everybody may open it to read, and a lock takes no more: it is the same
    for every user, and no file is left behind. `.ci/run` takes it, too.
    """

    held: int | None = None

    @contextmanager
    def taken(self, how: int) -> Iterator[None]:
        """Wait for a turn; inside one that allows as much, another is there already."""
        if self.held is not None:
            assert self.held in (how, fcntl.LOCK_EX), "a sysctl is set inside dumping(): set it outside"
            yield
            return
        with CORE_PATTERN.open("rb") as file:
            fcntl.flock(file, how)
            self.held = how
            try:
                yield
            finally:
                self.held = None


_TURNS = _Turns()


@contextmanager
def sysctl(name: str, value: int | str | bytes) -> Iterator[None]:
    """Set a sysctl for a while."""
    file = Path("/proc/sys", name)
    with _TURNS.taken(fcntl.LOCK_EX):
        before = file.read_bytes()
        file.write_bytes(value if isinstance(value, bytes) else f"{value}\n".encode())
        try:
            yield
        finally:
            file.write_bytes(before)


@contextmanager
def dumping() -> Iterator[str | None]:
    """Keep sysctls as they are while a process is dumped elsewhere than in this folder; yield why it leaves no core."""
    with _TURNS.taken(fcntl.LOCK_SH):
        yield why_no_cores()


@contextmanager
def huge_pages(folder: Path, count: int) -> Iterator[str]:
    """Provide huge pages and a hugetlbfs while the body runs; where that is not allowed, yield "-"."""
    if not count or not may_change_system() or not Path("/proc/sys/vm/nr_hugepages").exists():
        yield "-"
        return
    before = int(Path("/proc/sys/vm/nr_hugepages").read_text())
    with sysctl("vm/nr_hugepages", before + count), ExitStack() as undo:
        where = folder / "hugetlbfs"
        where.mkdir()
        if subprocess.run(["mount", "-t", "hugetlbfs", "none", where], check=False).returncode != 0:
            yield "-"
            return
        undo.callback(unmount, where)
        yield str(where)


def unmount(where: Path) -> None:
    """Unmount once the last process that was killed has let go."""
    until = time.monotonic() + PATIENCE
    while subprocess.run(["umount", where], capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < until, f"{where} is busy"
        time.sleep(0.1)


# ---- programs --------------------------------------------------------------------------------------------


class CannotCompileError(Exception):
    """There is no compiler here, or not one that can do this."""


def compile_c(source: str, output: Path, *options: str) -> Path:
    """Compile a C file that lies beside this one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotCompileError("no C compiler (cc, gcc) in PATH")
    command = [compiler, "-g", *options, "-o", str(output), str(HERE / source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise CannotCompileError(f"{' '.join(['cc', *options, source])} failed: {' '.join(last)}")
    return output


# How the zoo's shared objects differ; all come from image.c. COPIES are the first of them again: something
# happens to these once they are loaded.
IMAGES = {
    "libplain.so": ("-fPIC", "-Wl,-z,relro,-z,separate-code"),
    "libnow.so": ("-fPIC", "-Wl,-z,relro,-z,now"),
    "libnorelro.so": ("-fPIC", "-Wl,-z,norelro"),
    "libnosep.so": ("-fPIC", "-Wl,-z,relro,-z,noseparate-code"),
    "libstripped.so": ("-fPIC", "-s", "-nostdlib"),
    "libbss.so": ("-fPIC", "-DBSS=(1<<22)"),
    "libmax2m.so": ("-fPIC", "-Wl,-z,max-page-size=0x200000"),
    "libtextrel.so": ("-fno-pic", "-mcmodel=large", "-Wl,-z,notext"),
}
COPIES = ("libunlinked.so", "libpatched.so", "libviewed.so", "libtwice.so")


def compile_zoo(folder: Path) -> Path:
    """Compile the zoo and the shared objects it loads, once for all its variants."""
    images = folder / "images"
    images.mkdir()
    for name, options in IMAGES.items():
        # What a linker cannot do is missed by the zoo, which says so; the plain one must be there.
        with suppress(CannotCompileError) if name != "libplain.so" else nullcontext():
            compile_c("image.c", images / name, "-O1", "-shared", *options)
    for name in COPIES:
        shutil.copy(images / "libplain.so", images / name)
    # Bound at once: a twin must not write addresses into a table the first time it calls something.
    return compile_c("zoo.c", folder / "zoo", "-O1", "-pthread", "-Wl,-z,now")


def run_program(command: list[str], timeout: float = PATIENCE) -> None:
    """Run a program of this folder, whose twins are dumped, to its end, and sweep up what outlives it."""
    with (
        dumping(),
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            _, words = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            sweep(process.pid)
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {words.strip()}")


def sweep(pid: int) -> None:
    """Remove the shared memory that a zoo leaves behind."""
    for leftover in Path("/dev/shm").glob(f"corefilt-zoo-{pid}-*"):
        leftover.unlink()
    try:
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()
    except OSError:
        return
    for line in segments[1:]:
        fields = line.split()
        if int(fields[4]) == pid:  # cpid, the creator
            ctypes.CDLL(None).shmctl(int(fields[1]), 0, None)  # IPC_RMID


def twin_folders(folder: Path, filters: tuple[int, ...]) -> list[str]:
    """Make the folder that each twin will die in; return their names, which are the filters to write."""
    names = [f"{value:#x}" for value in filters]
    for name in names:
        (folder / name).mkdir()
    return names


def only_file(folder: Path) -> Path:
    """Return the core in a twin's folder, whatever core_pattern calls it."""
    (core,) = folder.iterdir()
    return core


# ---- cores -----------------------------------------------------------------------------------------------

ELF_HEADER = (
    "e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize "
    "e_phentsize e_phnum e_shentsize e_shnum e_shstrndx"
)
PROGRAM_HEADER_64 = "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align"
PROGRAM_HEADER_32 = "p_type p_offset p_vaddr p_paddr p_filesz p_memsz p_flags p_align"
PT_LOAD, PT_NOTE, PN_XNUM = 1, 4, 0xFFFF


@dataclass(frozen=True)
class Phdr:
    """One program header, under the names of elf.h."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


class Core:
    """A little-endian core, as far as these tests look into it."""

    def __init__(self, path: Path) -> None:
        """Map the file and read its tables."""
        self.path = path
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert self.data[:4] == b"\x7fELF", f"{path} is not ELF"
        self.wide = self.data[4] == 2
        values = struct.unpack_from("<HHIQQQIHHHHHH" if self.wide else "<HHIIIIIHHHHHH", self.data, 16)
        self.ehdr = dict(zip(ELF_HEADER.split(), values, strict=True))
        self.phdrs = list(self._read_phdrs())
        self.loads = {phdr.p_vaddr: phdr for phdr in self.phdrs if phdr.p_type == PT_LOAD}
        note = self.phdrs[0]
        assert note.p_type == PT_NOTE, f"{path} does not begin with its notes"
        self.notes = self.data[note.p_offset : note.p_offset + note.p_filesz]

    @property
    def ident(self) -> bytes:
        """The sixteen bytes before the fields."""
        return self.data[:16]

    @property
    def xnum(self) -> tuple[int, ...] | None:
        """The ten fields of the section header that counts for e_phnum, if there is one."""
        if self.ehdr["e_phnum"] != PN_XNUM:
            return None
        form = "<IIQQQQIIQQ" if self.wide else "<IIIIIIIIII"
        return struct.unpack_from(form, self.data, self.ehdr["e_shoff"])

    def _read_phdrs(self) -> Iterator[Phdr]:
        count = self.ehdr["e_phnum"] if self.xnum is None else self.xnum[7]
        form = struct.Struct("<IIQQQQQQ" if self.wide else "<IIIIIIII")
        names = (PROGRAM_HEADER_64 if self.wide else PROGRAM_HEADER_32).split()
        assert self.ehdr["e_phentsize"] == form.size
        start = self.ehdr["e_phoff"]
        for values in form.iter_unpack(self.data[start : start + count * form.size]):
            yield Phdr(**dict(zip(names, values, strict=True)))

    def kept(self, address: int) -> bytes:
        """Return the bytes the core holds of the mapping at this address."""
        load = self.loads[address]
        return self.data[load.p_offset : load.p_offset + load.p_filesz]

    def sizes(self) -> dict[int, int]:
        """Return the p_filesz of every mapping, by its address."""
        return {address: load.p_filesz for address, load in self.loads.items()}


def changed_bytes(full: Core, small: Core) -> list[str]:
    """Name the mappings of which the small core holds other bytes than the full one."""
    wrong = []
    for address, load in small.loads.items():
        if full.kept(address)[: load.p_filesz] != small.kept(address):
            wrong.append(f"{address:#x}: {load.p_filesz} bytes kept, not all the input's")
    return wrong


# ---- corefilt --------------------------------------------------------------------------------------------

WAYS = ("file", "pipe-to-file", "pipe-to-pipe")


@dataclass(frozen=True)
class Run:
    """One run of corefilt over a full core."""

    core: Core
    words: str


def corefilt_command(*arguments: object) -> list[str]:
    """Return the command line that runs the installed corefilt."""
    return [sys.executable, "-m", "corefilt", *map(str, arguments)]


def run_corefilt(full: Path, coredump_filter: int, out: Path, *options: str, way: str = "file") -> Run:
    """Filter a core as a user would, from a file or a pipe, to a file or a pipe."""
    terms = [f"{coredump_filter:#x}"]
    if way == "file":
        done = corefilt(*terms, full, "-o", out, *options, cwd=out.parent)
    else:
        done = _through_pipe([*terms, *options], full, out, way)
    assert done.code == 0, done
    return Run(Core(out), "\n".join(done.err))


def inspect(core: Path, key: str) -> dict[int, str]:
    """Return what `corefilt inspect` says of every mapping under one key, by its address."""
    done = corefilt("inspect", core, "--json", cwd=core.parent)
    assert done.code == 0, done
    return {int(row["start"], 16): row[key] for row in json.loads(done.out)["mappings"]}


def _through_pipe(arguments: list[str], full: Path, out: Path, way: str) -> Done:
    """Run `cat full | corefilt > out`, or with one more cat behind it, so that both sides are pipes."""
    with ExitStack() as stack:
        target = stack.enter_context(out.open("wb"))
        source = stack.enter_context(subprocess.Popen(["cat", full], stdout=subprocess.PIPE))
        sink = None
        if way == "pipe-to-pipe":
            sink = stack.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=target))
        return corefilt(*arguments, stdin=source.stdout, stdout=sink.stdin if sink else target, cwd=out.parent)


# ---- the zoo ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disagreement:
    """A mapping of which corefilt kept another number of bytes than the kernel."""

    tag: str
    coredump_filter: int
    kernel: int
    corefilt: int

    def __str__(self) -> str:
        """Give the four values on one line."""
        return f"{self.coredump_filter:#5x}  {self.tag:34} kernel {self.kernel:8}  corefilt {self.corefilt:8}"


class Zoo:
    """One set of mappings, the kernel's dump of it under every filter, and corefilt's answers."""

    def __init__(self, program: Path, folder: Path, variant: str) -> None:
        """Set the mappings up and let the twins die."""
        self.folder = folder
        (folder / "files").mkdir(parents=True)
        shutil.copytree(program.parent / "images", folder / "images")
        names = twin_folders(folder, (*FILTERS, FULL))
        with huge_pages(folder, 12 if variant == "wild" else 0) as hugetlbfs:
            run_program([str(program), variant, str(folder), hugetlbfs, *names])
        self.twins = {value: Core(only_file(folder / f"{value:#x}")) for value in (*FILTERS, FULL)}
        self.full = self.twins[FULL]
        self.tags, self.categories, self.skipped = read_tags(folder, self.full)
        self._runs: dict[tuple[int, str, str], Run] = {}

    def tag(self, address: int) -> str:
        """Return the name of a mapping."""
        return self.tags.get(address, f"{address:#x}")

    def filtered(self, coredump_filter: int, unknown: str, way: str = "file") -> Run:
        """Return corefilt's output for the full core; each case runs once."""
        case = (coredump_filter, unknown, way)
        if case not in self._runs:
            out = self.folder / f"out-{coredump_filter:#x}-{unknown}-{way}"
            options = ("--unknown", unknown)
            self._runs[case] = run_corefilt(self.full.path, coredump_filter, out, *options, way=way)
        return self._runs[case]

    def disagreements(self, coredump_filter: int, unknown: str, way: str = "file") -> list[Disagreement]:
        """Hold corefilt's sizes against the kernel's."""
        kernel = self.twins[coredump_filter].sizes()
        mine = self.filtered(coredump_filter, unknown, way).core.sizes()
        assert mine.keys() == kernel.keys(), "corefilt's core lists other mappings than the kernel's"
        return [
            Disagreement(self.tag(address), coredump_filter, kernel[address], mine[address])
            for address in kernel
            if kernel[address] != mine[address]
        ]


def read_tags(folder: Path, full: Core) -> tuple[dict[int, str], dict[str, str], dict[str, str]]:
    """Return what a zoo wrote down: tags by address, categories by tag, and why others could not be made."""
    tags = dict(name_mappings((folder / "maps").read_text(errors="surrogateescape")))
    categories: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for line in (folder / "table.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "skipped" in row:
            skipped[row["tag"]] = row["skipped"]
        elif row["start"] not in full.loads:
            skipped[row["tag"]] = "the twins do not have it"
        else:
            tags[row["start"]] = row["tag"]
            categories[row["tag"]] = row["category"]
    return tags, categories, skipped


def name_mappings(maps: str) -> Iterator[tuple[int, str]]:
    """Name what the zoo did not make itself: the images' segments by file, number and protection."""
    seen: dict[str, int] = {}
    before = ""
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        start = int(fields[0].split("-")[0], 16)
        path = fields[5].removesuffix(" (deleted)") if len(fields) == 6 else ""
        if path.startswith("[") and path.endswith("]"):
            yield start, path
            continue
        before = path.rsplit("/", 1)[-1].removeprefix("memfd:") or before
        base = before if path else f"{before}+anonymous"
        number = seen[base] = seen.get(base, -1) + 1
        yield start, f"{base}#{number}:{fields[1]}"


def agreement_table(zoo: Zoo, unknown: str) -> tuple[str, float]:
    """Return a table of how often corefilt kept what the kernel kept, and the share over all filters."""
    lines = [f"{'filter':>7} {'mappings':>9} {'agree':>6} {'share':>8}   disagree"]
    total = same = 0
    for value in FILTERS:
        wrong = zoo.disagreements(value, unknown)
        count = len(zoo.full.loads)
        total, same = total + count, same + count - len(wrong)
        names = " ".join(sorted(case.tag for case in wrong))
        lines.append(f"{value:#7x} {count:9} {count - len(wrong):6} {1 - len(wrong) / count:8.2%}   {names}")
    lines.append(f"{'all':>7} {total:9} {same:6} {same / total:8.2%}")
    return "\n".join(lines), same / total


def matrix(zoo: Zoo) -> str:
    """Return what the kernel kept of every mapping, one column per filter: W whole, h one page, - nothing."""
    lines = [f"{'':36}" + "".join(f"{value:#6x}" for value in zoo.twins)]
    for address, load in zoo.full.loads.items():
        letters = {0: "-", PAGE: "h"} | {load.p_memsz: "W"}
        kept = (letters.get(twin.loads[address].p_filesz, "?") for twin in zoo.twins.values())
        lines.append(f"{zoo.tag(address):36}" + "".join(f"{letter:>6}" for letter in kept))
    return "\n".join(lines)
