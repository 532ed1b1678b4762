"""Builds the one compiled module; everything static stands in pyproject.toml.

Switches, all off unless set in the environment: COREFILT_ABI3 (one wheel for CPython 3.11 and later),
COREFILT_SANITIZE (address and undefined-behaviour sanitizers), COREFILT_TRACE (line tracing for coverage).
"""

import dis
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# setuptools brings it; the standard library has it up to Python 3.11 only.
from distutils.command.install_data import install_data  # isort: skip


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


class InstallData(install_data):
    """Installs what the built package generates: manual pages and completion, below share/ of the prefix."""

    def run(self) -> None:
        """Have the built package write its files, and install them where their paths say."""
        self.run_command("build")
        build = self.get_finalized_command("build")
        folder = Path(build.build_temp).absolute() / "generated"
        # What an isolated build requires is known to this process by its path alone.
        paths = [os.path.abspath(build.build_lib), *filter(None, sys.path)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "corefilt.cli.generate", str(folder)]
        subprocess.run(command, env=env, cwd=build.build_lib, check=True)
        found: dict[str, list[str]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                found.setdefault(str(path.parent.relative_to(folder)), []).append(str(path))
        self.data_files = list(found.items())
        super().run()


setup(
    # A module with a sanitizer's calls loads only into an interpreter that has its runtime.
    cmdclass={} if sanitize else {"install_data": InstallData},
    data_files=[] if sanitize else [("share", [])],
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
