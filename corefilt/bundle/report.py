"""What became of a bundle, for a person and as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from corefilt import __version__
from corefilt.bundle.manifest import DEBUG, OBJECT, SCRIPT, STATUSES, UNVERIFIED, lacking
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.bundle.manifest import BundledFile


@dataclass(frozen=True, slots=True)
class BundleReport:
    """The outcome: sizes in bytes, every file, and what is wrong with the core.

    ``core_bytes`` is the length of the core in the bundle, ``output_bytes`` that of the bundle, None for a pipe.
    """

    input: str
    output: str
    core_bytes: int
    output_bytes: int | None
    files: tuple[BundledFile, ...]
    warnings: tuple[str, ...]

    @property
    def lacking(self) -> list[BundledFile]:
        """Mapped files that are missing or of another build."""
        return lacking(self.files)

    def as_dict(self) -> dict[str, object]:
        """Return the report as a dictionary with the keys of schema 1."""
        return {
            "schema": 1,
            "version": __version__,
            "input": self.input,
            "output": self.output,
            "core_bytes": self.core_bytes,
            "output_bytes": self.output_bytes,
            **{status: sum(file.status == status for file in self._objects) for status in STATUSES},
            "warnings": list(self.warnings),
            "files": [file.as_dict() for file in self.files],
        }

    @property
    def _objects(self) -> list[BundledFile]:
        return [file for file in self.files if file.role == OBJECT]

    def summary(self) -> str:
        """A few lines for a person."""
        written = f", {show_size(self.output_bytes)}" if self.output_bytes is not None else ""
        lines = [f"{printable(self.input)} -> {printable(self.output)}{written}"]
        lines.append(f"  core: {show_size(self.core_bytes)}")
        for role, name in ((OBJECT, "mapped ELF files"), (DEBUG, "debug files"), (SCRIPT, "scripts of gdb")):
            sizes = [file.size for file in self.files if file.role == role and file.size is not None]
            lines.append(f"  {name}: {len(sizes)}" + (f" of {show_size(sum(sizes))}" if sizes else ""))
        lines += file_lines([file for file in self._objects if file.status == UNVERIFIED])
        lines += file_lines(self.lacking)
        return "\n".join(lines + [f"  warning: {printable(warning)}" for warning in self.warnings])


def file_lines(files: list[BundledFile] | tuple[BundledFile, ...]) -> list[str]:
    """One line a file: its status, its path, and why it is not as it should be."""
    return [
        f"  {file.status}: {printable(file.path)}" + (f": {printable(file.reason)}" if file.reason else "")
        for file in files
    ]
