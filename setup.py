"""Builds the one compiled module; everything static stands in pyproject.toml.

Switches, all off unless set in the environment: COREFILT_ABI3 (one wheel for CPython 3.11 and later),
COREFILT_SANITIZE (address and undefined-behaviour sanitizers), COREFILT_TRACE (line tracing for coverage).
"""

import dis
import os
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup


def switched_on(name: str) -> bool:
    """Whether the environment sets ``COREFILT_<name>`` to anything but nothing or 0."""
    return os.environ.get(f"COREFILT_{name}", "") not in ("", "0")


trace = switched_on("TRACE")
sanitize = switched_on("SANITIZE")
abi3 = switched_on("ABI3")
if abi3 and trace:
    raise SystemExit("COREFILT_ABI3 and COREFILT_TRACE exclude each other: traced code needs the full CPython API")
if abi3 and sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise SystemExit("COREFILT_ABI3 cannot be had on a free-threaded interpreter")

cflags = ["-O3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden"]
ldflags: list[str] = []
macros = [("_FILE_OFFSET_BITS", "64"), ("_GNU_SOURCE", "1")]
directives: dict[str, object] = {"freethreading_compatible": True}
options: dict[str, dict[str, str]] = {}
if trace:
    directives["linetrace"] = True
    macros += [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
if sanitize:
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    cflags = ["-O1", "-g", "-fno-omit-frame-pointer", *sanitizers]
    ldflags = sanitizers
if abi3:
    macros.append(("Py_LIMITED_API", "0x030B0000"))
    # The flags of code objects (Include/cpython/code.h), which the limited API leaves out; see _fast.pyx.
    macros += [(f"CO_{name}", hex(value)) for value, name in dis.COMPILER_FLAG_NAMES.items()]
    options["bdist_wheel"] = {"py_limited_api": "cp311"}

# Manual pages and completion, each into the folder of its name below the prefix; `python manual` writes them.
share: dict[str, list[str]] = {}
for path in sorted(Path("share").rglob("*")):
    if path.is_file():
        share.setdefault(str(path.parent), []).append(str(path))

setup(
    data_files=list(share.items()),
    ext_modules=cythonize(
        Extension(
            "corefilt._fast",
            ["corefilt/_fast.pyx"],
            define_macros=macros,
            extra_compile_args=cflags,
            extra_link_args=ldflags,
            py_limited_api=abi3,
        ),
        build_dir=None if trace else "build",
        emit_linenums=sanitize,
        compiler_directives=directives,
    ),
    options=options,
)
