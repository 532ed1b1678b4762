"""Command line, control group and units, as coredumpctl shows them."""

from __future__ import annotations

import os
import subprocess

import pytest

from corefilt.handler import journal_facts
from corefilt.handler.crashed_process import Victim
from corefilt.handler.journal_facts import gather, group_of, units_of


@pytest.mark.parametrize(
    ("text", "group"),
    [
        (b"0::/system.slice/x.service\n", b"/system.slice/x.service"),
        (b"12:cpu:/y\n1:name=systemd:/z\n0::/x\n", b"/x"),
        (b"12:cpu:/y\n1:name=systemd:/z\n", b"/z"),
        (b"12:cpu:/y\n", None),
        (b"", None),
        (b"0::/a b\xff\n", b"/a b\xff"),
    ],
)
def test_the_group(text: bytes, group: bytes | None) -> None:
    assert group_of(text) == group


@pytest.mark.parametrize(
    ("group", "units"),
    [
        (b"/system.slice/ssh.service", {"SLICE": b"system.slice", "UNIT": b"ssh.service"}),
        (b"/init.scope", {"SLICE": b"-.slice", "UNIT": b"init.scope"}),
        (b"/_special.service/sub", {"SLICE": b"-.slice", "UNIT": b"special.service"}),
        (
            b"/a.slice/a-b.slice/x@1.service/payload",
            {"SLICE": b"a-b.slice", "UNIT": b"x@1.service"},
        ),
        (
            b"/user.slice/user-1000.slice/session-3.scope",
            {"SLICE": b"user-1000.slice", "UNIT": b"session-3.scope", "SESSION": b"3", "OWNER_UID": b"1000"},
        ),
        (
            b"/user.slice/user-7.slice/user@7.service/app.slice/gedit.scope/below",
            {"SLICE": b"user-7.slice", "UNIT": b"user@7.service", "USER_UNIT": b"gedit.scope", "OWNER_UID": b"7"},
        ),
        (b"/user.slice/user-7.slice/user@7.service/a\nMESSAGE=b.service",
         {"SLICE": b"user-7.slice", "UNIT": b"user@7.service", "OWNER_UID": b"7"}),
        (b"/", {}),
        (b"/docker/0123", {}),
        (b"/system.slice", {"SLICE": b"system.slice"}),
    ],
)  # fmt: skip
def test_units(group: bytes, units: dict[str, bytes]) -> None:
    assert units_of(group) == units


def test_of_a_process() -> None:
    with subprocess.Popen(["cat", "-", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        victim = Victim()
        try:
            # Until exec has ended it has no command line and no map.
            os.write(process.stdin.fileno(), b"x")
            os.read(process.stdout.fileno(), 1)
            for name in ("cmdline", "cgroup", "maps"):
                setattr(victim, name, os.open(f"/proc/{process.pid}/{name}", os.O_RDONLY))
            found, notices = gather(victim, with_map=True)
            again, _ = gather(victim, with_map=False)
        finally:
            victim.close()
            process.kill()
    assert (found["CMDLINE"], notices) == (b"cat - -", [])
    assert b"/" in found["CGROUP"]
    assert b" r-xp " in found["PROC_MAPS"]
    assert "PROC_MAPS" not in again
    assert again["CMDLINE"] == b"cat - -"


def test_what_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_facts, "read_within", lambda *args, **options: None)
    victim = Victim()
    victim.cmdline = victim.maps = victim.cgroup = os.open("/dev/null", os.O_RDONLY)
    found, notices = gather(victim, with_map=True)
    os.close(victim.maps)
    assert found == {}
    assert len(notices) == 2
