"""``corefilt vacuum DIR``: removes cores that are too old, too many or too large together, by the handler's rules."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from corefilt.cli.arguments import need_local
from corefilt.cli.options import given_limits, make_parser
from corefilt.cli.streams import say
from corefilt.errors import CorefiltError, InputError
from corefilt.handler.config import PATH, Config, settings_of
from corefilt.handler.keeping import limits_of, sweep, words_of
from corefilt.handler.log import Messages
from corefilt.sizes import show_size
from corefilt.store.directory import Directory, kept_cores
from corefilt.store.ledger import CORES, Ledger
from corefilt.store.listing import certain_signature
from corefilt.store.retention import decide
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.cli.parser import Parser
    from corefilt.store.retention import KeptCore, Limits, RetentionPlan

DESCRIPTION = """\
Removes cores from a directory of corefilt's handler by the handler's settings: max-age, keep-per-signature,
max-per-executable, max-use and keep-free of /etc/corefilt.conf, or the options. Without any of them, nothing is
removed.

Run it as the owner of the cores, which is root for the handler's. Only cores that the handler saved are removed; never
one that is marked (user.corefilt.keep), locked, has more than one hard link, or holds blocks for others (batch
--shared-once), and for lack of space never the only core of a user. Exit status 4: cores that are never removed exceed
the limits."""


def parser() -> Parser:
    """The options of ``corefilt vacuum``."""
    p = make_parser("vacuum", DESCRIPTION)
    p.add_argument("folder", metavar="DIR", help="the directory; those below it are left alone")
    return p


def run(argv: list[str]) -> int:
    """Remove what is too much; returns the exit code."""
    arguments = parser().parse_intermixed_args(argv)
    need_local(arguments.folder)
    config = Config()
    if arguments.config is not None or os.geteuid() == 0:
        config = settings_of(arguments.config)
    for name, value in given_limits(arguments).items():
        setattr(config, name, value)
    path = arguments.folder
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        limits = limits_of(config, folder)
        if not limits.any:
            say(
                "corefilt: no limit is set, so nothing is removed: give --max-use SIZE or another limit, "
                f"or set max-use in {arguments.config or PATH}"
            )
            return 0
        if arguments.dry_run:
            kept = list(_signed(kept_cores(folder), path, limits, note=False))
            verdict = _decide(kept, folder, limits)
            for removal in verdict.removals:
                say(f"corefilt: {words_of(removal, path, 'would remove')}")
        else:
            kept, verdict = _vacuum(folder, path, limits)
        if not verdict.removals:
            would = "would remove" if arguments.dry_run else "removed"
            say(f"corefilt: {path}: {would} nothing; it has {counted(len(kept), 'core')} of the handler")
    finally:
        os.close(folder)
    if verdict.short:
        why = "the cores that are left are protected, or the only one of a user"
        say(f"corefilt: {path}: {show_size(verdict.short)} over the limits: {why}")
    return 4 if verdict.short else 0


def _signed(kept: list[KeptCore], path: str, limits: Limits, *, note: bool) -> Iterator[KeptCore]:
    """The cores, with the signatures of their crashes where repeats are limited; ``note`` has them noted on them."""
    for core in kept:
        if limits.keep_per_signature is None or core.signature is not None:
            yield core
            continue
        try:
            signature = certain_signature(os.path.join(path, core.name), note=note)
        except CorefiltError as error:
            say(f"corefilt: {error}")
            signature = None
        yield replace(core, signature=signature)


def _decide(kept: list[KeptCore], folder: int, limits: Limits) -> RetentionPlan:
    status = os.fstatvfs(folder)
    return decide(kept, limits, now=time.time(), free=status.f_bavail * status.f_frsize)


def _vacuum(folder: int, path: str, limits: Limits) -> tuple[list[KeptCore], RetentionPlan]:
    """Remove what is too much; returns what was there, and what was decided."""
    directory = Directory(folder)
    # What was looked at before the lock is not looked at again below it.
    for _ in _signed(directory.cores(), path, limits, note=True):
        pass
    with Ledger(folder, path) as ledger, ledger.held(CORES):
        before = directory.cores()
        verdict = _decide(before, folder, limits)
        sweep(folder, path, before, limits, Messages())
    return before, verdict
