"""Finds the files that corefilt was installed with outside its package: manual pages and completion."""

from __future__ import annotations

from importlib import metadata

from corefilt.errors import InputError


def manual_pages() -> list[str]:
    """The names of the manual pages, without their sections."""
    return sorted({path.name.partition(".")[0] for path in _installed() if path.parent.parent.name == "man"})


def read(folder: str, name: str) -> str:
    """The text of a file; ``folder`` is the last part of its place, ``man`` for any section. Raises InputError."""
    for path in _installed():
        section = path.parent.parent.name == "man" == folder
        if (section and path.name.partition(".")[0] == name) or (path.parent.name, path.name) == (folder, name):
            try:
                with open(path.locate(), encoding="utf-8") as file:
                    return file.read()
            except OSError as error:
                raise InputError(f"{error.filename}: {error.strerror}") from None
    raise InputError(f"{name}: was not installed", "install a wheel of corefilt, or see share/ in its sources")


def _installed() -> list[metadata.PackagePath]:
    return [path for path in metadata.files("corefilt") or [] if "share" in path.parts[:-1]]
