"""``/etc/corefilt.conf``: what the handler does with a core, in TOML, and only root's word counts."""

from __future__ import annotations

import os

from corefilt.documents.fields import (
    a_filter,
    a_name,
    a_number,
    a_size,
    a_table,
    a_truth,
    an_age,
    decode_toml,
    one_of,
    read_fields,
    seconds,
)
from corefilt.errors import ConfigError, NoSettingsError
from corefilt.filterbits import Bit
from corefilt.handler.secure_open import read_own_file
from corefilt.procfs.core_pattern import check_template, specifiers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.documents.fields import Reader
    from corefilt.handler.program_rules import ProgramRule

PATH = "/etc/corefilt.conf"
RLIMIT = ("ignore", "truncate", "fit")
# Of core(5)'s specifiers those that nobody tells the handler: the thread and the processor.
UNKNOWN = "iIC"
# The levels of the zstd library.
LEAST_LEVEL, USUAL_LEVEL, MOST_LEVEL = 1, 3, 19
A_DAY = 86400
# systemd-coredump's vacuum counts files in its directory for the user in their names (uid_from_file_name in
# src/coredump/coredump-vacuum.c of systemd 257).
SYSTEMD, SYSTEMD_NAME = "/var/lib/systemd/coredump", b"core.%e.%u."
MOST_CORES = 1_000_000


class Config:
    """The settings; each attribute is the key of its name, with ``-`` for ``_``.

    ``filter`` are bits, ``name`` is a template, ``compress`` a level of zstd or None, ``smaps_budget`` and ``deadline``
    are seconds, ``free_space`` is bytes. ``serve`` is a table that this module does not look into, ``rules`` are those
    of ``[[rule]]``. What is None limits nothing: ``max_use``, ``most`` (``external-size-max``) in bytes, ``keep_free``
    in bytes and percent of the file system, ``max_age`` and ``limit_interval`` in seconds, the others are numbers of
    cores.

    For one crash alone: ``minimal`` tells that its core is made so, ``signs`` has its signature found out, and
    ``awaits`` tells that the parent will say how much it may take (``request.Allowance``).
    """

    __slots__ = (
        "annotate_full", "awaits", "compress", "deadline", "directory", "filter", "free_space", "journal",
        "journal_maps", "keep_free", "keep_per_signature", "limit_burst", "limit_interval", "max_age",
        "max_per_executable", "max_use", "minimal", "most", "name", "repeats", "rlimit", "rules", "serve", "signs",
        "smaps_budget", "user",
    )  # fmt: skip

    def __init__(self) -> None:
        self.filter = Bit.DEFAULT
        self.directory = "/var/lib/corefilt"
        self.name = b"core.%e.%P.%t"
        self.user = "corefilt"
        self.compress: int | None = None
        self.rlimit = "ignore"
        self.smaps_budget = 5.0
        self.deadline = 600.0
        self.free_space = 1 << 30
        self.annotate_full = False
        self.journal = True
        self.journal_maps = True
        self.serve: dict[str, object] = {}
        self.rules: list[ProgramRule] = []
        self.max_use: int | None = None
        self.keep_free: tuple[int, int] | None = None
        self.most: int | None = None
        self.max_age: int | None = None
        self.max_per_executable: int | None = None
        self.keep_per_signature: int | None = None
        self.limit_interval: float | None = None
        self.limit_burst: int | None = None
        self.repeats = "none"
        self.minimal = self.signs = self.awaits = False

    @property
    def is_systemds(self) -> bool:
        """Whether cores go where systemd-coredump puts its own."""
        return self.directory.rstrip("/") == SYSTEMD

    @property
    def keeps_count(self) -> bool:
        """Whether any setting asks for what else is in the directory."""
        return self.limits_directory or self.limit_interval is not None

    @property
    def limits_directory(self) -> bool:
        """Whether any setting has cores removed."""
        counted = (self.max_use, self.keep_free, self.max_age, self.max_per_executable, self.keep_per_signature)
        return any(value is not None for value in counted)


def read_config(path: str = PATH) -> Config:
    """The settings in a file of root's; without the file, those that hold then. Raises ConfigError."""
    text = read_own_file(path)
    return Config() if text is None else parse_config(text, path)


