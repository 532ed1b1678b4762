"""How many cores the handler and ``corefilt vacuum`` leave in a directory."""

from __future__ import annotations

import fcntl
import os
import re
import time
import tomllib
from pathlib import Path

import pytest
from kernel.handling import Handled, Place, handle, need_root, numbers, place_in, start
from support.builds import PATIENCE
from support.disks import disk, need_mounts
from support.frames import crash_core
from support.run import Done, assert_error, assert_usage, corefilt
from support.samples import sample_core

from corefilt.corefile.corefile import open_core
from corefilt.crash.recorded import ATTRIBUTE, read_signature
from corefilt.crash.signature import find_crash
from corefilt.errors import ConfigError, NoCoreError
from corefilt.filterbits import Bit
from corefilt.handler import config as samples
from corefilt.handler.apply_rules import apply_rules
from corefilt.handler.config import KEYS, Config, parse_config
from corefilt.handler.crash_info import parse_crash
from corefilt.handler.crashed_process import Victim
from corefilt.handler.reservation import BESIDE
from corefilt.handler.store import name_of
from corefilt.store.attributes import INPUT, KEEP, OWNER, SMALL
from corefilt.store.ledger import NAME, Ledger

KNOWN = "1 unwound {} abort"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    need_root()
    return place_in(tmp_path)


def cores(place: Place) -> list[str]:
    return sorted(path.name for path in place.out.iterdir() if path.name != NAME)


