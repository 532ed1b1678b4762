"""What ``corefilt bundle`` takes beside the mapped files, and from debuginfod."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.builds import PATIENCE
from support.bundles import ORIGINAL, PROGRAM, Archive, content_of, core_of, linked_core, members_of, names_of, system
from support.run import assert_error, corefilt, finish, start

from corefilt.bundle.collect import Collected, Places, collect
from corefilt.bundle.objects import loaded_objects
from corefilt.corefile.corefile import open_core
from corefilt.errors import BundleError
from corefilt.evidence.sysroot import MappedFile, Sysroot
from corefilt.io.named_files import NotUsable

OTHER = Path("/usr/bin/false")


def placed(folder: Path, *paths: str) -> Path:
    """Copy ORIGINAL to paths in a directory that stands for the / of a core's machine."""
    root = folder / "system"
    for path in paths:
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ORIGINAL, root / path[1:])
    return root


def test_libraries_by_the_names_of_the_linker(tmp_path: Path) -> None:
    """Links lead from them to the files, and what belongs to the C and C++ libraries is packed, too."""
    libc, cxx, own = "/usr/lib/libc.so.6", "/usr/lib/libstdc++.so.6.0.30", "/srv/app/libown.so"
    scripts = [f"/usr/share/gcc/python/libstdcxx/{name}" for name in ("__init__.py", "v6/printers.py")]
    root = placed(tmp_path, PROGRAM, libc, cxx, own, "/usr/lib/libthread_db.so.1", *scripts, f"{cxx}-gdb.py")
    names = [(b"/lib/libc.so.6", libc), (b"/lib/libstdc++.so.6", cxx), (b"libown.so", own)]
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(linked_core(names))
    done = corefilt("bundle", core, "-o", out, "--sysroot", root, "--json")
    assert done.code == 0, done.err
    roles = {file["path"]: file["role"] for file in json.loads(done.out)["files"]}
    assert roles == {
        PROGRAM: "object", libc: "object", cxx: "object", own: "object", "/usr/lib/libthread_db.so.1": "thread_db",
        f"{cxx}-gdb.py": "script", **dict.fromkeys(scripts, "script"),
    }  # fmt: skip
    links = {entry.name: entry.linkname for entry in members_of(out) if entry.issym()}
    assert links == {"root/lib": "usr/lib", "root/usr/lib/libstdc++.so.6": "libstdc++.so.6.0.30"}
    commands = content_of(out, "gdbinit").decode().splitlines()
    assert "set libthread-db-search-path root/usr/lib" in commands and "set solib-search-path root/srv/app" in commands
    # gdb is given links of ours: to the library by its name, and to the directory of libthread_db.
    shown = tmp_path / "shown"
    stub = tmp_path / "bin" / "gdb"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shown}; ls ../search ../thread_db/ >> {shown}\n')
    stub.chmod(0o755)
    done = corefilt("open", out, "--trust", env={"PATH": f"{stub.parent}:/usr/bin:/bin"})
    assert done.code == 0, done.err
    words = shown.read_text().splitlines()
    assert "libown.so" in words and "libthread_db.so.1" in words
    assert any(word.startswith("set solib-search-path ") and word.endswith("/search") for word in words)


def test_a_library_that_is_gone_has_no_link(tmp_path: Path) -> None:
    root = placed(tmp_path, PROGRAM)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(linked_core([(b"/lib/libm.so.6", "/usr/lib/libm-2.31.so")]))
    assert corefilt("bundle", core, "-o", out, "--sysroot", root).code == 4
    assert not any(entry.issym() for entry in members_of(out))


