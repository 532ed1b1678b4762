"""Cores behind URLs: in and out whole, in bounded memory, over connections that break, or not there at all."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from support.archives import PACK
from support.builder import FileEntry, Load, kernel_notes, make_core
from support.builds import of_a_plain_build
from support.cloud import BUCKET, CuttingProxy, addresses, needs_store, piped, store
from support.opening import open_file
from support.run import assert_promises, assert_usage, environment
from support.run import corefilt as run_corefilt
from support.samples import ANON, SHARED, sample_core

import corefilt
import corefilt.io.remote.url
from corefilt.batching.job import Job, plan
from corefilt.batching.runner import run_task
from corefilt.batching.sources.find import find
from corefilt.batching.sources.object import LOOK, content_of
from corefilt.corefile.corefile import open_core
from corefilt.errors import CorefiltError, InputError, MissingLibraryError, OutputError, UsageError
from corefilt.filtering.options import Options
from corefilt.filtering.write import write_filtered
from corefilt.io.remote.download import PIECE, fetched, open_found
from corefilt.io.remote.s3 import listed
from corefilt.io.remote.upload import RemoteFile
from corefilt.io.remote.upload import store as stored
from corefilt.io.remote.url import Remote, files_below, is_url, local_path
from corefilt.io.tempfiles import new_name
from corefilt.verify import digest, verify

MIB, GIB = 1 << 20, 1 << 30
FILTER = 0x31


def filtered(source: str, target: str, *, force: bool = False, **options: Any) -> RemoteFile:
    """Filter one core from a URL to a URL."""
    output = RemoteFile(target, force=force)
    with open_core(source) as core:
        report = write_filtered(core, FILTER, output, Options(**options))
    assert report.output == target
    return output


# --- without a network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["s3://b/k", "gs://b/k", "SFTP://host/k", "memory://k", "file:///k", "gopher://x"])
def test_urls_are_told_from_paths(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize("path", ["/a/b", "a", "./s3:/x", "-", "C:x", "://x", "a b://x"])
def test_paths_are_told_from_urls(path: str) -> None:
    assert not is_url(path)
    assert local_path(path) == path


def test_a_file_url_is_a_path() -> None:
    assert local_path("file:///var/cores/a%20b") == "/var/cores/a%20b"


@pytest.mark.parametrize("url", ["gopher://x/y", "/etc/passwd", "simplecache::s3://b/k"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Remote(url)
    assert "s3" in caught.value.hint


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingLibraryError) as caught:
        Remote("gs://bucket/core")
    assert caught.value.hint == "pip install gcsfs"


@pytest.fixture
def memory() -> Iterator[str]:
    """Give a folder of its own in fsspec's file system in memory."""
    pytest.importorskip("fsspec", reason="pip install '.[test-cloud]' brings fsspec")
    yield f"memory://{uuid.uuid4().hex}"


def put(url: str, content: bytes) -> str:
    fd = os.memfd_create("content")
    try:
        os.write(fd, content)
        stored(Remote(url), fd, len(content), {})
    finally:
        os.close(fd)
    return url


def get(url: str) -> bytes:
    remote = Remote(url)
    return b"".join(fetched(remote, remote.info()))


def test_a_core_goes_through(memory: str, tmp_path: Path) -> None:
    core = sample_core()
    filtered(put(f"{memory}/in", core), f"{memory}/out")
    assert get(f"{memory}/out") == piped(core, 0x31, tmp_path)
    assert_promises(core, get(f"{memory}/out"))


@pytest.mark.parametrize("how", ["zstd", "gzip"])
def test_compressed_both_ways(how: str, memory: str, tmp_path: Path) -> None:
    core = sample_core()
    tool = subprocess.run([how, "-c"], input=core, capture_output=True, check=True)
    filtered(put(f"{memory}/in", tool.stdout), f"{memory}/out", compress="same")
    unpacked = subprocess.run([how, "-dc"], input=get(f"{memory}/out"), capture_output=True, check=True).stdout
    assert_promises(core, unpacked)


