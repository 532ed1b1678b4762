"""One tree of exceptions; each class has an exit code and a hint that says what to try."""

from __future__ import annotations

from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class CorefiltError(Exception):
    """Base of all errors: ``str()`` is one printable line, ``hint`` what to try, ``exit_code`` the exit status."""

    exit_code = 1
    hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = printable(hint)

    def __str__(self) -> str:
        return printable(super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        # By what it holds: a class's constructor can take more than the message.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[CorefiltError], args: tuple[object, ...]) -> CorefiltError:
    """Return an error as it was before it was pickled or copied, but for its attributes."""
    return kind.__new__(kind, *args)


class UsageError(CorefiltError):
    """Wrong usage: an unknown, invalid or contradictory argument."""

    exit_code = 2


class ReportPlaceError(UsageError):
    """The report would overwrite a core, or a file that is no report, or share standard output with a core."""


class FilterError(UsageError):
    """A filter that is not a number or a list of names."""

    hint = "write it like 0x33, or with names like default,-shared-anonymous"


class NameTemplateError(UsageError):
    """A name template that gives no file name, or has a specifier that the core does not tell."""

    hint = "core(5) lists the specifiers; --set X=VALUE gives one that a core cannot tell"


class MissingLibraryError(CorefiltError):
    """A library is missing that an extra of corefilt brings."""


class PolicyError(UsageError):
    """A policy with an unknown key or an invalid value."""

    hint = "docs/policies.md shows what rules can say"


class InputError(CorefiltError):
    """The input cannot be read."""


class NotACoreError(InputError):
    """The input is not a core dump of a Linux process."""


class DamagedCoreError(InputError):
    """A header of the core contradicts itself or the file."""


class UnstreamableError(InputError):
    """The core can be filtered from a file, but not in one pass."""

    hint = "name the core as a file, or add --spool to keep a temporary copy"


class OutputError(CorefiltError):
    """The output cannot be written."""


class InPlaceError(CorefiltError):
    """The core cannot be changed in place; it is still a valid core."""

    hint = "-o OUT writes another file"


class EngineError(CorefiltError):
    """The engine that was demanded cannot serve this input and output."""

    hint = "leave --engine and COREFILT_ENGINE out to have one chosen"


class EvidenceError(CorefiltError):
    """Evidence that an option names cannot be used."""

    hint = "leave the option out to go by the core alone"


class ProcessError(CorefiltError):
    """A process that cannot be examined or changed."""


class AnnotationError(CorefiltError):
    """The core has no place for a COREFILT note."""

    hint = "leave out --annotate"


class FitError(CorefiltError):
    """The limit is too small even for what a backtrace needs; ``smallest`` is the one that works, in bytes."""

    hint = "allow that much, or use a FILTER that keeps less"

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


class VariantError(CorefiltError):
    """A core that cannot be written in another format."""

    hint = "--format same leaves its notes as they are"


class NoCoreError(CorefiltError):
    """A size limit with which the kernel would write no core."""

    hint = "a limit of a page or more leaves the beginning of a core, unlimited leaves all of it"


class SelectorError(CorefiltError):
    """An assumption that matches no mapping of this core."""

    hint = "corefilt inspect CORE lists the mappings and what else they could be"


class InstallError(CorefiltError):
    """The handler cannot be installed or removed; the kernel's settings are unchanged."""

    hint = "corefilt status shows what is there"


class LockedError(CorefiltError):
    """Another job is at work on the same archive."""

    hint = "wait until it is done, or name another directory"


class ProtocolError(CorefiltError):
    """A peer of the coredump socket that is not the kernel, or breaks its protocol."""


class ServeError(CorefiltError):
    """The coredump socket cannot be created, or others than root can change it."""


class CancelledError(CorefiltError):
    """The caller cancelled the run; no output was created, and a core in place is valid."""


class UndecidedError(CorefiltError):
    """With --strict: some bytes are ambiguous, or a compressed core is cut off or damaged."""

    exit_code = 4
    hint = (
        "corefilt inspect CORE shows which mappings; settle kinds with --assume SELECTOR=KIND; "
        "settle header pages with --sysroot DIR, or --pid PID"
    )


class ConfigError(CorefiltError):
    """Settings of the handler that are invalid, or that others than root can change."""

    hint = "docs/handler.md lists the keys of /etc/corefilt.conf"


class NoSettingsError(ConfigError):
    """Settings were named that are not there."""

    hint = "name a file that exists, or leave out --config to use /etc/corefilt.conf"


class ScrubError(CorefiltError):
    """A core that cannot be scrubbed as requested; no copy is written."""


class BundleError(CorefiltError):
    """A bundle that cannot be made, or that is not what it should be; nothing of it is used."""


class OtherBuildError(BundleError):
    """A file of a bundle is not of the build that the core was made with."""

    exit_code = 4
    hint = "a debugger would show frames that never were; corefilt bundle on the core's machine takes the right files"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean WORD?`` with the nearest of the known words, or nothing if none is near."""
    from difflib import get_close_matches

    # With 0.7, one wrong, missing or swapped letter of five is near, and --colour is not near --follow.
    close = get_close_matches(word, list(known), 1, 0.7)
    return f"did you mean {close[0]}?" if close else ""
