"""``python -m corefilt.cli.generate DIR``: write manual pages and completion below DIR, as packages install them."""

from __future__ import annotations

import sys
from pathlib import Path

from corefilt.cli.generate.files import installed


def main(directory: str) -> None:
    """Write every generated file below a directory."""
    for name, text in installed().items():
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