@pytest.mark.parametrize(
    "names",
    [
        [(b"/../../../../../etc/passwd", "/usr/lib/libm.so.6")],
        [(b"/lib/../../../../../../etc/passwd", "/usr/lib/libm.so.6"), (b"/lib/libm.so.6", "/usr/lib/libm.so.6")],
        [(b"../../../etc/passwd", "/usr/lib/libm.so.6")],
        [(b"/usr/lib/libm.so.6", "/../../../../../../etc/passwd")],
    ],
    ids=range(4),
)
def test_a_core_whose_names_lead_out_of_its_bundle(tmp_path: Path, names: list[tuple[bytes, str]]) -> None:
    archive = Archive(linked_core(names)).file(f"root{PROGRAM}", ORIGINAL.read_bytes())
    done = corefilt("open", archive.write(tmp_path / "hostile"), "--list")
    assert_error(done, "/etc/passwd: the core names a file outside its bundle")


def test_names_that_go_back_within_the_bundle(tmp_path: Path) -> None:
    """As those of a JVM's libraries do."""
    root = placed(tmp_path, PROGRAM, "/opt/app/lib/libjli.so")
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(linked_core([(b"/opt/app/bin/../lib/libjli.so", "/opt/app/lib/libjli.so")]))
    assert corefilt("bundle", core, "-o", out, "--sysroot", root).code == 0
    assert "root/opt/app/bin" in names_of(out)
    assert corefilt("open", out, "--list").code == 0


# --- debuginfod -------------------------------------------------------------------------------------------


