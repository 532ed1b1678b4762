"""Run as a program: puts every layer around a child that does nothing, and tells in JSON which the kernel refuses."""

from __future__ import annotations

import json
import os
import sys

from corefilt.errors import CorefiltError
from corefilt.handler.account import Account
from corefilt.handler.sandbox import confine, own_pids
from corefilt.handler.seccomp import allow_calls, find_library

# Anybody's but root's: nothing is opened or made in its name.
NOBODY = 65534
NO_BINDING = "no binding of libseccomp: pip install pyseccomp, or Debian's python3-seccomp"


def missing_layers() -> dict[str, str]:
    """Names of ``sandbox.LAYERS``, and why each cannot be had here; who is not root can only tell of seccomp."""
    seccomp = find_library()
    missing = {} if seccomp is not None else {"seccomp": NO_BINDING}
    if os.geteuid():
        return missing
    reader, writer = os.pipe2(os.O_CLOEXEC)
    _, why_not = own_pids()
    if why_not:
        missing["pids"] = why_not
    pid = os.fork()
    if not pid:
        _try(seccomp, writer)
    os.close(writer)
    with open(reader, "rb") as told:
        raw = told.read()
    os.waitpid(pid, 0)
    found: dict[str, str] = json.loads(raw) if raw else {"seccomp": "the child ended before it could tell"}
    return {**missing, **found}


def _try(seccomp: object, writer: int) -> None:
    """Be the child; it never returns."""
    missing: dict[str, str] = {}
    try:
        missing = confine(Account(NOBODY, NOBODY), writer)
        if seccomp is not None:
            allow_calls(seccomp)
    except (OSError, CorefiltError, RuntimeError, ValueError) as error:
        missing["seccomp"] = str(error)
    finally:
        os.write(writer, json.dumps(missing).encode())
        os._exit(0)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(missing_layers()))
