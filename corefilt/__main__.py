"""``python -m corefilt``."""

import sys

from .cli import main

sys.exit(main())
