"""A batch that counts repeats of a crash, and reports which crashes there are."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support.archives import PACK, lines_of
from support.frames import crash_core
from support.run import Done, corefilt
from support.samples import sample_core

RULES = '[[rule]]\nname = "repeats"\nwhen.repeat = ">3"\naction = "delete"\n'
DAY = 86400


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Seven crashes of one function, two of another, one of another user's, and a core that tells nothing."""
    folder = tmp_path / "archive"
    folder.mkdir()
    cores = {f"same-{n}": crash_core() for n in range(7)}
    cores |= {"other-0": crash_core(1), "other-1": crash_core(1), "theirs": crash_core(uid=1000)}
    cores["silent"] = sample_core()
    for n, (name, raw) in enumerate(cores.items()):
        (folder / name).write_bytes(raw)
        os.utime(folder / name, (DAY * (n + 1), DAY * (n + 1)))
    return folder


def run(archive: Path, *args: str | Path) -> Done:
    return corefilt("batch", "all", archive, "--no-sync", *args)


def with_rules(archive: Path, rules: str, *args: str | Path) -> Done:
    policy = archive.parent / "policy.toml"
    policy.write_text(rules)
    return run(archive, "--policy", policy, *args)


def pack(core: Path, *, table: bool) -> Path:
    """Put a core beside itself in zstd, with a seek table or without, and return it."""
    packed = core.with_name(f"{core.name}.zst")
    if table:
        done = corefilt("all", core, "-o", packed, "--compress", "zstd:seekable", "-q", "--no-sync")
        assert done.code == 0, done.err
    else:
        packed.write_bytes(PACK["zstd"](core.read_bytes()))
    os.utime(packed, (core.stat().st_mtime, core.stat().st_mtime))
    return core


def test_the_oldest_three_of_a_crash_stay(archive: Path) -> None:
    done = with_rules(archive, RULES, "--replace", "--json")
    assert done.code == 0, done.err
    gone = {"same-3", "same-4", "same-5", "same-6"}
    assert {os.path.basename(str(line["source"])) for line in lines_of(done.out) if line["status"] == "deleted"} == gone
    assert set(os.listdir(archive)) == {"same-0", "same-1", "same-2", "other-0", "other-1", "theirs", "silent"}
    # Three are left, so that a second run deletes nothing.
    assert "deleted" not in with_rules(archive, RULES, "--replace", "--json").out.decode()


def test_what_does_not_tell_its_crash_is_kept(archive: Path) -> None:
    """The mildest of what could be meant is done, and said."""
    rules = RULES.replace("3", "1").replace("delete", "keep")
    rules += '[[rule]]\nname = "old"\nwhen.older = "1d"\naction = "delete"\n'
    done = with_rules(archive, rules, "-n", "--replace", "--json")
    found = {os.path.basename(str(line["source"])): line for line in lines_of(done.out)}
    assert found["silent"]["status"] == "kept" and "repeat is not known" in str(found["silent"]["reason"])
    assert found["same-0"]["status"] == "deleted" and found["same-1"]["status"] == "kept"


@pytest.mark.parametrize("table", [False, True], ids=["zst", "zstd:seekable"])
def test_compressed_cores_tell_their_crash_with_spool(archive: Path, table: bool) -> None:
    """With the raw ones; without --spool, only seekable zstd does, and what is skipped for that is said."""
    packed = {"same-0", "same-3", "same-6", "other-0"}
    for name in packed:
        pack(archive / name, table=table).unlink()
    for spool in ([], ["--spool"]):
        known = table or spool
        done = run(archive, "-n", "--by-signature", *spool)
        rows = [line.split() for line in done.err if re.match(r"  [0-9a-f]{16}\?? ", line)]
        assert [row[1] for row in rows] == (["8", "2"] if known else ["5", "1"])
        done = with_rules(archive, RULES, "-n", "--replace", "--json", *spool)
        found = {os.path.basename(str(line["source"])): line for line in lines_of(done.out)}
        gone = {"same-3.zst", "same-4", "same-5", "same-6.zst"} if known else {"same-5"}
        assert {name for name, line in found.items() if line["status"] == "deleted"} == gone
        skipped = {
            name for name, line in found.items() if "'repeats' was skipped: repeat not known" in str(line["reason"])
        }
        assert skipped == {"silent"} | (set() if known else {f"{name}.zst" for name in packed})


