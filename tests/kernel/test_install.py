"""The installed line on the real kernel: crashes end to end, and everything put back."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.crashing import need_system
from kernel.dumps import Core, sysctl
from kernel.trusted import CHILD, Installation, installation, put_back
from kernel.waiting import Waiting, masked
from support.builds import PATIENCE

import corefilt
from corefilt.handler.admin.sysctl import DROP_IN, PATTERN, PIPE_LIMIT, Sysctls

DEFAULT = 0x33
APPORT = b"|/bin/false %p"


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    """Make an installation that root alone can change."""
    need_system()
    if Path(DROP_IN).exists():
        pytest.skip(f"{DROP_IN} is there: corefilt is in use on this machine")
    with installation() as it:
        yield it


@pytest.fixture(autouse=True)
def kernel(installed: Installation) -> Iterator[Sysctls]:
    """Give the kernel's settings, and put them back, whatever a test leaves."""
    it = Sysctls()
    with (
        sysctl("kernel/core_pattern", it.get(PATTERN) or b""),
        sysctl("kernel/core_pipe_limit", it.get(PIPE_LIMIT) or b"0"),
    ):
        yield it
    put_back(Path(DROP_IN), None)


def status(installed: Installation) -> dict[str, object]:
    done = installed.run("status", "--json")
    report: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == (4 if report["problems"] else 0)
    return report


def test_a_crash_through_the_installed_line(
    installed: Installation, kernel: Sysctls, small: Waiting, small_full: Core
) -> None:
    twin = small.dump("twin", DEFAULT)
    assert twin is not None
    before = kernel.get(PATTERN), kernel.get(PIPE_LIMIT)
    done = installed.run("install", "--pipe-limit", "4")
    assert done.returncode == 0, done.stderr
    line = kernel.get(PATTERN)
    assert line is not None
    assert line.startswith(b"|" + os.fsencode(installed.python) + b" -I -m corefilt.handler %P ")
    report = status(installed)
    assert report["problems"] == []
    assert (report["ours"], report["core_pipe_limit"]) == (True, 4)
    assert small.dump("none") is None
    (core,) = installed.cores_of(1).values()
    assert masked(core.read_bytes(), small_full) == masked(twin.read_bytes(), small_full)
    assert core.stat().st_mode & 0o777 == 0o600
    done = installed.run("uninstall")
    assert done.returncode == 0, done.stderr
    assert (kernel.get(PATTERN), kernel.get(PIPE_LIMIT)) == before
    assert not Path(DROP_IN).exists()
    assert small.dump("as-before", DEFAULT) is not None


def test_another_handler_gets_its_place_back(installed: Installation, kernel: Sysctls) -> None:
    kernel.set(PATTERN, APPORT)
    done = installed.run("install")
    assert done.returncode == 1
    assert "/bin/false" in done.stderr
    assert kernel.get(PATTERN) == APPORT
    assert installed.run("install", "--force").returncode == 0
    assert kernel.get(PATTERN) != APPORT
    assert installed.run("uninstall").returncode == 0
    assert kernel.get(PATTERN) == APPORT


def test_a_dry_run_leaves_the_kernel_alone(installed: Installation, kernel: Sysctls) -> None:
    before = kernel.get(PATTERN)
    done = installed.run("install", "-n", "--pipe-limit", "9")
    assert done.returncode == 0, done.stderr
    assert (kernel.get(PATTERN), Path(DROP_IN).exists()) == (before, False)
    assert kernel.get(PIPE_LIMIT) != b"9"


def test_a_socket_that_the_kernel_keeps(installed: Installation, kernel: Sysctls) -> None:
    if b"socket" not in (kernel.get("kernel.core_modes") or b"").split():
        pytest.skip("this kernel knows no sockets for cores (Linux 6.17)")
    done = installed.run("install", "--socket", "/run/corefilt-test.sock")
    assert done.returncode == 0, done.stderr
    assert kernel.get(PATTERN) == b"@@/run/corefilt-test.sock"
    assert installed.run("uninstall").returncode == 0


def spoil(installed: Installation, how: str) -> Path:
    """Let another user change one thing that the handler runs; return what to mend afterwards."""
    (site,) = installed.folder.glob("lib/python*/site-packages")
    if how == "writable-module":
        path = site / "corefilt/corefile/corefile.py"
        path.chmod(0o664)
    elif how == "writable-folder":
        path = site / "corefilt/handler"
        path.chmod(0o777)
    elif how == "another's-interpreter-link":
        path = installed.python
        os.chown(path, CHILD, CHILD, follow_symlinks=False)
    elif how == "another's-extension":
        (path,) = (site / "corefilt").glob("_fast*.so")
        os.chown(path, CHILD, CHILD)
    elif how == "writable-parent":
        path = installed.folder
        path.chmod(0o775)
    elif how == "settings":
        path = installed.folder / "pyvenv.cfg"
        path.chmod(0o666)
    elif how == "pth":
        path = site / "more.pth"
        path.write_text("/tmp/corefilt-test-nothing-here\n")
    else:
        path = site / "borrowed"
        path.symlink_to("/tmp/corefilt-test-nothing-here")
    return path


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("writable-module", "corefile.py"),
        ("writable-folder", "corefilt/handler"),
        ("another's-interpreter-link", "bin/python"),
        ("another's-extension", "_fast"),
        ("writable-parent", "/opt/corefilt-test-"),
        ("settings", "pyvenv.cfg"),
        ("pth", "/tmp: may be written to by anybody"),
        ("link", "/tmp: may be written to by anybody"),
    ],
)
def test_nothing_is_installed_that_others_could_change(
    installed: Installation, kernel: Sysctls, how: str, named: str
) -> None:
    before = kernel.get(PATTERN)
    path = spoil(installed, how)
    try:
        done = installed.run("install")
        found = status(installed)
    finally:
        if how in ("pth", "link"):
            path.unlink()
        else:
            os.chown(path, 0, 0, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert named in done.stderr
    assert any(named in f"{fault['path']}: {fault['what']}" for fault in found["untrusted"])  # type: ignore[attr-defined]
    assert (kernel.get(PATTERN), Path(DROP_IN).exists()) == (before, False)


def test_a_library_that_is_searched_for_in_a_folder_of_anybodys(installed: Installation) -> None:
    patchelf = shutil.which("patchelf")
    if patchelf is None:
        pytest.skip("patchelf is not installed")
    (extension,) = installed.folder.glob("lib/python*/site-packages/corefilt/_fast*.so")
    before = extension.read_bytes()
    try:
        subprocess.run([patchelf, "--set-rpath", "/tmp/corefilt-test-nothing-here", extension], check=True)
        done = installed.run("install", "-n")
    finally:
        extension.write_bytes(before)
    assert done.returncode == 1
    assert "/tmp: may be written to by anybody" in done.stderr
    assert "searched for libraries" in done.stderr


def test_an_environment_in_a_folder_of_anybodys(tmp_path: Path) -> None:
    if not str(tmp_path).startswith("/tmp/"):
        pytest.skip("temporary folders of tests are not below /tmp")
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    command = [str(python), "-m", "corefilt", "install", "-n"]
    # Where it lies if it is installed editable is not an entry of sys.path.
    places = [str(Path(corefilt.__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False, cwd="/"
    )
    assert done.returncode == 1
    assert "/tmp: may be written to by anybody" in done.stderr
