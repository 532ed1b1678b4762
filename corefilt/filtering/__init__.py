"""Carries out one core: planned, streamed or in place, with its report."""
