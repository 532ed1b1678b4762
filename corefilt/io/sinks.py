"""Where the bytes go: a file, whose name appears when it is whole, or a stream, which cannot take back a byte."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from corefilt.errors import OutputError, UsageError
from corefilt.io.sources import Source, called_as, descriptor_of, enlarge_pipe, name_of, shut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from corefilt.io.sources import Place

# Names of what is open already: a shell's redirections and process substitutions.
_STANDARD = {"-": 1, "/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd")


class Sink:
    """An output: ``seekable`` ones take bytes at any offset from ``base`` on and give them back by ``reader``.

    One that ``encodes`` has no descriptor: bytes come into its ``room``, or by ``put``.
    """

    seekable = False
    encodes = False
    base = 0
    reader = -1
    allocated: int | None = None
    # What whoever asked for it should know.
    notice: str | None = None

    def __init__(self, fd: int, name: str, *, owned: bool) -> None:
        """Take a descriptor for writing; ``allocated`` becomes known on commit, in bytes, for a file."""
        self.fd, self.name, self.owned = fd, name, owned

    def room(self) -> memoryview:
        """Where the next bytes may be put by whoever has them."""
        raise AssertionError("bytes are written to its descriptor")

    def fill(self, count: int) -> None:
        """Take so many bytes of ``room``. Raises OutputError."""
        raise AssertionError("bytes are written to its descriptor")

    def put(self, data: bytes | memoryview) -> None:
        """Take bytes. Raises OutputError."""
        view = memoryview(data)
        while view:
            room = self.room()
            taken = min(len(room), len(view))
            room[:taken] = view[:taken]
            self.fill(taken)
            view = view[taken:]

    def commit(self, size: int, *, sync: bool) -> None:
        """Make the output final at ``size`` bytes. Raises OutputError."""
        self.close()

    def abort(self) -> None:
        """Leave nothing behind, as far as that is possible."""
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        if self.owned:
            self.owned = False
            os.close(self.fd)


class StreamSink(Sink):
    """A pipe, a device, a socket, or standard output where it cannot be sought."""


class OpenFileSink(Sink):
    """An open regular file, such as standard output, from its end on."""

    seekable = True

    def __init__(self, fd: int, name: str, reader: int, base: int) -> None:
        super().__init__(fd, name, owned=False)
        self.reader, self.base = reader, base

    def commit(self, size: int, *, sync: bool) -> None:
        """Cut to size, wait for the disk, and stand at the end for whoever writes next."""
        with reported(self.name):
            os.ftruncate(self.fd, self.base + size)
            if sync:
                os.fsync(self.fd)
            self.allocated = os.fstat(self.fd).st_blocks * 512
            os.lseek(self.fd, self.base + size, os.SEEK_SET)
        self.close()

    def abort(self) -> None:
        """Cut off what was written."""
        try:
            os.ftruncate(self.fd, self.base)
            os.lseek(self.fd, self.base, os.SEEK_SET)
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Close the reading descriptor."""
        if self.reader >= 0:
            shut(self.reader)
            self.reader = -1


