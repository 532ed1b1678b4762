"""The file that bears a core's name: what this kernel leaves where something is in the way, and what corefilt does."""

import os
import pickle
import resource
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kernel.crashing import NOBODY, compile_crasher, crash, need_system, open_to_all
from kernel.dumps import CannotCompileError, sysctl

import corefilt
from corefilt.errors import CorefiltError, NoCoreError, OutputError

Prepare = Callable[[Path], None]


@pytest.fixture(scope="module")
def crasher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_system()
    try:
        program = compile_crasher(tmp_path_factory.mktemp("crasher"))
    except CannotCompileError as error:
        pytest.skip(str(error))
    open_to_all(program.parent)
    return program


@pytest.fixture(scope="module")
def full(crasher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have a core of the kernel's to name."""
    folder = tmp_path_factory.mktemp("full")
    with sysctl("kernel/core_pattern", "core"):
        crash(crasher, folder)
    open_to_all(folder)
    (folder / "core").chmod(0o644)
    return folder / "core"


def look(folder: Path) -> dict[str, tuple[object, ...]]:
    """Tell what stands in a folder: kind, mode, owner, links, and whether it is a core."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.iterdir()):
        status = path.lstat()
        what: object = stat.S_IFMT(status.st_mode)
        if path.is_symlink():
            what = os.readlink(path).replace(str(folder), "HERE")
        elif path.is_file():
            content = path.read_bytes()
            what = "a core" if content[:4] == b"\x7fELF" else content
        seen[path.name] = (what, stat.S_IMODE(status.st_mode), status.st_uid, status.st_nlink)
    return seen


def as_user(uid: int, work: Callable[[], object]) -> object:
    """Do something in a child process as another user, and return what came of it, or the error."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            try:
                told: object = work()
            except (CorefiltError, OSError) as error:
                told = (type(error).__name__, str(error))
            os.write(writer, pickle.dumps(told))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(said)


def filtered(full: Path, target: str, **options: object) -> Callable[[], object]:
    """Make the run that names the same core the same way."""
    # The package is loaded before a child gives up what that takes.
    corefilt.filter(full, filter="all", name="loaded", directory=str(full.parent), force=True)

    def work() -> object:
        return corefilt.filter(full, filter="all", name=target, force=True, **options).output  # type: ignore[arg-type]

    return work


# --- what is in the way -----------------------------------------------------------------------------------


def nothing(folder: Path) -> None:
    """Leave it empty."""


def a_regular_file(folder: Path) -> None:
    (folder / "core").write_bytes(b"old")
    (folder / "core").chmod(0o644)


def a_hard_link(folder: Path) -> None:
    (folder / "victim").write_bytes(b"old")
    os.link(folder / "victim", folder / "core")


def a_symbolic_link(folder: Path) -> None:
    (folder / "victim").write_bytes(b"old")
    (folder / "core").symlink_to(folder / "victim")


def a_link_to_nothing(folder: Path) -> None:
    (folder / "core").symlink_to(folder / "nowhere")


def a_fifo(folder: Path) -> None:
    os.mkfifo(folder / "core")


def a_directory(folder: Path) -> None:
    (folder / "core").mkdir()


def anothers_file_in_a_sticky_folder(folder: Path) -> None:
    folder.chmod(0o1777)
    (folder / "core").write_bytes(b"old")


def ones_own_file_in_a_sticky_folder(folder: Path) -> None:
    anothers_file_in_a_sticky_folder(folder)
    os.chown(folder / "core", NOBODY, NOBODY)


def a_folder_of_anothers(folder: Path) -> None:
    folder.chmod(0o755)


def no_folder(folder: Path) -> None:
    """The template names one that is not there."""


WAYS: list[tuple[Prepare, int]] = [
    *((way, 0) for way in (
        nothing, a_regular_file, a_hard_link, a_symbolic_link, a_link_to_nothing, a_fifo, a_directory, no_folder,
        anothers_file_in_a_sticky_folder,
    )),
    *((way, NOBODY) for way in (
        nothing, a_regular_file, a_hard_link, a_directory, anothers_file_in_a_sticky_folder,
        ones_own_file_in_a_sticky_folder, a_folder_of_anothers,
    )),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "uid"), WAYS, ids=lambda value: getattr(value, "__name__", value))
def test_as_the_kernel_leaves_it(crasher: Path, full: Path, prepare: Prepare, uid: int, tmp_path: Path) -> None:
    """With -f, which is what the kernel does to files that are in the way."""
    open_to_all(tmp_path)
    seen = []
    for who in ("kernel", "corefilt"):
        folder = tmp_path / who
        folder.mkdir()
        folder.chmod(0o777)
        prepare(folder)
        target = str(folder / ("missing/core" if prepare is no_folder else "core"))
        if who == "kernel":
            with sysctl("kernel/core_pattern", target):
                crash(crasher, tmp_path, **({"uid": uid} if uid else {}))
        else:
            as_user(uid, filtered(full, target))
        seen.append(look(folder))
    assert seen[1] == seen[0]
    assert any("a core" in entry for entry in seen[0].values()) == (
        prepare not in (a_directory, no_folder, a_folder_of_anothers)
        and not (prepare is anothers_file_in_a_sticky_folder and uid)
    )


