"""What programs of the package do before they load its modules."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

import corefilt.startup

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


SAMPLE = {"__init__.py": "", "one.py": "VALUE = 1\n", "inner/__init__.py": "VALUE = 2\n", "inner/two.py": "VALUE = 3\n"}
LOADED = """
import corefilt.inner.two, corefilt.one
for module in (corefilt.one, corefilt.inner, corefilt.inner.two):
    spec = module.__spec__
    print(module.__name__, module.VALUE, module.__file__, module.__cached__, getattr(module, "__path__", None),
          spec.origin, spec.cached, spec.parent, spec.submodule_search_locations, module.__package__)
"""


def run_in(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{script}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-S", *options, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)


def with_finder(script: str) -> str:
    """The script behind the finder, which looks for modules of a package named as the sample is."""
    script = f"from corefilt import startup\nstartup.before_loading()\n{script}"
    return script + "\nprint(type(corefilt.one.__loader__).__name__)\n"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A package of the same name, compiled, with this package's way to start."""
    for name, text in SAMPLE.items():
        path = tmp_path / "corefilt" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "corefilt/startup.py").write_text(Path(corefilt.startup.__file__).read_text())
    assert run_in(tmp_path, "import corefilt.startup\n" + LOADED).returncode == 0
    return tmp_path


def test_own_modules_are_what_they_always_are(sample: Path) -> None:
    """Names, files and places are those of Python's finder."""
    plain, quick = run_in(sample, LOADED), run_in(sample, with_finder(LOADED))
    assert quick.stdout == plain.stdout + "_Loaded\n"
    assert plain.stdout.count("\n") == 3


@pytest.mark.parametrize(
    "change",
    [
        "bytecode.unlink()",
        "bytecode.write_bytes(b'')",
        "bytecode.write_bytes(b'\\0' + bytecode.read_bytes()[1:])",
        "py_compile.compile(source, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)",
        "os.utime(source, (1, 1))",
        "source.write_text(source.read_text() + '# longer\\n')",
    ],
    ids=["none", "empty", "of another version", "of a hash", "older source", "longer source"],
)
def test_what_is_not_up_to_date_is_left_to_python(sample: Path, change: str) -> None:
    source = sample / "corefilt/one.py"
    bytecode = Path(importlib.util.cache_from_source(str(source)))
    exec(change, {"bytecode": bytecode, "source": source, "os": os, "py_compile": py_compile})
    done = run_in(sample, with_finder(LOADED))
    assert (done.stdout.split()[1], done.stdout.splitlines()[-1], done.stderr) == ("1", "SourceFileLoader", "")


def test_a_source_that_changed_is_compiled(sample: Path) -> None:
    (sample / "corefilt/one.py").write_text("VALUE = 1234\n")
    assert run_in(sample, with_finder(LOADED)).stdout.split()[1] == "1234"


def test_damaged_bytecode_is_what_python_says_it_is(sample: Path) -> None:
    bytecode = Path(importlib.util.cache_from_source(str(sample / "corefilt/one.py")))
    bytecode.write_bytes(bytecode.read_bytes()[:20])
    plain, quick = run_in(sample, LOADED), run_in(sample, with_finder(LOADED))
    assert quick.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1] != ""


def test_bytecode_elsewhere_is_found(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    prefix = f"pycache_prefix={tmp_path_factory.mktemp('bytecode')}"
    plain = run_in(sample, LOADED, "-X", prefix)
    quick = run_in(sample, with_finder(LOADED), "-X", prefix)
    assert quick.stdout == plain.stdout + "_Loaded\n"


def test_an_optimized_run_has_pythons_finder(sample: Path) -> None:
    assert run_in(sample, with_finder(LOADED), "-O").stdout.endswith("\nSourceFileLoader\n")


def test_no_other_package_is_looked_for(sample: Path) -> None:
    (sample / "corefilter.py").write_text("")
    script = with_finder("import corefilt.one, corefilter, json.decoder\nprint(type(corefilter.__loader__).__name__)")
    done = run_in(sample, script + "print(type(json.decoder.__loader__).__name__)")
    assert done.stdout == "SourceFileLoader\n_Loaded\nSourceFileLoader\n"
