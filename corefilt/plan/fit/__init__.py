"""Which pages a core of a given size keeps (`--fit`, `--minimal`)."""
