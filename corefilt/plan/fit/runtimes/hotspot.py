"""HotSpot's structures, by the tables that libjvm publishes for its serviceability agent: no offset stands here."""

from __future__ import annotations

from corefilt.plan.fit.runtimes.reader import LostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.images import LoadedImage
    from corefilt.plan.fit.runtimes.reader import MemoryReader

# JDK 17 has 1,200 fields and 500 types.
MOST_ENTRIES = 1 << 14
_ENTRY = b"gHotSpotVMStructEntry"
_TYPE = b"gHotSpotVMTypeEntry"


def target_of(kind: bytes) -> bytes:
    """The type that a pointer's type leads to; empty for what is not a pointer."""
    return kind[:-1].removeprefix(b"const ").strip() if kind.endswith(b"*") else b""


class Structures:
    """Offsets of fields, addresses of static ones, sizes of types; all by HotSpot's names, in bytes."""

    def __init__(self, reader: MemoryReader, image: LoadedImage) -> None:
        """Read the tables. Raises LostError."""
        self._reader, self._image = reader, image
        self._offsets: dict[tuple[bytes, bytes], int] = {}
        self._pointers: dict[bytes, list[tuple[int, bytes]]] = {}
        self.statics: dict[tuple[bytes, bytes], tuple[int, bytes]] = {}
        self._sizes: dict[bytes, int] = {}
        self._texts: dict[int, bytes] = {0: b""}
        self._read_fields()
        self._read_types()

    def _word(self, name: bytes) -> int:
        at = self._image.symbol(name)
        if at is None:
            raise LostError(f"libjvm has no symbol {name.decode()}")
        return self._reader.pointer(at)

    def _text(self, at: int) -> bytes:
        if at not in self._texts:
            self._texts[at] = self._reader.text(at)
        return self._texts[at]

    def _read_fields(self) -> None:
        names = (b"TypeName", b"FieldName", b"TypeString", b"IsStatic", b"Offset", b"Address")
        places = [self._word(_ENTRY + name + b"Offset") for name in names]
        at, stride = self._word(b"gHotSpotVMStructs"), self._word(_ENTRY + b"ArrayStride")
        reader = self._reader
        if max(places) + 8 > stride or stride > 1 << 10:
            raise LostError("libjvm's table of fields is invalid")
        for _ in range(MOST_ENTRIES):
            kind, name, of, static, offset, address = (at + place for place in places)
            if not reader.pointer(kind):
                return
            key = self._text(reader.pointer(kind)), self._text(reader.pointer(name))
            if reader.number(static, 4):
                self.statics[key] = reader.pointer(address), self._text(reader.pointer(of))
            else:
                self._offsets[key] = place = reader.pointer(offset)
                target = target_of(self._text(reader.pointer(of)))
                if target:
                    self._pointers.setdefault(key[0], []).append((place, target))
            at += stride
        raise LostError("libjvm's table of fields has no end")

    def _read_types(self) -> None:
        places = [self._word(_TYPE + name + b"Offset") for name in (b"TypeName", b"Size")]
        at, stride = self._word(b"gHotSpotVMTypes"), self._word(_TYPE + b"ArrayStride")
        if max(places) + 8 > stride or stride > 1 << 10:
            raise LostError("libjvm's table of types is invalid")
        for _ in range(MOST_ENTRIES):
            name = self._reader.pointer(at + places[0])
            if not name:
                return
            self._sizes[self._text(name)] = self._reader.pointer(at + places[1])
            at += stride
        raise LostError("libjvm's table of types has no end")

    def offset(self, kind: str, *names: str) -> int:
        """Where a type has a field, by the first of its names that is known. Raises LostError."""
        for name in names:
            found = self._offsets.get((kind.encode(), name.encode()))
            if found is not None and found < 1 << 20:
                return found
        raise LostError(f"libjvm does not describe field {kind}.{names[0]}")

    def pointers(self, kind: bytes) -> list[tuple[int, bytes]]:
        """Where a type has pointers, and to which types."""
        return self._pointers.get(kind, [])

    def has(self, kind: str, name: str) -> bool:
        """Whether a type has a field."""
        return (kind.encode(), name.encode()) in self._offsets

    def static(self, kind: str, name: str) -> int:
        """The address of a static field. Raises LostError."""
        found = self.statics.get((kind.encode(), name.encode()))
        if found is None:
            raise LostError(f"libjvm does not describe static field {kind}.{name}")
        return found[0]

    def size(self, kind: str | bytes) -> int:
        """The size of a type. Raises LostError."""
        found = self._sizes.get(kind.encode() if isinstance(kind, str) else kind)
        if found is None or found > 1 << 20:
            raise LostError(f"libjvm does not describe type {kind!r}")
        return found
