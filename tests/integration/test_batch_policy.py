"""Batches with a policy: what each action leaves, what a dry run tells, and that nothing is lost by mistake."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from support.archives import lines_of
from support.builder import FileEntry, Load, kernel_notes, make_core
from support.run import Done, assert_promises, assert_usage, corefilt, listing
from support.samples import ANON, HUGE, LIBRARY, PAGE, SHARED, noise

from corefilt.batching.policy.toml_file import parse_policy

DAY = 86400
DOCS = Path(__file__).parents[2] / "docs" / "policies.md"
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", DOCS.read_text(), flags=re.DOTALL | re.MULTILINE)


def core_of(executable: str | None = "/usr/bin/server", shared: int = 40) -> bytes:
    """Make a core of an executable, with a heap of four pages and shared memory of some."""
    files = [FileEntry(SHARED, SHARED + shared * PAGE, 0, "/dev/zero (deleted)")]
    loads = [Load(ANON, noise(4, 1)), Load(SHARED, noise(shared, 2))]
    if executable is not None:
        files.append(FileEntry(LIBRARY, LIBRARY + PAGE, 0, executable))
        loads.append(Load(LIBRARY, noise(1, 3), flags="r-x"))
    return make_core(loads, kernel_notes(files, {3: LIBRARY + 64}))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Write a folder of cores of several ages and executables, and what is not a core."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name, data, days in (
        ("old", core_of("/usr/bin/old"), 400),
        ("old.gz", gzip.compress(core_of("/usr/bin/old")), 400),
        ("server", core_of("/usr/bin/server"), 40),
        ("nameless", core_of(None), 400),
        ("fresh", core_of("/usr/bin/fresh"), 0),
        ("notes.txt", b"old notes, and no core", 400),
    ):
        put(folder / name, data, days)
    return folder


def put(path: Path, data: bytes, days: float) -> None:
    path.write_bytes(data)
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def run(archive: Path, rules: str, *args: str | Path, flt: str = "all") -> Done:
    policy = archive.parent / "policy.toml"
    policy.write_text(rules)
    return corefilt("batch", flt, archive, "--policy", policy, "--json", "--no-sync", *args)


def outcomes(done: Done, archive: Path) -> dict[str, tuple[str, str | None]]:
    """Give status and rule by name."""
    assert done.code == 0, "\n".join(done.err)
    return {
        os.path.relpath(str(line["source"]), archive): (str(line["status"]), line["rule"])  # type: ignore[misc]
        for line in lines_of(done.out)
    }


RULES = """
[[rule]]
name = "fresh"
when.younger = "1d"
action = "keep"

[[rule]]
name = "the old one"
when = { executable = "*/old", older = "365d" }
action = "delete"

[[rule]]
name = "servers"
when = { executable = "*/server", share = "shared-anonymous>80%" }
action = "filter"
filter = "0x31"
"""
DECIDED = {
    "old": ("deleted", "the old one"),
    "old.gz": ("deleted", "the old one"),
    "server": ("filtered", "servers"),
    "nameless": ("unchanged", None),
    "fresh": ("kept", "fresh"),
    "notes.txt": ("skipped", None),
}


def test_each_rule_does_what_it_says_in_place(archive: Path) -> None:
    before = {path.name: path.read_bytes() for path in archive.iterdir()}
    assert outcomes(run(archive, RULES, "--replace"), archive) == DECIDED
    after = {path.name: path.read_bytes() for path in archive.iterdir()}
    assert set(after) == {"server", "nameless", "fresh", "notes.txt"}
    assert_promises(before["server"], after["server"])
    assert len(before["server"]) - len(after["server"]) == 40 * PAGE
    assert all(after[name] == before[name] for name in ("nameless", "fresh", "notes.txt"))


def test_into_a_folder_nothing_is_deleted_and_what_is_kept_is_whole(archive: Path, tmp_path: Path) -> None:
    before = listing(archive)
    out = tmp_path / "out"
    found = outcomes(run(archive, RULES, "--to", out, flt="0x31"), archive)
    assert found == {**DECIDED, "nameless": ("filtered", None), "fresh": ("filtered", "fresh")}
    assert listing(archive) == before
    assert set(listing(out)) == {"server", "nameless", "fresh"}
    assert (out / "fresh").read_bytes() == (archive / "fresh").read_bytes()
    assert len((out / "nameless").read_bytes()) == len((archive / "nameless").read_bytes()) - 40 * PAGE


def test_a_dry_run_tells_what_every_rule_would_save_and_changes_nothing(archive: Path) -> None:
    before = listing(archive)
    done = run(archive, RULES, "--replace", "--dry-run")
    found = outcomes(done, archive)
    assert {**found, "nameless": ("unchanged", None)} == DECIDED
    assert listing(archive) == before
    table = {line[2:26].strip(): line[26:].split() for line in done.err if line.startswith("  ")}
    size = len(core_of("/usr/bin/old"))
    assert table["the old one"][0] == "2"
    assert table["servers"][0] == "1"
    assert table["servers"][-2:] == ["160", "KiB"]
    assert table["the old one"][-2:] == [f"{2 * size / 1024:.0f}", "KiB"]
    assert table["fresh"][-2:] == ["0", "B"]


def test_a_second_run_does_nothing_but_what_time_brings(archive: Path) -> None:
    rules = """
