"""What a program of this package does before and after it loads its modules, so that loading them takes less.

A library leaves the interpreter as it is: only the command line and the handler, which are programs, ask for this.
"""

from __future__ import annotations

import _collections_abc
import gc
import sys


def before_loading() -> None:
    """Have no garbage looked for: what loading makes stays.

    The search took 4 of the 89 million instructions of a run on a small core (docs/performance.md, Start-up).
    """
    gc.disable()
    _load_array()


def after_loading() -> None:
    """Have it looked for again, if it is not, and never among what is there already."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _load_array() -> None:
    """Load the module array alone: it asks collections.abc for one class, which the module os has loaded already.

    Loading collections for that took 5 of the 85 million instructions of a run on a small core.
    """
    asked = ("array", "collections", "collections.abc")
    if any(name in sys.modules for name in asked):
        return
    sys.modules.update(dict.fromkeys(asked[1:], _collections_abc))
    try:
        __import__("array")
    except Exception:
        # An array that asks them for more is loaded as always, by whoever needs it.
        sys.modules.pop("array", None)
    finally:
        for name in asked[1:]:
            del sys.modules[name]
