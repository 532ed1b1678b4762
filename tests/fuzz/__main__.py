"""The command: ``python tests/fuzz TARGET --minutes N``, with coverage to guide it (atheris, libFuzzer).

    python tests/fuzz all --minutes 60        an hour, shared by the targets, of which every processor runs one
    python tests/fuzz tables --runs 100000    so many executions; with --minutes, at most so long
    python tests/fuzz all --replay            every input of the corpus once, without atheris
    python tests/fuzz tables --input FILE     one input, as a failing one that was kept

The corpus grows in build/fuzz/TARGET, beside what libFuzzer says in TARGET.log when all targets run; what fails is kept
in build/fuzz as crash-TARGET-*. Where the compiled module is to guide it, too, .ci/fuzz builds it so.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[0] = str(HERE.parents[1])

from fuzz.seeds import SEEDS, fill  # noqa: E402

TARGETS = tuple(SEEDS)
CORPUS = HERE.parents[2] / "build" / "fuzz"
# A core of 64 KiB takes some milliseconds; what takes this long follows a size that was only claimed.
SECONDS, MEGABYTES = 30, 2048


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description="Fuzz one reader of foreign bytes, or all.")
    parser.add_argument("target", help="a function of tests/fuzz/targets.py, or all")
    parser.add_argument("--minutes", type=float, default=0.0, help="how long, in all (default 1, without --runs)")
    parser.add_argument("--runs", type=int, default=0, help="so many executions of each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many targets at a time")
    parser.add_argument("--seed", type=int, default=0, help="libFuzzer's seed; 0: another one each time")
    parser.add_argument("--replay", action="store_true", help="run the corpus once, and nothing else")
    parser.add_argument("--input", type=Path, help="run one file")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where it grows (default build/fuzz)")
    arguments = parser.parse_args()
    if not arguments.runs and not arguments.minutes:
        arguments.minutes = 1.0
    return arguments


def replay(target: str, corpus: Path) -> None:
    """Run everything that was found so far, to see what it covers."""
    from fuzz.targets import MOST_BYTES, run

    fill(target, corpus / target, MOST_BYTES.get(target, 4096))
    inputs = sorted((corpus / target).iterdir())
    taken = sum(run(target, path.read_bytes()) for path in inputs)
    print(f"{target}: {len(inputs)} inputs, {taken} of them sound")


def fuzz(target: str, arguments: argparse.Namespace) -> int:
    """Fuzz one target in a child, for libFuzzer ends it and cleans nothing up; returns the exit code."""
    with tempfile.TemporaryDirectory() as temporary:
        pid = os.fork()
        if pid == 0:
            tempfile.tempdir = temporary
            fuzz_until_the_end(target, arguments)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fuzz_until_the_end(target: str, arguments: argparse.Namespace) -> None:
    """Fuzz one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["corefilt"]):
        from fuzz.targets import MOST_BYTES, run

    most = MOST_BYTES.get(target, 4096)
    corpus = arguments.corpus / target
    fill(target, corpus, most)
    bounds = [f"-runs={arguments.runs}"] if arguments.runs else []
    if arguments.minutes:
        bounds.append(f"-max_total_time={max(1, int(arguments.minutes * 60))}")
    options = [
        *bounds, f"-max_len={most}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-seed={arguments.seed}",
        "-print_final_stats=1", f"-artifact_prefix={arguments.corpus}/crash-{target}-", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], lambda data: run(target, data) and None)
    atheris.Fuzz()


def fuzz_one_of_all(target: str, arguments: argparse.Namespace, temporary: str) -> bool:
    """Fuzz one target in a process of its own, which libFuzzer ends; returns whether nothing was found."""
    rounds = -(-len(TARGETS) // arguments.jobs)
    minutes = arguments.minutes / rounds
    said = arguments.corpus / f"{target}.log"
    with said.open("w") as log:
        code = subprocess.run(
            [
                sys.executable, HERE.parent, target, "--minutes", str(minutes), "--runs", str(arguments.runs),
                "--seed", str(arguments.seed), "--corpus", str(arguments.corpus),
            ],
            stdout=log, stderr=log, env={**os.environ, "TMPDIR": temporary}, check=False,
        ).returncode  # fmt: skip
    text = said.read_text(errors="replace")
    runs = re.findall(r"^stat::number_of_executed_units: *(\d+)", text, re.MULTILINE)
    reached = re.findall(r"^#\d+.* cov: (\d+) ft: (\d+) corp: (\d+)", text, re.MULTILINE)
    if code or not runs or not reached:
        print(f"{target}: FAILED, exit code {code}; {said} ends so:", *text.splitlines()[-30:], sep="\n", flush=True)
        return False
    branches, features, inputs = reached[-1]
    print(f"{target}: {runs[-1]} executions, {branches} branches, {features} features, {inputs} inputs", flush=True)
    return True


def fuzz_all(arguments: argparse.Namespace) -> int:
    """Fuzz all targets, several at a time; returns the exit code."""
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:
        sound = pool.map(partial(fuzz_one_of_all, arguments=arguments, temporary=temporary), TARGETS)
        return 0 if all(list(sound)) else 1


def main() -> int:
    """Do what was asked; returns the exit code."""
    arguments = parse()
    if arguments.target not in (*TARGETS, "all"):
        print(f"no target {arguments.target!r}; there are {', '.join(TARGETS)}, and all", file=sys.stderr)
        return 2
    if arguments.input is not None:
        from fuzz.targets import run

        run(arguments.target, arguments.input.read_bytes())
    elif arguments.replay:
        for target in TARGETS if arguments.target == "all" else [arguments.target]:
            replay(target, arguments.corpus)
    elif arguments.target == "all":
        return fuzz_all(arguments)
    else:
        os.makedirs(arguments.corpus, exist_ok=True)
        return fuzz(arguments.target, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