[[rule]]
name = "ancient"
when.older = "1000d"
action = "delete"
[[rule]]
name = "large"
when.larger = "100K"
action = "minimal"
"""
    first = outcomes(run(archive, rules, "--replace", flt="0x31"), archive)
    assert first["server"] == ("filtered", "large")
    after = listing(archive)
    # The core is small now, and no rule means it; FILTER must not be carried out on it all the same.
    second = outcomes(run(archive, rules, "--replace", flt="0x31"), archive)
    assert {status for status, _ in second.values()} == {"unchanged", "skipped"}
    assert listing(archive) == after
    os.utime(archive / "server", (0, 0))
    third = outcomes(run(archive, rules, "--replace", flt="0x31"), archive)
    assert third["server"] == ("deleted", "ancient")
    assert not (archive / "server").exists()


@pytest.mark.parametrize("wrapping", ["raw", "gz"])
@pytest.mark.parametrize("to", [True, False])
def test_fit_and_minimal_also_of_what_is_compressed(wrapping: str, to: bool, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    data = core_of(shared=400)
    path = archive / f"core.{wrapping}"
    put(path, gzip.compress(data) if wrapping == "gz" else data, 1)
    rules = '[[rule]]\nname = "small"\naction = "fit"\nsize = "64K"\n'
    where = ("--to", tmp_path / "out") if to else ("--replace",)
    found = outcomes(run(archive, rules, *where), archive)
    assert found == {path.name: ("filtered", "small")}
    made = (tmp_path / "out" / path.name if to else path).read_bytes()
    made = gzip.decompress(made) if wrapping == "gz" else made
    assert len(made) <= 64 << 10
    (tmp_path / "full").write_bytes(data)
    (tmp_path / "made").write_bytes(made)
    assert corefilt("verify", tmp_path / "full", tmp_path / "made").code == 0


@pytest.mark.parametrize("to", [True, False])
def test_a_size_that_is_too_small_leaves_the_smallest_core_and_says_so(to: bool, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    put(archive / "core", core_of(shared=400), 1)
    rules = '[[rule]]\nname = "tiny"\naction = "fit"\nsize = "64"\n'
    done = run(archive, rules, *(("--to", tmp_path / "out") if to else ("--replace",)))
    (told,) = lines_of(done.out)
    assert (done.code, told["status"], told["rule"]) == (0, "filtered", "tiny")
    smallest = (tmp_path / "out" / "core" if to else archive / "core").stat().st_size
    assert f"the smallest size that works is {smallest} (" in str(told["reason"])
    assert str(told["reason"]).endswith(" and was taken")
    # On the command line it is a demand.
    (tmp_path / "full").write_bytes(core_of(shared=400))
    assert corefilt("all", tmp_path / "full", "--fit", "64", "-o", tmp_path / "none").code == 1
    assert corefilt("all", tmp_path / "full", "--fit", str(smallest), "-o", tmp_path / "same").code == 0


def test_what_is_inside_an_archive_or_has_two_names_is_not_deleted(archive: Path) -> None:
    subprocess.run(["tar", "-cf", archive / "all.tar", "-C", archive, "old"], check=True)
    os.link(archive / "old", archive.parent / "second-name")
    then = time.time() - 500 * DAY
    os.utime(archive / "all.tar", (then, then))
    found = outcomes(run(archive, RULES, "--replace"), archive)
    assert found["all.tar!old"][0] == "kept"
    assert found["old"][0] == "kept"
    assert found["old.gz"][0] == "deleted"
    assert {"all.tar", "old"} <= {path.name for path in archive.iterdir()}
    done = run(archive, RULES, "--replace")
    (reason,) = [line["reason"] for line in lines_of(done.out) if str(line["source"]).endswith("/old")]
    assert "-f replaces or deletes this one" in str(reason)


def test_what_does_not_tell_is_not_deleted(archive: Path) -> None:
    rules = """
