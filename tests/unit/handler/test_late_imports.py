"""What the modules of the pipe path import late is there before the child is confined: afterwards it sees no file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from support.builds import PATIENCE

# Of options that the handler does not have (where evidence lies beside a core, to replace a file, other ways to write,
# other formats), of places that only Python or a command line names, and of words that were mistyped, found when they
# are read.
NEVER = {
    "backports.zstd", "compression.zstd", "corefilt.coredump_filter", "corefilt.crash.recorded",
    "corefilt.crash.signature",
    "corefilt.evidence.assumptions", "corefilt.evidence.file_compare", "corefilt.evidence.sidecars",
    "corefilt.evidence.sysroot", "corefilt.filtering.inplace", "corefilt.filtering.naming", "corefilt.filtering.values",
    "corefilt.io.compress",
    "corefilt.io.compression", "corefilt.io.decompress", "corefilt.io.objects", "corefilt.io.output_place",
    "corefilt.io.probe", "corefilt.io.seekable", "corefilt.io.shared_holders", "corefilt.io.sought",
    "corefilt.io.remote.download", "corefilt.io.remote.upload", "corefilt.io.remote.url", "corefilt.io.tempfiles",
    "html", "corefilt.plan.fit.runtimes.walks", "corefilt.plan.format", "bz2",
    "difflib", "fnmatch",
    "lz4.frame", "lzma", "shlex", "tempfile", "tomllib", "pwd",
}  # fmt: skip

# Names every module that is loaded, with its file where that is a source of corefilt's.
LIST = """
import json, sys
from corefilt.handler import journal_facts, process_evidence, sandbox, worker
from corefilt.handler.config import Config
worker.load()
config = Config()
config.signs = sys.argv[1] == "signs"
config.awaits = sys.argv[1] == "minimal"
config.rlimit = sys.argv[1] if sys.argv[1] in ("truncate", "fit") else "ignore"
for name in worker.needed(config):
    worker.import_module(name)
loaded = {}
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None) or ""
    ours = name.startswith("corefilt.") and path.endswith(".py") and not name.startswith("corefilt.handler")
    loaded[name] = path if ours else None
print(json.dumps(loaded))
"""


@cache
def imported_late(path: str) -> set[str]:
    """Name every import inside a function of a source; what one process has parsed, it parses once."""
    names: set[str] = set()
    for function in ast.walk(ast.parse(Path(path).read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= whole & {"backports.zstd", "compression.zstd"} or {node.module or ""}
    return names


@pytest.mark.parametrize("work", ["ignore", "truncate", "fit", "minimal", "signs"])
def test_nothing_is_left_to_load(work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LIST, work], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    loaded: dict[str, str | None] = json.loads(done.stdout)
    late = {each: name for name, path in loaded.items() if path for each in imported_late(path) if each not in loaded}
    of_truncation = {"array", "corefilt.filtering.truncated", "corefilt.plan.rlimit"}
    of_fit = {name for name in late if name.startswith("corefilt.plan.fit.")}
    of_signature = {name for name in late if name.startswith("corefilt.crash.")}
    unused = of_truncation if work in ("ignore", "signs") else set()
    unused |= of_fit if work not in ("fit", "minimal") else set()
    # eu-stack is asked by the command line alone.
    unused |= of_signature if work != "signs" else {"corefilt.crash.eu_stack"}
    assert set(late) - NEVER - unused == set(), late
