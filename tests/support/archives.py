"""Archives of cores as systems keep them: in every wrapping, and the foreign cores as what is wrapped."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import lz4.frame
from kernel.dumps import dumping

from support.samples import sample_core

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FOREIGN = Path(os.environ.get("COREFILT_FOREIGN_CORES") or Path(__file__).parents[3] / "shared" / "foreign-cores")
MOST_OF_FOREIGN = 600 << 10
BOMB_MEMORY = 600 << 20
"""The address space of a run over a bomb, threads and their stacks included: what a bomb holds does not fit in."""
MAPS = "00400000-00401000 r-xp 00000000 08:01 1 /usr/bin/none\n"
MACHINE = "0123456789abcdef0123456789abcdef"


def foreign_cores(most: int = MOST_OF_FOREIGN) -> Iterator[tuple[str, bytes]]:
    """Give cores that other systems wrote, decompressed, up to a size."""
    for path in sorted(FOREIGN.rglob("*")):
        if path.is_file() and "not-linux" not in path.parts and path.suffix not in (".tsv", ".maps"):
            data = bz2.decompress(path.read_bytes()) if path.suffix == ".bz2" else path.read_bytes()
            if len(data) <= most:
                yield path.name.removesuffix(".bz2"), data


def real_cores() -> list[tuple[str, bytes]]:
    """List a crash of the demo's program, and what is there of foreign cores."""
    demo = files("corefilt.cli").joinpath("small.core.gz").read_bytes()
    return [("demo.core", gzip.decompress(demo)), *foreign_cores()]


def fresh_crashes(folder: Path, count: int) -> list[tuple[str, bytes]]:
    """List cores of this interpreter, made now in a folder; none where they would go elsewhere."""
    with dumping() as reason:
        return [] if reason is not None else [core for number in range(count) for core in _crashed(folder, number)]


def _crashed(folder: Path, number: int) -> list[tuple[str, bytes]]:
    place = folder / f"crash-{number}"
    place.mkdir(parents=True)
    # Without private anonymous memory it is small, and still the kernel's own.
    code = (
        "import os, mmap, resource, signal\n"
        "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "open('/proc/self/coredump_filter', 'w').write('0x12')\n"
        f"shared = mmap.mmap(-1, {4096 * (8 + number)}); shared.write(bytes(range(256)) * 64)\n"
        "os.kill(os.getpid(), signal.SIGABRT)\n"
    )
    done = subprocess.run([sys.executable, "-ISEc", code], cwd=place, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGABRT
    return [(f"fresh-{number}.core", path.read_bytes()) for path in place.iterdir()]


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    """Make a tar."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return held.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    """Make a zip, as IBM's core-dump-handler does."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return held.getvalue()


def report_of(core: bytes | None, maps: str = MAPS) -> bytes:
    """Make an apport report, as problem_report.py writes it: gzip in pieces, each a base64 of its own."""
    lines = [b"ProblemType: Crash", b"Architecture: amd64"]
    if core is not None:
        lines.append(b"CoreDump: base64")
        packed = gzip.compress(core, 1, mtime=0)
        lines += [b" " + base64.b64encode(packed[:10])]
        lines += [b" " + base64.b64encode(packed[at : at + 50000]) for at in range(10, len(packed), 50000)]
    lines += [b"ProcMaps:", *(b" " + line.encode() for line in maps.splitlines()), b"Signal: 11", b""]
    return b"\n".join(lines)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstd.compress(data, 1),
    "lz4": lz4.frame.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": bz2.compress,
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "lz4": lz4.frame.decompress,
    "xz": lzma.decompress,
    "gzip": gzip.decompress,
    "bzip2": bz2.decompress,
}


def put(path: Path, data: bytes) -> None:
    """Write a file, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def raw(folder: Path, name: str, core: bytes, number: int) -> str:
    put(folder / "raw" / name, core)
    return f"raw/{name}"


def packed(pack: str) -> Callable[[Path, str, bytes, int], str]:
    def way(folder: Path, name: str, core: bytes, number: int) -> str:
        # The name tells nothing of the format.
        put(folder / "packed" / f"{name}.{number % 7}.{pack[:2]}", PACK[pack](core))
        return f"packed/{name}.{number % 7}.{pack[:2]}"

    return way


def tar(folder: Path, name: str, core: bytes, number: int) -> str:
    put(folder / "tar" / f"{name}.tar", tar_of({"a/core": core, "b": b""}))
    return f"tar/{name}.tar/a/core"


def packed_tar(folder: Path, name: str, core: bytes, number: int) -> str:
    put(folder / "tar" / f"{name}.tgz", tar_of({"core": core}, "w:gz"))
    return f"tar/{name}.tgz/core"


def zipped(folder: Path, name: str, core: bytes, number: int) -> str:
    put(folder / "zip" / f"{name}.zip", zip_of({"x-dump-info.json": b"{}", "x.core": core}))
    return f"zip/{name}.zip/x.core"


def apport(folder: Path, name: str, core: bytes, number: int) -> str:
    put(folder / "apport" / f"{name}.crash", report_of(core))
    return f"apport/{name}.core"


def abrt(folder: Path, name: str, core: bytes, number: int) -> str:
    """Make a problem folder of abrt."""
    problem = folder / "abrt" / f"ccpp-{name}"
    for file, text in (("analyzer", "CCpp"), ("type", "CCpp"), ("executable", "/usr/bin/none"), ("maps", MAPS)):
        put(problem / file, text.encode())
    put(problem / "coredump", core)
    return f"abrt/ccpp-{name}/coredump"


def systemd(folder: Path, name: str, core: bytes, number: int) -> str:
    """Put a core where systemd-coredump would, with what it tells as attributes where they can be kept."""
    pack, suffix = [("zstd", ".zst"), ("lz4", ".lz4"), ("xz", ".xz")][number % 3]
    path = folder / "systemd" / f"core.victim.1000.{MACHINE}.{number}.1700000000000000{suffix}"
    put(path, PACK[pack](core))
    for key, value in (("pid", str(number)), ("uid", "1000"), ("signal", "6"), ("comm", "victim")):
        try:
            os.setxattr(path, f"user.coredump.{key}", value.encode())
        except OSError:
            break
    return str(path.relative_to(folder))


WAYS: tuple[Callable[[Path, str, bytes, int], str], ...] = (
    raw, *(packed(pack) for pack in PACK), tar, packed_tar, zipped, apport, abrt, systemd,
)  # fmt: skip
"""Each puts a core into an archive in its way, and tells the path below --to that it gets."""


def build(folder: Path, cores: list[tuple[str, bytes]], *, all_ways: bool = True) -> dict[str, bytes]:
    """Put every core into an archive in all ways, or in one of them in turn; give the full core for each output."""
    return {
        way(folder, name, core, number): core
        for number, (name, core) in enumerate(cores)
        for way in (WAYS if all_ways else (WAYS[number % len(WAYS)],))
    }


def small_cores(count: int) -> list[tuple[str, bytes]]:
    """Make cores that differ in size."""
    return [
        (f"core.{number}", sample_core(anon_pages=2 + number, shared_pages=1 + number % 5)) for number in range(count)
    ]


def lines_of(text: bytes) -> list[dict[str, object]]:
    """Read what --json says."""
    return [json.loads(line) for line in text.splitlines()]
