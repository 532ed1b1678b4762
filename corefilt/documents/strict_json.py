"""Text for programs: JSON that every strict reader takes, whatever names a core or a file system brought into it."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Keys of names of files, whose bytes are told where they are not UTF-8.
PATHS = ("executable", "filtered", "full", "input", "output", "path", "source")
# How json.dumps writes a lone surrogate, and the halves of every character beyond U+FFFF.
_SURROGATE = "\\ud"


def as_json(value: object, **options: object) -> str:
    r"""One JSON text in ASCII, which is strict UTF-8; ``options`` are those of ``json.dumps``.

    A name that is not UTF-8 reads as Python has it, with lone surrogates, which JSON cannot hold: such a text has its
    bytes escaped (``\xff``). Beside one of PATHS in an object stand its bytes in hex: as ``path_bytes`` beside
    ``path``, as ``input_path_bytes`` beside ``input``, and so on.
    """
    text = json.dumps(value, **options)  # type: ignore[arg-type]
    return json.dumps(_strict(value), **options) if _SURROGATE in text else text  # type: ignore[arg-type]


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _strict(value: object) -> object:
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, dict):
        return dict(_entries(value))
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def _entries(value: dict[object, object]) -> Iterator[tuple[object, object]]:
    for key, item in value.items():
        shown = _shown(key) if isinstance(key, str) else key
        yield shown, _strict(item)
        if key in PATHS and isinstance(item, str) and _is_broken(item):
            name = "path_bytes" if key == "path" else f"{shown}_path_bytes"
            yield name, _raw(item).hex()


def _raw(text: str) -> bytes:
    """The bytes that a text stands for: lone surrogates are bytes (PEP 383), or else halves that lost the other."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _shown(text: str) -> str:
    return _raw(text).decode("utf-8", "backslashreplace") if _is_broken(text) else text
