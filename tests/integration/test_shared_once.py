"""``--shared-once`` and ``corefilt restore``: equal blocks stand once, every core is sound and comes back."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from support.builder import EM_PPC, Load, kernel_notes, make_core, page, parse_core, parse_notes
from support.run import assert_error, corefilt
from support.shared import BLOCK, PAGE, attached, group, segment, sums
from support.thinned import one_in

import corefilt as api
from corefilt.batching.shared.reduce import SharedOnce, locked, share_once
from corefilt.batching.shared.restore import restore
from corefilt.errors import CorefiltError, InputError, LockedError, OutputError
from corefilt.io.shared_manifest import read_manifest
from corefilt.verify import verify


def manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("corefilt-shared-*.json"))


def allocated(paths: list[Path]) -> int:
    return sum(path.stat().st_blocks * 512 for path in paths)


def share(paths: list[Path], reduced: int) -> SharedOnce:
    done = share_once(paths)
    assert done.skipped == {}
    assert len(done.reduced) == reduced
    return done


def test_blocks_stand_once_and_come_back(tmp_path: Path) -> None:
    paths = group(tmp_path / "cores", 5)
    folder = tmp_path / "cores"
    before, room = sums(paths), allocated(paths)
    copies = [shutil.copy(path, tmp_path / path.name) for path in paths]
    done = share(paths, 4)
    # Everyone's block 0 is first seen in the second core, block 1 in the first; one block of each is nobody else's.
    assert done.blocks == 6 + 3 * 7
    assert (done.before, done.after) == (room, allocated([*paths, *manifests(folder)]))
    assert done.before - done.after > 3 * 6 * BLOCK
    assert sums(paths)[0] == before[0]
    for copy, path in zip(copies, paths, strict=True):
        verdict = verify(copy, path)
        assert verdict.holds, str(verdict)
    assert corefilt("restore", manifests(folder)[0]).code == 0
    assert sums(paths) == before
    assert sorted(folder.iterdir()) == sorted(paths)


def test_a_reduced_core_claims_only_what_it_has(tmp_path: Path) -> None:
    """The missing memory is split off without a byte; nothing reads as zeros that were none."""
    paths = group(tmp_path / "cores", 2, changes=False)
    whole = parse_core(paths[1].read_bytes())[1]
    share(paths, 1)
    core = paths[1].read_bytes()
    loads = [phdr for phdr in parse_core(core)[1] if phdr.p_type == 1]
    (there,) = [phdr for phdr in loads if phdr.p_vaddr == whole[2].p_vaddr]
    assert (there.p_filesz, there.p_memsz) == (0, 8 * BLOCK)
    assert len(core) < BLOCK
    shared = [note for note in parse_notes(core) if note.name == "COREFILT" and note.type == 0x53484152]
    assert [manifests(paths[0].parent)[0].name.encode() in note.desc for note in shared] == [True]


def test_inspect_says_what_happened_to_a_reduced_core(tmp_path: Path) -> None:
    """No filter has run over it."""
    paths = group(tmp_path / "cores", 2, changes=False)
    start = next(phdr.p_vaddr for phdr in parse_core(paths[1].read_bytes())[1] if phdr.p_memsz == 8 * BLOCK)
    share(paths, 1)
    changed = [line for line in corefilt("inspect", paths[1]).out.decode().splitlines() if "  changed " in line]
    assert [line.split(maxsplit=1)[1] for line in changed] == [
        "its shared memory is stored beside it (corefilt restore puts it back)"
    ]
    told = corefilt("inspect", paths[1], hex(start)).out.decode()
    assert "batch --shared-once stored it in another core" in told and "--minimal" not in told


def test_gdb_reads_what_is_left(tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    paths = group(tmp_path / "cores", 3)
    share(paths, 2)
    own = 0x7F0000000000 + 2 * (1 << 30) + 2 * BLOCK
    command = ["gdb", "-nx", "-batch", "-ex", f"x/gx {own:#x}", "-ex", "info threads", "-c", str(paths[2])]
    environ = {**os.environ, "DEBUGINFOD_URLS": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    assert f"{own:#x}:\t0x0000000000000002" in done.stdout
    assert done.stdout.count("LWP") >= 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bits": 32, "machine": EM_PPC, "little_endian": False},
        {"xnum": True},
        {"layout": "gcore"},
        {"tail": b"the end"},
    ],
    ids=["kernel", "32 bits big-endian", "PN_XNUM", "gcore", "tail"],
)
def test_layouts_come_back(options: dict[str, object], tmp_path: Path) -> None:
    """Headers, sections and what nobody claims come from the manifest where the reduced core has no place for them."""
    paths = []
    for number in range(3):
        path = tmp_path / f"core.{number}"
        shape = {name: options[name] for name in ("bits", "machine", "little_endian") if name in options}
        start = 0x40000000 + number * (64 << 20)
        loads = [Load(0x10000, os.urandom(PAGE)), Load(start, segment(5)), Load(0x3FFF0000, os.urandom(PAGE))]
        notes = kernel_notes([(start, start + 5 * BLOCK, 0, "/dev/shm/pool (deleted)")], **shape)  # type: ignore[arg-type]
        path.write_bytes(make_core(loads, notes, **options))  # type: ignore[arg-type]
        paths.append(path)
    before = sums(paths)
    copies = [shutil.copy(path, tmp_path / f"copy.{path.name}") for path in paths]
    share(paths, 2)
    for copy, path in zip(copies, paths, strict=True):
        assert verify(copy, path).holds, str(verify(copy, path))
    assert len(restore(paths)) == 2
    assert sums(paths) == before


def test_a_core_with_more_bytes_than_memory_is_left_alone(tmp_path: Path) -> None:
    """A damaged p_memsz: what follows the missing blocks would be nobody's."""
    paths = []
    for number in range(3):
        start, content = 0x40000000 + number * (64 << 20), bytearray(segment(5))
        content[4 * BLOCK] = number
        notes = kernel_notes([(start, start + 2 * BLOCK, 0, "/dev/shm/pool (deleted)")], pid=number + 1)
        paths.append(tmp_path / f"core.{number}")
        paths[-1].write_bytes(make_core([Load(0x10000, page()), Load(start, bytes(content), memsz=2 * BLOCK)], notes))
    before = sums(paths)
    done = share_once(paths)
    assert all("p_memsz" in reason for reason in done.skipped.values())
    assert len(done.skipped) == 2
    assert sums(paths) == before


