"""The program behind ``core_pattern = |...``: a small root parent, and a child without rights that does all parsing.

``entry`` is where the kernel begins. ``supervisor`` opens, waits and names; ``worker`` reads the core. Nothing here
imports more than it needs: the process that crashed waits meanwhile.
"""
