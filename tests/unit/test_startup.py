"""What programs of the package do before they load its modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import corefilt

# Without site, whose hooks of an editable installation load collections.
BEFORE = f"""\
import sys
sys.path.append({str(Path(corefilt.__file__).parents[1])!r})
import corefilt.startup as startup
"""
AFTER = """\
startup.before_loading()
import array, collections.abc
assert array.array("Q", [1, 2])[1] == 2
assert isinstance(array.array("b"), collections.abc.MutableSequence)
assert collections.abc.MutableSequence.__module__ == "collections.abc"
assert collections.OrderedDict
startup.after_loading()
import gc
assert gc.isenabled()
"""


@pytest.mark.parametrize(
    "change",
    [
        "",
        # As if array asked for something that is not there.
        "import _collections_abc\nclass _None: pass\nstartup._collections_abc = _None\n",
        "import array\n",
        "import collections.abc\n",
    ],
    ids=["alone", "asks for more", "array is there", "collections is there"],
)
def test_array_is_what_it_always_is(change: str) -> None:
    """In a fresh interpreter, however much of it is loaded."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", BEFORE + change + AFTER], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_array_alone_is_loaded() -> None:
    script = BEFORE + "startup.before_loading()\nprint('array' in sys.modules, 'collections' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
