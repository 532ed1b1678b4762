"""Hints for the command that was typed: what it does not have is not offered."""

from __future__ import annotations

import re

from corefilt.cli.options import taken_by

_FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])")
# Clauses that stand for themselves.
_APART = re.compile(r"(, or |, |; )")
# Programs that a hint spells a whole command of; the options are theirs.
_PROGRAMS = re.compile(r"\b(corefilt|journalctl|coredumpctl|esp-coredump|makedumpfile|ps|id) ")


def for_command(hint: str, command: str) -> str:
    """Return a hint without the clauses that name options which the command does not have."""
    if not _FLAG.search(hint):
        return hint
    known = {"-h", "--help", "-V", "--version", *(flag for _, record in taken_by(command) for flag in record.flags)}
    first, *rest = _APART.split(hint)
    left = first if _fits(first, known) else ""
    for apart, clause in zip(rest[::2], rest[1::2], strict=True):
        if _fits(clause, known):
            left += apart + clause if left else clause
    return left


def _fits(clause: str, known: set[str]) -> bool:
    return _PROGRAMS.search(clause) is not None or known.issuperset(_FLAG.findall(clause))
