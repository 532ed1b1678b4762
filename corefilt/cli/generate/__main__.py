"""``python -m corefilt.cli.generate DIR``: write manual pages and completion below DIR, as packages install them."""

import sys
from pathlib import Path

from corefilt.cli.generate.files import installed

for name, text in installed().items():
    path = Path(sys.argv[1], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
