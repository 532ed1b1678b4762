"""``python -I -m corefilt.handler``: what the line of ``corefilt install`` starts."""

from .entry import entry

entry()
