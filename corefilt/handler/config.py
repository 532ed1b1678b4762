"""``/etc/corefilt.conf``: what the handler does with a core, in TOML, and only root's word counts."""

from __future__ import annotations

from corefilt.documents.fields import (
    a_filter,
    a_name,
    a_size,
    a_table,
    a_truth,
    decode_toml,
    one_of,
    read_fields,
    seconds,
)
from corefilt.errors import ConfigError
from corefilt.filterbits import CoredumpFilter
from corefilt.handler.secure_open import read_own_file
from corefilt.procfs.core_pattern import check_template, specifiers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.documents.fields import Reader

PATH = "/etc/corefilt.conf"
RLIMIT = ("ignore", "truncate", "fit")
# Of core(5)'s specifiers those that nobody tells the handler: the thread and the processor.
UNKNOWN = "iIC"
# The levels of the zstd library.
LEAST_LEVEL, USUAL_LEVEL, MOST_LEVEL = 1, 3, 19
A_DAY = 86400


class Config:
    """The settings; each attribute is the key of its name, with ``-`` for ``_``.

    ``filter`` are bits, ``name`` is a template, ``compress`` a level of zstd or None, ``smaps_budget`` and ``deadline``
    are seconds, ``free_space`` is bytes. ``serve`` is a table that this module does not look into.
    """

    __slots__ = (
        "annotate_full", "compress", "deadline", "directory", "filter", "free_space", "journal", "journal_maps", "name",
        "rlimit", "serve", "smaps_budget", "user",
    )  # fmt: skip

    def __init__(self) -> None:
        self.filter = CoredumpFilter.DEFAULT
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


def read_config(path: str = PATH) -> Config:
    """The settings in a file of root's; without the file, those that hold then. Raises ConfigError."""
    text = read_own_file(path)
    return Config() if text is None else parse_config(text, path)


def parse_config(text: bytes, path: str) -> Config:
    """The settings in a text; ``path`` is for messages. Raises ConfigError for a key that is unknown or misused."""
    values = read_fields(decode_toml(text, path, ConfigError), _KEYS, path, ConfigError)
    config = Config()
    for key, value in values.items():
        setattr(config, key.replace("-", "_"), value)
    if config.annotate_full and "filter" in values:
        raise ConfigError(f"{path}: annotate-full keeps all that came, and filter does not", "leave one of them out")
    return config


def _directory(value: object) -> str:
    path = a_name(value)
    if path[0] != "/" or {".", ".."} & set(path.split("/")):
        raise ConfigError(f"{path!r} is no absolute path without . and ..")
    return path


def _name(value: object) -> bytes:
    template = a_name(value).encode()
    check_template(template)
    if b"/" in template:
        raise ConfigError(f"{value!r} leads out of the directory", "the key directory names the directory")
    unknown = [letter for letter in specifiers(template) if letter in UNKNOWN]
    if unknown:
        raise ConfigError(f"{value!r} asks for %{unknown[0]}, which a handler is not told")
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


_KEYS: dict[str, Reader[object]] = {
    "annotate-full": a_truth,
    "compress": _compress,
    "deadline": seconds(A_DAY),
    "directory": _directory,
    "filter": a_filter,
    "free-space": a_size,
    "journal": a_truth,
    "journal-maps": a_truth,
    "name": _name,
    "rlimit": one_of(*RLIMIT),
    "serve": a_table,
    "smaps-budget": seconds(A_DAY),
    "user": _user,
}
