"""Which pages a core of a given size keeps (`--fit`, `--minimal`).

``request`` is what was asked for. ``backtrace`` finds what a backtrace of every thread needs, signal stacks included;
``runtimes/`` what the frames of Java, Python and Go need besides; ``priority`` orders all other memory. ``choose``
decides, ``pages`` counts, ``split_layout`` lays out what is left, ``chosen`` tells of it.
"""
