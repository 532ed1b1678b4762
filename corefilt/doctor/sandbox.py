"""The layers around the process that reads cores for corefilt's own handler, asked of the handler that is installed."""

from __future__ import annotations

import json
import os
import subprocess

from corefilt.doctor.row import OK, UNKNOWN, Row
from corefilt.text import printable

# What corefilt install makes of core_pattern begins like this behind the interpreter.
_OURS = [b"-I", b"-m", b"corefilt.handler"]
_PROGRAM = "corefilt.handler.admin.layers"
# It takes 0.2 s; a file system that does not answer would hold it up for ever.
_PATIENCE = 60
_NAME = "handler's layers"


def layer_rows(pattern: bytes) -> list[Row]:
    """A row where ``core_pattern`` starts corefilt's handler: which layers around its child are missing."""
    words = pattern.removeprefix(b"|").replace(b"%%", b"%").split()
    if words[1:4] != _OURS:
        return []
    python = os.fsdecode(words[0])
    try:
        # The kernel runs it as root at every crash; nobody is to have it run by asking.
        status = os.stat(python)
        if status.st_uid or status.st_mode & 0o022:
            return [Row(_NAME, UNKNOWN, f"{printable(words[0])} can be changed by other users, so it was not run")]
        done = subprocess.run(
            [python, "-I", "-m", _PROGRAM],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
        missing: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [Row(_NAME, UNKNOWN, f"{printable(words[0])} does not tell: {error}")]
    if missing:
        found = "; ".join(f"{name}: {why}" for name, why in missing.items())
        return [Row(_NAME, OK, f"the core is read without {found}", "corefilt status says more")]
    if os.geteuid():
        return [Row(_NAME, OK, "a binding of libseccomp is installed; only root can check the others")]
    return [Row(_NAME, OK, "none is missing")]
