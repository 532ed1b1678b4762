"""Prepares a private directory in which a debugger shows a core, and starts it there.

All names in its commands are links of ours in that directory: no text of a bundle or core gets into a command.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from corefilt.bundle.collect import Collected, Places, collect
from corefilt.bundle.debuggers import DebuggerScene, command_line, is_plain
from corefilt.bundle.manifest import MISMATCHED, OBJECT
from corefilt.bundle.names import CORE, DEBUG, ROOT
from corefilt.bundle.objects import LoadedObjects, loaded_objects
from corefilt.bundle.unpack import unpack
from corefilt.corefile.corefile import MAX_HEADERS, CoreFile, open_core
from corefilt.corefile.formats import HEAD, is_tar
from corefilt.errors import BundleError, InputError, OtherBuildError
from corefilt.evidence.sysroot import Sysroot, sysroot_for
from corefilt.io import compression
from corefilt.io.opening import as_core
from corefilt.io.sources import FileSource
from corefilt.io.streams import first_bytes, from_start, stream
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.bundle.manifest import BundledFile, BundleManifest

# Where debuggers look for debug files of this machine (gdb's "Debugging Information in Separate Files").
OWN_DEBUG = "usr/lib/debug"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A core that can be shown: our directory, the scene, the files as checked, and a bundle's own manifest."""

    folder: str
    scene: DebuggerScene
    files: tuple[BundledFile, ...]
    manifest: BundleManifest | None

    def check(self) -> None:
        """Raise OtherBuildError where a file is of another build than the core's."""
        wrong = [file for file in self.files if file.role == OBJECT and file.status == MISMATCHED]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise OtherBuildError(f"{printable(wrong[0].path)}: {wrong[0].reason}{more}")


@contextmanager
def prepared(path: str, *, sysroot: str | None, trusted: bool) -> Iterator[Prepared]:
    """Prepare a bundle or a core; what was made for it goes at the end. Raises CorefiltError's children."""
    with ExitStack() as stack:
        folder = os.path.realpath(tempfile.mkdtemp(prefix="corefilt-open-"))
        stack.callback(_remove, folder)
        if not is_plain(folder):
            raise InputError(f"{folder}: has characters that debuggers interpret", "set TMPDIR to a plain path")
        os.mkdir(os.path.join(folder, "cwd"), 0o700)
        source = _opened(path)
        stack.callback(source.close)
        layers = _layers_of_tar(source)
        if layers is None:
            core = stack.enter_context(CoreFile(as_core(_opened(path), max_headers=MAX_HEADERS, spool=True)))
            yield _of_core(core, folder, sysroot, trusted=trusted)
        else:
            if sysroot is not None:
                raise BundleError(f"{path}: contains its own files, so --sysroot is not used", "leave --sysroot out")
            yield _of_bundle(source, layers, folder, stack, trusted=trusted)


