"""``python -m corefilt``."""

import sys

from corefilt.cli import main

sys.exit(main())
