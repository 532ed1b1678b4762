"""Whose crash a core is of, and the same as which: identity and signature."""