@contextmanager
def server(files: dict[str, bytes]) -> Iterator[str]:
    """A server that has files by the ends of their addresses; ``broken`` is what it fails with."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = next((raw for end, raw in files.items() if self.path.endswith(end)), None)
            self.send_response(404 if raw is None else 500 if raw == b"broken" else 200)
            self.end_headers()
            self.wfile.write(raw or b"")

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_address[1]}/"
        finally:
            made.shutdown()
            thread.join()


def test_what_is_missing_is_fetched_and_checked(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    (root / PROGRAM[1:]).unlink()
    good, bad = ORIGINAL.read_bytes(), OTHER.read_bytes()
    words = ("bundle", core, "-f", "--sysroot", root, "--debuginfod", "--json")
    empty = str(tmp_path / "none")
    with (
        server({"/executable": good, "/debuginfo": good}) as one,
        server({"/executable": bad, "/debuginfo": b"x"}) as two,
    ):
        environment = {"DEBUGINFOD_URLS": f"ftp://nowhere {two} {one}", "DEBUGINFOD_CACHE_PATH": empty}
        done = corefilt(*words, "-o", tmp_path / "out", env=environment)
        assert done.code == 0, done.err
        files = json.loads(done.out)["files"]
        assert [(file["role"], file["status"], file["reason"]) for file in files] == [
            ("object", "found", "by debuginfod"), ("debug", "found", "by debuginfod"),
        ]  # fmt: skip
        assert content_of(tmp_path / "out", f"root{PROGRAM}") == good
        # What another build's file would have been is none.
        done = corefilt(*words, "-o", tmp_path / "out", env={**environment, "DEBUGINFOD_URLS": two})
        assert done.code == 4 and json.loads(done.out)["missing"] == 1
    with server({"/executable": b"broken"}) as one:
        done = corefilt(*words[:-1], "-o", tmp_path / "out", env={**environment, "DEBUGINFOD_URLS": one})
        assert_error(done, "/executable: 500")
    assert_error(corefilt(*words[:-1], "-o", tmp_path / "out", env={**environment, "DEBUGINFOD_URLS": one}), "refused")


@pytest.mark.parametrize("kind", ["DEBUGINFOD_CACHE_PATH", "XDG_CACHE_HOME", "HOME", "old"])
def test_the_cache_of_debuginfod_is_read(tmp_path: Path, kind: str) -> None:
    core, root = system(tmp_path)
    out, words = tmp_path / "out", ("bundle", core, "-f", "--sysroot", root, "--json")
    build_id = json.loads(corefilt(*words, "-o", out).out)["files"][0]["build_id"]
    home = tmp_path / "home"
    below = {"DEBUGINFOD_CACHE_PATH": "", "XDG_CACHE_HOME": "debuginfod_client", "HOME": ".cache/debuginfod_client"}
    cache = home / below.get(kind, ".debuginfod_client_cache")
    (cache / build_id).mkdir(parents=True)
    shutil.copy2(ORIGINAL, cache / build_id / "debuginfo")
    (root / PROGRAM[1:]).unlink()
    environment = {"HOME": str(home), "DEBUGINFOD_URLS": "", **({kind: str(home)} if kind != "old" else {})}
    done = corefilt(*words, "--debuginfod", "-o", out, env=environment)
    # It has the debug file alone; without the program, nobody asks for that.
    assert done.code == 4 and json.loads(done.out)["missing"] == 1
    shutil.copy2(ORIGINAL, cache / build_id / "executable")
    done = corefilt(*words, "--debuginfod", "-o", out, env=environment)
    assert done.code == 0 and {f"root{PROGRAM}", f"debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"} <= {
        *names_of(out)
    }
    environment = {"HOME": str(tmp_path / "nobody"), "DEBUGINFOD_URLS": ""}
    assert_error(corefilt(*words[:-1], "--debuginfod", "-o", out, env=environment), "names no server")


@contextmanager
def collected(root: Path, core: Path) -> Iterator[Collected]:
    """Look up what a core names, as a bundle does."""
    with open_core(core) as opened, closing(Sysroot(root)) as sysroot:
        yield collect(loaded_objects(opened), Places(sysroot))


@pytest.mark.parametrize(("change", "words"), [("cut", "was changed"), ("gone", "does not exist any more")])
def test_a_file_that_changes_while_the_bundle_is_made(tmp_path: Path, change: str, words: str) -> None:
    core, root = system(tmp_path)
    with collected(root, core) as found:
        (member,) = found.members
        with closing(member.open()) as file:
            assert file.read(0, 4) == b"\x7fELF"
        if change == "gone":
            (root / PROGRAM[1:]).unlink()
        else:
            (root / PROGRAM[1:]).write_bytes(b"\x7fELF")
        with pytest.raises(BundleError, match=words):
            member.open()


def test_a_file_that_cannot_be_read_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core, root = system(tmp_path)

    def read(file: MappedFile, offset: int, length: int) -> bytes:
        raise NotUsable("cannot be read at byte 0: Input/output error")

    monkeypatch.setattr(MappedFile, "read", read)
    with collected(root, core) as found:
        pass
    assert [(file.status, file.reason) for file in found.files] == [
        ("missing", "cannot be read at byte 0: Input/output error")
    ]
    assert found.members == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_debugger_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT is the debugger's own, as Ctrl-C sends it to both; it goes on here, and ends when it is told to."""
    core, root = system(tmp_path)
    out, place, stub, told = tmp_path / "out", tmp_path / "t", tmp_path / "bin" / "gdb", tmp_path / "told"
    assert corefilt("bundle", core, "-o", out, "--sysroot", root).code == 0
    place.mkdir()
    stub.parent.mkdir()
    os.mkfifo(told)
    stub.write_text(f"#!/bin/sh\necho $$ > {told}\nread line\n")
    stub.chmod(0o755)
    environment = {"PATH": f"{stub.parent}:/usr/bin:/bin", "TMPDIR": str(place)}
    with start("open", out, env=environment, stdin=subprocess.PIPE) as process:
        debugger = os.pidfd_open(int(told.read_text()))
        process.send_signal(number)
        done = finish(process, b"end\n" if number == signal.SIGINT else None)
    assert done.code == (0 if number == signal.SIGINT else -number)
    assert list(place.iterdir()) == []
    # It is killed when corefilt has ended, and whoever inherits it need not have noticed.
    assert select.select([debugger], [], [], PATIENCE)[0]
    os.close(debugger)


def test_quiet(tmp_path: Path) -> None:
    core, root = system(tmp_path)
    done = corefilt("bundle", core, "-o", tmp_path / "out", "--sysroot", root, "-q")
    assert (done.code, done.err) == (0, ())
    core.write_bytes(core_of(ORIGINAL.read_bytes())[:-1])
    done = corefilt("bundle", core, "-o", tmp_path / "cut", "--sysroot", root, "-q")
    assert done.code == 3 and len(done.err) == 1 and "truncated" in done.err[0]
