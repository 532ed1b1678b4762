"""``corefilt completion SHELL``: what teaches a shell to complete corefilt's words."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.datafiles import read
from corefilt.cli.words import Parser, tell

DESCRIPTION = """\
Prints what completes commands, options, filters and files for a shell that does not look into this environment:
  bash: corefilt completion bash > ~/.local/share/bash-completion/completions/corefilt
  zsh:  corefilt completion zsh > ~/.zfunc/_corefilt   (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  fish: corefilt completion fish > ~/.config/fish/completions/corefilt.fish"""
PLACES = {
    "bash": ("completions", "corefilt"),
    "zsh": ("site-functions", "_corefilt"),
    "fish": ("vendor_completions.d", "corefilt.fish"),
}


def parser() -> Parser:
    """The options of ``corefilt completion``."""
    p = Parser("corefilt completion", DESCRIPTION)
    p.add_argument("shell", metavar="SHELL", choices=list(PLACES), help=", ".join(PLACES))
    p.add_argument("--version", action="version", version=f"corefilt {__version__}")
    return p


def run(argv: list[str]) -> int:
    """Print it; returns the exit code."""
    tell(read(*PLACES[parser().parse_args(argv).shell]))
    return 0
