"""How the compiled module was built: what a sanitizer or a tracer changes besides what it looks for."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from corefilt import _fast

SANITIZED = "libasan" in Path("/proc/self/maps").read_text()
"""Under ASan a process has 16 TiB of address space and no bound on its memory."""

LIMITED = ".abi3." in str(_fast.__file__)
"""For the limited API, as wheels are built, Cython imports collections.abc and types, which takes 1.7 ms."""

TRACED = "coverage" in sys.modules
"""While lines are traced, Python code runs between them, which makes calls and gets signals of its own."""

UNTRACED = {"COVERAGE_PROCESS_CONFIG": ""}
"""The environment of a child whose own calls are counted, or which is to get a signal at one of them."""

PATIENCE = 600 if SANITIZED or TRACED else 120
"""After so many seconds, what was started is taken not to end."""

INTERPRETER = os.readlink("/proc/self/exe")
"""For a process that is looked at, or crashes: no sanitizer is loaded into it, and nothing that pip installed."""

WITH_PACKAGES = {"PYTHONPATH": sysconfig.get_path("purelib"), **UNTRACED}
"""The environment in which it has what pip installed, for what only serves a test."""

of_a_plain_build = pytest.mark.skipif(
    SANITIZED or TRACED, reason="a sanitizer or a tracer takes time, and has memory, calls and signals of its own"
)
