"""What the pods of deploy/kubernetes run: have the node's kernel start corefilt, set it back, run jobs repeatedly.

Usage: python node.py install | uninstall | wait | every SECONDS COMMAND... [then COMMAND...]

/host has the node's /opt, /etc, /var/lib and /proc. Cores go to /var/lib/corefilt of the node.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
HOST = Path("/host")
# Where the kernel starts it, which has to be where it is in the image: corefilt install names its own interpreter.
THERE = HOST / HERE.relative_to("/")
CONFIG = Path("/etc/corefilt.conf")
# Handlers at a time, as systemd-coredump has it.
PIPE_LIMIT = "16"
STOP = {signal.SIGTERM, signal.SIGINT}


def corefilt(*arguments: str) -> int:
    """Run a command; returns its exit code."""
    return subprocess.run([HERE / "bin/corefilt", *arguments], check=False).returncode


def install() -> int:
    """Copy this directory and the settings to the node, and have its kernel start the handler.

    What core_pattern was is recorded on the node, in /etc/sysctl.d/60-corefilt.conf.
    """
    new, old = THERE.with_name(THERE.name + ".new"), THERE.with_name(THERE.name + ".old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(HERE, new, symlinks=True)
    if THERE.exists():
        # A handler that runs goes on from the old files.
        THERE.rename(old)
    new.rename(THERE)
    shutil.rmtree(old, ignore_errors=True)
    for directory in ("var/lib/corefilt", "etc/sysctl.d"):
        (HOST / directory).mkdir(mode=0o755, parents=True, exist_ok=True)
    target = HOST / CONFIG.relative_to("/")
    fresh = target.with_name(target.name + ".new")
    fresh.write_bytes(CONFIG.read_bytes())
    fresh.chmod(0o644)
    fresh.replace(target)
    force = ["--force"] if os.environ.get("COREFILT_FORCE") == "1" else []
    return corefilt("install", "--root", str(HOST), "--pipe-limit", PIPE_LIMIT, *force)


def uninstall() -> int:
    """Set core_pattern back, if it is still corefilt's, and remove the copy once nothing names it."""
    code = corefilt("uninstall", "--root", str(HOST))
    pattern = (HOST / "proc/sys/kernel/core_pattern").read_text()
    if str(HERE) in pattern:
        print(f"core_pattern still names {HERE}, which stays", file=sys.stderr)
        return 1
    shutil.rmtree(THERE, ignore_errors=True)
    (HOST / CONFIG.relative_to("/")).unlink(missing_ok=True)
    return code


def every(seconds: float, jobs: list[list[str]]) -> NoReturn:
    """Run corefilt's commands one after another, again and again, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        for job in jobs:
            code = corefilt(*job)
            if code:
                print(f"corefilt {' '.join(job)}: exit {code}", file=sys.stderr, flush=True)
        time.sleep(seconds)


def main(words: list[str]) -> int:
    """Do what is asked for."""
    if words == ["install"]:
        return install()
    if words == ["uninstall"]:
        return uninstall()
    if words == ["wait"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        signal.sigwait(STOP)
        return 0
    if words[:1] == ["every"] and len(words) > 2 and words[1].isdigit():
        jobs: list[list[str]] = [[]]
        for word in words[2:]:
            if word == "then":
                jobs.append([])
            else:
                jobs[-1].append(word)
        every(float(words[1]), jobs)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
