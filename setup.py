"""Builds the one compiled module; everything static stands in pyproject.toml.

Switches, all off unless set in the environment: COREFILT_ABI3 (one wheel for CPython 3.11 and later),
COREFILT_SANITIZE (address and undefined-behaviour sanitizers), COREFILT_TRACE (line tracing for coverage).
"""

import dis
import os
import re
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

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


REPOSITORY = "https://github.com/corefilt/corefilt"
# From the tag, by a script that wheels/build.sh asks too.
tag = runpy.run_path("wheels/version.py")
version: str = tag["version"]()


class BuildPy(build_py):
    """Copies the package, which tells the version that is built."""

    def run(self) -> None:
        """Copy it, and write the version down, unless the package is the one in this folder."""
        super().run()
        path = Path(self.build_lib, "corefilt/__init__.py")
        if not self.editable_mode and path.exists():
            text = path.read_text(encoding="utf-8")
            # A link to the source, or a file with two names, would change with it.
            path.unlink()
            path.write_text(tag["ASSIGNMENT"].sub(f'__version__ = "{version}"', text), encoding="utf-8")


def readme() -> str:
    """README.md, whose links lead somewhere on an index too."""
    where = f"{REPOSITORY}/blob/{'main' if 'dev' in version else f'v{version}'}"
    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"(\]\()(?![a-z]+:|#)", rf"\1{where}/", text)


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
    version=version,
    long_description=readme(),
    long_description_content_type="text/markdown",
    cmdclass={"build_py": BuildPy} if sanitize else {"build_py": BuildPy, "install_data": InstallData},
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