[[rule]]
name = "ours"
when.executable = "*/ours"
action = "keep"
[[rule]]
name = "everything old"
when.older = "300d"
action = "delete"
"""
    done = run(archive, rules, "--replace")
    found = outcomes(done, archive)
    assert found["nameless"] == ("kept", "ours")
    assert found["old"] == ("deleted", "everything old")
    (reason,) = [line["reason"] for line in lines_of(done.out) if str(line["source"]).endswith("nameless")]
    assert "executable is not known" in str(reason)


def test_a_policy_that_is_not_understood_ends_before_anything_is_done(archive: Path) -> None:
    before = listing(archive)
    policy = archive.parent / "policy.toml"
    policy.write_text('[[rule]]\nname = "x"\nwhen.oldre = "1d"\naction = "delete"\n')
    done = corefilt("batch", "all", archive, "--policy", policy, "--replace")
    assert_usage(done, "policy.toml", "rule 'x'", "oldre")
    assert listing(archive) == before


# --- the page and the documents -----------------------------------------------------------------------------


def test_the_page_holds_the_lines_of_the_json(archive: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run(archive, RULES, "--to", tmp_path / "out", "--html", page)
    lines = lines_of(done.out)
    (embedded,) = re.findall(r'id="outcomes">\n(.*?)\n</script>', page.read_text(), flags=re.DOTALL)
    assert sorted(map(json.dumps, lines)) == sorted(json.dumps(json.loads(line)) for line in embedded.splitlines())
    assert "By rule of the policy" in page.read_text()


def test_a_page_that_cannot_be_written_is_told_first(archive: Path, tmp_path: Path) -> None:
    done = run(archive, RULES, "--replace", "--html", tmp_path / "none" / "page.html")
    assert done.code == 1
    assert any("cannot be written" in line for line in done.err)
    assert (archive / "old").exists()


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_docs_run(text: str, archive: Path) -> None:
    names = {rule.name for rule in parse_policy(text.encode(), "docs/policies.md").rules}
    done = run(archive, text, "--replace", "--dry-run")
    assert {rule for _, rule in outcomes(done, archive).values() if rule is not None} <= names


@pytest.mark.parametrize("shared", [0, 1], ids=["nothing else is shared", "a page of other shared memory"])
def test_the_example_for_database_servers_drops_their_buffers(shared: int, archive: Path) -> None:
    """Those in huge pages, of which a core does not tell whether they are shared, and those in small ones."""
    (text,) = [text for text in EXAMPLES if "postgres" in text]
    program = FileEntry(LIBRARY, LIBRARY + PAGE, 0, "/usr/lib/postgresql/16/bin/postgres")
    huge = [FileEntry(HUGE, 3 * HUGE, 0, "/anon_hugepage (deleted)")]
    loads = [
        Load(HUGE, noise(2 * HUGE // PAGE, 2)),
        Load(ANON * 16, noise(4, 1)),
        Load(LIBRARY, noise(1, 3), flags="r-x"),
    ]
    if shared:
        loads.insert(2, Load(SHARED * 16, noise(1, 4)))
        huge.append(FileEntry(SHARED * 16, SHARED * 16 + PAGE, 0, "/dev/zero (deleted)"))
    put(archive / "hugetlb", make_core(loads, kernel_notes([*huge, program], {3: LIBRARY + 64})), 0)
    put(archive / "small", core_of(program.path), 0)
    (archive / "other").write_bytes((archive / "hugetlb").read_bytes().replace(b"bin/postgres", b"bin/redisque"))
    found = {
        os.path.basename(str(line["source"])): line
        for line in lines_of(run(archive, text, "--replace", "--dry-run", flt="default").out)
    }
    assert found["hugetlb"]["rule"] == "hugetlb buffers" and found["small"]["rule"] == "buffers"
    assert found["other"]["rule"] is None
    after = {name: sum(kept for _, kept in line["kinds"].values()) for name, line in found.items()}  # type: ignore[attr-defined]
    assert after["hugetlb"] <= 8 * PAGE and after["small"] <= 8 * PAGE and after["other"] > 2 * HUGE


def test_there_are_examples_and_the_first_one_means_all_cores(archive: Path) -> None:
    assert len(EXAMPLES) >= 3
    found = outcomes(run(archive, EXAMPLES[0], "--replace", "--dry-run"), archive)
    assert found == {
        "old": ("deleted", "old cores"),
        "old.gz": ("deleted", "old cores"),
        "nameless": ("deleted", "old cores"),
        "server": ("filtered", "the rest"),
        "fresh": ("kept", "fresh cores"),
        "notes.txt": ("skipped", None),
    }
