"""``corefilt completion SHELL``: what teaches a shell to complete corefilt's words."""

from __future__ import annotations

from corefilt.cli.options import make_parser
from corefilt.cli.streams import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Prints the script that completes commands, options, filters and files:
  bash: corefilt completion bash > ~/.local/share/bash-completion/completions/corefilt
  zsh:  corefilt completion zsh > ~/.zfunc/_corefilt   (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  fish: corefilt completion fish > ~/.config/fish/completions/corefilt.fish"""
SHELLS = ("bash", "zsh", "fish")


def parser() -> Parser:
    """The options of ``corefilt completion``."""
    p = make_parser("completion", DESCRIPTION)
    p.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return p


def run(argv: list[str]) -> int:
    """Print it; returns the exit code."""
    shell = parser().parse_args(argv).shell
    # The generator asks every command's parser, this one's too.
    from corefilt.cli.generate.files import completion

    tell(completion(shell))
    return 0
