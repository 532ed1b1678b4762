"""Manual pages and completion, made from the parsers and from pages of the documentation."""
