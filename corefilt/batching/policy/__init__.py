"""Which core of an archive is filtered how, kept or deleted."""
