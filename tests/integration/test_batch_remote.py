"""Batches from and to an object store on loopback, and on a cluster whose workers reach it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.archives import lines_of
from support.cloud import (
    BUCKET,
    CuttingProxy,
    addresses,
    gs_store,
    needs_dask,
    needs_gs,
    needs_sshd,
    needs_store,
    piped,
    sshd,
    store,
)
from support.run import assert_error, assert_promises, assert_usage, corefilt, listing
from support.samples import sample_core

from corefilt.batching.outcome import Outcome
from corefilt.batching.task import Task

MIB = 1 << 20
pytestmark = needs_store


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with store() as port:
        yield port


class Bucket:
    """A folder of its own in a bucket, for this process by s3fs, for runs by its `url`."""

    def __init__(self, port: int) -> None:
        import s3fs

        self.port, self.path = port, f"{BUCKET}/{uuid.uuid4().hex}"
        self.url = f"s3://{self.path}"
        self.s3 = s3fs.S3FileSystem(
            key="key", secret="secret", endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True
        )
        if not self.s3.exists(BUCKET):
            self.s3.mkdir(BUCKET)

    def put(self, name: str, data: bytes) -> None:
        self.s3.pipe_file(f"{self.path}/{name}", data)

    def get(self, name: str) -> bytes:
        data: bytes = self.s3.cat_file(f"{self.path}/{name}")
        return data

    def names(self) -> list[str]:
        self.s3.invalidate_cache()
        return sorted(path.removeprefix(f"{self.path}/") for path in self.s3.find(self.path))

    def unfinished(self) -> list[Any]:
        answer: list[Any] = self.s3.call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", [])
        return answer


@pytest.fixture
def bucket(port: int) -> Bucket:
    return Bucket(port)


def batch(bucket: Bucket, *args: str | Path, port: int | None = None, code: int = 0) -> dict[str, tuple[str, str]]:
    """Run a batch with S3 at a port, and give status and reason by source below the bucket's folder."""
    env = addresses(bucket.port if port is None else port)
    done = corefilt("batch", "0x31", *args, "--json", "--no-sync", env=env, timeout=200)
    assert done.code == code, "\n".join(done.err)
    return {
        str(line["source"]).removeprefix(f"{bucket.url}/"): (str(line["status"]), str(line["reason"]))
        for line in lines_of(done.out)
    }


CORE = sample_core()


def fill(bucket: Bucket) -> None:
    bucket.put("in/a.core", CORE)
    bucket.put("in/sub/b.core.gz", gzip.compress(CORE))
    bucket.put("in/notes.txt", b"no core, but something else")


def test_from_url_to_url_and_again(bucket: Bucket) -> None:
    fill(bucket)
    found = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/out")
    assert {name: status for name, (status, _) in found.items()} == {
        "in/a.core": "filtered",
        "in/sub/b.core.gz": "filtered",
        "in/notes.txt": "skipped",
    }
    assert [name for name in bucket.names() if name.startswith("out/")] == ["out/a.core", "out/sub/b.core.gz"]
    assert_promises(CORE, bucket.get("out/a.core"))
    assert gzip.decompress(bucket.get("out/sub/b.core.gz")) == bucket.get("out/a.core")
    told = json.loads(bucket.s3.getxattr(f"{bucket.path}/out/a.core", "corefilt"))
    assert (told["schema"], told["filter"]) == (1, "0x31")
    assert bucket.unfinished() == []
    before = [bucket.s3.info(f"{bucket.path}/out/{name}")["LastModified"] for name in ("a.core", "sub/b.core.gz")]
    again = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/out")
    assert {status for status, _ in again.values()} == {"unchanged", "skipped"}
    bucket.s3.invalidate_cache()
    assert before == [
        bucket.s3.info(f"{bucket.path}/out/{name}")["LastModified"] for name in ("a.core", "sub/b.core.gz")
    ]
    # Another content under the same name, and other work, are not what was done.
    bucket.put("in/a.core", sample_core(anon_pages=9))
    changed = batch(bucket, f"{bucket.url}/in/a.core", "--to", f"{bucket.url}/out", code=4)
    assert changed["in/a.core"][0] == "failed"
    assert "exists" in changed["in/a.core"][1]
    assert batch(bucket, f"{bucket.url}/in/a.core", "--to", f"{bucket.url}/out", "-f")["in/a.core"][0] == "filtered"


