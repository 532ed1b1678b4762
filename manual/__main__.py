"""Writes what is installed under share/ (manual pages, completion for bash, zsh and fish) and the map of the rooms.

Usage: python manual [--check]      (--check: write nothing, exit 1 where a file is not what it would be)

Everything is made of the parsers and docstrings of the installed corefilt, and of docs/*.md.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import bash
import fish
import markdown
import parsers
import roff
import rooms
import zsh

ROOT = Path(__file__).resolve().parent.parent
SHARE = ROOT / "share"


def texts() -> dict[Path, str]:
    """Every file that is written here and what it holds: all below share/, and CONTRIBUTING.md."""
    commands = parsers.commands()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {
        SHARE / "man/man1/corefilt.1": roff.page(commands, project["description"]),
        SHARE / "bash-completion/completions/corefilt": bash.script(commands),
        SHARE / "zsh/site-functions/_corefilt": zsh.script(commands),
        SHARE / "fish/vendor_completions.d/corefilt.fish": fish.script(commands),
    }
    contributing = ROOT / "CONTRIBUTING.md"
    found[contributing] = rooms.placed(contributing.read_text())
    for path in sorted(ROOT.glob("docs/*.md")):
        about = markdown.declared(path)
        if about is not None:
            name, section, _ = about
            found[SHARE / f"man/man{section}/{name}.{section}"] = markdown.page(path, about)
    return found


def main() -> int:
    """Write or check; returns the exit code."""
    wanted = texts()
    there = {path for path in [*SHARE.rglob("*"), ROOT / "CONTRIBUTING.md"] if path.is_file()}
    stale = [path for path, text in wanted.items() if path not in there or path.read_text() != text]
    stale += sorted(there - wanted.keys())
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what `python manual` writes", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.unlink(missing_ok=True)
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
