"""A core that holds blocks for others by a manifest of ``--shared-once``: what would replace or delete it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.builds import UNTRACED
from support.run import assert_error, corefilt
from support.shared import group, sums

import corefilt as api
from corefilt.batching.shared.reduce import share_once
from corefilt.batching.shared.restore import restore
from corefilt.io.shared_holders import Holders
from corefilt.store.attributes import FACTS, KEEP, OWNER
from corefilt.store.directory import kept_cores

# Keeps nothing of the cores but headers.
NOTHING = "0x10"
HOLDS, HELD = "holds blocks of shared memory for other cores", "held blocks of shared memory for other cores"


class Shared:
    """Cores of which the first two hold all blocks, and their manifest."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.paths = group(folder, count)
        self.folder, self.before = folder, sums(self.paths)
        share_once(self.paths)
        (self.manifest,) = folder.glob("corefilt-shared-*.json")
        self.reduced = sums(self.paths)

    def unchanged(self) -> bool:
        return sums(self.paths) == self.reduced and self.manifest.exists()


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path / "cores")


def test_in_place(shared: Shared) -> None:
    holder = shared.paths[0]
    for more in ([], ["--compact"]):
        done = corefilt(NOTHING, holder, "-i", *more)
        assert_error(done, f"{holder}: {HOLDS} ({shared.manifest})")
        assert f"corefilt restore {shared.manifest}" in "".join(done.err) and "-f" in "".join(done.err)
        assert shared.unchanged()
    assert f"needs -f: {HOLDS}" in "".join(corefilt(NOTHING, holder, "-i", "-n").err)
    done = corefilt(NOTHING, holder, "-i", "-f")
    assert done.code == 0 and HELD in "".join(done.err)
    assert_error(corefilt("restore", shared.paths[2]), "has changed")


def test_in_place_where_nothing_goes(shared: Shared) -> None:
    assert corefilt("all", shared.paths[0], "-i").code == 0
    restore([shared.manifest])
    assert sums(shared.paths) == shared.before


