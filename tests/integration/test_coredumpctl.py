"""What systemd's own tools make of a core that was replaced: coredumpctl finds it, takes it out, and debugs it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from support.archives import MACHINE, PACK, UNPACK
from support.run import assert_promises, corefilt

TOOLS = f"{os.environ['PATH']}:/usr/lib/systemd:/lib/systemd"
COREDUMPCTL, REMOTE = (shutil.which(name, path=TOOLS) for name in ("coredumpctl", "systemd-journal-remote"))
if COREDUMPCTL is None or REMOTE is None:
    pytest.skip("needs coredumpctl and systemd-journal-remote (Debian: systemd-coredump)", allow_module_level=True)

# sd-messages.h: SD_MESSAGE_COREDUMP.
MESSAGE = "fc2e22bc6ee647b6b90729ab34a250b1"
BOOT = "11111111222222223333333344444444"
PID = 4242


class Crash:
    """A core in a folder like /var/lib/systemd/coredump, and the journal that knows it."""

    def __init__(self, folder: Path, pack: str) -> None:
        self.full = gzip.decompress(files("corefilt.cli").joinpath("small.core.gz").read_bytes())
        self.pack = pack
        suffix = {"zstd": ".zst", "lz4": ".lz4", "xz": ".xz", "": ""}[pack]
        self.path = folder / f"core.small.1000.{MACHINE}.{PID}.1700000000000000{suffix}"
        self.path.write_bytes(PACK[pack](self.full) if pack else self.full)
        self.path.chmod(0o640)
        os.setxattr(self.path, "user.coredump.pid", str(PID).encode())
        self.journal = folder.parent / "crash.journal"
        fields = {
            "__REALTIME_TIMESTAMP": "1700000000000001", "__MONOTONIC_TIMESTAMP": "5", "_BOOT_ID": BOOT,
            "_MACHINE_ID": MACHINE, "_HOSTNAME": "here", "MESSAGE_ID": MESSAGE, "MESSAGE": "Process 4242 dumped core.",
            "PRIORITY": "2", "COREDUMP_PID": str(PID), "COREDUMP_UID": "1000", "COREDUMP_GID": "1000",
            "COREDUMP_SIGNAL": "6", "COREDUMP_SIGNAL_NAME": "SIGABRT", "COREDUMP_TIMESTAMP": "1700000000000000",
            "COREDUMP_COMM": "small", "COREDUMP_EXE": "/bin/true", "COREDUMP_HOSTNAME": "here",
            "COREDUMP_FILENAME": str(self.path),
        }  # fmt: skip
        text = "".join(f"{name}={value}\n" for name, value in fields.items()) + "\n"
        subprocess.run(
            [str(REMOTE), f"--output={self.journal}", "-"], input=text.encode(), check=True, capture_output=True
        )

    def ctl(self, *args: str) -> bytes:
        """Ask coredumpctl."""
        command = [str(COREDUMPCTL), f"--file={self.journal}", "--no-pager", *args]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout

    def told(self) -> bytes:
        """Give what info says, but for the size, which is what has changed."""
        return b"\n".join(line for line in self.ctl("info", str(PID)).splitlines() if b"Disk" not in line)


@pytest.fixture(params=["zstd", "lz4", "xz", ""], ids=["zstd", "lz4", "xz", "plain"])
def crash(request: pytest.FixtureRequest, tmp_path: Path) -> Crash:
    folder = tmp_path / "coredump"
    folder.mkdir()
    try:
        return Crash(folder, request.param)
    except OSError as error:
        pytest.skip(f"this file system keeps no attributes: {error}")


def test_coredumpctl_goes_on_with_a_core_that_was_replaced(crash: Crash, tmp_path: Path) -> None:
    before = crash.told()
    assert b"(present)" in before
    assert b" present " in crash.ctl("list")
    done = corefilt("batch", "0x1", crash.path.parent, "--replace")
    assert done.code == 0, done.err
    assert any("filtered         1" in line for line in done.err)
    assert crash.told() == before
    stored = crash.path.read_bytes()
    after = UNPACK[crash.pack](stored) if crash.pack else stored
    assert len(after) < len(crash.full)
    assert_promises(crash.full, after)
    # Of systemd 252, dump takes out what is compressed only.
    if crash.pack:
        crash.ctl("dump", str(PID), "-o", str(tmp_path / "dumped"))
        assert (tmp_path / "dumped").read_bytes() == after


def test_coredumpctl_debug_opens_it_with_gdb(crash: Crash) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    assert corefilt("batch", "0x33", crash.path.parent, "--replace").code == 0
    said = crash.ctl("debug", str(PID), "-A", "-nx -batch -ex 'info registers'")
    assert b"Program terminated with signal" in said
    assert b"rip " in said
