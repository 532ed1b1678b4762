"""Proves the promises on two finished cores, and digests one, with code that shares nothing with what wrote them."""

from __future__ import annotations

from corefilt.errors import MissingLibraryError

try:
    import elftools  # noqa: F401
    import xxhash  # noqa: F401
except ModuleNotFoundError as error:
    missing = "pyelftools" if error.name == "elftools" else error.name
    raise MissingLibraryError(f"{missing} is not installed", f"pip install {missing}") from None

from corefilt.verify.digests import Digest, Digests, digest
from corefilt.verify.proof import verify
from corefilt.verify.verdict import Finding, Verdict

__all__ = ["Digest", "Digests", "Finding", "Verdict", "digest", "verify"]
