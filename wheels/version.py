"""The version that is built: of the tag vX.Y.Z that git is at, or a development version behind the last one.

Usage: python wheels/version.py

An unpacked source distribution has its version in PKG-INFO, COREFILT_VERSION says another, and where there is no tag,
that of corefilt/__init__.py holds.
"""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENT = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)


def version(root: Path = ROOT) -> str:
    """The version in the form of PEP 440."""
    given = os.environ.get("COREFILT_VERSION") or _noted(root / "PKG-INFO", r"^Version: (.*)$")
    return given or _of_git(root) or _noted(root / "corefilt/__init__.py", ASSIGNMENT.pattern) or "0"


def _noted(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return found[1] if found is not None else None


def _of_git(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--tags", "--long", "--match", "v[0-9]*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.fullmatch(r"v(\d+\.\d+\.)(\d+)((?:a|b|rc)\d+)?-(\d+)-g([0-9a-f]+)", done.stdout.strip())
    if found is None:
        return None
    start, patch, phase, since, commit = found.groups()
    if since == "0":
        return f"{start}{patch}{phase or ''}"
    # What follows a release candidate comes before its release, what follows a release before the next one.
    return f"{start}{int(patch) + (phase is None)}.dev{since}+g{commit}"


if __name__ == "__main__":
    print(version())
