"""Shared-memory deduplication (`--shared-once`, `--dedupe`) and its way back (`restore`)."""