def test_blocks_are_known_by_their_place_in_the_file(tmp_path: Path) -> None:
    """Mappings that begin elsewhere in the segment have the same blocks; the same bytes elsewhere are none."""
    whole = segment(6)
    shifted, moved = tmp_path / "shifted", tmp_path / "moved"
    (tmp_path / "whole").write_bytes(attached(whole, 0))
    shifted.write_bytes(attached(whole[BLOCK - PAGE :], 1, file_offset=BLOCK - PAGE))
    moved.write_bytes(attached(whole[BLOCK:] + whole[:BLOCK], 2))
    before = sums([shifted, moved])
    done = share([tmp_path / "whole", shifted, moved], 1)
    assert done.reduced == [str(shifted)]
    assert done.blocks == 5
    assert restore([shifted]) == [str(shifted)]
    assert sums([shifted, moved]) == before


def test_holes_stay_holes(tmp_path: Path) -> None:
    """A block that is a hole is left alone, and what is a hole in what is kept is one again."""
    paths = group(tmp_path / "cores", 3, changes=False)
    for path in paths:
        place = next(p for p in parse_core(path.read_bytes())[1] if p.p_filesz == 8 * BLOCK)
        with path.open("r+b") as file:
            for at in (0, 3 * BLOCK):
                subprocess.run(["fallocate", "-p", "-o", str(place.p_offset + at), "-l", str(BLOCK), path], check=True)
            file.seek(0)
    before, room = sums(paths), allocated(paths)
    assert share(paths, 2).blocks == 2 * 6
    restore(manifests(tmp_path / "cores"))
    assert sums(paths) == before
    # Of one file's extents ext4 has a block of its own, once it has written them and there are more than four.
    assert allocated(paths) <= room + len(paths) * PAGE


def test_the_second_run_does_nothing(tmp_path: Path) -> None:
    paths = group(tmp_path / "cores", 4)
    share(paths, 3)
    after = {path: path.stat().st_ino for path in (tmp_path / "cores").iterdir()}
    assert share_once(paths).reduced == []
    assert {path: path.stat().st_ino for path in (tmp_path / "cores").iterdir()} == after


def test_cores_that_came_later(tmp_path: Path) -> None:
    """They have a manifest of their own."""
    folder = tmp_path / "cores"
    paths = group(folder, 6)
    before = sums(paths)
    share(paths[:3], 2)
    share(paths, 2)
    assert len(manifests(folder)) == 2
    restore(manifests(folder))
    assert sums(paths) == before


