"""What becomes of a run of which a call to the kernel fails, is short, or is the last: any of them, one by one."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fuzz.seeds import AREAS
from support.builder import parse_core
from support.faults import COUNTED, KILLED, NEVER, SHORT, Ended, Faults, faults, library
from support.instants import assert_valid
from support.maps import maps_text
from support.run import corefilt, listing
from support.samples import sample_core
from support.thinned import one_in

import corefilt as api
from corefilt.errors import InputError
from corefilt.io.compression import Compression, encoder, parse_compress

CORE = sample_core()
OLD = b"what was there before"
MAPS = maps_text(AREAS)


@dataclass(frozen=True)
class Way:
    """A command, and what is in its folder before; `piped` feeds it the core through a pipe, `form` compresses it."""

    argv: tuple[str, ...]
    piped: bool = False
    form: str = "none"
    before: tuple[str, ...] = ()
    without_tmpfile: bool = False

    @property
    def in_place(self) -> bool:
        return "-i" in self.argv

    @property
    def output(self) -> str | None:
        return "out" if "out" in self.argv else None


TO_FILE = ("0x31", "core", "-o", "out")
WAYS = {
    "a file into a file": Way(TO_FILE),
    "a file over a file": Way((*TO_FILE, "-f"), before=("out",)),
    "a file over a file with another name first": Way((*TO_FILE, "-f"), before=("out",), without_tmpfile=True),
    "a pipe into a file": Way(("0x31", "-o", "out"), piped=True),
    "a pipe into a pipe": Way(("0x31",), piped=True),
    "a file into a pipe": Way(("0x31", "core")),
    "in place": Way(("0x31", "core", "-i")),
    "in place, compact": Way(("0x31", "core", "-i", "--compact")),
}
OTHER_WAYS = {
    "a file into a file with another name first": Way(TO_FILE, without_tmpfile=True),
    "readwrite": Way((*TO_FILE, "--engine", "readwrite")),
    "sendfile": Way((*TO_FILE, "--engine", "sendfile")),
    "copy_file_range": Way((*TO_FILE, "--engine", "copy_file_range")),
    "splice": Way(("0x31", "--engine", "splice"), piped=True),
    "two threads": Way((*TO_FILE, "--threads", "2", "--engine", "readwrite")),
    "read through a pipe": Way(("0x31", "--engine", "readwrite"), piped=True),
    "zeros": Way((*TO_FILE, "--sparse", "always")),
    "spooled": Way(("0x31", "-o", "out", "--spool"), piped=True),
    "annotated": Way((*TO_FILE, "--maps", "maps", "--annotate"), before=("maps",)),
    "cut": Way((*TO_FILE, "--truncate", "64K")),
    "fitted": Way((*TO_FILE, "--fit", "48K")),
    "named": Way(("0x31", "core", "--name", "out.%p")),
    "a dry run": Way((*TO_FILE, "-n")),
    "a compressed file into a file": Way((*TO_FILE, "--compress", "none"), form="zstd"),
    "a seekable file into a pipe": Way(("0x31", "core", "--compress", "none"), form="zstd:seekable"),
    "a seekable file, fitted": Way((*TO_FILE, "--fit", "48K", "--compress", "none"), form="zstd:seekable"),
    "a compressed pipe into a file": Way(("0x31", "-o", "out", "--compress", "none"), piped=True, form="gzip"),
    "into a compressed file": Way((*TO_FILE, "--compress", "zstd")),
    "compressed on both sides, over a file": Way((*TO_FILE, "-f"), before=("out",), form="zstd"),
}
OTHER_ERRORS = (errno.ENOSPC, errno.EINTR, errno.EAGAIN, errno.EPIPE, errno.ENOMEM)
ERRORS = [errno.EIO, *(pytest.param(each, marks=pytest.mark.slow) for each in OTHER_ERRORS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("faults"))


def compressed(core: bytes, form: str) -> bytes:
    how = parse_compress(form)
    if not isinstance(how, Compression):
        return core
    made = encoder(how)
    return made.compress(core) + made.flush()


class Scene:
    """A folder that is put as it was before every run, and the rules that any end of a run must keep."""

    def __init__(self, folder: Path, way: Way, core: bytes = CORE) -> None:
        self.folder, self.way, self.core = folder / "scene", way, compressed(core, way.form)
        self.before = {"out": OLD, "maps": MAPS}
        self.stdin = folder / "stdin"
        self.stdin.write_bytes(self.core)
        self.expected: dict[str, bytes | str] = {}
        self.said = b""
        self._least = b""

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        if not self.way.piped:
            (self.folder / "core").write_bytes(self.core)
        for name in self.way.before:
            (self.folder / name).write_bytes(self.before[name])

    def learn(self, ended: Ended) -> None:
        """Take what a run without faults leaves for what every run is to leave."""
        assert ended.code == 0, ended.err
        assert ended.left == ()
        self.expected, self.said = self.listing(), ended.out

    def listing(self) -> dict[str, bytes | str]:
        return listing(self.folder)

    def check(self, ended: Ended, where: str) -> None:
        """Hold the end of a run against the promises."""
        now = self.listing()
        assert not [name for name in now if name.startswith(".corefilt-")], where
        if self.way.in_place:
            assert_valid(self.core, _bytes(now["core"]), self.least())
        elif not self.way.piped:
            assert now["core"] == self.core, where
        if ended.code == 0:
            assert now == self.expected, where
            assert ended.out == self.said, where
        else:
            assert ended.code in (1, -signal.SIGPIPE), f"{where}: {ended.code}, {ended.err}"
            if ended.code == 1:
                _assert_told(ended, where)
            for name in self.expected:
                old = self.before.get(name) if name in self.way.before else None
                if name != "core":
                    # Not there, as before, or whole.
                    assert now.get(name) in (old, self.expected[name]), f"{where}: {name}"
            assert self.said.startswith(ended.out), where
        if ended.code >= 0:
            assert ended.left == (), where
        assert set(now) <= {"core", *self.expected, *self.way.before}, where

    def least(self) -> bytes:
        """Return what a copy by the same filter holds."""
        if not self._least:
            done = corefilt("0x31", self.stdin)
            assert done.code == 0
            self._least = done.out
        return self._least


def _bytes(content: bytes | str) -> bytes:
    assert isinstance(content, bytes)
    return content


def _assert_told(ended: Ended, where: str) -> None:
    """One line of error, at most one that helps; nothing that calls it a bug in corefilt's own."""
    said = "\n".join(ended.err)
    errors = [line for line in ended.err if line.startswith("corefilt: ")]
    assert errors or not ended.err, f"{where}: {said}"
    assert "bug in corefilt" not in said, f"{where}: {said}"
    assert "Traceback" not in said, f"{where}: {said}"


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    scene = Scene(tmp_path, request.param)
    scene.reset()
    return scene


