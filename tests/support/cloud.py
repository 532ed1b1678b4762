"""An object store on loopback, as a process of its own, and a proxy before it that cuts connections."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import corefilt
from support.builds import INTERPRETER, WITH_PACKAGES

BUCKET = "cores"


def _needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"pip install '.[test-cloud]' brings {', '.join(missing)}")


needs_dask = _needs("distributed")
needs_store = [
    _needs("s3fs", "moto", "flask"),
    pytest.mark.skipif(
        os.environ.get("COREFILT_TEST_SYSTEM") != "1", reason="COREFILT_TEST_SYSTEM=1 lets tests start servers"
    ),
]


SSHD = "/usr/sbin/sshd"
needs_sshd = [
    _needs("fsspec", "paramiko"),
    pytest.mark.skipif(not os.path.exists(SSHD), reason="sshd (Debian's openssh-server) is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root"),
    needs_store[-1],
]


@contextmanager
def sshd(folder: Path) -> Iterator[str]:
    """Start sshd with keys of its own in a folder; gives the URL of its root, to which the key `user` is let in."""
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {
        "AuthorizedKeysFile": folder / "user.pub",
        "StrictModes": "no",
        "PidFile": "none",
        "ListenAddress": f"127.0.0.1:{port}",
        "Subsystem": "sftp internal-sftp",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    command = [SSHD, "-D", "-e", "-f", os.devnull, "-h", folder / "host", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            next(line for line in server.stderr if "listening on" in line)
            reader = threading.Thread(target=server.stderr.read)
            reader.start()
            yield f"sftp://root@127.0.0.1:{port}"
        finally:
            server.kill()
            reader.join()


@contextmanager
def store(log: list[str] | None = None) -> Iterator[int]:
    """Start moto's server on a port of the system's choice; gives the port. What it logs is added to ``log``."""
    command = [INTERPRETER, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **WITH_PACKAGES}
    ) as server:
        assert server.stderr is not None
        reader: threading.Thread | None = None
        try:
            port = next(
                int(found[1]) for line in server.stderr if (found := re.search(r"http://127.0.0.1:(\d+)", line))
            )
            told: list[str] | deque[str] = deque(maxlen=0) if log is None else log
            reader = threading.Thread(target=told.extend, args=(server.stderr,))
            reader.start()
            yield port
        finally:
            server.kill()
            # What is closed while a thread reads it is an error of that thread.
            if reader is not None:
                reader.join()


needs_gs = [_needs("gcsfs", "gcp_storage_emulator"), needs_store[-1]]

_GS_SERVER = """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, default_bucket=sys.argv[1], data_dir=sys.argv[2])
server.start()
print(server._api._httpd.server_port, flush=True)
sys.stdin.read()
"""


@contextmanager
def gs_store(folder: Path) -> Iterator[dict[str, str]]:
    """Start an emulator of Google's store that keeps its objects in a folder; gives the environment to reach it by.

    Without the last setting, gcsfs asks Google for the sort of a bucket, for a minute each time.
    """
    command = [INTERPRETER, "-c", _GS_SERVER, BUCKET, str(folder)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **WITH_PACKAGES},
    ) as server:
        assert server.stdout is not None
        try:
            yield {
                "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{int(server.stdout.readline())}",
                "FSSPEC_GS_TOKEN": "anon",
                "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            }
        finally:
            server.kill()


def addresses(port: int) -> dict[str, str]:
    """Make the environment in which S3 is at this port."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def piped(core: bytes, wanted: int, folder: Path) -> bytes:
    """Filter a core as it comes down a pipe into a file, here."""
    source, target = folder / "piped-source", folder / "piped"
    source.write_bytes(core)
    with subprocess.Popen(["cat", source], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        corefilt.filter(cat.stdout, target, filter=wanted, force=True)
    return target.read_bytes()


class CuttingProxy:
    """Passes connections on to a port of loopback, and cuts some of them after some bytes.

    `each` connection carries so many bytes, both ways together, then it is reset; or of `every` so many bytes of all
    connections, the one that carries the last is. `cuts` counts them.
    """

    def __init__(self, target: int, *, each: int | None = None, every: int | None = None) -> None:
        self._target, self._each = target, each
        self._shared = None if every is None else _Budget(every)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *about: object) -> None:
        # Closing does not wake who waits in accept(), shutting down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            wire = _Wire(self, client, server, self._shared or _Budget(self._each or 0))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=wire.carry, args=pair, daemon=True).start()


class _Budget:
    """So many bytes, again and again."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._lock = threading.Lock()

    def spend(self, count: int) -> bool:
        """Whether there are so many bytes left; if not, a new budget begins."""
        with self._lock:
            self._left -= count
            enough = self._left >= 0
            if not enough:
                self._left = self._size
        return enough


class _Wire:
    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket, budget: _Budget) -> None:
        self._proxy, self._ends, self._budget = proxy, (client, server), budget
        self._lock, self._over = threading.Lock(), False

    def carry(self, taker: socket.socket, giver: socket.socket) -> None:
        spent = False
        try:
            while data := taker.recv(1 << 16):
                if spent := not self._budget.spend(len(data)):
                    break
                giver.sendall(data)
        except OSError:
            pass
        self._end(spent)

    def _end(self, spent: bool) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            self._proxy.cuts += spent
            for end in self._ends:
                # Closing at once sends a reset.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
