"""Overwrites secrets in a copy of a core, and tells where; verify proves that nothing else changed."""
