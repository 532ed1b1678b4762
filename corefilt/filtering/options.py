"""How a core is to be written: the options of ``corefilt filter``, and what several of them ask for together."""

from __future__ import annotations

from corefilt.errors import UsageError
from corefilt.kinds import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corefilt.filtering.naming import Naming
    from corefilt.plan.fit.request import Wish

FORMATS = ("same", "elf", "fdpic")


class Options:
    """How to write: every field is an option of ``corefilt filter`` by the same name."""

    __slots__ = (
        "annotate", "assume", "cache", "compact", "compress", "compress_threads", "dry_run", "dumper", "engine", "fit",
        "force", "format", "in_place", "jobs", "loadmaps", "maps", "on_progress", "pid", "sparse", "stamp", "strict",
        "sync", "sysroot", "truncate", "unknown",
    )  # fmt: skip

    def __init__(
        self,
        *,
        unknown: str = "keep",
        assume: Sequence[str] = (),
        maps: str | None = None,
        pid: int | None = None,
        sysroot: str | None = None,
        annotate: bool = False,
        fit: Wish | None = None,
        truncate: int | str | None = None,
        format: str = "same",
        loadmaps: tuple[int, int] | None = None,
        dumper: str = CURRENT,
        strict: bool = False,
        sparse: str = "auto",
        engine: str = "auto",
        jobs: int | None = None,
        cache: str = "auto",
        compress: str | None = None,
        compress_threads: int | None = None,
        sync: bool = True,
        force: bool = False,
        dry_run: bool = False,
        in_place: bool = False,
        compact: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        # What a batch tells of the core in a note, by the bytes that hang on an assumption; of no option's name.
        self.stamp: Callable[[int], bytes] | None = None
        self.unknown, self.assume, self.strict = unknown, assume, strict
        self.maps, self.pid, self.sysroot, self.annotate = maps, pid, sysroot, annotate
        self.sparse, self.engine, self.sync, self.force = sparse, engine, sync, force
        self.jobs, self.cache = jobs, cache
        self.compress, self.compress_threads = compress, compress_threads
        self.dry_run, self.on_progress, self.fit, self.truncate = dry_run, on_progress, fit, truncate
        self.in_place, self.compact = in_place, compact
        self.format, self.loadmaps, self.dumper = format, loadmaps, dumper


def make_wish(
    *,
    fit: int | str | None,
    allocated: bool,
    minimal: bool,
    follow: int | str | None,
    ladder: str | Sequence[str] | None,
) -> Wish | None:
    """What --fit, --minimal and their kin ask for, or None where none of them is there. Raises UsageError."""
    if fit is None and not allocated and not minimal and follow is None and ladder is None:
        return None
    from corefilt.plan.fit.request import Wish

    return Wish(fit=fit, allocated=allocated, minimal=minimal, follow=follow, ladder=ladder)


def make_naming(
    name: str | None, *, directory: str | None, given: Mapping[str, str] | None, uses_pid: str
) -> Naming | None:
    """What --name and its kin ask for, or None where none of them is there. Raises UsageError."""
    if name is None:
        if directory is not None or given or uses_pid != "no":
            raise UsageError("--directory, --set and --uses-pid go with --name", "add --name TEMPLATE")
        return None
    from corefilt.filtering.naming import Naming

    return Naming(name, directory=directory, given=given, uses_pid=uses_pid)
