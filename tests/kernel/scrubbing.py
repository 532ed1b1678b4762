"""Programs that have secrets in their memory, which this run made, and their cores by the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kernel.dumps import only_file
from kernel.programs import PATIENCE, dumped_here, need
from kernel.victims import unlimited
from support.planted import RsaKey, bearing_formats, by_keyword, limbs, some

Planted = dict[str, list[bytes]]
"""What must be gone, by what it is: `formats`, `keywords`, `literals`, `numbers`."""


def made() -> tuple[list[str], Planted]:
    """Texts to be held, and what of them is secret."""
    bearing = list(bearing_formats())
    keyed = [each for each in by_keyword() if b"\0" not in each.text and b"\r" not in each.text]
    literals = [some(16).encode() for _ in range(3)]
    texts = [each.text.decode() for each in (*bearing, *keyed)] + [literal.decode() for literal in literals]
    return texts, {
        "formats": [each.secret for each in bearing],
        "keywords": [each.secret for each in keyed],
        "literals": literals,
    }


def _dead(process: subprocess.Popen[bytes], folder: Path) -> Path:
    process.send_signal(signal.SIGABRT)
    process.wait(PATIENCE)
    return only_file(folder)


def _said(process: subprocess.Popen[bytes], text: bytes) -> None:
    while True:
        line = process.stdout.readline() if process.stdout is not None else b""
        assert line, f"it ended before it said {text!r}"
        if text in line:
            return


def _numbers(key: RsaKey) -> list[bytes]:
    found = []
    for name, value in key.private.items():
        found += [raw.strip(b"\0") for raw in limbs(value, size=256 if name == "d" else 128).values()]
    return found


PYTHON = """
import json, os, sys
texts = json.load(sys.stdin)
held = [texts, [t.encode() for t in texts], {t: t for t in texts}, json.dumps({"password": texts[-1]})]
held += [t.encode("utf-16-le") for t in texts]
os.abort()
"""


def python(folder: Path) -> tuple[str, Path, Planted]:
    """CPython with texts as str, bytes, JSON and UTF-16."""
    texts, planted = made()
    interpreter = os.path.realpath(sys.executable)
    with dumped_here():
        subprocess.run(
            [interpreter, "-c", PYTHON], cwd=folder, input=json.dumps(texts).encode(), preexec_fn=unlimited,
            check=False, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return interpreter, only_file(folder), planted


def bash(folder: Path) -> tuple[str, Path, Planted]:
    """bash with variables, and one of the environment."""
    texts, planted = made()
    secret = some(20)
    planted["keywords"].append(secret.encode())
    script = 'mapfile -t held; for t in "${held[@]}"; do x="$x;$t"; done; kill -ABRT $$'
    shell = os.path.realpath(need("bash")[0])
    with dumped_here():
        subprocess.run(
            [shell, "-c", script], cwd=folder, input="\n".join(texts).encode(), preexec_fn=unlimited, check=False,
            env={**os.environ, "APP_PASSWORD": secret},
        )  # fmt: skip
    return shell, only_file(folder), planted


def openssl(folder: Path) -> tuple[str, Path, Planted]:
    """openssl s_server with a key of this run, and a request that it echoed."""
    program = os.path.realpath(need("openssl")[0])
    home = folder / "home"
    home.mkdir()
    make = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2"]
    subprocess.run([*make, "-keyout", home / "key", "-out", home / "cert"], check=True, capture_output=True)
    told = subprocess.run([program, "rsa", "-in", home / "key", "-noout", "-text"], capture_output=True, check=True)
    numbers = _openssl_numbers(told.stdout.decode())
    key = RsaKey(numbers["modulus"], 65537, numbers["privateExponent"], numbers["prime1"], numbers["prime2"])
    token = some(40)
    (folder / "crash").mkdir()
    command = [program, "s_server", "-accept", "127.0.0.1:0", "-key", home / "key", "-cert", home / "cert", "-rev"]
    with (
        dumped_here(),
        subprocess.Popen(
            command, cwd=folder / "crash", stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=unlimited,
        ) as server,
    ):  # fmt: skip
        assert server.stdout is not None
        line = b""
        while b"ACCEPT 127" not in line:
            line = server.stdout.readline()
            assert line, "openssl s_server ended"
        port = line.split(b":")[-1].strip().decode()
        client = [program, "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"]
        with subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as asks:
            assert asks.stdin is not None and asks.stdout is not None
            asks.stdin.write(f"Authorization: Bearer {token}\n".encode())
            asks.stdin.flush()
            asks.stdout.readline()
            core = _dead(server, folder / "crash")
            asks.terminate()
    return program, core, {"keywords": [token.encode()], "numbers": _numbers(key)}


def _openssl_numbers(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    name, digits = "", ""
    for line in [*text.splitlines(), "end:"]:
        if line.startswith(" "):
            digits += line.strip().replace(":", "")
            continue
        if name and digits:
            found[name] = int(digits, 16)
        name, digits = line.split(":")[0].strip(), ""
    return found


def redis(folder: Path) -> tuple[str, Path, Planted]:
    """Redis with a password, and texts as values."""
    server, client = need("redis-server", "redis-cli")
    texts, planted = made()
    password = some(24)
    (folder / "redis.conf").write_text(
        f'requirepass {password}\nport 0\nunixsocket {folder}/socket\nsave ""\ncrash-log-enabled no\n'
    )
    (folder / "crash").mkdir()
    with (
        dumped_here(),
        subprocess.Popen(
            [server, folder / "redis.conf"], cwd=folder / "crash", stdout=subprocess.DEVNULL, preexec_fn=unlimited
        ) as process,
    ):
        deadline = time.monotonic() + PATIENCE
        while not (folder / "socket").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for n, text in enumerate(texts):
            subprocess.run(
                [client, "-s", folder / "socket", "-a", password, "-x", "set", f"key:{n}"], input=text.encode(),
                check=True, capture_output=True,
            )  # fmt: skip
        core = _dead(process, folder / "crash")
    planted["keywords"].append(password.encode())
    return os.path.realpath(server), core, planted


PROGRAMS: dict[str, Callable[[Path], tuple[str, Path, Planted]]] = {
    "python": python, "bash": bash, "openssl": openssl, "redis": redis,
}  # fmt: skip