def test_from_url_to_folder_and_from_folder_to_url(bucket: Bucket, tmp_path: Path) -> None:
    fill(bucket)
    for _ in range(2):
        found = batch(bucket, f"{bucket.url}/in/*.core", "--to", tmp_path / "out", "--verify")
    assert found == {"in/a.core": ("unchanged", found["in/a.core"][1])}
    assert list(listing(tmp_path / "out")) == ["a.core"]
    made = (tmp_path / "out" / "a.core").read_bytes()
    assert_promises(CORE, made)
    (tmp_path / "core").write_bytes(CORE)
    for status in ("filtered", "unchanged"):
        found = batch(bucket, tmp_path / "core", "--to", f"{bucket.url}/up", "--verify", "--compress", "zstd")
        assert [told for told, _ in found.values()] == [status]
    assert bucket.names()[-1] == "up/core.zst"
    unpacked = subprocess.run(["zstd", "-dc"], input=bucket.get("up/core.zst"), capture_output=True, check=True).stdout
    assert_promises(CORE, unpacked)


def test_a_policy_decides_behind_urls_and_deletes_nothing_there(bucket: Bucket, tmp_path: Path) -> None:
    fill(bucket)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[rule]]\nname = "new"\nwhen.younger = "1d"\nwhen.smaller = "1G"\naction = "delete"\n'
        '[[rule]]\nname = "rest"\naction = "minimal"\n'
    )
    names = bucket.names()
    found = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/out", "--policy", policy)
    assert found["in/a.core"][0] == "deleted"
    assert bucket.names() == names
    policy.write_text('[[rule]]\nname = "rest"\naction = "minimal"\n')
    found = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/out", "--policy", policy)
    assert found["in/sub/b.core.gz"][0] == "filtered"
    assert len(gzip.decompress(bucket.get("out/sub/b.core.gz"))) < len(CORE)


def test_over_connections_that_break(bucket: Bucket) -> None:
    cores = {f"in/{n}": sample_core(anon_pages=1500 + n, shared_pages=300) for n in range(6)}
    for name, data in cores.items():
        bucket.put(name, data)
    with CuttingProxy(bucket.port, every=20 * MIB) as proxy:
        found = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/out", port=proxy.port)
        assert proxy.cuts > 1
    assert {status for status, _ in found.values()} == {"filtered"}
    for name, data in cores.items():
        assert_promises(data, bucket.get(name.replace("in/", "out/")))
    assert bucket.unfinished() == []


def test_what_cannot_be_meant(bucket: Bucket, tmp_path: Path) -> None:
    env = addresses(bucket.port)
    assert_usage(corefilt("batch", "0x31", bucket.url, "--replace", env=env), "--replace", "URLs")
    assert_usage(corefilt("batch", "0x31", "gopher://x/y", "--to", tmp_path / "out", env=env), "gopher", "s3")
    assert_error(corefilt("batch", "0x31", f"{bucket.url}/none", "--to", tmp_path / "out", env=env), "No such file")


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(CORE)
    done = corefilt("batch", "0x31", f"file://{tmp_path}/core", "--to", f"file://{tmp_path}/out", "--no-sync", "-q")
    assert done.code == 0, done.err
    assert_promises(CORE, (tmp_path / "out" / "core").read_bytes())


def marked(test: Any, marks: list[Any]) -> Any:
    for mark in marks:
        test = mark(test)
    return test


def over_ssh(test: Any) -> Any:
    return marked(test, needs_sshd)


def over_gs(test: Any) -> Any:
    return marked(test, needs_gs)


@over_gs
def test_gs_there_and_back_and_again(tmp_path: Path) -> None:
    """From a folder to a bucket, from bucket to bucket with what is compressed, and back; none of it twice."""
    (tmp_path / "store").mkdir()
    put = {"a.core": CORE, "sub/b.core.gz": gzip.compress(CORE, 1), "notes.txt": b"no core"}
    for name, data in put.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with gs_store(tmp_path / "store") as env:
        for wanted, source, target in (
            ("all", str(tmp_path / "in"), f"gs://{BUCKET}/up"),
            ("0x31", f"gs://{BUCKET}/up", f"gs://{BUCKET}/small"),
            ("all", f"gs://{BUCKET}/small", str(tmp_path / "back")),
        ):
            for status in ("filtered", "unchanged"):
                done = corefilt(
                    "batch", wanted, source, "--to", target, "--json", "--verify", "--no-sync", env=env, timeout=100
                )
                assert done.code == 0, done.err
                found = [line["status"] for line in lines_of(done.out) if line["status"] != "skipped"]
                assert found == [status] * 2, done.err
    made = (tmp_path / "back" / "a.core").read_bytes()
    assert_promises(CORE, made)
    assert gzip.decompress((tmp_path / "back" / "sub" / "b.core.gz").read_bytes()) == made