def test_verify_and_digest_read_urls(memory: str, tmp_path: Path) -> None:
    core = sample_core()
    (tmp_path / "core").write_bytes(core)
    url, full = f"{memory}/small", put(f"{memory}/in", core)
    filtered(full, url)
    verdict = verify(full, url, filter=0x31)
    assert verdict.holds and (verdict.full, verdict.filtered) == (full, url)
    assert [one.as_dict() for one in digest(full)] == [one.as_dict() for one in digest(tmp_path / "core")]
    assert not verify(full, put(f"{memory}/bad", get(url)[:-1] + b"?")).holds
    with pytest.raises(InputError, match="none"):
        digest(f"{memory}/none")


@pytest.mark.parametrize("command", ["list", "vacuum", "restore", "open"])
def test_what_reads_no_urls_says_so(command: str) -> None:
    assert_usage(run_corefilt(command, "s3://bucket/core"), "this command reads no URLs", "corefilt all URL -o FILE")


def test_what_is_there_is_not_replaced_without_force(memory: str) -> None:
    put(f"{memory}/in", sample_core())
    put(f"{memory}/out", b"mine")
    with pytest.raises(OutputError, match="exists"):
        filtered(f"{memory}/in", f"{memory}/out")
    assert get(f"{memory}/out") == b"mine"
    filtered(f"{memory}/in", f"{memory}/out", force=True)
    assert get(f"{memory}/out") != b"mine"


def test_nothing_is_there_after_an_error(memory: str, tmp_path: Path) -> None:
    put(f"{memory}/in", sample_core())
    with pytest.raises(CorefiltError):
        filtered(f"{memory}/in", f"{memory}/out", strict=True)
    assert [found.relative for found in files_below(memory)] == ["in"]


def test_what_is_no_core_is_said_so(memory: str) -> None:
    put(f"{memory}/in", b"hello, this is no core at all")
    with pytest.raises(InputError, match=f"{memory}/in"):
        filtered(f"{memory}/in", f"{memory}/out")
    with pytest.raises(InputError, match="No such file"):
        filtered(f"{memory}/none", f"{memory}/out")


def test_files_are_listed_by_their_urls(memory: str) -> None:
    for name in ("a.core", "sub/b.core", "sub/deep/c"):
        put(f"{memory}/{name}", name.encode())
    assert [(f.url, f.relative, f.info.size) for f in files_below(memory)] == [
        (f"{memory}/a.core", "a.core", 6),
        (f"{memory}/sub/b.core", "sub/b.core", 10),
        (f"{memory}/sub/deep/c", "sub/deep/c", 10),
    ]
    assert [f.relative for f in files_below(f"{memory}/*/*.core")] == ["sub/b.core"]
    assert [(f.url, f.relative) for f in files_below(f"{memory}/sub/b.core")] == [(f"{memory}/sub/b.core", "b.core")]
    with pytest.raises(InputError, match="No such file"):
        list(files_below(f"{memory}/none"))


def test_outputs_that_are_not_whole_are_no_cores(memory: str) -> None:
    left = new_name()
    for name in ("a.core", left, f"sub/{left}"):
        put(f"{memory}/{name}", name.encode())
    assert [item.below for item in find([memory])] == ["a.core"]
    assert [item.below for item in find([f"{memory}/sub/{left}"])] == [left]


class Failing:
    """Breaks the first calls of a function with errors of its choice."""

    def __init__(self, real: Any, errors: Iterator[Exception | None]) -> None:
        self.real, self.errors, self.calls = real, errors, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        error = next(self.errors, None)
        if error is not None:
            raise error
        return self.real(*args, **options)


