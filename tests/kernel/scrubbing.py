"""Programs that have secrets in their memory, which this run made, and their cores by the kernel."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kernel import servers
from kernel.dumps import CannotCompileError, only_file
from kernel.programs import (
    PATIENCE,
    SOURCES,
    CannotStartError,
    as_user,
    compile_forker,
    dumped_here,
    need,
    open_folder,
    output_of,
    template_of,
    wait_until,
)
from kernel.victims import unlimited
from support.planted import RsaKey, bearing_formats, by_keyword, limbs, rsa_key, some

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


THREADS = """
import json, os, sys, threading
texts = json.load(sys.stdin)
ready = threading.Barrier(4)
def hold(mine):
    held = [f"{t};" for t in mine]
    ready.wait()
    threading.Event().wait()
for n in range(3):
    threading.Thread(target=hold, args=(texts[n::3],), daemon=True).start()
ready.wait()
os.abort()
"""
PERL = """
my @held = <STDIN>; chomp @held; my %by = map { $_ => [$_] } @held; my $all = join ";", @held;
kill "ABRT", $$; sleep 60;
"""


def _crashed(command: list[str], folder: Path, text: str) -> Path:
    """Have a program read a text and crash by itself; returns its core."""
    with dumped_here():
        subprocess.run(
            command, cwd=folder, input=text.encode(), preexec_fn=unlimited, check=False, stderr=subprocess.DEVNULL
        )
    return only_file(folder)


def python(folder: Path) -> tuple[str, Path, Planted]:
    """CPython with texts as str, bytes, JSON and UTF-16."""
    texts, planted = made()
    interpreter = os.path.realpath(sys.executable)
    return interpreter, _crashed([interpreter, "-c", PYTHON], folder, json.dumps(texts)), planted


def threads(folder: Path) -> tuple[str, Path, Planted]:
    """CPython with texts in the frames of three threads that wait."""
    texts, planted = made()
    interpreter = os.path.realpath(sys.executable)
    return interpreter, _crashed([interpreter, "-c", THREADS], folder, json.dumps(texts)), planted


def perl(folder: Path) -> tuple[str, Path, Planted]:
    """Perl with texts in an array, as keys of a hash, and joined."""
    texts, planted = made()
    interpreter = os.path.realpath(need("perl")[0])
    return interpreter, _crashed([interpreter, "-e", PERL], folder, "\n".join(texts)), planted


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
    key = _certificate(program, home)
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


def _certificate(program: str, home: Path) -> RsaKey:
    """Have openssl make a key and a certificate, as the files `key` and `cert`; give the key's numbers."""
    make = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "2"]
    subprocess.run([*make, "-keyout", home / "key", "-out", home / "cert"], check=True, capture_output=True)
    told = subprocess.run([program, "rsa", "-in", home / "key", "-noout", "-text"], capture_output=True, check=True)
    numbers = _openssl_numbers(told.stdout.decode())
    return RsaKey(numbers["modulus"], 65537, numbers["privateExponent"], numbers["prime1"], numbers["prime2"])


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


def nginx(folder: Path) -> tuple[str, Path, Planted]:
    """nginx with a key of this run, in the middle of a request that brings a token and a cookie by TLS."""
    server, program = need("nginx", "openssl")
    key = _certificate(program, folder)
    token, session = some(40), some(32)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n"
        f"server {{ listen unix:{folder}/socket ssl; ssl_certificate {folder}/cert; ssl_certificate_key {folder}/key;\n"
        f"location / {{ proxy_pass http://unix:{folder}/nobody; }} }} }}\n"
    )
    request = (
        f"POST /login HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nCookie: theme=dark; id={session}\r\n"
    )
    request += "Expect: 100-continue\r\nContent-Length: 99\r\n\r\n"
    (folder / "crash").mkdir()
    client = [program, "s_client", "-unix", f"{folder}/socket", "-quiet"]
    with (
        dumped_here(),
        subprocess.Popen(
            [server, "-e", f"{folder}/log", "-c", f"{folder}/nginx.conf"], cwd=folder / "crash", preexec_fn=unlimited
        ) as process,
    ):
        wait_until((folder / "socket").exists, "nginx's socket")
        with subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as asks:
            assert asks.stdin is not None
            asks.stdin.write(request.encode())
            asks.stdin.flush()
            _said(asks, b"100 Continue")
            core = _dead(process, folder / "crash")
            asks.terminate()
    return os.path.realpath(server), core, {"keywords": [token.encode(), session.encode()], "numbers": _numbers(key)}


def java(folder: Path) -> tuple[str, Path, Planted]:
    """A JVM with texts as String, char[] and byte[], and a key that signed something."""
    machine, compiler = need("java", "javac")
    (folder / "crash").mkdir()
    subprocess.run([compiler, "-d", folder, SOURCES / "Secrets.java"], check=True)
    texts, planted = made()
    key = rsa_key(2048)
    machine = os.path.realpath(machine)
    command = [machine, "-Xmx64m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", folder, "Secrets"]
    with (
        dumped_here(),
        subprocess.Popen(
            command, cwd=folder / "crash", stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=unlimited
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write("\n".join([base64.b64encode(key.pkcs8()).decode(), *texts]).encode() + b"\n")
        process.stdin.close()
        _said(process, b"ready")
        core = _dead(process, folder / "crash")
    return machine, core, {**planted, "numbers": _numbers(key)}


def postgresql(folder: Path) -> tuple[str, Path, Planted]:
    """A backend of PostgreSQL whose shared buffers have texts as rows, and a user's hash of a password."""
    texts, planted = made()
    with open_folder() as home:
        (home / "data").mkdir()
        dumps = home / "dumps"
        dumps.mkdir(mode=0o777)
        try:
            forker = compile_forker(home)
        except CannotCompileError as error:
            raise CannotStartError(str(error)) from None
        with servers.postgresql(home / "data") as running:
            client = ["psql", "-X", "-A", "-t", "-q", "-h", str(home / "data"), "-d", "postgres"]
            rows = ", ".join(f"($held${text}$held$)" for text in texts)
            say = f"create table held as select * from (values {rows}) as rows (text); select count(text) from held;"
            say += (
                f"create role app login password '{some(20)}'; select rolpassword from pg_authid where rolname = 'app'"
            )
            told = output_of([*client, "-f", "-"], cwd=home, input=say, **as_user("postgres"))
            planted["formats"].append(told.split(":", 1)[1].strip().encode())
            pid = running.pids["postgresql backend"]
            owner = Path(f"/proc/{pid}").stat()
            os.chown(dumps, owner.st_uid, owner.st_gid)
            program = os.readlink(f"/proc/{pid}/exe")
            with dumped_here(), template_of(pid, forker, dumps) as (_, dump):
                dump(0x1FF)
        return program, Path(shutil.move(only_file(dumps), folder / "core")), planted


PROGRAMS: dict[str, Callable[[Path], tuple[str, Path, Planted]]] = {
    "python": python, "threads": threads, "perl": perl, "bash": bash, "openssl": openssl, "redis": redis,
    "nginx": nginx, "java": java, "postgresql": postgresql,
}  # fmt: skip