def test_some_are_restored_and_the_rest_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cores"
    paths = group(folder, 4)
    before = sums(paths)
    share(paths, 3)
    assert restore([paths[2], paths[0]]) == [str(paths[2])]
    assert sums(paths)[2] == before[2]
    assert len(manifests(folder)) == 1
    assert share(paths, 1).reduced == [str(paths[2])]
    assert len(restore(paths)) == 3
    assert sums(paths) == before
    assert not manifests(folder)
    assert restore(paths) == []


def test_cores_in_folders(tmp_path: Path) -> None:
    """Names are relative to the manifest, so that the whole can be moved."""
    paths = group(tmp_path / "a" / "one", 2) if (tmp_path / "a").mkdir() is None else []
    paths += [path.rename(tmp_path / "a" / f"two.{path.name}") for path in group(tmp_path / "a" / "x", 2)]
    before = sums(paths)
    share(paths, 3)
    moved = tmp_path / "b"
    (tmp_path / "a").rename(moved)
    paths = [moved / path.relative_to(tmp_path / "a") for path in paths]
    assert len(restore(paths)) == 3
    assert sums(paths) == before


def test_what_people_see_of_a_core_stays(tmp_path: Path) -> None:
    paths = group(tmp_path / "cores", 2)
    os.chmod(paths[1], 0o640)
    os.utime(paths[1], ns=(10**18, 10**18 + 5))
    attributes = True
    try:
        os.setxattr(paths[1], "user.coredump.pid", b"1")
    except OSError:
        attributes = False
    for _ in range(2):
        status = paths[1].stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 10**18 + 5)
        if attributes:
            assert os.getxattr(paths[1], "user.coredump.pid") == b"1"
        if manifests(tmp_path / "cores"):
            restore([paths[1]])
        else:
            share(paths, 1)


def test_nothing_in_common(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"core.{number}")
        paths[-1].write_bytes(attached(segment(4, seed=number), number))
    before = sums(paths)
    share(paths, 0)
    assert share_once([]).reduced == []
    assert share_once(paths[:1]).reduced == []
    assert sums(paths) == before
    assert sorted(tmp_path.iterdir()) == paths


def test_private_memory_is_left_alone(tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"core.{number}")
        paths[-1].write_bytes(make_core([Load(0x10000, segment(4))], kernel_notes([])))
    share(paths, 0)


def test_what_is_left_alone_has_a_reason(tmp_path: Path) -> None:
    paths = group(tmp_path / "cores", 6)
    os.truncate(paths[1], paths[1].stat().st_size - 100)
    os.link(paths[2], tmp_path / "link")
    paths[3].write_text("no core")
    done = share_once([*paths, tmp_path / "cores" / "none"])
    assert done.reduced == [str(paths[4]), str(paths[5])]
    for path, word in zip(paths[1:4], ("damaged", "hard links", "not an ELF"), strict=True):
        assert word in done.skipped[str(path)]
    assert len(done.skipped) == 4


# --- crashes and changes ------------------------------------------------------------------------------------

INSTANTS = ("fsync", "link", "rename", "unlink")