def _remove(folder: str) -> None:
    """Remove all of it, also when a second signal comes meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_debugger(debugger: str, prepared: Prepared, *, backtraces: bool, more: list[str]) -> int:
    """Start a debugger and wait for its end; returns its exit code. Raises BundleError where there is none."""
    command = command_line(debugger, prepared.scene, backtraces=backtraces, more=more)
    # lldb asks servers whatever its settings say, and gdb before it reads its own.
    environment = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    cwd = os.path.join(prepared.folder, "cwd")
    # What Ctrl-C means is the debugger's business; a function is reset in the child, SIG_IGN would not be.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with subprocess.Popen(command, cwd=cwd, env=environment) as process:
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                raise
    except FileNotFoundError:
        raise BundleError(f"{debugger} is not installed") from None
    finally:
        signal.signal(signal.SIGINT, before)


def _opened(path: str) -> FileSource:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not os.path.isfile(f"/proc/self/fd/{fd}"):
        os.close(fd)
        raise InputError(f"{path}: not a file", "name a bundle or a core that is a file")
    return FileSource(fd, path, size=os.fstat(fd).st_size)


def _layers_of_tar(source: FileSource) -> tuple[str, ...] | None:
    """How the tar that a file is was compressed; None for what is not a tar."""
    head = source.peek(0, HEAD)
    if is_tar(head):
        return ()
    name = compression.recognise(head)
    return (name,) if name is not None and is_tar(first_bytes(from_start(source), name, HEAD)) else None


def _of_bundle(
    source: FileSource, layers: tuple[str, ...], folder: str, stack: ExitStack, *, trusted: bool
) -> Prepared:
    below = os.path.join(folder, "bundle")
    os.mkdir(below, 0o700)
    place = os.open(below, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        manifest = unpack(stream(from_start(source), layers), source.name, place, source.size)
    finally:
        os.close(place)
    core = stack.enter_context(open_core(os.path.join(below, CORE)))
    root, debug = os.path.join(below, ROOT), os.path.join(below, DEBUG)
    with ExitStack() as places:
        roots = [Sysroot(root), Sysroot(debug)]
        for opened in roots:
            places.callback(opened.close)
        objects = loaded_objects(core)
        collected = collect(objects, Places(roots[0], roots[1:]))
    _refuse_names(objects.asked, root, folder)
    os.symlink(os.path.join(below, CORE), os.path.join(folder, CORE))
    return Prepared(folder, _scene(folder, root, debug, objects, collected, trusted=trusted), collected.files, manifest)


def _refuse_names(names: Iterable[bytes], root: str, folder: str) -> None:
    """Refuse a core that has debuggers look outside our directory: they take its names as they are. Raises BundleError.

    A JVM's own libraries are called ``.../bin/../lib/...``, which leads nowhere else.
    """
    for name in names:
        if b".." in name.split(b"/"):
            start = root if name.startswith(b"/") else os.path.join(folder, "search")
            end = os.path.realpath(os.path.join(os.fsencode(start), name.lstrip(b"/")))
            if not end.startswith(os.fsencode(folder) + b"/"):
                raise BundleError(f"{printable(name)}: the core names a file outside its bundle")


def _of_core(core: CoreFile, folder: str, sysroot: str | None, *, trusted: bool) -> Prepared:
    source = core.source
    origin = source.origin
    with ExitStack() as places:
        root = sysroot_for(sysroot, origin.fd)
        places.callback(root.close)
        objects = loaded_objects(core)
        collected = collect(objects, Places(root))
    # What was decompressed has no name but this one, as long as it is open here.
    real = os.path.realpath(origin.name) if source is origin else f"/proc/{os.getpid()}/fd/{source.fd}"
    os.symlink(real, os.path.join(folder, CORE))
    scene = _scene(folder, os.path.realpath(sysroot or "/"), None, objects, collected, trusted=trusted)
    return Prepared(folder, scene, collected.files, None)


def _scene(
    folder: str,
    root: str,
    debug: str | None,
    objects: LoadedObjects,
    collected: Collected,
    *,
    trusted: bool,
) -> DebuggerScene:
    """The scene, with links of ours for every name that a core or bundle chose.

    ``debug`` is a bundle's directory of debug files, None for a core that is shown with those below ``root``.
    """

    def linked(name: str, path: bytes) -> str:
        link = os.path.join(folder, name)
        os.symlink(os.path.join(os.fsencode(root), path.lstrip(b"/")), os.fsencode(link))
        return link

    there = {member.name for member in collected.members}
    program = objects.executable
    executable = None
    if program is not None and b"root" + program in there:
        # Debuggers show its name; one that they would not take as it stands is shown as that of the link.
        name = os.fsdecode(program.rpartition(b"/")[2])
        os.mkdir(os.path.join(folder, "program"), 0o700)
        executable = linked(os.path.join("program", name if is_plain(name) else "program"), program)
    search = None
    if collected.links.by_name:
        search = os.path.join(folder, "search")
        os.mkdir(search, 0o700)
        for path in collected.links.by_name:
            link = os.path.join(os.fsencode(search), path.rpartition(b"/")[2])
            if not os.path.lexists(link):
                os.symlink(os.path.join(os.fsencode(root), path.lstrip(b"/")), link)
    thread_db = None
    if collected.thread_db is not None and debug is not None:
        thread_db = linked("thread_db", collected.thread_db)
    shown_root = root
    if not is_plain(root):
        shown_root = linked("sysroot", b"")
    own = debug is None
    return DebuggerScene(
        os.path.join(folder, CORE), executable, shown_root, debug or os.path.join(shown_root, OWN_DEBUG), thread_db,
        search, trusted=trusted, own=own,
    )  # fmt: skip