def test_broken_connections_are_tried_again(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(corefilt.io.remote.url, "WAITS", (0.0, 0.0))
    content = os.urandom(3 * PIECE)
    put(f"{memory}/in", content)
    opening = Failing(MemoryFileSystem._open, chain([ConnectionResetError("cut")] * 2))
    monkeypatch.setattr(MemoryFileSystem, "_open", lambda self, *args, **options: opening(self, *args, **options))
    assert get(f"{memory}/in") == content
    assert opening.calls == 3
    opening.errors = repeat(ConnectionResetError("cut"))
    with pytest.raises(InputError) as caught:
        get(f"{memory}/in")
    assert "cut" in str(caught.value)
    assert caught.value.hint == "it was tried several times"


def test_what_is_refused_is_not_tried_again(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    put(f"{memory}/in", b"x")
    opening = Failing(MemoryFileSystem._open, repeat(PermissionError(13, "Permission denied")))
    monkeypatch.setattr(MemoryFileSystem, "_open", lambda self, *args, **options: opening(self, *args, **options))
    with pytest.raises(InputError, match="Permission denied"):
        get(f"{memory}/in")
    assert opening.calls == 1


def test_a_file_that_changes_between_two_connections_is_refused(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFile

    monkeypatch.setattr(corefilt.io.remote.url, "WAITS", (0.0,))
    put(f"{memory}/in", os.urandom(2 * PIECE))
    remote = Remote(f"{memory}/in")
    pieces = fetched(remote, remote.info())
    assert len(next(pieces)) == PIECE
    put(f"{memory}/in", os.urandom(2 * PIECE))
    reading = Failing(MemoryFile.read, iter([ConnectionResetError("cut")]))
    monkeypatch.setattr(MemoryFile, "read", lambda self, *args: reading(self, *args))
    with pytest.raises(InputError, match="has changed since it was opened"):
        next(pieces)


def test_what_is_skipped_at_length_is_not_read(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFile

    content = os.urandom(MIB) * 40
    remote = Remote(put(f"{memory}/in", content))
    read: list[int] = []
    real = MemoryFile.read
    monkeypatch.setattr(MemoryFile, "read", lambda self, count: read.append(self.tell()) or real(self, count))
    source = open_found(remote, remote.info(), max_headers=MIB)
    try:
        assert source.peek(0, 100) == content[:100]
        assert source.skip(35 * MIB) == 35 * MIB == source.position
        assert b"".join(source.pieces(100)) == content[35 * MIB : 35 * MIB + 100]
        # There is no more than there is, and what is short is read.
        passed = 0
        while gone := source.skip(30 * MIB):
            passed += gone
        assert passed == 5 * MIB - 100
        assert source.position == len(content)
        assert source.check() is None
    finally:
        source.close()
    assert 35 * MIB in read
    assert not any(2 * PIECE < at < 35 * MIB for at in read)


def test_a_batch_knows_by_its_outputs_what_was_done(memory: str, tmp_path: Path) -> None:
    """Before anything of a core is read: by a note within where there are no metadata, by an attribute of a file."""
    put(f"{memory}/in/a", sample_core())
    put(f"{memory}/in/b", sample_core(anon_pages=9))
    for to in (f"{memory}/out", str(tmp_path / "out")):
        job = Job([f"{memory}/in"], FILTER, to=to, options={"sync": False})
        with job.lock():
            tasks, outcomes = plan(job)
            assert (len(tasks), outcomes) == (2, [])
            assert {run_task(task).status for task in tasks} == {"filtered"}
            assert [(len(tasks), [done.status for done in outcomes]) for tasks, outcomes in (plan(job),)] == [
                (0, ["unchanged"] * 2)
            ]
            # Other work, or another content, was not done.
            assert len(plan(replace(job, filter=0x30))[0]) == 2
    put(f"{memory}/in/a", sample_core(anon_pages=10))
    (task,) = plan(job)[0]
    assert task.source == f"{memory}/in/a"
    put(task.source, sample_core(anon_pages=11))
    assert "has changed since it was opened" in run_task(replace(task, force=True)).reason


@pytest.mark.parametrize("how", PACK)
def test_the_beginning_tells_what_something_is(how: str, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is fetched only where nothing of a block can be read before all of it has come."""
    from fsspec.implementations.memory import MemoryFile

    rest = random.Random(1).randbytes(MIB)
    asked: list[int] = []
    real = MemoryFile.read
    monkeypatch.setattr(MemoryFile, "read", lambda self, count: asked.append(count) or real(self, count))
    for inside, reason in ((sample_core() + rest, ""), (rest, f"{how}, whose content is not an ELF file")):
        url = f"{memory}/{len(asked)}"
        put(url, PACK[how](inside))
        (found,) = files_below(url)
        asked.clear()
        content = content_of(url, found.info)
        assert (content.wrapping, content.reason) == ((how,), reason)
        assert asked[0] == LOOK
        assert len(asked) == 1 or how in ("bzip2", "lz4")
    content = content_of(put(f"{memory}/plain", rest), Remote(f"{memory}/plain").info())
    assert (content.wrapping, content.reason) == ((), "not an ELF file")
    assert content_of(put(f"{memory}/empty", b""), Remote(f"{memory}/empty").info()).reason == "empty"


def test_names_are_listed_as_far_as_it_is_worth_it() -> None:
    class Pages:
        def __init__(self) -> None:
            self.kwargs: dict[str, str] = {}

        def split_path(self, path: str) -> tuple[str, str, None]:
            return path.partition("/")[0], path.partition("/")[2], None

        def call_s3(self, method: str, kwargs: object, **asked: str) -> dict[str, object]:
            assert (method, asked["Bucket"], asked["Prefix"]) == ("list_objects_v2", "cores", "out/")
            at = int(asked.get("ContinuationToken", "0"))
            keys = [f"out/{n}" for n in ("a", "b", "d", "\u00e9")][at : at + 2]
            more = {"IsTruncated": True, "NextContinuationToken": str(at + 2)} if not at else {}
            return {"Contents": [{"Key": key} for key in keys], **more}

    names = listed(Pages(), "cores/out", 1)
    told = [names.tell(f"cores/out/{name}") for name in ("a", "aa", "b", "c", "d")]
    assert told == [True, False, True, None, None]
    names = listed(Pages(), "cores/out/", 2)
    assert [names.tell(f"cores/out/{name}") for name in ("c", "d", "\u00e9", "z\u00e9")] == [False, True, True, False]


# --- a real HTTP server -------------------------------------------------------------------------------------

pytestmark: list[Any] = []


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with store() as port:
        yield port


@pytest.fixture
def bucket(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give a folder of its own in a bucket."""
    use(port, monkeypatch)
    import s3fs

    s3 = s3fs.S3FileSystem()
    if not s3.exists(BUCKET):
        s3.mkdir(BUCKET)
    yield f"s3://{BUCKET}/{uuid.uuid4().hex}"


def use(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have S3 be at this port, for this process."""
    import s3fs

    for name, value in addresses(port).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def unfinished_uploads() -> list[Any]:
    import s3fs

    answer = s3fs.S3FileSystem().call_s3("list_multipart_uploads", Bucket=BUCKET)
    return answer.get("Uploads", [])


def in_store(test: Any) -> Any:
    for mark in needs_store:
        test = mark(test)
    return test


@in_store
def test_s3_and_back(bucket: str, tmp_path: Path) -> None:
    core = sample_core(anon_pages=5000)
    source = put(f"{bucket}/in", core)
    output = RemoteFile(f"{bucket}/out", force=False)
    output.metadata["corefilt"] = json.dumps({"version": "x"})
    with open_core(source) as opened:
        write_filtered(opened, FILTER, output, Options())
    assert get(f"{bucket}/out") == piped(core, 0x31, tmp_path)
    assert len(core) > 2 * PIECE
    found, plain = Remote(f"{bucket}/out").found(), Remote(source).found()
    assert found is not None and plain is not None
    assert json.loads(found.metadata["corefilt"]) == {"version": "x"}
    assert "corefilt" not in plain.metadata
    assert unfinished_uploads() == []
    assert [f.url for f in files_below(bucket)] == [f"{bucket}/in", f"{bucket}/out"]
    modified = plain.written
    assert modified is not None
    # A listing tells the same of an object as the object itself, or nobody could hold one against the other.
    assert [f.info._replace(metadata=found.metadata) for f in files_below(f"{bucket}/out")] == [found]
    assert next(files_below(bucket)).info == Remote(source).info()
    assert abs(modified - os.stat(tmp_path / "piped").st_mtime) < 3600


@in_store
def test_the_command_line_reads_and_writes_urls(bucket: str, port: int, tmp_path: Path) -> None:
    """In parts; what is there stays without -f, and after an error nothing is there and no upload is left."""
    core, env = sample_core(anon_pages=5000), addresses(port)
    (tmp_path / "core").write_bytes(core)
    loud = bucket.replace("s3://", "S3://")

    def run(*words: str | Path, code: int = 0) -> list[str]:
        done = run_corefilt(*words, env=environment(env))
        assert done.code == code, done.err
        return list(done.err)

    assert run("all", tmp_path / "core", "-o", f"{bucket}/in")[0].startswith(f"corefilt: {tmp_path}/core -> {bucket}")
    run("0x31", f"{loud}/in", "-o", tmp_path / "small")
    assert (tmp_path / "small").read_bytes() == piped(core, 0x31, tmp_path)
    run("0x31", f"{bucket}/in", "-o", f"{loud}/small.zst")
    assert get(f"{bucket}/small.zst")[:4] == b"\x28\xb5\x2f\xfd"
    said = run("0x31", f"{bucket}/in", "-o", f"{bucket}/small.zst", code=1)
    assert said == [f"corefilt: {bucket}/small.zst: exists", "  try: -f replaces it"]
    run("0x31", f"{bucket}/in", "-o", f"{bucket}/small.zst", "-f")
    run("0x31", f"{bucket}/in", "-o", f"{bucket}/none", "--strict", code=4)
    for words in (("0x31", f"{bucket}/none"), ("inspect", f"{bucket}/none"), ("0x31", "s3://none-such/core", "-n")):
        message = run(*words, code=1)[0]
        assert message.startswith(f"corefilt: {words[1]}: ")
    assert f"{bucket}/in: ".encode() in run_corefilt("inspect", f"{bucket}/in", env=environment(env)).out
    assert unfinished_uploads() == []
    assert sorted(f.relative for f in files_below(bucket)) == ["in", "small.zst"]


@in_store
def test_what_came_meanwhile_is_not_replaced(bucket: str) -> None:
    """The store itself refuses: nobody looks between the question and the write. Of one part, and of several."""
    for size in (100, 20 << 20):
        output = RemoteFile(f"{bucket}/out{size}", force=False)
        sink = output.open(None)
        os.write(sink.fd, bytes(size))
        put(f"{bucket}/out{size}", b"somebody else's")
        with pytest.raises(OutputError, match="exists"):
            sink.commit(size, sync=False)
        assert get(f"{bucket}/out{size}") == b"somebody else's"
    assert unfinished_uploads() == []


@in_store
def test_storage_options_are_the_stores(bucket: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment does not tell, a call can."""
    put(f"{bucket}/in", sample_core())
    found = addresses(port)
    for name in found:
        monkeypatch.delenv(name, raising=False)
    options = {
        "key": found["AWS_ACCESS_KEY_ID"], "secret": found["AWS_SECRET_ACCESS_KEY"],
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"},
    }  # fmt: skip
    report = corefilt.filter(f"{bucket}/in", f"{bucket}/out", filter=0x31, storage_options=options)
    assert report.output == f"{bucket}/out"
    with corefilt.open(f"{bucket}/out", storage_options=options) as core:
        assert len(core.mappings) == 13


@in_store
def test_connections_that_break_are_taken_up_again(
    bucket: str, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    core = sample_core(anon_pages=8000, shared_pages=2000)
    put(f"{bucket}/in", core)
    with CuttingProxy(port, every=20 * MIB) as proxy:
        use(proxy.port, monkeypatch)
        filtered(f"{bucket}/in", f"{bucket}/out")
        assert proxy.cuts > 1
        use(port, monkeypatch)
    assert get(f"{bucket}/out") == piped(core, 0x31, tmp_path)
    assert unfinished_uploads() == []


@in_store
def test_a_store_that_is_gone_leaves_nothing(
    bucket: str, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every connection breaks before a part of the output has arrived."""
    monkeypatch.setattr(corefilt.io.remote.url, "WAITS", (0.0,))
    output = RemoteFile(f"{bucket}/out", force=True)
    path = tmp_path / "core"
    path.write_bytes(sample_core(anon_pages=5000))
    with CuttingProxy(port, each=2 * MIB) as proxy:
        use(proxy.port, monkeypatch)
        with open_file(path) as core, pytest.raises(OutputError) as caught:
            write_filtered(core, FILTER, output, Options())
        assert proxy.cuts > 1
    use(port, monkeypatch)
    assert str(caught.value).startswith(f"{bucket}/out: ")
    assert not Remote(f"{bucket}/out").found()
    assert unfinished_uploads() == []


@of_a_plain_build
@in_store
def test_a_compressed_gibibyte_in_bounded_memory(bucket: str, port: int, tmp_path: Path) -> None:
    """And what a small core takes beside it, so that the libraries' own share is not counted."""
    large = a_gibibyte(tmp_path / "core")
    subprocess.run(["zstd", "-1", "-q", large], check=True)
    stored_file(f"{bucket}/large", Path(f"{large}.zst"))
    put(f"{bucket}/small", subprocess.run(["zstd"], input=sample_core(), capture_output=True, check=True).stdout)
    peaks = [peak_of(f"{bucket}/{name}", f"{bucket}/{name}.out", port) for name in ("small", "large")]
    assert Remote(f"{bucket}/large.out").info().size > GIB // 8
    assert peaks[1] - peaks[0] < 96 * MIB, peaks


@pytest.mark.slow
@of_a_plain_build
@in_store
def test_a_raw_gibibyte_in_bounded_memory(bucket: str, port: int, tmp_path: Path) -> None:
    """The store holds it in memory several times: that took 5 GB."""
    large = a_gibibyte(tmp_path / "core")
    stored_file(f"{bucket}/large", large)
    put(f"{bucket}/small", sample_core())
    peaks = [peak_of(f"{bucket}/{name}", f"{bucket}/{name}.out", port) for name in ("small", "large")]
    print(f"{peaks[1] / MIB:.0f} MiB at most, {peaks[0] / MIB:.0f} MiB for a core of {len(sample_core())} bytes")
    assert Remote(f"{bucket}/large.out").info().size > GIB
    assert peaks[1] - peaks[0] < 96 * MIB, peaks


def a_gibibyte(path: Path) -> Path:
    """Write a core of a gibibyte, an eighth of which is noise."""
    head = make_core(
        [Load(ANON, b"", memsz=GIB), Load(SHARED, b"x" * 4096)],
        kernel_notes([FileEntry(SHARED, SHARED + 4096, 0, "/dev/zero (deleted)")]),
        patch={"phdr[1].p_filesz": GIB, "phdr[2].p_offset": 0x2000 + GIB},
    )
    assert head[-4096:] == b"x" * 4096
    with path.open("wb") as file:
        file.write(head[:-4096])
        for at in range(0, GIB, 64 * MIB):
            file.seek(len(head) - 4096 + at)
            file.write(os.urandom(8 * MIB))
        file.seek(len(head) - 4096 + GIB)
        file.write(head[-4096:])
    return path


# On a slow machine the store here puts the parts of a gibibyte together for longer than the 60 s that botocore waits;
# asked again, it does not know the upload any more.
PATIENT = {"config_kwargs": {"read_timeout": 600}}


def stored_file(url: str, path: Path) -> None:
    """Put a file's bytes there, piece by piece."""
    with path.open("rb") as file:
        stored(Remote(url, PATIENT), file.fileno(), path.stat().st_size, {})


def peak_of(source: str, target: str, port: int) -> int:
    """Run one core in a process of its own; gives the most memory that it had, in bytes.

    What getrusage tells begins with that of the process which started it.
    """
    program = """if True:
        import json
        import sys
        from corefilt.io.remote.upload import RemoteFile
        from corefilt.corefile.corefile import open_core
        from corefilt.filtering.options import Options
        from corefilt.filtering.write import write_filtered

        source, target, options = sys.argv[1:]
        with open_core(source) as core:
            output = RemoteFile(target, force=False, storage_options=json.loads(options))
            write_filtered(core, 0x31, output, Options(compress="same"))
        print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)
    """
    command = [sys.executable, "-c", program, source, target, json.dumps(PATIENT)]
    done = subprocess.run(command, env=environment(addresses(port)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
