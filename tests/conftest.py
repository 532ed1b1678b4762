"""Fixtures that more than one test file uses, and what holds for a session of several processes."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.samples import sample_core

# `python -m pytest` finds the sources of this checkout, which hold no compiled module, before the installed package, as
# `python -m corefilt` in a child would.
ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"

# A signal that is ignored here, as under nohup or in the background of a script, would be ignored by every program that
# tests start. A handler of Python's does not outlive execve(2), and goes on past the signal all the same. Processes of
# xdist are such programs themselves.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN or (
        _number == signal.SIGHUP and "PYTEST_XDIST_WORKER" in os.environ
    ):
        signal.signal(_number, lambda number, frame: None)

# How long an example takes is no property: the machine can be busy. A plain run takes the same examples each time, so
# that what fails is the change; .ci/nightly looks for others (--hypothesis-profile=explore).
settings.register_profile("corefilt", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("corefilt")

# What holds for the whole machine, as sysctls, the journal and the processes of the handler's account, is changed by
# one process in turn; another has the kernel dump, and makes each set of cores once. A lock keeps the two apart
# (kernel/dumps.py). One process parses the package's sources.
SETTING = ("attacks", "doctor", "files", "handler", "install", "many_handlers", "names", "serve")
LANES = {
    "machine": (
        *(f"tests/kernel/test_{name}.py" for name in SETTING),
        "tests/integration/test_handler.py",
        "tests/integration/test_lies.py",
        "tests/integration/test_retention.py",
        "tests/unit/handler/admin/test_install.py",
        "tests/unit/handler/serve/test_serve.py",
    ),
    "dumps": ("tests/kernel/",),
    "sources": ("tests/unit/test_layers.py",),
}
SLOW = 3600
REPORTS = pytest.StashKey[dict[str, str]]()


def lane(nodeid: str) -> str | None:
    """Name the lane that a test is in, if any."""
    return next((name for name, files in LANES.items() if nodeid.startswith(files)), None)


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """Write a small core into a folder of its own, where everything else that appears is corefilt's doing."""
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    return path


@pytest.fixture(scope="session")
def reports(pytestconfig: pytest.Config) -> dict[str, str]:
    """Collect texts by title, to be printed at the end of the session."""
    return pytestconfig.stash.setdefault(REPORTS, {})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are CPUs: tests wait for disks and for other processes a third of their time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give a lane to one process, and the rest to whoever is idle."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane(nodeid) or nodeid

    return Scheduling(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take away the folder around those of the tests, unless one that failed, or another session, has left its own."""
    base: Path | None = config._tmp_path_factory._basetemp  # type: ignore[attr-defined]
    if base is None or base.exists() or config.option.basetemp is not None:
        return
    current = base.parent / "pytest-current"
    with suppress(OSError):
        if not current.exists():
            current.unlink(missing_ok=True)
        base.parent.rmdir()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take what makes a run shorter that looks for lines, not for values."""
    parser.addoption("--most", type=int, metavar="N", help="run at most N cases of each test function, evenly spread")
    parser.addoption(
        "--rest", type=int, metavar="N", help="run the cases that --most N leaves out, with --most some of them"
    )


def some_of_each(items: list[pytest.Item], most: int) -> set[str]:
    """Name at most so many cases of each test function, evenly spread."""
    cases: dict[str, list[str]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item.nodeid)
    return {each[i * len(each) // most] for each in cases.values() for i in range(most)}


def repeats(item: pytest.Item) -> bool:
    """Tell whether a case is slow by other than its places, and tries some of those: another tries each."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("step", 1) != 1 and item.get_closest_marker("slow") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the lanes; give slow tests their time, and no place twice."""
    twice = [item for item in items if repeats(item)]
    config.hook.pytest_deselected(items=twice)
    items[:] = [item for item in items if not repeats(item)]
    most, rest = config.option.most, config.option.rest
    if most or rest:
        chosen = some_of_each(items, most) if most else {item.nodeid for item in items}
        chosen -= some_of_each(items, rest) if rest else set()
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
        items[:] = [item for item in items if item.nodeid in chosen]
    items.sort(key=lambda item: lane(item.nodeid) is None)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the texts from the process that made them to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["reports"] = session.config.stash.get(REPORTS, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the texts of a process that ended; one that died has none."""
    texts = getattr(node, "workeroutput", {}).get("reports", {})
    node.config.stash.setdefault(REPORTS, {}).update(texts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the agreement with the kernel even when every test passed."""
    for title, text in terminalreporter.config.stash.get(REPORTS, {}).items():
        terminalreporter.section(title)
        terminalreporter.write_line(text)
