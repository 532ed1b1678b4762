"""JSON that is written, and TOML and JSON that is read: strictly, each value checked by its key."""
