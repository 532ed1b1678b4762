"""Where bytes come from, where they go, and how they move."""