def killed_at(n: int, work: object, *, after: bool) -> bool:
    """Run work in a child that dies by SIGKILL at the n-th call that changes names or waits for the disk."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real):  # type: ignore[no-untyped-def]
            def call(*args, **options):  # type: ignore[no-untyped-def]
                nonlocal count
                count += 1
                if count == n and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(*args, **options)
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

        for name in INSTANTS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@one_in(3)
def test_killed_at_every_instant(after: bool, step: int, tmp_path: Path) -> None:
    """Every core is whole or reduced; the next run ends as one that was never killed, and all comes back."""
    folder = tmp_path / "cores"
    paths = group(folder, 3, blocks=3)
    before = sums(paths)
    share(paths, 2)
    clean = [len(path.read_bytes()) for path in paths]
    restore(paths)
    for n in itertools.count(1, step):
        ended = not killed_at(n, lambda: share_once(paths), after=after)
        for path, digest, size in zip(paths, before, clean, strict=True):
            assert sha256(path.read_bytes()).hexdigest() == digest or path.stat().st_size == size
        done = share_once(paths)
        assert done.skipped == {}
        assert [path.stat().st_size for path in paths] == clean
        while killed_at(n, lambda: restore(manifests(folder)), after=after) and manifests(folder):
            restore(manifests(folder))
        restore(manifests(folder))
        assert sums(paths) == before
        if ended:
            break
    # A manifest, two cores: each is waited for and gets a name.
    assert n > 6


def test_a_holder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "cores"
    paths = group(folder, 3)
    share(paths, 2)
    reduced = sums(paths[1:])
    aside = paths[0].rename(tmp_path / "aside")
    left = f"{paths[1]}: cannot be restored, and is left as it is: {paths[0]}: No such file"
    assert_error(corefilt("restore", paths[1]), left, f"try: put back the original {paths[0]}")
    assert sums(paths[1:]) == reduced
    shutil.move(aside, paths[0])
    assert len(restore(paths)) == 2


@pytest.mark.parametrize("change", ["a byte", "shorter", "another core"])
def test_a_holder_that_changed(change: str, tmp_path: Path) -> None:
    folder = tmp_path / "cores"
    paths = group(folder, 3)
    share(paths, 2)
    reduced = sums(paths[1:])
    if change == "a byte":
        with paths[0].open("r+b") as file:
            file.seek(600_000)
            file.write(b"!!!")
    elif change == "shorter":
        api.filter(paths[0], paths[0].with_suffix(".new"), filter=1)
        os.rename(paths[0].with_suffix(".new"), paths[0])
    else:
        paths[0].write_bytes(make_core([Load(0x1000, bytes(PAGE))], kernel_notes()))
    with pytest.raises(InputError, match=r"has changed|was replaced") as raised:
        restore([paths[1]])
    assert str(raised.value).startswith(f"{paths[1]}: cannot be restored, and is left as it is: {paths[0]}: ")
    assert raised.value.hint == f"put back the original {paths[0]}"
    assert sums(paths[1:]) == reduced


def test_a_core_that_changed_before_it_was_reduced(tmp_path: Path) -> None:
    """A run that was killed behind the manifest: what changed meanwhile is compared again, and left alone."""
    folder = tmp_path / "cores"
    paths = group(folder, 3)
    share(paths, 2)
    restore([paths[1]])
    with paths[1].open("r+b") as file:
        file.seek(600_000)
        file.write(b"!!!")
    changed = sums(paths)
    done = share_once(paths)
    assert "differs from the one that is kept" in done.skipped[str(paths[1])]
    assert sums(paths) == changed


def test_equal_hashes_are_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks with one digest that are not the same: nothing is given up."""
    from corefilt.batching.shared import blocks

    monkeypatch.setattr(blocks, "xxh3_128_digest", lambda view: bytes(16))
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"core.{number}")
        paths[-1].write_bytes(attached(segment(4, seed=number), number))
    before = sums(paths)
    done = share_once(paths)
    assert "differs from the one that is kept" in done.skipped[str(paths[1])]
    assert sums(paths) == before


def test_two_runs_at_once(tmp_path: Path) -> None:
    paths = group(tmp_path / "cores", 2)
    with locked(str(tmp_path / "cores")), pytest.raises(LockedError, match="is locked"):
        share_once(paths)


def test_root_keeps_out_of_others_folders(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    paths = group(tmp_path / "cores", 2)
    os.chmod(tmp_path / "cores", 0o777)
    with pytest.raises(OutputError, match="other users can write to it"):
        share_once(paths)
    os.chmod(tmp_path / "cores", 0o755)
    share(paths, 1)
    os.chown(tmp_path / "cores", 1, 1)
    with pytest.raises(OutputError, match="other users can write to it"):
        restore(paths)


# --- the manifest and the command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole.update(version=2),
        lambda whole: whole.update(corefilt="else"),
        lambda whole: whole.update(block=3),
        lambda whole: whole.update(id="zz"),
        lambda whole: whole.pop("blocks"),
        lambda whole: whole["cores"][1].update(name="/etc/passwd"),
        lambda whole: whole["cores"][1].update(name="../core"),
        lambda whole: whole["cores"][1].update(name=""),
        lambda whole: whole["cores"][1].update(size=-1),
        lambda whole: whole["cores"][1].update(size=5),
        lambda whole: whole["cores"][1].update(literals=[[0, "!"]]),
        lambda whole: whole["cores"][1].update(literals=[[0, "eJwDAAAAAAE="], [0]]),
        lambda whole: whole["cores"][1].update(kept=[[0, 1 << 70, 0]]),
        lambda whole: whole["cores"][1].update(taken=[[0, 0, 1 << 40]]),
        lambda whole: whole["blocks"].append([9, 0, "00" * 16]),
        lambda whole: whole["blocks"].append([0, 1 << 60, "00" * 16]),
        lambda whole: whole["blocks"].append([0, 0, "00"]),
        lambda whole: whole["blocks"].append(None),
    ],
    ids=map(str, range(18)),
)
def test_a_manifest_that_cannot_be(change: object, tmp_path: Path) -> None:
    paths = group(tmp_path / "cores", 2)
    share(paths, 1)
    (path,) = manifests(tmp_path / "cores")
    assert len(read_manifest(str(path)).cores) == 2
    whole = json.loads(path.read_text())
    change(whole)  # type: ignore[operator]
    path.write_text(json.dumps(whole))
    reduced = sums(paths)
    assert_error(corefilt("restore", paths[1]), "not a --shared-once manifest")
    assert sums(paths) == reduced


