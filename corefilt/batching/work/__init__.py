"""Carries out one task of a batch."""
