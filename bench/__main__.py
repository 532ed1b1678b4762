"""``python -m bench [SCRIPT ...]``: runs the scripts, prints their tables and writes what they measured."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import FrameType, ModuleType
from typing import Any

from bench import (
    batch,
    before,
    compressed,
    copies,
    handler,
    inplace,
    machine,
    options,
    report,
    retention,
    rivals,
    runtimes,
    scrub,
    segments,
    shared,
    sharing,
    signature,
    stores,
    tools,
)
from bench import filter as bench_filter
from bench.measure import BenchError

SCRIPTS: dict[str, ModuleType] = {
    "filter": bench_filter,
    "compressed": compressed,
    "copies": copies,
    "sharing": sharing,
    "shared": shared,
    "inplace": inplace,
    "segments": segments,
    "before": before,
    "tools": tools,
    "batch": batch,
    "stores": stores,
    "handler": handler,
    "retention": retention,
    "signature": signature,
    "runtimes": runtimes,
    "scrub": scrub,
}


def main(arguments: list[str]) -> int:
    """Run what was asked for; return the exit code: 0 whether the targets are met or not, 1 if a row failed."""
    wanted = options.parse(arguments, {name: script.QUESTION for name, script in SCRIPTS.items()})
    signal.signal(signal.SIGTERM, _leave)
    facts = machine.facts() | {
        "python": sys.version.split()[0],
        "corefilt": rivals.version(wanted.corefilt),
        "engine": wanted.engine,
        "cp": rivals.version(("cp",)),
        "size_bytes": wanted.size,
        "runs": wanted.runs,
    }
    print(_heading(facts))
    found: dict[str, Any] = {}
    failed = False
    began = time.monotonic()
    try:
        for name in wanted.scripts:
            script = SCRIPTS[name]
            bystanders = machine.Bystanders()
            try:
                results = script.measure(wanted, _tell)
            except (BenchError, OSError) as error:
                results = report.Results(failures=[f"{name}: {error}"])
            results.others_cpu_share = bystanders.share()
            failed = failed or bool(results.failures) or (wanted.every and bool(results.missing))
            found[name] = {"question": script.QUESTION} | report.as_json(results)
            print(f"\n{script.QUESTION}\n\n{report.tables(results)}", flush=True)
    except KeyboardInterrupt:
        return 130
    print(f"\n{time.monotonic() - began:.0f} s in all" + ("; NOT ALL ROWS WERE MEASURED" if failed else ""))
    if wanted.json is not None:
        facts["load_average_at_end"] = os.getloadavg()[0]
        wanted.json.write_text(json.dumps({"schema": 1, "machine": facts, "scripts": found}, indent=1) + "\n")
    return int(failed)


def _heading(facts: dict[str, Any]) -> str:
    return (
        f"{facts['corefilt']}, engine {facts['engine']}, Python {facts['python']}; {facts['date']}\n"
        f"Linux {facts['kernel']}, {facts['cpu']}, {facts['cores']} cores, "
        f"{report.size_text(facts['memory_bytes'])} of memory, load {facts['load_average']:.2f}\n"
        f"a core of {report.size_text(facts['size_bytes'])}, {facts['runs']} runs of each side in turn, "
        "warm page cache, pipes of 1 MiB"
    )


def _tell(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _leave(signum: int, _frame: FrameType | None) -> None:
    """Leave through every ``finally``, so that the folders go."""
    sys.exit(128 + signum)


sys.exit(main(sys.argv[1:]))
