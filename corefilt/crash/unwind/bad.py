"""What is wrong with call frame information."""

from __future__ import annotations


class BadFrame(ValueError):
    """Call frame information cannot be used; unwinding goes on by other means, or ends."""
