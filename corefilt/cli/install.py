"""``corefilt install``: has the kernel give cores to the handler, now and after every start."""

from __future__ import annotations

import os
import sys

from corefilt.cli.options import make_parser
from corefilt.cli.streams import say
from corefilt.errors import InstallError
from corefilt.handler.admin.audit import faults, missing_layers
from corefilt.handler.admin.install import plan_install
from corefilt.handler.admin.status import NO_PIPE_LIMIT, Ground
from corefilt.handler.admin.sysctl import DROP_IN, MODES, PIPE_LIMIT, Sysctls
from corefilt.handler.pattern import handler_line, knows_pidfd, socket_line
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser
    from corefilt.handler.admin.install import InstallPlan

DESCRIPTION = """\
Sets kernel.core_pattern to start the handler, and writes /etc/sysctl.d/60-corefilt.conf, which sets it again at every
boot and records the previous value. Nothing is changed if anybody but root could change the interpreter, what it
imports or its libraries; if the configuration, its account or its directory cannot be used; or if no binding of
libseccomp is installed, which keeps the process that reads cores from all system calls that it does not need."""


def run(argv: list[str]) -> int:
    """Install; returns the exit code."""
    arguments = parser().parse_args(argv)
    sysctls = Sysctls(arguments.root)
    if arguments.socket is not None:
        line = socket_line(arguments.socket)
        _refuse_old_kernel(sysctls)
    else:
        line = handler_line(sys.executable, pidfd=knows_pidfd(os.uname().release))
    _refuse_bad_ground(arguments.root, dry_run=arguments.dry_run)
    without = _without(arguments.without_seccomp, dry_run=arguments.dry_run)
    plan = plan_install(
        line, root=arguments.root, pipe_limit=arguments.pipe_limit, force=arguments.force, without=without
    )
    carry_out(plan, dry_run=arguments.dry_run)
    if line.startswith(b"|") and sysctls.get(PIPE_LIMIT) == b"0" and not arguments.pipe_limit:
        say(f"corefilt: {NO_PIPE_LIMIT}")
    return 0


def parser() -> Parser:
    """The options."""
    return make_parser("install", DESCRIPTION)


def carry_out(plan: InstallPlan, *, dry_run: bool) -> None:
    """Do what is planned, or say what would be done."""
    if not dry_run:
        plan.carry_out()
    will = "would be " if dry_run else ""
    for change in plan.changes:
        before, after = (repr(os.fsdecode(value)) for value in (change.before, change.after))
        say(f"corefilt: {change.name} {will or 'is now '}{after}, {'not' if dry_run else 'before:'} {before}")
    say(f"corefilt: {DROP_IN} {will or 'is '}{'removed' if plan.drop_in is None else 'written'}")
    for notice in plan.notices:
        say(f"corefilt: {notice}")


def _refuse_old_kernel(sysctls: Sysctls) -> None:
    """Raise InstallError for a kernel that would take the line of a socket for the name of a file."""
    modes = sysctls.get(MODES)
    if modes is None or b"socket" not in modes.split():
        raise InstallError(f"{MODES} has no socket: this kernel cannot ask one", "that came with Linux 6.17")


def _nothing(dry_run: bool) -> str:
    return f"nothing {'would be' if dry_run else 'was'} installed"


def _refuse_bad_ground(root: str, *, dry_run: bool) -> None:
    """Raise InstallError while the handler would fail, or would run what others wrote."""
    problems = [*Ground(root).problems, *map(str, faults(sys.executable))]
    if problems:
        for problem in problems:
            say(f"corefilt: {problem}")
        count = counted(len(problems), "problem")
        raise InstallError(f"{count}: {_nothing(dry_run)}", "corefilt status shows all that is needed")


def _without(accepted: bool, *, dry_run: bool) -> list[str]:
    """The layers that root does without. Raises InstallError where seccomp is missing and that was not accepted."""
    missing = missing_layers(sys.executable)
    if "seccomp" in missing and not accepted:
        raise InstallError(
            f"{sys.executable}: {missing['seccomp']}: {_nothing(dry_run)}", "--without-seccomp does without it"
        )
    for name, why in missing.items():
        say(f"corefilt: the process that reads cores runs without {name}: {why}")
    return ["seccomp"] if "seccomp" in missing else []
