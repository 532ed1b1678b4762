"""All programs that the kernel dumps for the tests, by name."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from kernel.machines import qemu
from kernel.programs import Program, Visit, visit
from kernel.runtimes import (
    chromium,
    emacs,
    go,
    huge,
    java,
    java_g1,
    java_large_pages,
    java_zgc,
    mono,
    node,
    python,
    sqlite,
    wheel,
)
from kernel.servers import mariadb, postgresql, postgresql_huge, redis, slapd, varnish

# What the suite visits by day.
FAST: dict[str, Callable[[Path], AbstractContextManager[Program]]] = {
    "redis": redis,
    "huge": huge,
    "sqlite": sqlite,
}

PROGRAMS: dict[str, Callable[[Path], AbstractContextManager[Program]]] = {
    **FAST,
    "python": python,
    "node": node,
    "emacs": emacs,
    "postgresql": postgresql,
    "java": java,
    "postgresql-huge": postgresql_huge,
    "mariadb": mariadb,
    "slapd": slapd,
    "varnish": varnish,
    "java-g1": java_g1,
    "java-zgc": java_zgc,
    "java-large-pages": java_large_pages,
    "mono": mono,
    "go": go,
    "wheel": wheel,
    "qemu": qemu,
    "chromium": chromium,
}


# These take 10 to 20 s of processors each, and the others minutes, or what a package index has.
SLOWER = ("python", "node", "emacs", "postgresql", "java")
VISITED = (*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOWER))


@contextmanager
def visits(name: str, forker: Path, folder: Path) -> Iterator[Iterator[Visit]]:
    """Start a program; give a visit to each of its processes, one at a time, and see that it survives them."""
    home = folder / name
    home.mkdir()

    def each(program: Program) -> Iterator[Visit]:
        for at, (process, pid) in enumerate(program.pids.items()):
            with visit(process, pid, forker, folder / f"{name}-{at}") as visited:
                yield visited
            program.check()

    with PROGRAMS[name](home) as program:
        yield each(program)
