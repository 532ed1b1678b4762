"""What is generated, by name: manual pages, scripts for completion, and where both are installed below a prefix."""

from __future__ import annotations

from importlib.resources import files

from corefilt.cli.generate import bash, fish, markdown, parsers, roff, zsh

PURPOSE = "drops mappings from finished core dumps by the bits of coredump_filter"
SHELLS = {
    "bash": ("share/bash-completion/completions/corefilt", bash.script),
    "zsh": ("share/zsh/site-functions/_corefilt", zsh.script),
    "fish": ("share/fish/vendor_completions.d/corefilt.fish", fish.script),
}


def completion(shell: str) -> str:
    """Return the script that completes corefilt's commands and options in a shell of SHELLS."""
    return SHELLS[shell][1](parsers.commands())


def manual_pages() -> dict[str, str]:
    """Return the section of every manual page by its name."""
    return {"corefilt": "1", **{about.name: about.section for about in map(markdown.declared, _documentation())}}


def manual_page(name: str) -> str:
    """Return a manual page as roff; ``name`` is one of ``manual_pages()``."""
    others = [f"{other}({section})" for other, section in manual_pages().items() if other != name]
    if name == "corefilt":
        return roff.page(parsers.commands(), PURPOSE, others)
    return next(markdown.page(text, others) for text in _documentation() if markdown.declared(text).name == name)


def installed() -> dict[str, str]:
    """Return every generated file: its text by its path below the prefix."""
    pages = {f"share/man/man{section}/{name}.{section}": manual_page(name) for name, section in manual_pages().items()}
    samples = files("corefilt.handler").joinpath("samples").iterdir()
    shared = {f"share/corefilt/{sample.name}": sample.read_text(encoding="utf-8") for sample in samples}
    return pages | shared | {path: completion(shell) for shell, (path, _) in SHELLS.items()}


def _documentation() -> list[str]:
    pages = files(__package__).joinpath("pages").iterdir()
    return [page.read_text(encoding="utf-8") for page in sorted(pages, key=lambda page: page.name)]