@pytest.mark.parametrize("table", [False, True], ids=["zst", "zstd:seekable"])
def test_rules_about_memory_match_compressed_cores_with_spool(archive: Path, table: bool) -> None:
    raw = archive / "same-0"
    known = run(archive, "-n", "--by-signature", "--json").out
    (signature,) = {line["crash"]["signature"] for line in lines_of(known) if line["source"] == str(raw)}  # type: ignore[index]
    rules = f'[[rule]]\nname = "it"\nwhen.signature = "{signature}"\naction = "minimal"\n'
    rules += '[[rule]]\nname = "module"\nwhen.module = "/bin/victim"\naction = "delete"\n'
    pack(raw, table=table)
    pack(archive / "other-0", table=False)
    for spool in ([], ["--spool"]):
        done = with_rules(archive, rules, "-n", "--replace", "--json", *spool)
        found = {os.path.basename(str(line["source"])): line for line in lines_of(done.out)}
        assert found["same-0"]["rule"] == "it" and found["other-0"]["rule"] == "module"
        assert found["same-0.zst"]["rule"] == ("it" if table or spool else None)
        assert found["other-0.zst"]["rule"] == ("module" if spool else None)
        words = "rule 'it' was skipped: signature not known; rule 'module' was skipped: modules not known"
        assert found["other-0.zst"]["reason"] == ("would be deleted" if spool else words)


@pytest.mark.parametrize("value", ["3", ">0", ">", "<3", ">-1", ">3%"])
def test_a_repeat_that_cannot_be_read(archive: Path, value: str) -> None:
    done = with_rules(archive, RULES.replace(">3", value), "-n")
    assert done.code == 2 and "when.repeat: repeat" in done.err[0]


def test_the_report_has_the_crashes(archive: Path) -> None:
    done = run(archive, "-n", "--by-signature", "--html", archive.parent / "page.html")
    assert done.code == 0, done.err
    rows = [line.split() for line in done.err if re.match(r"  [0-9a-f]{16}\?? ", line)]
    assert [row[1] for row in rows] == ["8", "2"]
    same, other = rows
    # Of both users: what the table groups is the place in the program.
    assert same[6:8] == ["1970-01-02", "1970-01-11"] and other[6:8] == ["1970-01-09", "1970-01-10"]
    assert same[8:] == ["external,", "victim+0x400800,", "victim+0x400900,", "victim+0x400a00"]
    assert [line.split()[:3] for line in done.err if "(not known)" in line] == [["(not", "known)", "1"]]
    page = (archive.parent / "page.html").read_text()
    assert "By signature of the crash" in page and same[0] in page and "victim+0x400840" in page
    assert "By signature" not in _page_without(archive)


def test_a_rerun_has_no_sizes_of_cores_that_were_filtered_before(archive: Path, tmp_path: Path) -> None:
    for sizes in (False, True):
        done = run(archive, "--to", tmp_path / "out", "--by-signature", "--html", tmp_path / "page.html", "-f")
        (first, *_) = (line.split() for line in done.err if re.match(r"  [0-9a-f]{16}\?? ", line))
        assert (first[2:4] == ["-", "-"]) is sizes
        assert ("cores, before" not in (tmp_path / "page.html").read_text()) is sizes


def _page_without(archive: Path) -> str:
    run(archive, "-n", "--html", archive.parent / "other.html")
    return (archive.parent / "other.html").read_text()


def test_json_has_the_crash_of_each_core(archive: Path) -> None:
    found = {
        os.path.basename(str(line["source"])): line["crash"]
        for line in lines_of(run(archive, "-n", "--by-signature", "--json").out)
    }
    assert found["same-0"] == {**found["same-1"], "time": DAY}  # type: ignore[dict-item]
    assert found["same-0"]["quality"] == "unwound"  # type: ignore[index]
    assert all(line["crash"] is None for line in lines_of(run(archive, "-n", "--json").out))