def used(place: Place) -> int:
    """The disk use of all cores, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in place.out.iterdir() if path.name != NAME)


def saved(place: Place, core: bytes, uid: int = 1000, at: int = 1_700_000_000) -> Handled:
    done = handle(place, core, *numbers(uid=uid, time=at))
    assert done.code == 0, done.said
    return done


# With its attributes, which can take a block of their own.
SIZE = 61440


def put(
    place: Place, name: str, *, size: int = SIZE, uid: int = 1000, exe: str = "/bin/x", at: int = 0, signature: str = ""
) -> Path:
    """A core as the handler leaves it."""
    path = place.out / name
    path.write_bytes(b"c" * size)
    noted = {
        OWNER: "0", "user.coredump.uid": str(uid), "user.coredump.exe": exe,
        "user.coredump.timestamp": str(1_600_000_000 + at),
    }  # fmt: skip
    if signature:
        noted[ATTRIBUTE] = KNOWN.format(signature)
    for attribute, value in noted.items():
        os.setxattr(path, attribute, value.encode())
    return path


# --- the handler ----------------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_removed(place: Place) -> None:
    for at in range(3):
        saved(place, sample_core(), at=at)
    assert len(cores(place)) == 3 and not (place.out / NAME).exists()
    assert os.getxattr(place.out / cores(place)[0], OWNER) == b"-"
    assert os.getxattr(place.out / cores(place)[0], INPUT) == b"%d" % len(sample_core())


def test_max_use_takes_from_the_user_with_the_most(place: Place) -> None:
    for n in range(4):
        put(place, f"loop-{n}", uid=1000, at=n)
    put(place, "single", uid=1001)
    place.write(max_use=used(place))
    # A batch holds the directory's lock for hours, and nobody waits for it.
    batch = os.open(place.out, os.O_RDONLY)
    fcntl.flock(batch, fcntl.LOCK_EX)
    done = saved(place, sample_core(), uid=1000)
    os.close(batch)
    assert re.search(r"removed .*/loop-0: [\d.]+ KiB of user 1000, by max-use", done.said)
    assert "loop-0" not in cores(place) and {"loop-2", "loop-3", "single"} < set(cores(place))
    assert used(place) <= int(re.findall(r"max-use = (\d+)", place.config.read_text())[0])


def test_what_is_protected_is_not_removed_and_the_core_is_refused(place: Place) -> None:
    os.setxattr(put(place, "marked"), KEEP, b"")
    os.link(put(place, "linked"), place.out / "other-name")
    (place.out / "foreign").write_bytes(b"c" * 65536)
    (place.out / "a-link").symlink_to("marked")
    (place.out / "a-directory").mkdir()
    os.mkfifo(place.out / "a-fifo")
    before = cores(place)
    place.write(max_use=2 * SIZE)
    done = handle(place, sample_core(), *numbers())
    assert done.code == 1 and "protected" in done.said
    assert cores(place) == before


def test_where_there_is_little_room_the_core_is_made_minimal(place: Place) -> None:
    os.setxattr(put(place, "marked", size=1 << 20), KEEP, b"")
    place.write(max_use=used(place) + 40960)
    done = handle(place, sample_core(), *numbers())
    assert done.code == 0 and "made minimal: there is no space for more" in done.said
    (new,) = [place.out / name for name in cores(place) if name != "marked"]
    assert new.stat().st_blocks * 512 <= 40960


def test_a_locked_core_is_passed_over(place: Place) -> None:
    for n in range(3):
        put(place, f"core-{n}", at=n)
    place.write(max_use=used(place))
    with open(place.out / "core-0", "rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        saved(place, sample_core())
    assert "core-0" in cores(place) and "core-1" not in cores(place)


def test_keep_per_signature_and_repeats(place: Place) -> None:
    """The signature is found out by what was saved: two full ones stay, the first and the latest."""
    place.write(filter="all", keep_per_signature=2)
    said = [saved(place, crash_core(), at=1_700_000_000 + at).said for at in range(4)]
    assert re.search(r"removed .*1700000002: [\d.]+ KiB of user 1000, signature [0-9a-f]{16}, by keep-per-sig", said[3])
    assert [name.rpartition(".")[2] for name in cores(place)] == ["1700000000", "1700000003"]
    with open(place.out / cores(place)[0], "rb") as file:
        recorded = read_signature(file.fileno())
    with open_core(place.out / cores(place)[0]) as core:
        found = find_crash(core)
    assert recorded is not None and found is not None and recorded.encode() == found.recorded.encode()
    # Another user's and another crash are others.
    saved(place, crash_core(), uid=1001)
    saved(place, crash_core(1))
    assert len(cores(place)) == 4


def test_repeats_are_made_minimal(place: Place) -> None:
    place.write(filter="all", keep_per_signature=2, repeats="minimal")
    said = [saved(place, crash_core(), at=1_700_000_000 + at).said for at in range(4)]
    assert len(cores(place)) == 4
    small = [name for name in cores(place) if SMALL in os.listxattr(place.out / name)]
    assert [name.rpartition(".")[2] for name in small] == ["1700000002", "1700000003"]
    assert ["made minimal: a repeat" in words for words in said] == [False, False, True, True]


def test_external_size_max(place: Place) -> None:
    place.write(external_size_max=32768)
    assert "made to fit external-size-max" in saved(place, sample_core()).said
    assert (place.out / cores(place)[0]).stat().st_size <= 32768


def test_the_rate_is_that_of_an_executable_and_user(place: Place) -> None:
    place.write(limit_interval="10m", limit_burst=2)
    for _ in range(2):
        saved(place, sample_core())
    done = handle(place, sample_core(), *numbers())
    assert done.code == 1 and "limit-burst: 2 cores of (not known) of user 1000 saved within 600 s" in done.said
    saved(place, sample_core(), uid=1001)
    assert len(cores(place)) == 3


# The time since boot, and the number of this boot.
CLOCK = """
from corefilt.store import ledger
ledger.time.clock_gettime = lambda which: {now}
ledger._boot_id = lambda: {boot!r}
"""


def test_the_rate_at_its_boundary(place: Place) -> None:
    """Whole handlers: what is as old as the interval does not count; a jump of the clock that people set is nothing,
    and with a boot all is forgotten."""
    place.write(limit_interval="10m", limit_burst=2)
    for now, boot, at, code in (
        (100.0, "one", 0, 0), (699.9, "one", 0, 0), (699.99, "one", 0, 1), (700.0, "one", 0, 0),
        (700.1, "one", 4_000_000_000, 1), (700.2, "one", -1_600_000_000, 1), (5.0, "two", 0, 0),
    ):  # fmt: skip
        words = numbers(time=1_700_000_000 + at)
        done = handle(place, sample_core(), *words, patch=CLOCK.format(now=now, boot=boot))
        assert done.code == code, (now, done.said)


def test_jumps_of_the_clock(place: Place) -> None:
    """The new core is there whatever time it has, and no more are kept than is said."""
    place.write(filter="all", keep_per_signature=2, name="%t")
    for at in (1_700_000_000, 1_700_000_001, 1_000_000_000, 1_700_000_002, 4_000_000_000, 1_700_000_003):
        saved(place, crash_core(), at=at)
        assert str(at) in cores(place) and len(cores(place)) <= 2
    place.write(filter="all", max_age="1000w", name="%t")
    # What is of the future is not old; what is saved with a time of the past is saved all the same.
    saved(place, crash_core(), at=1)
    assert {"4000000000", "1"} < set(cores(place))


def reserved(place: Place) -> int:
    fd = os.open(place.out, os.O_RDONLY)
    try:
        with Ledger(fd, str(place.out)) as ledger, ledger.held():
            return ledger.reserved()
    finally:
        os.close(fd)


def until_reserved(place: Place, least: int) -> int:
    until = time.monotonic() + PATIENCE
    while (found := reserved(place)) < least:
        assert time.monotonic() < until, found
        time.sleep(0.01)
    return found


# The child does not come to an end.
WAITS = "import time; from corefilt.handler import worker; worker.Work._sign = lambda *args: time.sleep(3600)"


def test_what_is_being_written_is_reserved(place: Place) -> None:
    """From before the first byte is read until the handler ends, also by a kill; more where the core is larger."""
    place.write(max_use="1G", filter="all")
    assert reserved(place) == 0
    with start(place, patch=WAITS) as process:
        assert until_reserved(place, 1) == BESIDE
        assert process.stdin is not None
        process.stdin.write(crash_core(heap=1024))
        process.stdin.close()
        assert (1 << 22) < until_reserved(place, BESIDE + 1) < (1 << 22) + BESIDE
        process.kill()
        process.wait()
        assert reserved(place) == 0


def test_keep_free_removes_cores(tmp_path: Path) -> None:
    """On a file system of its own, whose free space nobody else changes."""
    need_mounts("ext4")
    with disk("ext4", tmp_path) as root:
        root.chmod(0o755)
        tmp_path.chmod(0o755)
        place = Place(root)
        for n in range(3):
            put(place, f"core-{n}", at=n, size=1 << 20)
        os.sync()
        status = os.statvfs(root)
        place.write(keep_free=status.f_bavail * status.f_frsize)
        done = saved(place, sample_core())
        assert re.search(r"removed .*/core-0: 1[.\d]* MiB of user 1000, by keep-free", done.said)
        assert "core-0" not in cores(place) and {"core-1", "core-2"} < set(cores(place))


def test_the_sample_has_every_key() -> None:
    """Commented, so that it changes nothing; without the marks it is one that can be used."""
    sample = Path(samples.__file__).parent / "samples/corefilt.conf"
    text = sample.read_text()
    assert tomllib.loads(text) == {}
    live = re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)
    assert set(tomllib.loads(live)) == set(KEYS)
    parse_config(live.replace("annotate-full = false\n", "").encode(), "sample")


def test_the_vacuum_units() -> None:
    """The service does what a person types, and the timer starts it."""
    folder = Path(samples.__file__).parent / "samples"
    service, timer = ((folder / f"corefilt-vacuum.{kind}").read_text() for kind in ("service", "timer"))
    (command,) = re.findall(r"^ExecStart=(.*)", service, re.MULTILINE)
    assert re.fullmatch(r"/\S+/corefilt vacuum /var/lib/corefilt", command)
    assert "OnCalendar=" in timer and "WantedBy=timers.target" in timer


def test_max_age_and_per_executable(place: Place) -> None:
    put(place, "ancient", at=-1_000_000_000, uid=1)
    for n in range(3):
        put(place, f"core-{n}", at=n, exe="(not known)")
    place.write(max_age="1000w", max_per_executable=2)
    done = saved(place, sample_core())
    assert len(cores(place)) == 2 and "core-2" in cores(place)
    assert "by max-age" in done.said and done.said.count("by max-per-executable") == 2


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("action = 'reject'", "a rule rejects it"),
        ("action = 'minimal'", "made minimal: by a rule"),
        ("action = 'fit'\nsize = '32K'", "made to fit"),
        ("action = 'keep'", "filter 0x1ff"),
        ("smaller-than = '1M'\naction = 'filter'\nfilter = 'none'", "filter 0x0,"),
    ],
)
def test_rules_for_programs(place: Place, rule: str, wanted: str) -> None:
    with place.config.open("a") as file:
        file.write(f"[[rule]]\n{rule}\n[[rule]]\nuid = 1000\naction = 'filter'\n")
    done = handle(place, sample_core(), *numbers())
    assert wanted in done.said and done.code == int("rejects" in wanted)


def by_rules(rules: str, executable: bytes | None = b"/usr/bin/x", size: int = 1 << 20) -> Config:
    """The settings for a crash of user 1000."""
    config, victim = parse_config(rules.encode(), "x"), Victim()
    victim.executable, victim.size = executable, size
    apply_rules(config, parse_crash(numbers()[:7]), victim)
    return config


def test_the_first_rule_that_fits_decides() -> None:
    two = "[[rule]]\nexecutable = '/usr/bin/*'\naction = 'keep'\n[[rule]]\naction = 'filter'\nfilter = 'none'\n"
    assert by_rules(two).filter == Bit.ALL
    assert by_rules(two, b"/usr/bin/x (deleted)").filter == Bit.ALL
    assert by_rules(two, b"/opt/x").filter == by_rules(two, None).filter == 0
    assert by_rules("[[rule]]\nuid = 5\naction = 'reject'\n").filter == Bit.DEFAULT
    with pytest.raises(NoCoreError):
        by_rules("[[rule]]\nsmaller-than = '2M'\nlarger-than = '1K'\nuid = [1000, 5]\naction = 'reject'\n")


def test_a_rule_for_a_size_does_not_loosen_the_settings() -> None:
    fit = "external-size-max = '1M'\n[[rule]]\naction = 'fit'\nsize = '{}'\n"
    assert by_rules(fit.format("2M")).most == 1 << 20 and by_rules(fit.format("4K")).most == 4096
    kept = by_rules("external-size-max = '1M'\nrlimit = 'fit'\n[[rule]]\naction = 'keep'\n")
    assert (kept.most, kept.rlimit) == (None, "ignore")
    assert by_rules("[[rule]]\naction = 'minimal'\n").minimal


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("keep-free = '101%'", "percentage"), ("max-use = -1", "size"), ("limit-burst = 2", "go together"),
        ("repeats = 'minimal'", "keep-per-signature"), ("max-age = 3", "no unit"), ("keep-per-signature = 0", "number"),
        ("[[rule]]\nuid = 1", "action"), ("[[rule]]\naction = 'fit'", "size"), ("rule = 1", "tables"),
        ("[[rule]]\naction = 'keep'\nsize = 1", "not used by"), ("[[rule]]\naction = 'kep'", "is not one of"),
        ("[[rule]]\naction = 'keep'\nexecutable = 'x'", "path"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant(settings: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(settings.encode(), "corefilt.conf")
    assert words in str(refused.value) and str(refused.value).startswith("corefilt.conf: ")


def test_names_in_the_directory_of_systemd() -> None:
    folder = b"directory = '/var/lib/systemd/coredump/'\n"
    with pytest.raises(ConfigError, match=r"begin with core\.%e\.%u\."):
        parse_config(folder, "x")
    config = parse_config(folder + b"name = 'core.%e.%u.%P.%t'", "x")
    victim = Victim()
    victim.comm = b"a.b"
    crash = parse_crash(numbers(pid=7, uid=1000)[:7])
    # What systemd reads out of it: the user stands between the second dot and the third.
    assert name_of(config, crash, victim) == b"core.a\\x2eb.1000.7.1700000000"
    config.directory = "/var/lib/corefilt"
    assert name_of(config, crash, victim) == b"core.a.b.1000.7.1700000000"


# --- corefilt vacuum ----------------------------------------------------------------------------------------------


def vacuum(place: Place, *args: str) -> Done:
    return corefilt("vacuum", place.out, "--config", place.config, *args)


def test_vacuum_does_nothing_without_a_limit(place: Place) -> None:
    put(place, "core")
    done = vacuum(place)
    assert done.code == 0 and cores(place) == ["core"]
    what = "give --max-use SIZE or another limit, or set max-use in"
    assert done.err == (f"corefilt: no limit is set, so nothing is removed: {what} {place.config}",)


def test_vacuum_says_first_and_removes_then(place: Place) -> None:
    for n in range(4):
        put(place, f"core-{n}", at=n)
    limit = str(used(place) // 2)
    said = vacuum(place, "--max-use", limit, "-n")
    assert said.code == 0 and [line.split()[3] for line in said.err] == [f"{place.out}/core-{n}:" for n in range(2)]
    assert len(cores(place)) == 4
    done = vacuum(place, "--max-use", limit)
    assert done.code == 0 and sum("removed" in line for line in done.err) == 2
    assert cores(place) == ["core-2", "core-3"]


def test_vacuum_goes_by_the_settings(place: Place) -> None:
    put(place, "old", at=-1_000_000_000)
    put(place, "new", at=int(time.time()) - 1_600_000_000)
    place.write(max_age="1w")
    assert vacuum(place).code == 0 and cores(place) == ["new"]


@pytest.mark.parametrize("name", ["corefilt.conf", "./corefilt.conf", "cores/../corefilt.conf"])
def test_vacuum_goes_by_settings_with_a_relative_name(place: Place, name: str) -> None:
    put(place, "core")
    place.write(max_use="1K")
    done = corefilt("vacuum", place.out, "--config", name, "-n", cwd=place.root)
    assert done.code == 4 and "KiB over the limits" in done.err[-1]
    place.write(max_us="1K")
    assert_error(corefilt("vacuum", place.out, "--config", name, cwd=place.root), f"{place.config}", "max-us")


@pytest.mark.parametrize("name", ["none.conf", "none/corefilt.conf", "/nonexistent/corefilt.conf"])
def test_vacuum_refuses_settings_that_are_not_there(place: Place, name: str) -> None:
    put(place, "core")
    done = corefilt("vacuum", place.out, "--config", name, "--max-use", "1K", cwd=place.root)
    assert_error(done, name, "cannot be read: No such file or directory", "name a file that exists")
    assert cores(place) == ["core"]


def test_vacuum_finds_signatures_out(place: Place) -> None:
    for n in range(4):
        put(place, f"core-{n}", at=n).write_bytes(crash_core())
    assert vacuum(place, "--keep-per-signature", "2").code == 0
    assert cores(place) == ["core-0", "core-3"]


def test_vacuum_tells_what_it_could_not_do(place: Place) -> None:
    put(place, "one", uid=1)
    put(place, "two", uid=2)
    done = vacuum(place, "--max-use", "1K")
    assert done.code == 4 and "KiB over the limits" in done.err[-1] and len(cores(place)) == 2
    assert_usage(vacuum(place, "--max-use", "many"), "--max-use")
    assert_usage(vacuum(place, "--keep-free", "200%"), "--keep-free", "write it like 15% or 20G")
    assert_usage(vacuum(place, "--max-age", "90"), "--max-age", "age 90 has no unit", "write it like 90d")
    assert corefilt("vacuum", place.out / "none", "--config", place.config).code == 1


def test_a_dry_run_that_would_remove_nothing_says_so(place: Place) -> None:
    put(place, "one")
    done = vacuum(place, "--max-use", "1G", "-n")
    assert (done.code, len(done.err)) == (0, 1)
    assert "would remove nothing; it has 1 core of the handler" in done.err[0]
    done = vacuum(place, "--max-use", "1G")
    assert (done.code, done.err) == (0, (f"corefilt: {place.out}: removed nothing; it has 1 core of the handler",))
    done = vacuum(place, "-n")
    assert done.err[0].startswith("corefilt: no limit is set, so nothing is removed")


def test_a_dry_run_changes_nothing(place: Place) -> None:
    """Not even a signature is noted, or a lock file made; what it says is what the run then does."""
    for n in range(4):
        put(place, f"core-{n}", at=n).write_bytes(crash_core())
    before = {path.name: (path.stat().st_ctime_ns, os.listxattr(path)) for path in place.out.iterdir()}
    said = vacuum(place, "--keep-per-signature", "2", "-n")
    assert said.code == 0 and [line.split()[3] for line in said.err] == [f"{place.out}/core-{n}:" for n in (1, 2)]
    assert {path.name: (path.stat().st_ctime_ns, os.listxattr(path)) for path in place.out.iterdir()} == before
    assert vacuum(place, "--keep-per-signature", "2").code == 0
    assert cores(place) == ["core-0", "core-3"]
