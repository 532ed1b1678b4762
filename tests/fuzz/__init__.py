"""Fuzzing: a function for each reader of foreign bytes (targets), what to begin with (seeds), and the command.

python tests/fuzz TARGET --minutes 5
"""