def opened(scene: Scene, made: Path) -> Iterator[Faults]:
    """Open the command of a scene, and learn how it ends when nothing fails."""
    stdin = scene.stdin if scene.way.piped else None
    with faults(made, scene.folder, *scene.way.argv, stdin=stdin, without_tmpfile=scene.way.without_tmpfile) as it:
        scene.reset()
        scene.learn(it.run())
        yield it


def each_call(scene: Scene, it: Faults, step: int) -> list[tuple[int, str]]:
    """Number the calls of a run; gives one in `step` of them."""
    scene.reset()
    return list(enumerate(it.run(NEVER).names))[::step]


def parameters(ways: dict[str, Way], *marks: pytest.MarkDecorator) -> list[object]:
    return [pytest.param(way, id=name, marks=marks) for name, way in ways.items()]


EVERY_WAY = [*parameters(WAYS), *parameters(OTHER_WAYS, pytest.mark.slow)]


@pytest.mark.parametrize("scene", EVERY_WAY, indirect=True)
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@one_in(4)
def test_any_call_fails(scene: Scene, error: int, step: int, made: Path) -> None:
    """The run goes on without it or ends with an error; nothing is half done, left open or left behind."""
    codes = set()
    for it in opened(scene, made):
        for at, name in each_call(scene, it, step):
            scene.reset()
            ended = it.run(at, error)
            where = f"{errno.errorcode[error]} from call {at}, {name}"
            scene.check(ended, where)
            codes.add(ended.code)
            if scene.way.in_place:
                scene.check(it.run(), f"the run after {where}")
    assert 0 in codes
    assert codes - {0} or error in (errno.EINTR, errno.EAGAIN)


@pytest.mark.parametrize("scene", EVERY_WAY, indirect=True)
@one_in(4)
def test_any_call_is_short_or_interrupted(scene: Scene, step: int, made: Path) -> None:
    """What moved one byte goes on with the next; what a signal interrupted is made again."""
    for it in opened(scene, made):
        for at, name in each_call(scene, it, step):
            if name in COUNTED:
                for fault in (SHORT, errno.EINTR):
                    scene.reset()
                    ended = it.run(at, fault)
                    assert ended.code == 0, f"call {at}, {name}: {ended.err}"
                    scene.check(ended, f"call {at}, {name}, with {fault}")


@pytest.mark.parametrize("scene", EVERY_WAY, indirect=True)
@one_in(4)
def test_killed_at_any_call(scene: Scene, step: int, made: Path) -> None:
    """No name is there that was not, none changed but by a whole core; the next run does it all, and tidies up."""
    lost = 0
    for it in opened(scene, made):
        for at, name in each_call(scene, it, step):
            scene.reset()
            ended = it.run(at, KILLED)
            assert ended.code == -signal.SIGKILL
            now = scene.listing()
            temporary = [each for each in now if each.startswith(".corefilt-")]
            assert len(temporary) <= 1, f"call {at}, {name}"
            lost += len(temporary)
            for each in temporary:
                now.pop(each)
            _check_killed(scene, now, f"call {at}, {name}")
            again = it.run(argv=_once_more(scene))
            assert again.code == 0, again.err
            assert scene.listing() == scene.expected, f"after call {at}, {name}"
    if scene.way.without_tmpfile:
        assert lost, "a file without O_TMPFILE has a name while it is written"
    elif "-f" not in scene.way.argv and not scene.way.in_place:
        assert not lost