def settings_of(named: str | None) -> Config:
    """The settings in the file that --config named, which must exist; for None those of PATH. Raises ConfigError."""
    if named is None:
        return read_config()
    if not named.startswith("/") or {".", ".."} & set(named.split("/")):
        raise NoSettingsError(f"--config {named!r} is not an absolute path without . and ..")
    try:
        os.lstat(named)
    except OSError as error:
        raise NoSettingsError(f"{named}: cannot be read: {error.strerror}") from None
    return read_config(named)


def parse_config(text: bytes, path: str) -> Config:
    """The settings in a text; ``path`` is for messages. Raises ConfigError for a key that is unknown or misused."""
    values = read_fields(decode_toml(text, path, ConfigError), KEYS, path, ConfigError)
    config = Config()
    for key, value in values.items():
        setattr(config, _ATTRIBUTES.get(key) or key.replace("-", "_"), value)
    if (config.limit_interval is None) != (config.limit_burst is None):
        raise ConfigError(f"{path}: limit-interval and limit-burst go together", "set both, or neither")
    if "repeats" in values and config.keep_per_signature is None:
        raise ConfigError(f"{path}: repeats: needs keep-per-signature", "write that, too")
    if config.is_systemds and not config.name.startswith(SYSTEMD_NAME):
        raise ConfigError(
            f"{path}: name: in {SYSTEMD} names begin with {SYSTEMD_NAME.decode()}, because systemd's own vacuum reads "
            "the user from them", "write that, or name another directory",
        )  # fmt: skip
    if config.annotate_full and "filter" in values:
        raise ConfigError(f"{path}: annotate-full needs a filter that keeps everything", "leave one of them out")
    return config


def _directory(value: object) -> str:
    path = a_name(value)
    if path[0] != "/" or {".", ".."} & set(path.split("/")):
        raise ConfigError(f"{path!r} is not an absolute path without . and ..")
    return path


def _name(value: object) -> bytes:
    template = a_name(value).encode()
    check_template(template)
    if b"/" in template:
        raise ConfigError(f"{value!r} leads out of the directory", "the key directory names the directory")
    unknown = [letter for letter in specifiers(template) if letter in UNKNOWN]
    if unknown:
        raise ConfigError(f"{value!r} has %{unknown[0]}, which a handler does not receive")
    return template


def _user(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return a_name(value)


def _compress(value: object) -> int | None:
    word, _, level = a_name(value).partition(":")
    if word == "none" and not level:
        return None
    if word != "zstd" or (level and not (level.isascii() and level.isdigit() and len(level) <= 2)):
        raise ConfigError(f"{value!r} is neither none nor zstd nor like zstd:{USUAL_LEVEL}")
    number = int(level or USUAL_LEVEL)
    if not LEAST_LEVEL <= number <= MOST_LEVEL:
        raise ConfigError(f"level {number} is not from {LEAST_LEVEL} to {MOST_LEVEL}")
    return number


def _keep_free(value: object) -> tuple[int, int]:
    """Bytes and percent: one of them is 0."""
    if isinstance(value, str) and value.endswith("%"):
        digits = value[:-1]
        if not (digits.isascii() and digits.isdigit()) or not 0 < int(digits[:4]) < 100:
            raise ConfigError(f"{value!r} is not a percentage from 1% to 99%", "write it like 15% or 20G")
        return 0, int(digits)
    return a_size(value), 0


def _rules(value: object) -> list[ProgramRule]:
    from corefilt.handler.program_rules import parse_rules

    return parse_rules(value)


KEYS: dict[str, Reader[object]] = {
    "annotate-full": a_truth,
    "compress": _compress,
    "deadline": seconds(A_DAY),
    "directory": _directory,
    "external-size-max": a_size,
    "filter": a_filter,
    "free-space": a_size,
    "journal": a_truth,
    "journal-maps": a_truth,
    "keep-free": _keep_free,
    "keep-per-signature": a_number(1, MOST_CORES),
    "limit-burst": a_number(1, MOST_CORES),
    "limit-interval": an_age,
    "max-age": an_age,
    "max-per-executable": a_number(1, MOST_CORES),
    "max-use": a_size,
    "name": _name,
    "repeats": one_of("none", "minimal"),
    "rlimit": one_of(*RLIMIT),
    "rule": _rules,
    "serve": a_table,
    "smaps-budget": seconds(A_DAY),
    "user": _user,
}
# Where they are not the key's own name.
_ATTRIBUTES = {"external-size-max": "most", "rule": "rules"}
