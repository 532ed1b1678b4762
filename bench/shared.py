"""Answers: what do dumps of many processes that share memory take, when what is equal in them stands once.

A PostgreSQL of its own serves 20 clients of pgbench. While they work, each of their server processes is forked from
outside and its twin dumps by the kernel with every bit set (tests/kernel/forker.c), one after the other, so that the
shared buffers change from dump to dump. Then ``share_once``, ``restore``, which must give every byte back, and on XFS
``dedupe`` are timed, and what the cores take on the disk is counted.

This needs root, PostgreSQL with pgbench, a compiler, and ``core`` in kernel.core_pattern.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.measure import BenchError
from bench.options import Options
from bench.report import Results, size_text
from bench.sharing import mounted

QUESTION = "What do 20 dumps of a PostgreSQL pool take where equal shared memory stands once?"

DUMPS = 20
_BUFFERS = "128MB"
_SCALE = 10
"""pgbench's: 150 MB of tables and indices, more than the buffers hold."""
_EVERYTHING = 0x1FF


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Dump, share, restore and dedupe, once."""
    results = Results()
    root = (options.folder or Path(tempfile.gettempdir())).absolute()
    if os.geteuid() != 0:
        results.remarks.append("nothing was measured: only root can run a server as somebody else")
        return results
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=root) as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            tell(f"{DUMPS} dumps")
            cores = _dump_pool(folder)
            _share(cores, results, tell)
            tell("xfs")
            size = sum(path.stat().st_size for path in cores)
            with mounted(folder, "xfs", ("mkfs.xfs", "-q", "-m", "reflink=1"), size + (1 << 30)) as place:
                _dedupe(cores, place, results)
        except (BenchError, OSError, subprocess.CalledProcessError) as error:
            results.failures.append(str(error))
    return results


def _share(cores: list[Path], results: Results, tell: Callable[[str], None]) -> None:
    from corefilt.batching.shared.reduce import share_once
    from corefilt.batching.shared.restore import restore

    sums = _sums(cores)
    os.sync()
    tell("share_once")
    done, seconds = _timed(lambda: share_once(cores))
    if done.skipped:
        raise BenchError(f"left alone: {done.skipped}")
    results.remarks.append(
        f"{len(cores)} dumps: {size_text(done.before)} on disk; share_once: {size_text(done.after)} "
        f"({done.before / done.after:.1f} times less), {done.blocks} blocks taken out of {len(done.reduced)} cores, "
        f"{seconds:.1f} s; the manifest takes {size_text(os.path.getsize(done.manifests[0]))}"
    )
    tell("restore")
    restored, seconds = _timed(lambda: restore(done.manifests))
    same = "the same bytes" if _sums(cores) == sums else "OTHER BYTES"
    results.remarks.append(f"restore: {len(restored)} cores, {seconds:.1f} s, {same}")


def _dedupe(cores: list[Path], place: Path, results: Results) -> None:
    from corefilt.batching.shared.dedupe import dedupe

    empty = _used(place)
    copies = [Path(shutil.copy(path, place / path.name)) for path in cores]
    sums, before = _sums(copies), _used(place) - empty
    done, seconds = _timed(lambda: dedupe(copies))
    same = "the same bytes" if _sums(copies) == sums else "OTHER BYTES"
    results.remarks.append(
        f"dedupe on XFS: {size_text(before)} -> {size_text(_used(place) - empty)} of the file system, "
        f"{size_text(done.shared_bytes)} shared, {seconds:.1f} s, {same}"
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    done = work()
    return done, time.monotonic() - began


def _sums(paths: list[Path]) -> list[str]:
    sums = []
    for path in paths:
        with path.open("rb") as file:
            digest = sha256()
            while piece := file.read(1 << 24):
                digest.update(piece)
        sums.append(digest.hexdigest())
    return sums


def _used(place: Path) -> int:
    os.sync()
    room = os.statvfs(place)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


def _dump_pool(folder: Path) -> list[Path]:
    """Start the server and its clients, and have a twin of every server process dump."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from kernel.programs import compile_forker, template_of

    forker = compile_forker(folder)
    dumps, cores = folder / "dumps", folder / "cores"
    for place in (dumps, cores):
        place.mkdir()
    shutil.chown(dumps, "postgres", "postgres")
    found = []
    with _pool(folder) as pids:
        for number, pid in enumerate(pids):
            with template_of(pid, forker, dumps) as (_, dump):
                dump(_EVERYTHING)
            (core,) = dumps.iterdir()
            found.append(core.rename(cores / f"core.{number}"))
    for path in found:
        os.chown(path, 0, 0)
    return found


@contextlib.contextmanager
def _pool(folder: Path) -> Iterator[list[int]]:
    from kernel.programs import answers, as_user, ending, output_of, own_folder, wait_until

    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda home: int(home.parent.name))
    if not homes:
        raise BenchError("no PostgreSQL in /usr/lib/postgresql")
    programs, home = homes[-1], folder / "postgresql"
    home.mkdir()
    as_own = as_user("postgres")
    own_folder(home, "postgres")
    settings = ("-c", "listen_addresses=", "-c", f"shared_buffers={_BUFFERS}", "-c", "fsync=off")
    output_of([str(programs / "initdb"), "-D", str(home / "data"), "--auth=trust", "--no-sync"], cwd=home, **as_own)
    client = [str(programs / "psql"), "-X", "-A", "-t", "-q", "-h", str(home), "-d", "postgres"]
    load = [str(programs / "pgbench"), "-h", str(home)]

    def ask(text: str) -> list[str]:
        return output_of([*client, "-c", text], cwd=home, **as_own).split()

    quiet = {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_own}
    server = [str(programs / "postgres"), "-D", str(home / "data"), "-k", str(home), *settings]
    with ending(server, signal.SIGINT, **quiet):
        wait_until(lambda: answers(lambda: ask("select 1")), "PostgreSQL's first answer")
        output_of([*load, "-i", "-q", "-s", str(_SCALE), "postgres"], cwd=home, **as_own)
        query = "select pid from pg_stat_activity where application_name = 'pgbench' order by pid"
        with ending([*load, "-n", "-c", str(DUMPS), "-T", "3600", "postgres"], signal.SIGTERM, **quiet):
            wait_until(lambda: len(ask(query)) == DUMPS, "the pool")
            time.sleep(5)  # the pool is to have worked for a while
            yield [int(pid) for pid in ask(query)]
