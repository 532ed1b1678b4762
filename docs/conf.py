"""The documentation as a site: `sphinx-build -W docs build/docs`, with what `pip install '.[docs]'` brings."""

import os
import re
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx

import corefilt
from corefilt.cli.commands import COMMANDS
from corefilt.cli.generate.keywords import keywords

project = "corefilt"
version = release = corefilt.__version__
copyright = "the corefilt authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.githubpages"]
html_theme = "furo"
html_title = "corefilt"
html_static_path: list[str] = []
root_doc = "index"
myst_heading_anchors = 4
# Neither prompts nor what a command says is a language of its own.
highlight_language = "text"
# Two hyphens are an option, no dash.
smartquotes = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

# What stands beside docs/, where a repository host looks for it, by the page that it is here.
BESIDE = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "security": "SECURITY.md"}
HERE = Path(__file__).parent


def adapt(app: Sphinx, name: str, source: list[str]) -> None:
    """Have links lead to pages of the site, and the index's lists be its table of contents."""
    if name in BESIDE:
        source[0] = (HERE.parent / BESIDE[name]).read_text().replace("](docs/", "](")
    for page, path in BESIDE.items():
        source[0] = re.sub(rf"\]\((\.\./)?{re.escape(path)}", f"]({page}.md", source[0])
    if name == "commands":
        source[0] += "".join(map(options_of, COMMANDS))
    if name == "python-reference":
        source[0] = source[0].replace("OPTIONS\n", keywords("corefilt.filter()"))
    if name == root_doc:
        source[0] += "".join(map(toctree, re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]))


def options_of(command: str) -> str:
    """Return what --help says of a command, as a section."""
    words = [sys.executable, "-P", "-m", "corefilt", command, "--help"]
    env = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return f"\n## corefilt {command}\n\n```text\n{done.stdout}```\n"


def toctree(section: str) -> str:
    """Return the table of contents that a section of the index is."""
    pages = re.findall(r"\]\(([\w-]+)\.(?:md|rst)\)", section)
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {section.splitlines()[0]}", "", *pages, "```", ""])


def take_literally(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Have nothing in docstrings but ``code`` mean something: ``EM_`` is not a link, and ``*`` no emphasis."""
    for n, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[n] = "".join(part if part.startswith("``") else re.sub(r"([*|_])(?!\w)", r"\\\1", part) for part in parts)


def hide_arguments(
    app: Sphinx, what: str, name: str, obj: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out what an error is made with: nobody but corefilt makes one."""
    return ("", None) if what == "exception" else (arguments, returned)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", adapt)
    app.connect("autodoc-process-docstring", take_literally)
    app.connect("autodoc-process-signature", hide_arguments)
