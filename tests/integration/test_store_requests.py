"""What a batch asks an object store for: counted at the store, for each core."""

from __future__ import annotations

import gzip
import json
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.builder import FileEntry, Load, kernel_notes, make_core
from support.builds import PATIENCE
from support.cloud import BUCKET, addresses, needs_store, store
from support.run import assert_promises, corefilt
from support.samples import ANON, SHARED, sample_core

from corefilt.batching.runner import run_task
from corefilt.batching.task import Task
from corefilt.io.remote.url import files_below

MIB, GIB = 1 << 20, 1 << 30
pytestmark = needs_store
_LINE = re.compile(r'"(?:\x1b\[[\d;]*m)*(GET|HEAD|PUT|POST|DELETE) (\S*) HTTP')


class Store:
    """A bucket, and what was asked of it."""

    def __init__(self, port: int, log: list[str]) -> None:
        import s3fs

        self.port, self.log = port, log
        self.s3 = s3fs.S3FileSystem(
            key="key", secret="secret", endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True
        )
        if not self.s3.exists(BUCKET):
            self.s3.mkdir(BUCKET)
        self.folder = f"{BUCKET}/{uuid.uuid4().hex}"
        self.url = f"s3://{self.folder}"

    def put(self, **cores: bytes) -> None:
        for name, data in cores.items():
            self.s3.pipe_file(f"{self.folder}/in/{name}", data)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have S3 be here, for this process."""
        import s3fs

        for name, value in addresses(self.port).items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()

    def settle(self) -> int:
        """Wait for the log to tell of all that was asked for; gives how long it is."""
        name = uuid.uuid4().hex
        with pytest.raises(FileNotFoundError):
            self.s3.call_s3("head_object", Bucket=BUCKET, Key=f"mark-{name}")
        deadline = time.monotonic() + PATIENCE
        while not any(f"mark-{name}" in line for line in self.log):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return len(self.log)

    def batch(self, *words: str | Path, code: int = 0) -> tuple[dict[str, str], Counter[str]]:
        """Run a batch; gives each core's status, and the requests by kind: ``GET in/a``, ``LIST in``, ``PUT out/a``."""
        begin = self.settle()
        done = corefilt(
            "batch", "0x31", f"{self.url}/in", *words, "--json", "--jobs", "1", env=addresses(self.port), timeout=100
        )
        assert done.code == code, "\n".join(done.err)
        lines = [json.loads(line) for line in done.out.splitlines() if line]
        end = self.settle()
        return (
            {line["source"].removeprefix(f"{self.url}/in/"): line["status"] for line in lines if "source" in line},
            self.counted(self.log[begin:end]),
        )

    def counted(self, lines: list[str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in lines:
            match = _LINE.search(line)
            if match is None or "/mark-" in line:
                continue
            path = match[2].partition("?")
            if "list-type" in path[2]:
                prefix = re.search(r"prefix=([^&]*)", path[2])
                name = prefix[1].replace("%2F", "/") if prefix is not None else ""
                found[f"LIST {name.removeprefix(self.folder.partition('/')[2]).strip('/')}"] += 1
            else:
                found[f"{match[1]} {path[0].removeprefix(f'/{self.folder}/')}"] += 1
        return found


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[int, list[str]]]:
    log: list[str] = []
    with store(log) as port:
        yield port, log


@pytest.fixture
def bucket(served: tuple[int, list[str]]) -> Store:
    return Store(*served)


def layered(kept: int, dropped: int) -> bytes:
    """Make a core whose kept and dropped ranges of so many bytes follow each other, three times."""
    loads = []
    for _ in range(3):
        for name, size in ((ANON, kept), (SHARED, dropped)):
            start = name + len(loads) * GIB
            loads.append(Load(start, os.urandom(4096) * (size // 4096)))
    shared = [FileEntry(load.vaddr, load.vaddr + len(load.data), 0, "/dev/zero (deleted)") for load in loads[1::2]]
    return make_core(loads, kernel_notes(shared))


def test_a_first_run_and_one_with_nothing_to_do(bucket: Store, tmp_path: Path) -> None:
    """What is not listed at --to is not asked for; what is, by a HEAD."""
    core = sample_core()
    bucket.put(a=core, **{"b.gz": gzip.compress(core), "no.txt": b"text"})
    states, asked = bucket.batch("--to", f"{bucket.url}/out")
    assert states == {"a": "filtered", "b.gz": "filtered", "no.txt": "skipped"}
    assert asked == {
        "LIST in": 1,
        "LIST out": 1,
        **{f"GET in/{name}": 2 for name in ("a", "b.gz")},
        "GET in/no.txt": 1,
        **{f"PUT out/{name}": 1 for name in ("a", "b.gz")},
    }
    bucket.s3.rm_file(f"{bucket.folder}/in/no.txt")
    states, asked = bucket.batch("--to", f"{bucket.url}/out")
    assert states == {"a": "unchanged", "b.gz": "unchanged"}
    assert asked == {"LIST in": 1, "LIST out": 1, "HEAD out/a": 1, "HEAD out/b.gz": 1}
    # A directory is asked by no request.
    for status in ("filtered", "unchanged"):
        states, asked = bucket.batch("--to", tmp_path / "out")
        assert set(states.values()) == {status}
    assert asked == {"LIST in": 1}


@pytest.mark.slow
def test_what_stands_behind_the_pages_that_are_worth_it_is_asked_for(bucket: Store) -> None:
    """Two cores are worth one page of 1000 names; of the second one's name nothing is known then."""
    bucket.put(a=sample_core(anon_pages=1, shared_pages=1), z=sample_core(anon_pages=1, shared_pages=1))
    for n in range(1001):
        bucket.s3.call_s3("put_object", Bucket=BUCKET, Key=f"{bucket.folder.partition('/')[2]}/out/m{n}", Body=b"x")
    states, asked = bucket.batch("--to", f"{bucket.url}/out")
    assert set(states.values()) == {"filtered"}
    once = {"LIST in": 1, "LIST out": 1}
    assert asked == {
        **once,
        "HEAD out/z": 1,
        **{f"{method}/{n}": c for method, c in (("GET in", 2), ("PUT out", 1)) for n in "az"},
    }


def test_long_ranges_that_are_dropped_are_not_fetched(bucket: Store) -> None:
    """A GET for each kept range behind one, and the parts of the upload and two more."""
    core = layered(12 * MIB, 12 * MIB)
    bucket.put(core=core)
    states, asked = bucket.batch("--to", f"{bucket.url}/out")
    assert states == {"core": "filtered"}
    made = bucket.s3.cat_file(f"{bucket.folder}/out/core")
    assert 36 * MIB < len(made) < 37 * MIB
    assert_promises(core, made)
    assert asked == {"LIST in": 1, "LIST out": 1, "GET in/core": 4, "POST out/core": 2, "PUT out/core": 5}


def test_what_changed_is_noticed(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source after it was listed; the output before it is written, by the same work and by another."""
    bucket.use(monkeypatch)
    core = sample_core()
    bucket.put(core=core)
    source, output = f"{bucket.url}/in/core", f"{bucket.url}/out"
    (found,) = files_below(source)
    task = Task(source, 0x31, output=output, listed=found.info, output_there=False)
    assert run_task(task).status == "filtered"
    written = bucket.s3.info(f"{bucket.folder}/out", refresh=True)
    # The store refuses the second write, and what is there is what was to be written: as after an answer that was lost.
    assert run_task(task).status == "filtered"
    other = run_task(replace(task, filter=0x0))
    assert (other.status, other.reason) == ("failed", f"{output}: exists (-f replaces it)")
    bucket.put(core=core[:-1] + b"?")
    stale = run_task(replace(task, force=True))
    assert stale.status == "failed" and "has changed since it was opened" in stale.reason
    assert bucket.s3.info(f"{bucket.folder}/out", refresh=True) == written
    (found,) = files_below(source)
    assert run_task(replace(task, listed=found.info, output_there=None, force=True)).status == "filtered"