def _once_more(scene: Scene) -> tuple[str, ...]:
    """Return the command, with -f where the one before may have finished."""
    argv = scene.way.argv
    finished = [name for name in scene.listing() if name.startswith("out")]
    return (*argv, "-f") if finished and "-f" not in argv and not scene.way.in_place else argv


def _check_killed(scene: Scene, now: dict[str, bytes | str], where: str) -> None:
    if scene.way.in_place:
        assert_valid(scene.core, _bytes(now.pop("core")), scene.least())
    for name, content in now.items():
        old = scene.core if name == "core" else scene.before.get(name) if name in scene.way.before else None
        assert content in (old, scene.expected.get(name)), f"{where}: {name}"


RANDOM_WAYS = {
    name: WAYS[name] for name in ("a file over a file with another name first", "in place", "a pipe into a file")
}


@pytest.mark.parametrize("way", RANDOM_WAYS)
@pytest.mark.parametrize(("kills", "seed"), [(12, 1), pytest.param(334, 2, marks=pytest.mark.slow)])
def test_killed_at_a_random_moment(kills: int, seed: int, way: str, made: Path, tmp_path: Path) -> None:
    """A moment is drawn from as long as a whole run takes, until so many runs were killed before they were done."""
    draw, killed = random.Random(seed), 0
    scene = Scene(tmp_path, RANDOM_WAYS[way], sample_core(anon_pages=128, shared_pages=64))
    scene.reset()
    for it in opened(scene, made):
        scene.reset()
        began = time.monotonic()
        it.run()
        whole = time.monotonic() - began
        while killed < kills:
            scene.reset()
            ended = it.run(killed_after=draw.random() * whole)
            killed += ended.code == -signal.SIGKILL
            now = scene.listing()
            temporary = [each for each in now if each.startswith(".corefilt-")]
            assert len(temporary) <= (1 if ended.code else 0)
            for each in temporary:
                now.pop(each)
            _check_killed(scene, now, f"kill {killed}")
            assert it.run(argv=_once_more(scene)).code == 0
            assert scene.listing() == scene.expected


@pytest.mark.parametrize("engine", ["auto", "readwrite", "copy_file_range", "sendfile"])
def test_a_core_that_is_cut_while_it_is_read(engine: str, tmp_path: Path) -> None:
    """Nothing of a file is mapped into memory, so that what went missing is an error and no SIGBUS."""
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(CORE)
    with api.open(core) as it:
        plan = it.plan(0x31)
        os.truncate(core, len(CORE) // 2)
        with pytest.raises(InputError, match="became shorter"):
            plan.write(out, engine=engine)
    assert not out.exists()


def test_what_a_killed_run_left_is_removed_and_nothing_else(made: Path, tmp_path: Path) -> None:
    """Only files of this user and host that nobody holds, by their name, their kind and a lock."""
    from corefilt.io import tempfiles as temporary

    scene = Scene(tmp_path, WAYS["a file over a file with another name first"])
    scene.reset()
    ours = temporary.new_name()
    others = [".corefilt-0123456789abcdef", ours[:-1], ours + "0", f"{ours}.txt", "corefilt"]
    for name in [ours, *others]:
        (scene.folder / name).write_bytes(b"x")
    held = scene.folder / temporary.new_name()
    held.write_bytes(b"somebody writes")
    link = scene.folder / temporary.new_name()
    link.symlink_to("core")
    folder = scene.folder / temporary.new_name()
    folder.mkdir()
    with held.open("rb+") as file:
        assert temporary.hold(file.fileno())
        done = corefilt(*scene.way.argv, cwd=scene.folder)
    assert done.code == 0, done.err
    left = {path.name for path in scene.folder.iterdir()}
    assert left == {"core", "out", held.name, link.name, folder.name, *others}
    assert (scene.folder / "core").read_bytes() == CORE
    assert parse_core((scene.folder / "out").read_bytes())


def test_a_new_file_that_somebody_else_has_locked_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run can take it for a lost one between its making and its lock; whether that removes it or not."""
    from corefilt.io import tempfiles as temporary

    answers = iter([False])
    monkeypatch.setattr(temporary, "hold", lambda fd: next(answers, True))
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        name, fd = temporary.create(folder)
    finally:
        os.close(folder)
    os.close(fd)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of somebody else")
def test_what_another_user_left_is_left_alone(tmp_path: Path) -> None:
    from corefilt.io import tempfiles as temporary

    name = temporary.new_name()
    (tmp_path / name).write_bytes(b"x")
    tmp_path.chmod(0o777)
    folder = os.open(tmp_path, os.O_RDONLY)
    os.seteuid(1234)
    try:
        temporary.remove_leftovers(folder)
    finally:
        os.seteuid(0)
        os.close(folder)
    assert (tmp_path / name).exists()
