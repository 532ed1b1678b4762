"""What the handler stands on: the interpreter, all that it imports from, and the libraries that it maps.

The interpreter is asked itself (import_probe.py), and every component of what it tells is held against path_trust.py.
"""

from __future__ import annotations

import json
import subprocess

from corefilt.corefile.dynamic import search_paths
from corefilt.errors import InstallError
from corefilt.handler.path_trust import Trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corefilt.handler.admin.import_probe import Loaded
    from corefilt.handler.path_trust import Fault

# Starting it and importing everything takes 0.3 s; a file system that does not answer would hold it up for ever.
PATIENCE = 60
# What the loader reads besides the files that it maps (ld.so(8)).
LOADER_FILES = ("/etc/ld.so.cache", "/etc/ld.so.preload")


def faults(python: str, trust: Trust | None = None) -> list[Fault]:
    """What others could change of all that ``python -I`` loads for the handler. Raises InstallError."""
    trust = trust if trust is not None else Trust()
    trust.path(python, "the interpreter")
    # What others could have written is not run, not even to be asked.
    if not trust.faults:
        hold(ask(python), trust)
    return trust.faults


def ask(python: str) -> Loaded:
    """Have the interpreter tell what it loads, started as the kernel starts it. Raises InstallError."""
    told: Loaded = _run(python, "import_probe")
    return told


def missing_layers(python: str) -> dict[str, str]:
    """The layers around the child that this interpreter cannot have here, and why. Raises InstallError.

    It is run: ask only once ``faults`` has found none.
    """
    told: dict[str, str] = _run(python, "layers")
    return told


def _run(python: str, program: str) -> Any:
    command = [python, "-I", "-m", f"corefilt.handler.admin.{program}"]
    try:
        done = subprocess.run(
            command, env={}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{python}: cannot be asked what it loads: {error}") from None
    if done.returncode:
        last = done.stderr.decode(errors="backslashreplace").strip().splitlines()[-1:] or ["no reason given"]
        raise InstallError(
            f"{python} -I cannot load the handler: {last[0]}",
            "install corefilt where this interpreter finds it without PYTHONPATH and the user's site directory",
        )
    return json.loads(done.stdout)


def hold(told: Loaded, trust: Trust) -> None:
    """Hold what an interpreter told against ``trust``, which gathers the faults."""
    for name in told["beside"]:
        trust.path(name, "read by the interpreter")
    for entry in told["path"]:
        trust.tree(entry, "on sys.path")
    for folder in told["packages"]:
        trust.tree(folder, "the package corefilt")
    for folder, name in told["pth"]:
        trust.path(folder, f"named in {name}")
    for name in told["files"]:
        trust.path(name, "imported")
    for name in told["mapped"]:
        trust.path(name, "mapped by the interpreter")
        for folder in search_paths(name):
            trust.path(folder, f"searched for libraries of {name}")
    for name in LOADER_FILES:
        trust.path(name, "read by the dynamic loader")
