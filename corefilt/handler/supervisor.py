"""The parent: root's part of the work. It opens, has the child do the work, and gives the core its name and rights.

It reads no byte of the core and nothing of the evidence but what ``victim`` says, and it asks no name service.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from corefilt.crash.recorded import ATTRIBUTE, parse_signature
from corefilt.errors import CorefiltError, NoCoreError, OutputError
from corefilt.handler import permissions
from corefilt.handler.account import find_account
from corefilt.handler.journal_entry import attributes, fields
from corefilt.handler.log import CRITICAL, ERROR, NOTICE
from corefilt.handler.request import Allowance, Order
from corefilt.handler.result import FAILED, WHOLE
from corefilt.handler.secure_open import open_folder
from corefilt.handler.store import Target, name_of, program_owner
from corefilt.sizes import show_size
from corefilt.store.attributes import INPUT, OWNER, SMALL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim
    from corefilt.handler.keeping import Keeping
    from corefilt.handler.log import Messages
    from corefilt.handler.reservation import Reservation
    from corefilt.handler.result import Result
    from corefilt.handler.statement import Statement
    from corefilt.handler.worker_process import Forked

# ELF_EXEC_PAGESIZE, under which the kernel writes no file (do_coredump).
LEAST_LIMIT = 4096


def handle(crash: CrashInfo, child: Forked, config: Config, messages: Messages) -> str | None:
    """Have the child save the core; returns its path, or None, and says which and why."""
    victim = child.victim
    try:
        with ExitStack() as undo:
            path, result, notices = _save(crash, child, config, undo, messages)
    except (CorefiltError, OSError) as error:
        words = str(error) if isinstance(error, CorefiltError) else f"{error.filename or 'system'}: {error.strerror}"
        stated = child.stated()
        messages.say(f"{_who(crash, victim)}: no core was saved: {words}", ERROR, fields(crash, victim, stated))
        _say_missing(crash, stated, messages)
        return None
    how = "as it came" if result.status == WHOLE else f"filter {config.filter:#x}, {show_size(result.dropped)} dropped"
    if result.assumed:
        how += f", {show_size(result.assumed)} kept on an assumption"
    text = f"{_who(crash, victim)} dumped core: {path}, {show_size(result.output_bytes)}, {how}"
    words = "; ".join(word for word in (*notices, result.words) if word)
    stated = child.stated()
    told = fields(crash, victim, stated, path, truncated=result.damaged)
    messages.say(f"{text}; {words}" if words else text, CRITICAL, told)
    _say_missing(crash, stated, messages)
    return path


def _say_missing(crash: CrashInfo, stated: Statement, messages: Messages) -> None:
    """Name the layers that the child did without, at error level but where root asked for that (--without-seccomp)."""
    if not stated.missing:
        return
    from corefilt.handler.admin.sysctl import DropIn

    try:
        drop_in = DropIn.read()
    except CorefiltError:
        drop_in = None
    asked_for = drop_in is not None and set(stated.missing) <= set(drop_in.without)
    text = f"process {crash.pid}: its core was read without {', '.join(stated.missing)} (corefilt status tells why)"
    messages.say(text, NOTICE if asked_for else ERROR)


def _save(
    crash: CrashInfo, child: Forked, config: Config, undo: ExitStack, messages: Messages
) -> tuple[str, Result, list[str]]:
    account = find_account(config.user)
    if account.uid == crash.uid:
        raise NoCoreError(
            f"it ran under the handler's own account ({config.user})", "use an account that owns nothing else"
        )
    if config.rules:
        from corefilt.handler.apply_rules import apply_rules

        apply_rules(config, crash, child.victim)
    if config.rlimit != "ignore" and crash.limit < LEAST_LIMIT:
        raise NoCoreError(f"RLIMIT_CORE is {crash.limit}", 'rlimit = "ignore" saves cores anyway')
    target = Target(open_folder(config.directory), config.directory)
    undo.callback(os.close, target.fd)
    if target.free < config.free_space:
        raise OutputError(f"{target.path}: less than {show_size(config.free_space)} are free (free-space)")
    reservation = None
    if config.keeps_count:
        from corefilt.handler.reservation import Reservation
        from corefilt.store.ledger import Ledger

        ledger = undo.enter_context(Ledger(target.fd, target.path))
        reservation = Reservation(target, ledger, config, crash, child.victim)
    files: list[int] = []
    for _ in range(2):
        files.append(target.new_file())
        undo.callback(os.close, files[-1])
    keeping: Keeping | None = None

    def allow() -> Allowance:
        # What this loads, nobody waits for any more.
        nonlocal keeping
        keeping = keeping_of(target, reservation, config, crash, child)
        written = sum(os.fstat(fd).st_blocks * 512 for fd in files)
        return keeping.allow(written) if keeping is not None else Allowance()

    result = child.have_done(Order(config, account, (files[0], files[1])), config.deadline, allow)
    if result.status == FAILED:
        raise OutputError(result.words)
    fd = files[result.file]
    signature = parse_signature(result.signature)
    notices = _give_rights(fd, crash, child, result)
    ending = b".zst" if result.compressed else b""

    def give_name() -> str:
        return target.give_name(fd, name_of(config, crash, child.victim), ending)

    if keeping is None:
        path = give_name()
    else:
        size, certain = os.fstat(fd).st_blocks * 512, signature.certain if signature is not None else None
        path = keeping.commit(size, certain, give_name, messages, small=result.small)
    target.sync()
    return path, result, notices


def keeping_of(
    target: Target, reservation: Reservation | None, config: Config, crash: CrashInfo, child: Forked
) -> Keeping | None:
    """What limits the directory, if anything does."""
    if reservation is None or not config.limits_directory:
        return None
    from corefilt.handler.keeping import Keeping

    return Keeping(target, reservation, config, crash, child)


def _give_rights(fd: int, crash: CrashInfo, child: Forked, result: Result) -> list[str]:
    """Let its user read it where he may, and note on it what is asked for later; tells what did not work."""
    notices, victim = [], child.victim
    noted = {
        **attributes(crash, victim),
        OWNER: program_owner(child.program).encode(),
        INPUT: b"%d" % result.input_bytes,
    }
    signature = parse_signature(result.signature)
    if signature is not None:
        noted[ATTRIBUTE] = signature.encode()
    if result.small:
        noted[SMALL] = b""
    for name, value in noted.items():
        try:
            os.setxattr(fd, name, value)
        except OSError:
            # The journal has it too.
            break
    uid = permissions.reader_of(crash, victim)
    if uid is not None:
        try:
            os.setxattr(fd, permissions.ACL, permissions.acl(uid))
        except OSError as error:
            notices.append(f"user {uid} cannot get read permission for it: {error.strerror}")
    return notices


def _who(crash: CrashInfo, victim: Victim) -> str:
    comm = victim.comm.decode("utf-8", "backslashreplace") if victim.comm is not None else "?"
    return f"process {crash.pid} ({comm}) of user {crash.uid}, signal {crash.signal}"