@over_ssh
def test_sftp_there_and_back(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    (archive / "a.core").write_bytes(CORE)
    (archive / "b.gz").write_bytes(gzip.compress(CORE))
    (archive / "notes.txt").write_text("no core at all, but a text")
    with sshd(tmp_path) as url:
        for status in ("filtered", "unchanged"):
            done = corefilt(
                "batch", "0x31", f"{url}{archive}", "--to", f"{url}{out}", "--json",
                env={"FSSPEC_SFTP_KEY_FILENAME": str(tmp_path / "user")},
            )  # fmt: skip
            assert done.code == 0, done.err
            assert sorted(str(line["status"]) for line in lines_of(done.out)) == sorted([status, status, "skipped"])
    assert sorted(listing(out)) == ["a.core", "b.gz"]
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}
    for made in ((out / "a.core").read_bytes(), gzip.decompress((out / "b.gz").read_bytes())):
        (tmp_path / "made").write_bytes(made)
        assert corefilt("verify", archive / "a.core", tmp_path / "made").code == 0


# --- on a cluster -------------------------------------------------------------------------------------------


class Cluster:
    """A scheduler and two workers of one thread each; `workers` are their processes by address."""

    def __init__(self, address: str, workers: dict[str, subprocess.Popen[str]]) -> None:
        self.address, self.workers = address, workers


@contextmanager
def cluster(folder: Path, env: dict[str, str]) -> Iterator[Cluster]:
    """Start one on loopback, each part as a process of its own."""

    def begin(*words: str, says: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", *words]
        options = {"env": {**os.environ, **env}, "cwd": folder, "text": True}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]
        started.append(process)
        assert process.stderr is not None
        line = next(line for line in process.stderr if says in line)
        readers.append(threading.Thread(target=process.stderr.read))
        readers[-1].start()
        return process, line[line.index("tcp://") :].split()[0]

    started: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    try:
        _, address = begin(
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            says="Scheduler at:",
        )
        workers = dict(
            reversed(
                begin(
                    "distributed.cli.dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny",
                    "--no-dashboard", "--local-directory", str(folder), says="Start worker at:",
                )
            )
            for _ in range(2)
        )  # fmt: skip
        yield Cluster(address, workers)
    finally:
        for process in started:
            process.kill()
            process.wait()
        for reader, process in zip(readers, started, strict=True):
            reader.join()
            assert process.stderr is not None
            process.stderr.close()


def on_cluster(tasks: list[Task], address: str) -> Iterator[tuple[Task, Outcome]]:
    from corefilt.batching.cluster import run_on_cluster

    return run_on_cluster(tasks, address)


@needs_dask
def test_a_cluster_gives_what_the_pool_gives(bucket: Bucket, tmp_path: Path) -> None:
    fill(bucket)
    local = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/local")
    with cluster(tmp_path, addresses(bucket.port)) as started:
        spread = batch(bucket, f"{bucket.url}/in", "--to", f"{bucket.url}/spread", "--dask", started.address)
    assert spread == local
    for name in ("a.core", "sub/b.core.gz"):
        assert gzip_free(bucket.get(f"spread/{name}")) == gzip_free(bucket.get(f"local/{name}"))


def gzip_free(data: bytes) -> bytes:
    """Take the compression off: its header holds a time."""
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


@needs_dask
def test_a_worker_that_is_lost_in_the_middle_takes_nothing_with_it(bucket: Bucket, tmp_path: Path) -> None:
    from distributed import Client

    cores = {f"{n:02}": sample_core(anon_pages=600 + n, shared_pages=100) for n in range(24)}
    for name, data in cores.items():
        bucket.put(f"in/{name}", data)
    tasks = [Task(f"{bucket.url}/in/{name}", 0x31, output=f"{bucket.url}/out/{name}") for name in cores]
    with cluster(tmp_path, addresses(bucket.port)) as started:
        running = on_cluster(tasks, started.address)
        outcomes = [next(running)]
        victim, process = next(iter(started.workers.items()))
        with Client(started.address) as client:
            # Stopped, it finishes nothing any more, so what it holds now is lost with it.
            process.send_signal(signal.SIGSTOP)
            held = client.processing()[victim]
            assert held
            process.kill()
            outcomes += running
            assert len(client.nthreads()) == 1
    assert sorted(task.source for task, _ in outcomes) == sorted(task.source for task in tasks)
    # What the lost worker had stored, but not told, is found to be done.
    assert {outcome.status for _, outcome in outcomes} <= {"filtered", "unchanged"}
    for name, data in cores.items():
        made = bucket.get(f"out/{name}")
        assert_promises(data, made)
        assert made == piped(data, 0x31, tmp_path)
    assert bucket.names() == sorted([f"in/{name}" for name in cores] + [f"out/{name}" for name in cores])


@needs_dask
def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(CORE)
    where = (tmp_path / "core", "--to", tmp_path / "out")
    done = corefilt("batch", "0x31", *where, "--dask", "nonsense://x:1")
    assert_usage(done, "nonsense")
    assert not list((tmp_path / "out").rglob("*"))
