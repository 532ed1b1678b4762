"""The same crash as which: a signature over the kind of crash and the functions in which it happened."""

from __future__ import annotations

from corefilt.corefile.elf import PF_W
from corefilt.corefile.registers import Thread
from corefilt.crash.identity import MOST_READ, identify
from corefilt.crash.process_memory import OVERRUN, ProcessMemory
from corefilt.crash.recorded import NONE, PARTIAL, PC_ONLY, UNWOUND, RecordedSignature
from corefilt.crash.signal import SI_QUEUE, SI_TKILL, SI_USER
from corefilt.crash.skipped import VERSION, counted
from corefilt.errors import EvidenceError
from corefilt.text import printable
from corefilt.value import ValueObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory
    from corefilt.crash.identity import Identity
    from corefilt.crash.unwind.unwinder import Backtrace, Frame
    from corefilt.evidence.sysroot import Sysroot

COUNTED = 3
# A function that calls itself is seen three times in few frames; those of a long cycle of functions in more.
OVERFLOW_FRAMES, SEEN_OFTEN = 96, 3


class Named(ValueObject):
    """A frame as the signature has it: ``text`` is ``build-id+0xfunction``; ``module`` is for people."""

    __slots__ = ("function", "module", "text")

    def __init__(self, text: str, module: bytes | None, function: str | None = None) -> None:
        self.text: Final = text
        self.module: Final = module
        self.function: Final = function

    def as_dict(self) -> dict[str, object]:
        """The frame as JSON; ``function`` is null where no symbol is needed to know it."""
        return {
            "frame": self.text,
            "module": printable(self.module) if self.module is not None else None,
            "function": self.function,
        }


class Crash(ValueObject):
    """``signature`` has 16 hex digits, or is None where nothing is known; ``kind`` is the class.

    ``unwinder`` says what found the frames. Only where ``quality`` is ``unwound`` do two cores of one signature count
    as the same crash.
    """

    __slots__ = ("frames", "kind", "quality", "signature", "unwinder")

    def __init__(
        self, signature: str | None, kind: str, quality: str, unwinder: str, frames: tuple[Named, ...]
    ) -> None:
        self.signature: Final = signature
        self.kind: Final = kind
        self.quality: Final = quality
        self.unwinder: Final = unwinder
        self.frames: Final = frames

    def as_dict(self) -> dict[str, object]:
        """The key ``crash`` of JSON reports."""
        return {
            "signature": self.signature,
            "version": VERSION,
            "class": self.kind,
            "quality": self.quality,
            "unwinder": self.unwinder,
            "frames": [frame.as_dict() for frame in self.frames],
        }

    def lines(self) -> list[str]:
        """The same for a person."""
        found = [f"crash: {self.signature or 'no signature'}, {self.kind}, {self.quality} ({self.unwinder})"]
        for n, frame in enumerate(self.frames):
            name = f"{frame.function} " if frame.function is not None else ""
            where = f" in {printable(frame.module)}" if frame.module is not None else ""
            found.append(f"  #{n} {name}{frame.text}{where}")
        return found

    @property
    def recorded(self) -> RecordedSignature:
        """What is recorded of it beside a core or in it."""
        return RecordedSignature(self.quality, self.signature, self.kind)


def crash_of(
    core: CoreFile,
    identity: Identity,
    *,
    opened: Callable[[], Sysroot | None] = lambda: None,
    unwinder: str = "auto",
) -> Crash:
    """The crash of a core that can be sought.

    ``opened`` gives the folder where files of the same build-ids are looked for (None: nowhere), once it is needed.
    ``unwinder`` is ``auto``, or ``eu-stack``, which opens the files that the core names itself. Raises InputError where
    that fails, and UsageError where it is missing.
    """
    memory = core.memory(MOST_READ)
    thread = _thread(core)
    if thread is None:
        return Crash(None, kind_of(identity, None, memory), NONE, "none", ())
    if not thread.pc and unwinder == "auto":
        return Crash(None, kind_of(identity, thread, memory), NONE, "registers", ())
    # The unwinder takes 5 ms to load.
    from corefilt.crash.image_files import ImageFiles
    from corefilt.crash.modules import ModuleIndex
    from corefilt.crash.unwind.unwinder import MOST_FRAMES, Unwinder

    index = ModuleIndex(identity.modules or ())
    files = ImageFiles(index, opened)
    process = ProcessMemory(core, memory, index, files)
    try:
        kind = kind_of(identity, thread, memory)
        most = OVERFLOW_FRAMES if kind == "stack overflow" else MOST_FRAMES
        walker = Unwinder(process)
        if unwinder == "eu-stack":
            from corefilt.crash.eu_stack import backtrace

            trace = backtrace(core, walker, index, thread, most)
        else:
            trace = walker.unwind(thread, most)
        return signed(kind, trace, "eu-stack" if unwinder == "eu-stack" else _ways(trace, process))
    finally:
        files.close()


def find_crash(
    core: CoreFile, *, identity: Identity | None = None, sysroot: str | None = None, unwinder: str = "auto"
) -> Crash | None:
    """The crash of a core; None of one that cannot be sought (a pipe).

    Files are looked for below the folder ``sysroot``; for None in ``/``, where the core is the caller's own. Raises
    EvidenceError for a folder that cannot be used, and what ``crash_of`` does.
    """
    if not core.source.seekable:
        return None
    files = _Files(core, sysroot)
    try:
        who = identity if identity is not None else identify(core)
        return crash_of(core, who, opened=files.open, unwinder=unwinder)
    finally:
        files.close()


