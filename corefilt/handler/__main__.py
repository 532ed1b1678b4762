"""``python -I -m corefilt.handler``: what the line of ``corefilt install`` starts."""

from corefilt.handler.entry import entry

entry()
