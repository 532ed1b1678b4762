"""Answers: how many requests does a batch from S3 to S3 take, the first time and where nothing is left to do.

moto's server stands for S3, on loopback, and its log is counted. A large core keeps every second of its mappings, each
of which is longer than what is read rather than passed over.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import before, small
from bench.cores import KEPT, SEGMENTS, plan_core
from bench.measure import BenchError, bytecode_in
from bench.options import Options
from bench.report import Results

QUESTION = "How many requests does a batch from S3 to S3 take?"

COUNT = 24
# Of the large core: more than the 8 MiB that are read rather than passed over.
MAPPING = 9 << 20
PART = 8 << 20
BUCKET = "cores"
PATIENCE = 60.0
_SERVER = "from moto.server import main; main()"
_LINE = re.compile(r'"(?:\x1b\[[\d;]*m)*(GET|HEAD|PUT|POST|DELETE) (\S*) HTTP')


class _Store:
    """A bucket at a port of loopback, and what was asked of it."""

    def __init__(self, port: int, log: list[str]) -> None:
        self._port, self._log = port, log
        self.env = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def put(self, path: str, content: Path | None = None) -> None:
        """Put a file, or make a bucket."""
        with open(content or os.devnull, "rb") as file:
            status = self._ask("PUT", path, file)
        if status != 200:
            raise BenchError(f"moto answers {status} to PUT {path}")

    def lines(self) -> int:
        """Wait for the log to tell of all that was asked for; its length."""
        name = uuid.uuid4().hex
        self._ask("HEAD", f"/{BUCKET}/{name}", None)
        deadline = time.monotonic() + PATIENCE
        while not any(name in line for line in self._log):
            if time.monotonic() > deadline:
                raise BenchError("moto's server logs nothing")
            time.sleep(0.01)
        return len(self._log)

    def asked(self, begin: int, end: int) -> Counter[str]:
        """What was asked for between two lengths of the log: ``GET in``, ``LIST in``, ``PUT out`` and so on."""
        found: Counter[str] = Counter()
        # The last line is the question that ended it.
        for line in self._log[begin : end - 1]:
            match = _LINE.search(line)
            if match is None:
                continue
            path, _, query = match[2].partition("?")
            listing = "list-type" in query
            words = query.replace("%2F", "/").partition("prefix=")[2] if listing else path.removeprefix(f"/{BUCKET}/")
            found[f"{'LIST' if listing else match[1]} {words.partition('/')[0].partition('&')[0]}"] += 1
        return found

    def _ask(self, method: str, path: str, body: object) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body)  # type: ignore[arg-type]
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@contextmanager
def _served() -> Iterator[_Store]:
    command = [sys.executable, "-c", _SERVER, "-H", "127.0.0.1", "-p", "0"]
    log: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            found = (re.search(r"http://127\.0\.0\.1:(\d+)", line) for line in server.stderr)
            port = next((int(match[1]) for match in found if match), 0)
            if not port:
                raise BenchError("moto's server does not start")
            threading.Thread(target=log.extend, args=(server.stderr,), daemon=True).start()
            yield _Store(port, log)
        finally:
            server.kill()


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows."""
    results = Results()
    missing = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
    if missing:
        results.missing.append(f"requests to S3: {', '.join(missing)} is not installed (.ci/cloud .venv)")
        return results
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name, _served() as store:
        folder = Path(name)
        store.put(f"/{BUCKET}")
        (folder / "small").mkdir()
        small.write(folder / "small", COUNT)
        core = plan_core(SEGMENTS * MAPPING)
        (folder / "large").mkdir()
        core.write(folder / "large" / "core", KEPT[100])
        kept = len(core.kept_ranges(KEPT[50])) - 1
        parts = -(-core.size(KEPT[50]) // PART)
        with bytecode_in(folder / "bytecode"):
            for work, count, targets in (
                ("small", COUNT, {"GET in": 2, "PUT out": 1}),
                ("large", 1, {"GET in": 2 + kept, "PUT out": parts, "POST out": 2}),
            ):
                for path in sorted((folder / work).iterdir()):
                    store.put(f"/{BUCKET}/{work}/{path.name}", path)
                tell(f"{work} cores, first run")
                _row(options, store, work, count, f"{count} {work} cores, first run", targets, results)
                tell(f"{work} cores, nothing to do")
                _row(options, store, work, count, f"{count} {work} cores, nothing to do", {"HEAD out": 1}, results)
    return results


def _row(
    options: Options, store: _Store, work: str, count: int, name: str, targets: dict[str, int], results: Results
) -> None:
    """Tell the requests of one run, for each core, and the median CPU seconds of as many runs as were asked for."""
    first = "first" in name
    seconds = []
    asked: Counter[str] = Counter()
    for turn in range(options.runs):
        out = f"{work}-out{turn}" if first else f"{work}-out0"
        begin = store.lines()
        argv = [*options.corefilt, "batch", hex(KEPT[50]), f"s3://{BUCKET}/{work}", "--to", f"s3://{BUCKET}/{out}"]
        seconds.append(before.cpu_seconds([*argv, "--jobs=1", "-q"], {**os.environ, **store.env}))
        asked = store.asked(begin, store.lines())
    told = {key.replace(out, "out").replace(work, "in"): number / count for key, number in asked.items()}
    words = [f"{number:g} {key}" for key, number in sorted(told.items()) if not key.startswith("LIST")]
    lists = sum(number for key, number in asked.items() if key.startswith("LIST"))
    more = {key for key, number in told.items() if not key.startswith("LIST") and number > targets.get(key, 0)}
    target = ", ".join(f"{number} {key}" for key, number in targets.items())
    results.remarks.append(
        f"{name}: {', '.join(words)} a core, {lists} listings in all; target {target}: {'not met' if more else 'met'}; "
        f"{statistics.median(seconds) / count * 1e3:.0f} ms of CPU a core"
    )
