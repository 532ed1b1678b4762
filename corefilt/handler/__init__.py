"""The program behind ``core_pattern = |...``: a small root parent, and a child without rights that does all parsing."""
