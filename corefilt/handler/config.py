"""``/etc/corefilt.conf``: what the handler does with a core, in TOML, and only root's word counts."""

from __future__ import annotations

from corefilt.errors import ConfigError, CorefiltError
from corefilt.filterbits import CoredumpFilter, parse_filter
from corefilt.handler.secure_open import read_own_file
from corefilt.procfs.core_pattern import check_template, specifiers
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/etc/corefilt.conf"
RLIMIT = ("ignore", "truncate", "fit")
# Of core(5)'s specifiers those that nobody tells the handler: the thread and the processor.
UNKNOWN = "iIC"
# The levels of the zstd library.
LEAST_LEVEL, USUAL_LEVEL, MOST_LEVEL = 1, 3, 19


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
    import tomllib

    try:
        values = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is no TOML: {error}") from None
    config = Config()
    for key, value in values.items():
        if key not in _KEYS:
            raise ConfigError(f"{path}: there is no key {key!r}", f"there are {', '.join(sorted(_KEYS))}")
        try:
            setattr(config, key.replace("-", "_"), _KEYS[key](value))
        except CorefiltError as error:
            raise ConfigError(f"{path}: {key}: {error}", error.hint) from None
    if config.annotate_full and "filter" in values:
        raise ConfigError(f"{path}: annotate-full keeps all that came, and filter does not", "leave one of them out")
    return config


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f"{value!r} is no text")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{value!r} is neither true nor false")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
        raise ConfigError(f"{value!r} is no number of seconds from 0 to a day")
    return float(value)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and value < 0):
        raise ConfigError(f"{value!r} is no size", 'write it like 1073741824 or "1G"')
    return parse_size(value) if isinstance(value, str) else value


def _filter(value: object) -> CoredumpFilter:
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and value < 0):
        raise ConfigError(f"{value!r} is no filter", 'write it like 0x33 or "default,-shared-anonymous"')
    return parse_filter(value if isinstance(value, str) else f"{value:#x}")[0]


def _directory(value: object) -> str:
    path = _text(value)
    if path[0] != "/" or {".", ".."} & set(path.split("/")):
        raise ConfigError(f"{path!r} is no absolute path without . and ..")
    return path


def _name(value: object) -> bytes:
    template = _text(value).encode()
    check_template(template)
    if b"/" in template:
        raise ConfigError(f"{value!r} leaves the folder", "directory names it")
    unknown = [letter for letter in specifiers(template) if letter in UNKNOWN]
    if unknown:
        raise ConfigError(f"{value!r} asks for %{unknown[0]}, which a handler is not told")
    return template


def _user(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _compress(value: object) -> int | None:
    word, _, level = _text(value).partition(":")
    if word == "none" and not level:
        return None
    if word != "zstd" or (level and not (level.isascii() and level.isdigit() and len(level) <= 2)):
        raise ConfigError(f"{value!r} is neither none nor zstd nor like zstd:{USUAL_LEVEL}")
    number = int(level or USUAL_LEVEL)
    if not LEAST_LEVEL <= number <= MOST_LEVEL:
        raise ConfigError(f"level {number} is not from {LEAST_LEVEL} to {MOST_LEVEL}")
    return number


def _rlimit(value: object) -> str:
    if value not in RLIMIT:
        raise ConfigError(f"{value!r} is none of {', '.join(RLIMIT)}")
    return str(value)


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{value!r} is no table")
    return value


_KEYS: dict[str, Callable[[object], object]] = {
    "annotate-full": _truth,
    "compress": _compress,
    "deadline": _seconds,
    "directory": _directory,
    "filter": _filter,
    "free-space": _size,
    "journal": _truth,
    "journal-maps": _truth,
    "name": _name,
    "rlimit": _rlimit,
    "serve": _table,
    "smaps-budget": _seconds,
    "user": _user,
}