class NewFileSink(Sink):
    """A file without a name, or a hidden temporary one, until it is whole."""

    seekable = True

    def __init__(self, path: str, *, replace: bool, folder: int | None = None, leaf: str | None = None) -> None:
        """Open a temporary file in the folder of ``path``, mode 0600; ``folder`` is that one where it is open already.

        ``leaf`` is the name in it where it is not the end of ``path``. Raises OutputError.
        """
        above, own_leaf = os.path.split(path)
        self._leaf = own_leaf if leaf is None else leaf
        self._replace = replace
        self._temporary: str | None = None
        with reported(path):
            # A descriptor of its own that can be read and synced, which one of O_PATH cannot.
            at = (above or ".") if folder is None else "."
            self._folder = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            try:
                fd = self._open_nameless()
            except BaseException:
                os.close(self._folder)
                raise
        super().__init__(fd, path, owned=True)
        self.reader = fd
        try:
            with reported(path):
                self.notice = _made_private(fd)
        except BaseException:
            self.abort()
            raise

    def _open_nameless(self) -> int:
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        except OSError as error:
            from corefilt.io.tempfiles import NO_TMPFILE

            if error.errno not in NO_TMPFILE:
                raise
        else:
            if os.path.exists(f"/proc/self/fd/{fd}"):
                return fd
            os.close(fd)
        from corefilt.io.tempfiles import create

        self._temporary, fd = create(self._folder)
        return fd

    def commit(self, size: int, *, sync: bool) -> None:
        """Cut to size, wait for the disk, and give the file its name."""
        try:
            with reported(self.name):
                os.ftruncate(self.fd, size)
                self.complete(size)
                if sync:
                    os.fsync(self.fd)
                self.allocated = os.fstat(self.fd).st_blocks * 512
                self._give_name()
        except BaseException:
            self.abort()
            raise
        if sync:
            try:
                os.fsync(self._folder)
            except OSError:
                # The bytes are on the disk and the name is there; some file systems do not sync folders.
                pass
        self.close()

    def complete(self, size: int) -> None:
        """What is left to do to a file whose content is whole, before the disk has it and it gets its name."""

    def _give_name(self) -> None:
        if self._temporary is None:
            name = self._leaf
            if self._replace:
                # No call gives a nameless file the place of another; killed here, it leaves its other name behind.
                from corefilt.io.tempfiles import hold, new_name, remove_leftovers

                remove_leftovers(self._folder)
                hold(self.fd)
                self._temporary = name = new_name()
            # With a dir_fd, Python calls linkat and follows the link in /proc to the nameless file.
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self._folder, follow_symlinks=True)
        elif not self._replace:
            from corefilt.io.tempfiles import rename_to_new

            rename_to_new(self._temporary, self._leaf, self._folder)
            self._temporary = None
        if self._temporary is not None:
            os.rename(self._temporary, self._leaf, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._temporary = None

    def abort(self) -> None:
        """Remove the temporary name, if there is one."""
        if self._temporary is not None:
            try:
                os.unlink(self._temporary, dir_fd=self._folder)
            except OSError:
                pass
            self._temporary = None
        self.close()

    def close(self) -> None:
        """Give both descriptors back."""
        if self.owned:
            self.owned = False
            shut(self._folder)
            shut(self.fd)


def told_of_holder(sink: NewFileSink) -> NewFileSink:
    """The sink, whose ``notice`` tells besides where the file that it replaces holds blocks for other cores."""
    from corefilt.io.shared_holders import Holders

    held = Holders().of(sink.name)
    if held is not None:
        sink.notice = "; ".join(filter(None, (sink.notice, held.lost)))
    return sink


def _made_private(fd: int) -> str | None:
    """Give a new file mode 0600 whatever the umask; where its file system keeps no modes, what that comes to."""
    try:
        os.fchmod(fd, 0o600)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    return f"its file system gives files mode {mode:04o}: other users may be able to read it" if mode & 0o077 else None


class NamedFile:
    """A file that is to be made by rules of its own; ``open`` gives the sink that becomes it.

    ``seekable`` tells whether that sink is.
    """

    path: str
    seekable = True

    def open(self, source: Source | None) -> Sink:
        """A sink, or OutputError with what stands against it."""
        raise AssertionError("a child knows the rules")

    def on_decided(self, undecided_bytes: int) -> None:
        """Hear how many bytes depend on an assumption, when all is written and before it gets its name."""


class reported:
    """Turns an OSError inside into an OutputError that names the output; a closed pipe stays what it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            hint = "free some space, or choose another place" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
            raise OutputError(f"{self.name}: cannot be written: {error.strerror}", hint) from None


def open_text(path: str, *, force: bool) -> Sink:
    """Open the place of a report as ``opening.open_sink`` opens that of a core; a terminal is one, too."""
    where = place_of(path)
    if isinstance(where, int):
        return descriptor_sink(where, None, called_as(where, path), text=True)
    if not isinstance(where, str):
        raise AssertionError("the place of a report is a name")
    return named_sink(where, None, force=force, text=True)


def place_of(path: Place) -> str | int | BinaryIO:
    """The number of an open descriptor of ours, by whatever name, or a path or URL, or a file without a descriptor."""
    with reported(name_of(path)):
        place = descriptor_of(path)
    if not isinstance(place, str | bytes | os.PathLike):
        return place
    name = os.fsdecode(place)
    if "://" in name:
        from corefilt.io.remote.url import local_path

        return local_path(name)
    if name in _STANDARD:
        return _STANDARD[name]
    above, _, leaf = name.rpartition("/")
    if leaf.isascii() and leaf.isdigit() and above in (*_DESCRIPTORS, f"/proc/{os.getpid()}/fd"):
        return int(leaf)
    return name


def named_sink(name: str, source: Source | None, *, force: bool, text: bool = False) -> Sink:
    """Open what stands under a name, or make it. Raises as ``opening.open_sink``."""
    from corefilt.io.output_place import OutputPlace

    with reported(name), OutputPlace(name) as place:
        status = place.status
        # For people; the file is made in the directory that was looked at.
        shown = os.path.realpath(name) if place.linked else name
        if status is None:
            if not place.leaf:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if place.linked and not force:
                raise OutputError(f"{name}: is a symbolic link to nothing", "-f creates the file it points to")
            return NewFileSink(shown, replace=force, folder=place.folder, leaf=place.leaf)
        if stat.S_ISDIR(status.st_mode):
            raise OutputError(f"{name}: is a directory")
        _refuse_same(source, status, name)
        if stat.S_ISREG(status.st_mode):
            if not force:
                raise OutputError(f"{name}: exists", "-f replaces it")
            return told_of_holder(NewFileSink(shown, replace=True, folder=place.folder, leaf=place.leaf))
        fd = place.open_stream(force=force)
    if os.isatty(fd) and not text:
        os.close(fd)
        raise UsageError(f"{name} is a terminal, and a core is binary", "-o FILE names a file")
    if stat.S_ISFIFO(status.st_mode):
        enlarge_pipe(fd)
    return StreamSink(fd, name, owned=True)


def descriptor_sink(fd: int, source: Source | None, name: str, *, text: bool = False) -> Sink:
    """Write to what is open. Raises as ``opening.open_sink``."""
    with reported(name):
        status = os.fstat(fd)
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is closed, or open for reading only")
    if os.isatty(fd) and not text:
        raise UsageError(f"{name} is a terminal, and a core is binary", "-o FILE names a file")
    _refuse_same(source, status, name)
    if stat.S_ISFIFO(status.st_mode):
        enlarge_pipe(fd)
    if stat.S_ISREG(status.st_mode) and at_end(fd, status):
        with reported(name):
            reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        return OpenFileSink(fd, name, reader, status.st_size)
    return StreamSink(fd, name, owned=False)


def _refuse_same(source: Source | None, status: os.stat_result, name: str) -> None:
    if source is not None and not stat.S_ISCHR(status.st_mode) and source.identity == (status.st_dev, status.st_ino):
        raise OutputError(f"{name}: is the input itself", "write to another file")


def at_end(fd: int, status: os.stat_result) -> bool:
    """Whether what is written to a regular file would be put at its end, and at no other place."""
    appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    return not appends and os.lseek(fd, 0, os.SEEK_CUR) == status.st_size
