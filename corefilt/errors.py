"""One tree of exceptions; each class carries its exit code and a sentence that says what to try."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class CorefiltError(Exception):
    """What ends a run with a message: ``str()`` is one line, ``exit_code`` the program's answer."""

    exit_code = 1
    hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(CorefiltError):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class ReportPlaceError(UsageError):
    """The report has no place of its own: it would go where a core is or goes."""


class FilterError(UsageError):
    """A filter that cannot be read."""

    hint = "write it like 0x33, or with names like default,-shared-anonymous"


class NameTemplateError(UsageError):
    """A template that names no file, or asks for what nobody knows."""

    hint = "core(5) lists the specifiers; --set X=VALUE gives one that a core cannot tell"


class MissingLibraryError(CorefiltError):
    """A command needs a library that plain corefilt does not bring."""


class PolicyError(UsageError):
    """A policy that cannot be understood."""

    hint = "docs/policies.md shows what rules can say"


class InputError(CorefiltError):
    """The input cannot be read."""


class NotACoreError(InputError):
    """The input is no core dump of a Linux process."""


class DamagedCoreError(InputError):
    """A header of the core contradicts itself or the file that it stands in."""


class UnstreamableError(InputError):
    """The core can be filtered from a file, but not in one pass."""

    hint = "name the core as a file, or add --spool to keep a temporary copy"


class OutputError(CorefiltError):
    """The output cannot be written."""


class InPlaceError(CorefiltError):
    """The core cannot be changed in place; it is a valid core all the same."""

    hint = "-o OUT writes another file"


class EngineError(CorefiltError):
    """The mover that was demanded cannot serve this input and output."""

    hint = "leave --engine and COREFILT_ENGINE out to have one chosen"


class EvidenceError(CorefiltError):
    """Evidence that an option names cannot be used."""

    hint = "leave the option out to go by the core alone"


class ProcessError(CorefiltError):
    """A process that cannot be looked at or changed."""


class AnnotationError(CorefiltError):
    """The core has no place for a COREFILT note."""

    hint = "leave out --annotate"


class VariantError(CorefiltError):
    """A core that cannot be written in another format."""

    hint = "--format same leaves its notes as they are"


class NoCoreError(CorefiltError):
    """A limit under which the kernel writes no core at all."""

    hint = "a limit of a page or more leaves the beginning of a core, unlimited leaves all of it"


class SelectorError(CorefiltError):
    """An assumption that fits no mapping of this core."""

    hint = "corefilt inspect CORE lists the mappings and what else they could be"


class InstallError(CorefiltError):
    """The handler cannot be installed or taken away; what the kernel does with cores has not changed."""

    hint = "corefilt status shows what is there"


class ProtocolError(CorefiltError):
    """A peer at a coredump socket that is not what it should be, or does not speak as the kernel does."""


class ServeError(CorefiltError):
    """The socket for coredumps cannot be had, or is not root's alone."""


class CancelledError(CorefiltError):
    """The caller had the run stopped; no output has its name, and a core in place is a valid one."""


class UndecidedError(CorefiltError):
    """With --strict: what the filter does to some mapping is not certain."""

    exit_code = 4
    hint = "corefilt inspect CORE shows which mappings; settle them with --assume SELECTOR=KIND"


class ConfigError(CorefiltError):
    """Settings, or a place that they name, that the handler cannot trust or understand."""

    hint = "docs/handler.md lists the keys of /etc/corefilt.conf"


class ScrubError(CorefiltError):
    """A core that cannot be scrubbed as was asked for; no copy of it is written."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean WORD?`` with the nearest of the known words, or nothing if none is near."""
    from difflib import get_close_matches

    # With 0.7, one wrong, missing or swapped letter of five is near, and --colour is not near --follow.
    close = get_close_matches(word, list(known), 1, 0.7)
    return f"did you mean {close[0]}?" if close else ""
