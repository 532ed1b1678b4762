"""Cores of real programs, bundled here and opened in another release of Debian, with that one's gdb and lldb.

``COREFILT_OTHER_RELEASE`` names a directory with that release, gdb and lldb in it; without it, debootstrap makes one,
which takes two minutes and 700 MB.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from kernel import stacks, victims
from kernel.programs import (
    SOURCES,
    CannotStartError,
    as_user,
    dumped_here,
    need,
    need_system,
    open_folder,
    output_of,
    own_folder,
    wait_until,
)
from support.bundles import content_of, names_of
from support.run import COREFILT

pytestmark = pytest.mark.slow
PATIENCE = 300
RELEASES = ("bookworm", "trixie")
PRINTERS = (
    "python import sys; sys.path.insert(0, '/host/usr/share/gcc/python'); "
    "from libstdcxx.v6 import register_libstdcxx_printers; register_libstdcxx_printers(None)"
)


@dataclass(frozen=True)
class Release:
    """Another release, whose debuggers ``path`` starts; ``temporary`` has the same name inside and outside."""

    root: Path
    path: str
    temporary: Path

    def opened(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `corefilt open` with its debuggers."""
        environment = {**os.environ, "PATH": self.path, "TMPDIR": str(self.temporary), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [*COREFILT, "open", *arguments], env=environment, capture_output=True, text=True, errors="replace",
            timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def of_originals(self, program: str, core: Path) -> str:
        """What its gdb shows with the files of this machine, which it finds in /host for as long as that takes."""
        settings = [
            "set debuginfod enabled off", "set auto-load safe-path /host",
            "set libthread-db-search-path /host/usr/lib/x86_64-linux-gnu",
            "set debug-file-directory /host/usr/lib/debug", "set sysroot /host",
        ]  # fmt: skip
        commands = [f"file /host{program}", f"core-file /host{core.resolve()}", PRINTERS]
        script = Path(f"/usr/share/gdb/auto-load{program}-gdb.py")
        commands += [f"source /host{script}"] if script.exists() else []
        line = ["chroot", str(self.root), "gdb", "-nx", "-q", "-batch"]
        for words in settings:
            line += ["-iex", words]
        for words in [*commands, "thread apply all bt full"]:
            line += ["-ex", words]
        (self.root / "host").mkdir(exist_ok=True)
        mounted = ["unshare", "-m", "sh", "-c", f'mount --bind / {self.root}/host && exec "$@"', "sh", *line]
        done = subprocess.run(
            mounted, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return shown(done.stdout)


def shown(text: str) -> str:
    """The backtraces, with one name for the directory that stands for the core's machine."""
    text = re.sub(r"(?:/\S*)?/corefilt-open-[a-z0-9_]+/bundle/root|/host(?=/)", "", text)
    return text[text.index("\nThread ") :]


def frames(text: str) -> list[str]:
    """Number, function and place of every frame; how arguments are printed may differ."""
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?\S+", text, flags=re.MULTILINE)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The release after or before this one."""
    try:
        need_system()
        named = os.environ.get("COREFILT_OTHER_RELEASE")
        root = Path(named) if named else made_release(tmp_path_factory.mktemp("release"))
    except CannotStartError as error:
        pytest.skip(str(error))
    root = root.resolve()
    # The same name leads to it from within.
    inside = root / str(root)[1:]
    inside.parent.mkdir(parents=True, exist_ok=True)
    if not inside.is_symlink():
        inside.symlink_to("/")
    programs = tmp_path_factory.mktemp("programs")
    for name in ("gdb", "lldb"):
        (programs / name).write_text(f'#!/bin/sh\nexec chroot {root} {name} "$@"\n')
        (programs / name).chmod(0o755)
    temporary = root / "tmp" / "opened"
    temporary.mkdir(exist_ok=True)
    yield Release(root, f"{programs}:{os.environ['PATH']}", temporary)
    assert list(temporary.iterdir()) == []
    temporary.rmdir()


def made_release(folder: Path) -> Path:
    """Have debootstrap make one. Raises CannotStartError."""
    unshare, debootstrap = need("unshare", "debootstrap")
    here = Path("/etc/os-release").read_text()
    name = next(name for name in reversed(RELEASES) if f"VERSION_CODENAME={name}" not in here)
    root = folder / name
    # debootstrap mounts /proc below it, and what is killed leaves that behind: in a mount namespace, it goes too.
    command = [unshare, "--mount", debootstrap, "--variant=minbase", "--include=gdb,lldb,python3", name, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode != 0:
        raise CannotStartError(f"debootstrap: {done.stdout.strip().splitlines()[-1:]}")
    return root


def containers(folder: Path) -> tuple[str, Path]:
    """C++ with threads."""
    program = folder / "containers"
    (compiler,) = need("g++")
    subprocess.run([compiler, "-g", "-O0", "-pthread", "-o", program, SOURCES / "containers.cc"], check=True)
    (folder / "crash").mkdir()
    return str(program), victims.crashed([str(program)], folder / "crash")


def postgresql(folder: Path) -> tuple[str, Path]:
    """A backend of its own in the middle of a query; a twin's thread would be called by its template's number."""
    need_system()
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda home: int(home.parent.name))
    if not homes:
        raise CannotStartError("no PostgreSQL in /usr/lib/postgresql")
    program, as_own = homes[-1] / "postgres", as_user("postgres")
    with open_folder() as home, dumped_here():
        own_folder(home, "postgres")
        data = home / "data"
        output_of([str(homes[-1] / "initdb"), "-D", str(data), "--no-sync", "--locale=C.UTF-8"], cwd=home, **as_own)
        command = [str(program), "--single", "-D", str(data), "postgres"]
        options = {"cwd": home, "stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, preexec_fn=victims.unlimited, **options, **as_own) as process:
            process.stdin.write("select pg_sleep(600)\n")
            process.stdin.flush()
            waiting = Path(f"/proc/{process.pid}/wchan")
            wait_until(lambda: "poll" in waiting.read_text(), "PostgreSQL to sleep")
            process.send_signal(signal.SIGABRT)
            process.wait(PATIENCE)
        (core,) = data.glob("core*")
        return str(program), Path(shutil.move(core, folder / "core"))


PROGRAMS = {
    "c++": containers,
    "python": lambda folder: stacks.python(folder, (3, 10, 1), "abort"),
    "java": victims.java,
    "postgresql": postgresql,
}


def made(core: Path, out: Path, *options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `corefilt bundle` on a core that may be another user's."""
    command = [*COREFILT, "bundle", core, "-o", out, "-f", *options]
    told = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=told)


@pytest.mark.parametrize("name", PROGRAMS)
def test_another_release_shows_what_it_shows_of_the_originals(
    name: str, release: Release, cores: None, tmp_path: Path
) -> None:
    try:
        program, core = PROGRAMS[name](tmp_path)
    except CannotStartError as error:
        pytest.skip(str(error))
    bundle = tmp_path / "bundle"
    done = made(core, bundle, "--sysroot", "/")
    assert done.returncode == 0, done.stderr
    print(done.stderr)
    original = release.of_originals(program, core)
    assert len(frames(original)) > 5
    trusted = release.opened(bundle, "--bt", "--trust")
    assert trusted.returncode == 0, trusted.stderr
    assert shown(trusted.stdout) == original
    alone = release.opened(bundle, "--bt")
    assert sorted(frames(shown(alone.stdout))) == sorted(frames(original))
    lldb = release.opened(bundle, "--bt", "--lldb")
    threads = len(re.findall(r"^Thread \d", original, flags=re.MULTILINE))
    assert lldb.returncode == 0 and len(re.findall(r"thread #\d+", lldb.stdout)) == threads
    minimal = made(core, bundle, "--sysroot", "/", "--minimal")
    assert minimal.returncode == 0, minimal.stderr
    print(minimal.stderr)
    small = release.opened(bundle, "--bt", "--trust")
    assert frames(shown(small.stdout)) == frames(original)


def test_files_of_another_release_are_refused_by_name(release: Release, cores: None, tmp_path: Path) -> None:
    try:
        program, core = containers(tmp_path)
    except CannotStartError as error:
        pytest.skip(str(error))
    done = made(core, tmp_path / "bundle", "--sysroot", release.root)
    assert done.returncode == 4
    libc = os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6")
    assert f"mismatched: {libc}: has build-id " in done.stderr
    assert f"missing: {program}" in done.stderr
    done = release.opened(core, "--bt", "--sysroot", release.root)
    assert done.returncode == 4
    assert "corefilt: /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2: has build-id " in done.stderr


@contextmanager
def debuginfod(folder: Path, served: Path) -> Iterator[str]:
    """A server of what lies in a directory; yields its address once it has looked through that."""
    port = 18000 + os.getpid() % 10000
    (program,) = need("debuginfod")
    address = f"http://127.0.0.1:{port}"
    command = [program, "-F", "-p", str(port), "-d", str(folder / "db"), "-t", "0", str(served)]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:

            def ready() -> bool:
                try:
                    with urlopen(f"{address}/metrics", timeout=5) as answer:
                        return bool(re.search(rb"thread_work_pending\{role=\"scan\"\} 0", answer.read()))
                except OSError:
                    return False

            wait_until(ready, "debuginfod")
            yield address
        finally:
            server.terminate()


def test_what_is_missing_comes_from_a_server(cores: None, tmp_path: Path) -> None:
    """A program without its debug information, and then without itself, where a server has both."""
    served = tmp_path / "served"
    served.mkdir()
    try:
        strip, copy = need("strip", "objcopy")
        program, core = containers(tmp_path)
        subprocess.run([copy, "--only-keep-debug", program, served / "containers.debug"], check=True)
        subprocess.run([strip, program], check=True)
        shutil.move(program, served)
        serving = debuginfod(tmp_path, served)
        bundle, environment = tmp_path / "bundle", {"XDG_CACHE_HOME": str(tmp_path / "none")}
        assert made(core, bundle, "--sysroot", "/").returncode == 4
        with serving as address:
            done = made(core, bundle, "--sysroot", "/", "--debuginfod", DEBUGINFOD_URLS=address, **environment)
    except CannotStartError as error:
        pytest.skip(str(error))
    assert done.returncode == 0, done.stderr
    members = names_of(bundle)
    assert f"root{program}" in members and content_of(bundle, f"root{program}") == (served / "containers").read_bytes()
    kept = [content_of(bundle, name) for name in members if name.startswith("debug/.build-id/")]
    assert (served / "containers.debug").read_bytes() in kept
    # Now there is nobody to ask.
    done = made(core, bundle, "--sysroot", "/", "--debuginfod", DEBUGINFOD_URLS=address, **environment)
    assert done.returncode == 1 and "Connection refused" in done.stderr