class _Files:
    """The folder of files for one core: one that was named is opened at once, ``/`` when it is needed."""

    def __init__(self, core: CoreFile, folder: str | None) -> None:
        self._core, self._folder = core, folder
        self._opened: Sysroot | None = None
        if folder is not None:
            self.open()

    def open(self) -> Sysroot | None:
        """The folder, or None where ``/`` may not be used. Raises EvidenceError for one that was named."""
        if self._opened is None:
            # It takes 10 ms to load.
            from corefilt.evidence.sysroot import sysroot_for

            try:
                self._opened = sysroot_for(self._folder, self._core.source.origin.fd)
            except EvidenceError:
                if self._folder is not None:
                    raise
        return self._opened

    def close(self) -> None:
        """Give it back."""
        if self._opened is not None:
            self._opened.close()


def _thread(core: CoreFile) -> Thread | None:
    try:
        return Thread(core.notes.crashed, core.ehdr)
    except ValueError:
        return None


def kind_of(identity: Identity, thread: Thread | None, memory: Memory) -> str:
    """The class: ``stack overflow``, ``abort``, ``external``, ``fault SIGSEGV`` and the like, or ``none``."""
    signal = identity.signal
    if signal is None:
        return "none"
    if signal.code in (SI_USER, SI_QUEUE, SI_TKILL) and signal.sender_pid not in (None, identity.pid):
        return "external"
    if signal.name == "SIGABRT":
        return "abort"
    if signal.name in ("SIGSEGV", "SIGBUS") and signal.address is not None and thread is not None and thread.sp:
        i = memory.find(signal.address)
        near = -OVERRUN <= signal.address - thread.sp <= memory.word * 512
        if near and (i is None or not memory.flags(i) & PF_W):
            return "stack overflow"
    return f"fault {signal.name}"


def signed(kind: str, trace: Backtrace, unwinder: str) -> Crash:
    """The signature of a backtrace of a class of crash."""
    behind = next((n + 1 for n in range(len(trace.frames) - 1, -1, -1) if trace.frames[n].signal), 0)
    frames = trace.frames[behind:]
    if not frames:
        return Crash(None, kind, NONE, unwinder, ())
    if kind == "stack overflow":
        return _overflow(kind, frames, unwinder)
    rest = counted(frames, aborted=kind == "abort" and not behind)
    used = (rest or frames)[:COUNTED]
    names = [_named(frame) for frame in used]
    # One frame alone says too little, even where nothing called it.
    reached = len(used) == COUNTED or (trace.complete and len(used) > 1)
    upto = frames[: len(frames) - len(rest or frames) + len(used)]
    if rest and reached and all(_sure(frame) for frame in upto) and all(_known(frame) for frame in used):
        quality = UNWOUND
    else:
        quality = PC_ONLY if len(trace.frames) == 1 else PARTIAL
    return Crash(_digest(kind, names), kind, quality, unwinder, tuple(names))


def _overflow(kind: str, frames: Sequence[Frame], unwinder: str) -> Crash:
    """The set of functions that are seen often, whichever of them met the end of the stack."""
    known = [_named(frame).text for frame in frames if _known(frame)]
    chosen = {name.text: name for name in map(_named, frames) if known.count(name.text) >= SEEN_OFTEN}
    sure = all(_sure(frame) for frame in frames)
    if not chosen:
        names = [_named(frame) for frame in frames[:COUNTED]]
        return Crash(_digest(kind, names), kind, PC_ONLY if len(frames) == 1 else PARTIAL, unwinder, tuple(names))
    names = [chosen[text] for text in sorted(chosen)]
    return Crash(_digest(kind, names), kind, UNWOUND if sure else PARTIAL, unwinder, tuple(names))


def _digest(kind: str, names: Sequence[Named]) -> str:
    text = "\n".join([f"corefilt {VERSION}", kind, *(name.text for name in names)])
    return _sha256(text.encode())[:16]


def _sha256(raw: bytes) -> str:
    # It takes a tenth of the time of an inspection to load, and most cores without frames need none.
    from hashlib import sha256

    return sha256(raw).hexdigest()


def _sure(frame: Frame) -> bool:
    """Whether what found the frame cannot have passed over one: frame pointers can be left out, but not by Go."""
    return frame.how in ("registers", "cfi", "go", "eu-stack")


def _known(frame: Frame) -> bool:
    """Whether the frame's name is the same in each run of this build, and of no other."""
    return frame.start is not None and frame.module is not None and _id(frame) is not None


def _id(frame: Frame) -> str | None:
    module = frame.module
    if module is None or module.bias is None:
        return None
    if module.build_id is not None:
        return module.build_id.hex()
    return _sha256(module.go_id)[:40] if module.go_id is not None else None


def _named(frame: Frame) -> Named:
    """What a frame is called: by the build, else by the module's name, else by nothing that is the same each time."""
    module, at = frame.module, frame.start if frame.start is not None else frame.pc
    function = printable(frame.name) if frame.name is not None else None
    if module is None:
        return Named("?", None, function)
    base = module.bias if module.bias is not None else module.start
    who = _id(frame) or printable(module.name) or "?"
    return Named(f"{who}+{at - base:#x}", module.path, function)


def _ways(trace: Backtrace, process: ProcessMemory) -> str:
    ways = dict.fromkeys(frame.how for frame in trace.frames if frame.how not in ("registers", "cfi"))
    first = any(frame.how == "cfi" for frame in trace.frames[1:])
    names = [*(["call frame information" + (" of files" if process.used_files else "")] if first else []), *ways]
    return ", ".join(names) or "registers"
