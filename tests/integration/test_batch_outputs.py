"""What a batch writes where others can write too: links below --to, and replacing as the file's owner."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from support.run import corefilt

from corefilt.batching.files.run_as_owner import as_owner
from corefilt.batching.outcome import Outcome
from corefilt.children import NO_GROUP, groups_of

FLT = "0x31"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
# An id without an entry.
NOBODY_KNOWN = 54321


@pytest.fixture
def archive(core: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for below in ("alice", "alice/deep"):
        (folder / below).mkdir(parents=True)
        (folder / below / "core").write_bytes(core.read_bytes())
    return folder


@pytest.mark.parametrize("below", ["alice", "alice/deep"])
@pytest.mark.parametrize("force", [(), ("-f",)])
def test_no_link_below_the_output_is_followed(
    force: tuple[str, ...], below: str, archive: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    (victim / "deep").mkdir(parents=True)
    (victim / "core").write_bytes(b"precious")
    to = tmp_path / "to"
    link = to / below
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    done = corefilt("batch", FLT, archive, "--to", to, *force)
    assert done.code == 4
    assert any("symbolic link" in line for line in done.err), done.err
    assert (victim / "core").read_bytes() == b"precious"
    assert sorted(path.name for path in victim.rglob("*")) == ["core", "deep"]
    assert os.readlink(link) == str(victim)


def test_the_output_directory_itself_may_be_a_link(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "to").symlink_to("real")
    assert corefilt("batch", FLT, archive, "--to", tmp_path / "to").code == 0
    assert (tmp_path / "real/alice/deep/core").is_file()


@pytest.mark.parametrize("force", [(), ("-f",)])
def test_an_output_is_never_the_input(force: tuple[str, ...], core: Path) -> None:
    before = core.read_bytes()
    done = corefilt("batch", FLT, core, "--to", core.parent, *force)
    assert done.code == 4
    assert any("is the input itself" in line for line in done.err), done.err
    assert core.read_bytes() == before


def test_a_relative_output_directory(archive: Path, tmp_path: Path) -> None:
    assert corefilt("batch", FLT, "archive", "--to", "made/here", cwd=tmp_path).code == 0
    assert (tmp_path / "made/here/alice/core").is_file()
    assert (tmp_path / "made/here").stat().st_mode & 0o777 == 0o700


@needs_root
def test_no_leftover_is_removed_through_a_link(archive: Path, tmp_path: Path) -> None:
    """A killed run's file of that name lies where a link leads; it is not this job's."""
    victim = tmp_path / "victim"
    victim.mkdir()
    from corefilt.io.tempfiles import new_name

    left = victim / new_name()
    left.write_bytes(b"x")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/alice").symlink_to(victim)
    assert corefilt("batch", FLT, archive, "--to", tmp_path / "to").code == 4
    assert left.exists()


def test_groups_without_an_entry() -> None:
    assert groups_of(NOBODY_KNOWN) == (NO_GROUP, [])


def test_groups_of_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.getpwuid(0)
    assert groups_of(0) == (entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid))
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 7, 8])
    assert groups_of(0) == (entry.pw_gid, [entry.pw_gid, 7, 8])


@needs_root
def test_the_work_is_done_with_the_owners_groups_only() -> None:
    def work() -> Outcome:
        return Outcome(f"{os.getresuid()} {os.getresgid()} {os.getgroups()}", "kept")

    uids, gids = (NOBODY_KNOWN,) * 3, (NO_GROUP,) * 3
    assert as_owner(NOBODY_KNOWN, work).source == f"{uids} {gids} []"
    known = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, 65534))
    gid, groups = groups_of(known.pw_uid)
    told = as_owner(known.pw_uid, work).source
    assert told.startswith(f"{(known.pw_uid,) * 3} {(gid,) * 3} ")
    assert sorted(set(groups)) == sorted(eval(told[told.index("[") :]))


@needs_root
def test_a_file_of_a_group_that_its_owner_is_not_in(core: Path, tmp_path: Path) -> None:
    """He could not give a file that group; so root does not in his place, and the core stays as it is."""
    folder = tmp_path / "his"
    folder.mkdir()
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    os.chown(folder, NOBODY_KNOWN, NO_GROUP)
    path = folder / "core"
    path.write_bytes(core.read_bytes())
    os.chown(path, NOBODY_KNOWN, 0)
    done = corefilt("batch", FLT, path, "--replace")
    assert done.code == 4
    assert any("owner and mode" in line for line in done.err), done.err
    assert path.read_bytes() == core.read_bytes()
    assert path.stat().st_gid == 0
    os.chown(path, NOBODY_KNOWN, NO_GROUP)
    assert corefilt("batch", FLT, path, "--replace").code == 0
    assert path.stat().st_size < core.stat().st_size
    assert path.stat().st_gid == NO_GROUP