def test_a_bomb_in_a_manifest(tmp_path: Path) -> None:
    import base64
    import zlib

    paths = group(tmp_path / "cores", 2)
    share(paths, 1)
    (path,) = manifests(tmp_path / "cores")
    whole = json.loads(path.read_text())
    bomb = base64.b64encode(zlib.compress(bytes(1 << 30), 1)).decode()
    whole["cores"][1].update(size=1 << 40, literals=[[0, bomb]])
    path.write_text(json.dumps(whole))
    assert_error(corefilt("restore", path, memory=700 << 20), "too many")


def test_command(tmp_path: Path) -> None:
    folder = tmp_path / "cores"
    paths = group(folder, 3)
    before = sums(paths)
    share(paths, 2)
    done = corefilt("restore", paths[1], "--json")
    assert (done.code, json.loads(done.out)["restored"]) == (0, [str(paths[1])])
    assert "whole again" in done.err[0]
    done = corefilt("restore", paths[1])
    assert (done.code, done.err) == (0, ("corefilt: nothing to restore: no file is a core that --shared-once reduced",))
    assert corefilt("restore", *manifests(folder), "-q").err == ()
    assert sums(paths) == before
    assert_error(corefilt("restore", tmp_path / "none"), "No such file")
    assert_error(corefilt("restore"), "MANIFEST", code=2)
    (tmp_path / "text").write_text("text")
    assert_error(corefilt("restore", tmp_path / "text"), "not a --shared-once manifest")


def test_a_reduced_core_filters_as_the_whole_one(tmp_path: Path) -> None:
    """What was taken out tells nothing of the kinds: what is there is kept and dropped as before."""
    paths = group(tmp_path / "cores", 2)
    whole = tmp_path / "whole"
    shutil.copy(paths[1], whole)
    share(paths, 1)
    for flt in ("0x33", "0x31", "all"):
        for source, out in ((whole, tmp_path / "from-whole"), (paths[1], tmp_path / "from-reduced")):
            api.filter(source, out, filter=flt, force=True)
            assert verify(whole, out).holds
        private = [
            sum(p.p_filesz for p in parse_core(out.read_bytes())[1] if p.p_vaddr in (0x10000, 0x7FFD00000000))
            for out in (tmp_path / "from-whole", tmp_path / "from-reduced")
        ]
        assert private == [5 * PAGE, 5 * PAGE]


def test_errors_are_of_corefilt(tmp_path: Path) -> None:
    with pytest.raises(CorefiltError):
        share_once([tmp_path / "none" / "core", tmp_path / "none" / "core2"])


# --- as a part of a batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["--to", "--replace"])
def test_batch(where: str, tmp_path: Path) -> None:
    """Filtered as without it, then shared; the same command again does nothing, and restore gives the plain result."""
    paths = group(tmp_path / "cores", 4)
    (tmp_path / "cores" / "text").write_text("no core")
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert corefilt("batch", "0x3", tmp_path / "cores", "--to", plain, "-q").code == 0
    place, results = (["--to", out], out) if where == "--to" else (["--replace"], tmp_path / "cores")
    done = corefilt("batch", "0x3", tmp_path / "cores", *place, "--shared-once")
    assert done.code == 0, done
    assert any("3 cores dropped" in line for line in done.err)
    reduced = [results / path.name for path in paths]
    sizes = [path.stat().st_size for path in reduced]
    assert sum(sizes) < sum(path.stat().st_size for path in plain.iterdir()) / 2
    again = corefilt("batch", "0x3", tmp_path / "cores", *place, "--shared-once")
    assert again.code == 0
    assert any("unchanged" in line and " 4" in line for line in again.err), again.err
    assert any("0 cores dropped" in line for line in again.err)
    assert [path.stat().st_size for path in reduced] == sizes
    assert corefilt("restore", *manifests(results), "-q").code == 0
    assert sums(reduced) == sums([plain / path.name for path in paths])
    assert corefilt("batch", "0x3", tmp_path / "cores", *place, "-q").code == 0
    assert sums(reduced) == sums([plain / path.name for path in paths])


def test_batch_takes_one_of_both(tmp_path: Path) -> None:
    done = corefilt("batch", "all", tmp_path, "--to", tmp_path / "out", "--shared-once", "--dedupe")
    assert_error(done, "--shared-once and --dedupe", code=2)
