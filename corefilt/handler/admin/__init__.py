"""Installs the handler, takes it out, and tells how it does."""
