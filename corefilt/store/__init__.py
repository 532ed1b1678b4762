"""The cores that a directory keeps: what is told of each, and which of them stay."""
