"""Runs the command line, and holds what it did against what it promises."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support import ready
from support.builder import PN_XNUM, PT_LOAD, PT_NOTE, Ehdr, Phdr, parse_core
from support.builds import PATIENCE, SANITIZED, UNTRACED

COREFILT = (sys.executable, "-m", "corefilt")
MIB = 1 << 20


@cache
def hostile_memory() -> int:
    """Return the address space of a run on a hostile core, in bytes: what a header claims must not be allocated.

    Twice what a run may take: the bare interpreter and 40 MiB.
    """
    command = [sys.executable, "-c", "print(next(line for line in open('/proc/self/status') if 'VmPeak' in line))"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return 2 * (int(told.split()[1]) * 1024 + 40 * MIB)


@dataclass(frozen=True)
class Done:
    """What a run left: `code` is negative for a signal, `err` the lines of standard error."""

    code: int
    out: bytes
    err: tuple[str, ...]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make the environment of a run: the caller's, without what would change the answers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COREFILT_")}
    return {**kept, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "110", **(extra or {})}


def child_setup(memory: int | None = None, file_size: int | None = None) -> Callable[[], None]:
    """Make the function for `preexec_fn`: limits, and a SIGINT that works although tests may ignore it."""

    def setup() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if memory is not None and not SANITIZED:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return setup


def start(
    *args: str | Path, memory: int | None = None, file_size: int | None = None, **options: Any
) -> subprocess.Popen[bytes]:
    """Start corefilt with pipes or what `options` say, for tests that talk to it while it runs."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    # A signal that comes while the tracer is at work is lost.
    options["env"] = environment({**UNTRACED, **(options.get("env") or {})})
    options.setdefault("preexec_fn", child_setup(memory, file_size))
    prefix = options.pop("prefix", ())
    return subprocess.Popen([*prefix, *COREFILT, *(os.fspath(arg) for arg in args)], **options)


def asleep(pid: int) -> bool:
    """Tell whether a process has settled down to wait, seen three times in a row."""
    for _ in range(3):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            return False
        time.sleep(0.02)
    return True