def test_by_another_name(shared: Shared, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(shared.paths[0])
    assert_error(corefilt(NOTHING, link, "-i"), HOLDS)
    with pytest.raises(api.CorefiltError, match=HOLDS):
        api.filter(shared.paths[0], filter=NOTHING, in_place=True)
    assert shared.unchanged()


def test_after_restore_and_for_others(shared: Shared) -> None:
    """Only what a core needs at the moment counts; who holds nothing is filtered as ever."""
    third = shared.paths[2]
    assert Holders().of(str(third)) is None
    restore([shared.paths[1], third])
    assert Holders().of(str(shared.paths[0])) is None
    assert not shared.manifest.exists()
    assert corefilt(NOTHING, shared.paths[0], "-i").code == 0


def test_whoever_was_deleted_needs_nothing(shared: Shared) -> None:
    for path in shared.paths[1:]:
        path.unlink()
    assert Holders().of(str(shared.paths[0])) is None


def test_another_core_under_the_name(shared: Shared) -> None:
    shared.paths[0].write_bytes(shared.paths[0].read_bytes() + b"more")
    assert Holders().of(str(shared.paths[0])) is None


def test_a_manifest_above(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b" / "c"]
    folders[1].mkdir(parents=True)
    paths = [group(folder, 1, changes=False)[0] for folder in folders]
    share_once(paths)
    assert len(list(tmp_path.glob("corefilt-shared-*.json"))) == 1
    assert_error(corefilt(NOTHING, paths[0], "-i"), HOLDS)


def test_over_it_with_force(shared: Shared, tmp_path: Path) -> None:
    other = group(tmp_path / "more", 1)[0]
    for words in ([NOTHING, other, "-o"], ["scrub", other, "-o"], [NOTHING, other, "--compress", "none", "-o"]):
        kept = shared.paths[0].read_bytes()
        done = corefilt(*words, shared.paths[0], "-f")
        assert done.code == 0 and HELD in "".join(done.err), done
        shared.paths[0].write_bytes(kept)


def test_batch_in_place_of_them(shared: Shared) -> None:
    holders = [path for path in shared.paths if Holders().of(str(path)) is not None]
    assert holders == shared.paths[:2]
    for more in (["-n"], []):
        done = corefilt("batch", NOTHING, shared.folder, "--replace", "--json", *more)
        assert done.code == 0
        told = {line["source"]: line for line in map(json.loads, done.out.decode().splitlines())}
        for path in holders:
            line = told[str(path)]
            assert line["status"] == "kept"
            assert HOLDS in line["reason"] and f"corefilt restore {shared.manifest}" in line["reason"]
        assert told[str(shared.paths[2])]["status"] == "filtered"
    assert sums(holders) == shared.reduced[:2]
    done = corefilt("batch", NOTHING, *holders, "--replace", "-f", "--json")
    told = {line["source"]: line for line in map(json.loads, done.out.decode().splitlines())}
    assert [told[str(path)]["status"] for path in holders] == ["filtered", "filtered"]
    assert HELD in told[str(holders[0])]["reason"]


def test_a_policy_that_deletes(shared: Shared, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nname = "old"\nwhen.older = "1d"\naction = "delete"\n')
    for path in shared.paths:
        os.utime(path, (1e9, 1e9))
    for more in (["-n"], []):
        done = corefilt("batch", "all", shared.folder, "--replace", "--policy", policy, "--json", *more)
        assert done.code == 0, done
        told = {line["source"]: line for line in map(json.loads, done.out.decode().splitlines())}
        assert told[str(shared.paths[0])]["status"] == "kept" and HOLDS in told[str(shared.paths[0])]["reason"]
        assert told[str(shared.paths[2])]["status"] == "deleted"
    assert [path.exists() for path in shared.paths] == [True, True, False]


def test_retention(shared: Shared) -> None:
    try:
        for path in shared.paths:
            os.setxattr(path, OWNER, b"0")
            os.setxattr(path, FACTS + "uid", b"5")
        os.setxattr(shared.paths[1], KEEP, b"yes")
    except OSError:
        pytest.skip("no attributes here")
    folder = os.open(shared.folder, os.O_RDONLY)
    try:
        told = {core.name: core.protected for core in kept_cores(folder)}
    finally:
        os.close(folder)
    assert HOLDS in told["core.0"] and "is marked" in told["core.1"] and told["core.2"] == ""
    done = corefilt("vacuum", shared.folder, "--max-use", "4K")
    assert [path.exists() for path in shared.paths] == [True, True, False], done


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"corefilt": "shared-once", "version": 9}'])
def test_a_manifest_that_cannot_be_read_stops_nobody(content: str, tmp_path: Path) -> None:
    path = group(tmp_path / "cores", 1)[0]
    (tmp_path / "cores" / "corefilt-shared-0.json").write_text(content)
    done = corefilt("batch", "0x33", tmp_path / "cores", "--replace")
    assert done.code == 0
    done = corefilt(NOTHING, path, "-i")
    assert done.code == 0 and "not known" in "".join(done.err)


def test_what_is_no_file_is_no_manifest(tmp_path: Path) -> None:
    path = group(tmp_path / "cores", 1)[0]
    os.mkfifo(tmp_path / "cores" / "corefilt-shared-0.json")
    (tmp_path / "cores" / "corefilt-shared-1.json").mkdir()
    (tmp_path / "cores" / "corefilt-shared-2.json").symlink_to("/dev/zero")
    done = corefilt(NOTHING, path, "-i")
    assert done.code == 0 and "not known" not in "".join(done.err)


def test_many_runs_over_many_blocks_take_no_time(shared: Shared) -> None:
    """Each block is looked at once, however many runs have it."""
    whole = json.loads(shared.manifest.read_text())
    whole["blocks"] = whole["blocks"][:1] * 100_000
    whole["cores"][2]["taken"] = [[0, 0, 100_000]]
    whole["cores"][2]["size"] = 100_000 << 17
    whole["cores"] += [{**whole["cores"][2], "kept": [], "literals": []} for _ in range(20_000)]
    shared.manifest.write_text(json.dumps(whole))
    holder = shared.folder / whole["cores"][whole["blocks"][0][0]]["name"]
    assert Holders().of(str(holder)) is not None


def test_no_second_manifest_takes_its_blocks(shared: Shared, tmp_path: Path) -> None:
    more = group(tmp_path / "more", 1)
    done = share_once([more[0], shared.paths[0]])
    assert HOLDS in done.skipped[str(shared.paths[0])]
    assert shared.unchanged()


def test_a_reduced_core_that_was_filtered_is_not_restored(shared: Shared) -> None:
    """What was dropped since would come back as zeros."""
    reduced = shared.paths[2]
    kept = reduced.read_bytes()
    for words in ([NOTHING, reduced, "-i"], ["batch", NOTHING, reduced, "--replace", "-q"]):
        reduced.write_bytes(kept)
        assert corefilt(*words).code == 0
        assert sums([reduced]) != shared.reduced[2:]
        before = sums([reduced])
        assert_error(corefilt("restore", reduced), "was changed after --shared-once")
        assert sums([reduced]) == before
    reduced.write_bytes(kept)
    restore([shared.manifest])
    assert sums(shared.paths) == shared.before


def test_restore_of_a_core_that_was_moved(shared: Shared, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    done = corefilt("restore", shutil.copy(shared.paths[2], tmp_path / "moved"))
    assert_error(done, "No such file or directory")
    assert "put the core back where corefilt batch --shared-once wrote it: its manifest is found" in done.err[-1]


@pytest.mark.parametrize("count", [3, 12])
def test_summary_of_the_batch(count: int, tmp_path: Path) -> None:
    group(tmp_path / "cores", count)
    done = corefilt("batch", "0x3", tmp_path / "cores", "--to", tmp_path / "out", "--shared-once")
    (manifest,) = (tmp_path / "out").glob("corefilt-shared-*.json")
    (line,) = [line for line in done.err if "other cores need blocks of" in line]
    assert f"before corefilt restore {manifest}" in line
    assert "core.0, core.1" in line


def test_inspect(shared: Shared) -> None:
    told = corefilt("inspect", shared.paths[0]).out.decode()
    assert f"{HOLDS} ({shared.manifest}), and must stay as it is" in told
    assert HOLDS not in corefilt("inspect", shared.paths[2]).out.decode()


def test_nothing_is_loaded_without_a_manifest(tmp_path: Path) -> None:
    path = group(tmp_path / "cores", 1)[0]
    code = (
        "import sys, corefilt; corefilt.filter(sys.argv[1], filter='0x33', in_place=True); "
        "print([m for m in sys.modules if 'shared_manifest' in m or m in ('json', 'zlib')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, env=os.environ | UNTRACED
    )
    assert "shared_manifest" not in done.stdout and "json" not in done.stdout
