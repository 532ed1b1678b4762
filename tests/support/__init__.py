"""What the tests share: a builder of cores, a reader of its own, and runners of the command line."""