def without_privileges() -> tuple[str, ...]:
    """Make the words before a command that take root's way around permissions from it; nothing for others."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may do everything, and setpriv (util-linux) is not installed to change that")
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def finish(process: subprocess.Popen[bytes], data: bytes | None = None, timeout: float = PATIENCE) -> Done:
    """Feed `data` and wait for the end; a run that does not end is killed and fails the test."""
    try:
        out, err = process.communicate(data, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return _done(process.returncode, out or b"", err or b"")


def _done(code: int, out: bytes, err: bytes) -> Done:
    lines = err.decode(errors="backslashreplace").splitlines()
    assert not any("Traceback" in line for line in lines), "\n".join(lines)
    return Done(code, out, tuple(lines))


def corefilt(*args: str | Path, pipe: bytes | None = None, source: Path | None = None, **options: Any) -> Done:
    """Run corefilt to its end.

    `pipe` sends bytes through a pipe to its standard input, `source` a file, by way of cat. The output of a
    run that names no other goes through a pipe, too.
    """
    timeout = options.pop("timeout", PATIENCE)
    if source is None:
        return _corefilt(args, pipe, timeout, options)
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as cat:
        assert cat.stdout is not None
        with cat.stdout as piped:
            return _corefilt(args, None, timeout, {**options, "stdin": piped})


def _corefilt(args: tuple[str | Path, ...], data: bytes | None, timeout: float, options: dict[str, Any]) -> Done:
    """Have the program that is ready do it, where what is asked for is something that it can do."""
    given = {name: options[name] for name in ("stdin", "stdout") if options.get(name) is not None}
    files = {name: file if isinstance(file, int) else file.fileno() for name, file in given.items()}
    if options.keys() - {"stdin", "stdout", "env", "cwd", "memory", "file_size"} or min(files.values(), default=0) < 0:
        if data is not None:
            options["stdin"] = subprocess.PIPE
        return finish(start(*args, **options), data, timeout)
    code, out, err = ready.run(
        [os.fspath(arg) for arg in args], environment(options.get("env")), cwd=options.get("cwd"),
        stdin=data if data is not None else files.get("stdin"), stdout=files.get("stdout"),
        memory=None if SANITIZED else options.get("memory"), file_size=options.get("file_size"), timeout=timeout,
    )  # fmt: skip
    return _done(code, out, err)


def assert_error(done: Done, *words: str, code: int | Sequence[int] = 1, out: bytes = b"") -> None:
    """Hold an error against the form that all errors have: one line, at most one more that helps."""
    said = "\n".join(done.err)
    codes = [code] if isinstance(code, int) else code
    assert done.code in codes, f"exit {done.code}, not {code}: {said}"
    assert done.out == out
    errors = [line for line in done.err if line.startswith("corefilt: ") and "warning" not in line]
    assert len(errors) == 1, said
    for line in done.err[done.err.index(errors[0]) + 1 :]:
        assert line.startswith(("  try: ", "  hint: ")), said
    assert len(done.err) <= 2 + sum("warning" in line for line in done.err), said
    missing = [word for word in words if word.lower() not in said.lower()]
    assert not missing, f"{missing} not in: {said}"


def assert_usage(done: Done, *words: str) -> None:
    """Hold a usage error against exit 2; the option parser may print its usage before the line."""
    said = "\n".join(done.err)
    assert done.code == 2, f"exit {done.code}: {said}"
    assert done.out == b""
    assert any(line.startswith("corefilt") for line in done.err), said
    missing = [word for word in words if word.lower() not in said.lower()]
    assert not missing, f"{missing} not in: {said}"


def content(path: Path) -> bytes | str:
    """Read a file, unless it is one of those that are large for the sake of being large."""
    size = path.stat().st_size
    return path.read_bytes() if size <= 256 * MIB else f"{size} bytes"


def listing(folder: Path) -> dict[str, bytes | str]:
    """Record every name under a folder with its content, or what stands there instead of content."""
    return {
        str(path.relative_to(folder)): content(path)
        if path.is_file() and not path.is_symlink()
        else f"-> {os.readlink(path)}"
        if path.is_symlink()
        else "special"
        for path in sorted(folder.rglob("*"))
    }


def present(core: bytes | memoryview, phdr: Phdr) -> int:
    """Count the bytes of a segment that the file really has."""
    return max(0, min(phdr.p_filesz, len(core) - phdr.p_offset))


def whole_notes(core: bytes, ehdr: Ehdr, phdr: Phdr) -> int:
    """Count the bytes of a note segment that the file really has; where it is cut, up to the last whole note.

    Zeros behind that are none.
    """
    there = present(core, phdr)
    if there == phdr.p_filesz:
        return there
    at = 0
    while at + 12 <= there:
        order = "little" if ehdr.little_endian else "big"
        start = phdr.p_offset + at
        namesz, descsz = (int.from_bytes(core[start + i : start + i + 4], order) for i in (0, 4))
        if not any(core[start : start + 12]):
            break
        end = at + 12 + -(-namesz // 4) * 4 + descsz
        if end > there:
            break
        at = min(-(-end // 4) * 4, there)
    return at


def described_end(ehdr: Ehdr, phdrs: Sequence[Phdr]) -> int:
    """Return where the last thing ends that the headers speak of."""
    ends = [ehdr.e_phoff + ehdr.phnum * ehdr.e_phentsize, ehdr.e_shoff + ehdr.e_shnum * ehdr.e_shentsize]
    return max([*ends, *(phdr.p_offset + phdr.p_filesz for phdr in phdrs)])


def without_sections(ehdr: Ehdr) -> Ehdr:
    """Take out what an ELF header says of sections; e_shentsize may stay, as it speaks of none."""
    return ehdr._replace(e_shoff=0, e_shentsize=0, e_shnum=0, e_shstrndx=0)


def table_moves(ehdr: Ehdr, phdrs: Sequence[Phdr]) -> bool:
    """Tell whether the program headers stand behind payload, as delve writes them: then they move up with it."""
    return any(phdr.p_filesz and phdr.p_offset < ehdr.e_phoff for phdr in phdrs)


def assert_promises(before: bytes, after: bytes, *, header_final: bool = True, overlapping: bool = False) -> None:
    """Hold a filtered core against its input by an independent reader.

    Same tables but for sizes and places, same notes (of cut ones those that are whole), every byte that is
    there equal to the input's at the same address, nothing larger than before. Where the section headers of the
    input are cut off, they may be taken out of the ELF header, or, when they are the one of PN_XNUM, be made
    again. `header_final` False is for a damaged core written down a pipe: there the header was sent before the
    damage was seen, and only what is there can be compared. `overlapping` is for an input whose segments share
    bytes already, with each other or with section headers, which may then be taken out, too.
    """
    old, old_phdrs = parse_core(before)
    new, new_phdrs = parse_core(after)
    sections_lost = old.e_shoff + old.e_shnum * old.e_shentsize > len(before)
    made_again = old.e_shentsize if sections_lost and old.e_phnum == PN_XNUM else 0
    assert len(after) <= len(before) + made_again
    if table_moves(old, old_phdrs):
        assert new.e_phoff <= old.e_phoff
        old = old._replace(e_phoff=new.e_phoff)
    if (sections_lost or overlapping) and old.e_shoff and not new.e_shoff:
        assert new._replace(e_shentsize=0) == without_sections(old)
    else:
        assert new._replace(e_shoff=0) == old._replace(e_shoff=0)
    assert len(new_phdrs) == len(old_phdrs)
    view_before, view_after = memoryview(before), memoryview(after)
    ranges = []
    for index, (was, now) in enumerate(zip(old_phdrs, new_phdrs, strict=True)):
        where = f"program header {index}"
        assert now._replace(p_offset=0, p_filesz=0) == was._replace(p_offset=0, p_filesz=0), where
        assert now.p_filesz <= was.p_filesz, where
        there = present(view_after, now)
        if header_final:
            assert there == now.p_filesz, f"{where} claims {now.p_filesz} bytes, {there} are there"
        if was.p_type == PT_NOTE:
            assert there == (whole_notes(before, old, was) if header_final else present(view_before, was)), where
        if not there:
            continue
        assert there <= present(view_before, was), where
        kept = view_after[now.p_offset : now.p_offset + there]
        assert kept == view_before[was.p_offset : was.p_offset + there], f"{where}: other bytes"
        ranges.append((now.p_offset, now.p_offset + there, where))
    ranges.append((0, new.e_ehsize, "the ELF header"))
    ranges.append((new.e_phoff, new.e_phoff + new.phnum * new.e_phentsize, "the program headers"))
    if new.e_shoff and header_final:
        ranges.append((new.e_shoff, new.e_shoff + new.e_shnum * new.e_shentsize, "the section headers"))
        assert ranges[-1][1] <= len(after)
    ranges.sort()
    for (_, end, first), (begin, _, second) in pairwise(() if overlapping else ranges):
        assert end <= begin, f"{first} overlaps {second}"


def kept_sizes(core: bytes) -> list[int]:
    """List p_filesz of every PT_LOAD."""
    return [phdr.p_filesz for phdr in parse_core(core)[1] if phdr.p_type == PT_LOAD]