@pytest.mark.parametrize("prepare", [a_regular_file, a_hard_link, a_symbolic_link, a_link_to_nothing, a_fifo])
def test_without_force_nothing_is_replaced(full: Path, prepare: Prepare, tmp_path: Path) -> None:
    prepare(tmp_path)
    before = look(tmp_path)
    with pytest.raises(OutputError, match="exists"):
        corefilt.filter(full, filter="all", name="core", directory=str(tmp_path))
    assert look(tmp_path) == before


def test_folders_behind_links_are_followed(crasher: Path, full: Path, tmp_path: Path) -> None:
    for who in ("kernel", "corefilt"):
        folder = tmp_path / who
        (folder / "real").mkdir(parents=True)
        (folder / "link").symlink_to(folder / "real")
        target = f"{folder}/link/core"
        if who == "kernel":
            with sysctl("kernel/core_pattern", target):
                crash(crasher, tmp_path)
        else:
            corefilt.filter(full, filter="all", name=target)
        assert look(folder / "real")["core"][0] == "a core"


# --- disks ------------------------------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small tmpfs."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_disk(crasher: Path, full: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=8m,ro") as disk:
        with sysctl("kernel/core_pattern", f"{disk}/core"):
            crash(crasher, tmp_path)
        with pytest.raises(OutputError, match="Read-only file system"):
            corefilt.filter(full, filter="all", name=f"{disk}/core")
        assert look(disk) == {}


def test_a_full_disk(crasher: Path, full: Path, tmp_path: Path) -> None:
    """The kernel leaves a cut core; corefilt leaves none, and says why."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        with sysctl("kernel/core_pattern", f"{disk}/core"):
            crash(crasher, tmp_path)
        (cut,) = disk.iterdir()
        assert 0 < cut.stat().st_blocks * 512 <= 65536
        cut.unlink()
        with pytest.raises(OutputError, match="No space left on device"):
            corefilt.filter(full, filter="all", name=f"{disk}/core")
        assert look(disk) == {}


def test_a_limit_on_the_size_of_files(crasher: Path, full: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts the kernel's core at its position; corefilt leaves none, and is not killed by the signal."""
    (tmp_path / "kernel").mkdir()
    with sysctl("kernel/core_pattern", f"{tmp_path}/kernel/core"):
        crash(crasher, tmp_path, file_size=20000)
    assert (tmp_path / "kernel/core").stat().st_size == 20000

    def limited() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        return work()

    (tmp_path / "corefilt").mkdir()
    work = filtered(full, f"{tmp_path}/corefilt/core")
    name, words = as_user(0, limited)  # type: ignore[misc]
    assert (name, "File too large" in words) == ("OutputError", True)
    assert look(tmp_path / "corefilt") == {}


# --- dump modes -------------------------------------------------------------------------------------------


@pytest.fixture
def setuid(crasher: Path, tmp_path: Path) -> Path:
    """Have a program that becomes root's whoever starts it, so that its dump mode is suid_dumpable."""
    open_to_all(tmp_path)
    program = tmp_path / "setuid"
    program.write_bytes(crasher.read_bytes())
    program.chmod(0o4755)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        pytest.skip("the temporary folder is on a file system without set-user-ID")
    return program


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("in_the_way", [True, False])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_dump_modes(setuid: Path, full: Path, mode: int, in_the_way: bool, absolute: bool, tmp_path: Path) -> None:
    """A core of mode 0 is none, of mode 1 the user's, of mode 2 root's under an absolute name that nothing bears."""
    seen = []
    for who in ("kernel", "corefilt"):
        folder = tmp_path / who
        folder.mkdir()
        folder.chmod(0o777)
        if in_the_way:
            (folder / "core").write_bytes(b"old")
            os.chown(folder / "core", NOBODY, NOBODY)
        target = str(folder / "core") if absolute else "core"
        if who == "kernel":
            with sysctl("kernel/core_pattern", target), sysctl("fs/suid_dumpable", mode):
                what = crash(setuid, folder, uid=NOBODY)
            assert what.pid
        else:
            uid = 0 if mode == 2 else NOBODY
            work = filtered(full, target, values={"d": str(mode)})

            def there(folder: Path = folder, work: Callable[[], object] = work) -> object:
                os.chdir(folder)
                return work()

            as_user(uid, there)
        seen.append(look(folder))
    made = any("a core" in entry for entry in seen[0].values())
    assert made == {0: False, 1: True, 2: absolute and not in_the_way}[mode]
    if made and mode == 1:
        # The kernel writes it with the rights of who crashed, whose uid is the program's.
        seen = [{name: (*entry[:2], "", entry[3]) for name, entry in one.items()} for one in seen]
    assert seen[1] == seen[0]


def test_mode_2_is_roots(full: Path, tmp_path: Path) -> None:
    told = as_user(NOBODY, filtered(full, str(tmp_path / "core"), values={"d": "2"}))
    assert told == ("NoCoreError", f"{tmp_path}/core: with dump mode 2 the core is root's")
    assert NoCoreError.exit_code == 1
