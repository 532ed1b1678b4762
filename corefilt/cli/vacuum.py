"""``corefilt vacuum DIR``: removes cores that are too old, too many or too large together, by the handler's rules."""

from __future__ import annotations

import os

from corefilt.cli.options import given_limits, make_parser
from corefilt.cli.words import say
from corefilt.errors import CorefiltError, InputError
from corefilt.handler.config import PATH, Config, read_config
from corefilt.handler.keeping import limits_of, sweep, words_of
from corefilt.handler.log import Messages
from corefilt.sizes import show_size
from corefilt.store.directory import kept_cores
from corefilt.store.ledger import Ledger
from corefilt.store.listing import candidates, cores
from corefilt.store.retention import decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser
    from corefilt.store.retention import Limits

DESCRIPTION = """\
Removes cores from a directory of corefilt's handler by the settings that the handler goes by: max-age,
keep-per-signature, max-per-executable, max-use and keep-free of /etc/corefilt.conf, or the options. Without any of them
nothing is removed.

Only cores that the handler saved are removed, as the user who owns them; never one that is marked (user.corefilt.keep),
locked, or has more than one hard link, and for want of space never the only core of a user."""


def parser() -> Parser:
    """The options of ``corefilt vacuum``."""
    p = make_parser("vacuum", DESCRIPTION)
    p.add_argument("folder", metavar="DIR", help="the directory; those below it are left alone")
    return p


def run(argv: list[str]) -> int:
    """Remove what is too much; returns the exit code."""
    arguments = parser().parse_intermixed_args(argv)
    config = Config()
    if arguments.config is not None or os.geteuid() == 0:
        config = read_config(arguments.config or PATH)
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
            say("corefilt: nothing limits what is kept: see max-use and others in corefilt-retention(7)")
            return 0
        if limits.keep_per_signature is not None:
            _note_signatures(path)
        return _vacuum(folder, path, limits, dry_run=arguments.dry_run)
    finally:
        os.close(folder)


def _note_signatures(path: str) -> None:
    """Have every core's signature noted on it, so that repeats are known."""
    for found in cores(candidates([path])):
        if isinstance(found, CorefiltError):
            say(f"corefilt: {found}")


def _vacuum(folder: int, path: str, limits: Limits, *, dry_run: bool) -> int:
    import time

    with Ledger(folder, path) as ledger, ledger.held():
        before = kept_cores(folder)
        status = os.fstatvfs(folder)
        verdict = decide(before, limits, now=time.time(), free=status.f_bavail * status.f_frsize)
        if dry_run:
            for removal in verdict.removals:
                say(f"corefilt: {words_of(removal, path, 'would remove')}")
        else:
            sweep(folder, path, before, limits, Messages())
    if verdict.short:
        say(f"corefilt: {path}: {show_size(verdict.short)} too many are left, protected or the only core of a user")
    return 4 if verdict.short else 0
