"""What the modules of the pipe path import late is there before the child is confined: afterwards it sees no file."""

from __future__ import annotations

import json
import subprocess
import sys

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

# Names every import inside a function of a module of corefilt that is loaded, if that has not been loaded itself.
LIST = """
import ast, json, sys
from corefilt.handler import journal_facts, process_evidence, sandbox, worker
from corefilt.handler.config import Config
worker.load()
config = Config()
config.signs = sys.argv[1] == "signs"
config.awaits = sys.argv[1] == "minimal"
config.rlimit = sys.argv[1] if sys.argv[1] in ("truncate", "fit") else "ignore"
for name in worker.needed(config):
    worker.import_module(name)
late = {}
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None) or ""
    if not name.startswith("corefilt.") or not path.endswith(".py") or name.startswith("corefilt.handler"):
        continue
    for function in ast.walk(ast.parse(open(path).read())):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [each for each in whole if each in ("backports.zstd", "compression.zstd")] or [node.module]
            else:
                continue
            for each in names:
                if each not in sys.modules:
                    late[each] = name
print(json.dumps(late))
"""


@pytest.mark.parametrize("work", ["ignore", "truncate", "fit", "minimal", "signs"])
def test_nothing_is_left_to_load(work: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LIST, work], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    late = json.loads(done.stdout)
    of_truncation = {"array", "corefilt.filtering.truncated", "corefilt.plan.rlimit"}
    of_fit = {name for name in late if name.startswith("corefilt.plan.fit.")}
    of_signature = {name for name in late if name.startswith("corefilt.crash.")}
    unused = of_truncation if work in ("ignore", "signs") else set()
    unused |= of_fit if work not in ("fit", "minimal") else set()
    # eu-stack is asked by the command line alone.
    unused |= of_signature if work != "signs" else {"corefilt.crash.eu_stack"}
    assert set(late) - NEVER - unused == set(), late
