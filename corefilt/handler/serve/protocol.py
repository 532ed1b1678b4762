"""What the kernel and a server of coredump sockets say to each other: values as bytes, and bytes as values.

include/uapi/linux/coredump.h of Linux 6.17, in the byte order of the machine; tests/kernel/test_serve.py holds it
against a 6.18 kernel. The kernel sends a request, the server an acknowledgement with what it wants, the kernel a mark,
and, after mark 0 and if that was wanted, the core.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from corefilt.errors import ProtocolError
from corefilt.text import counted

_REQUEST = _ACK = struct.Struct("=IIQ")
_MARK = struct.Struct("=I")
REQUEST_SIZE, ACK_SIZE, MARK_SIZE = _REQUEST.size, _ACK.size, _MARK.size
# What a later kernel could send besides; a page would hold any structure of one.
MOST_OF_A_REQUEST = 4096

# What a server can want; one of the first three, and COREDUMP_WAIT with it: the crash ends when the socket is closed.
COREDUMP_KERNEL, COREDUMP_USERSPACE, COREDUMP_REJECT, COREDUMP_WAIT = 1, 2, 4, 8

# enum coredump_mark, as it is answered to an acknowledgement.
MARKS = {
    0: "it matches",
    1: "the acknowledgement is too short",
    2: "the acknowledgement is too long",
    3: "it does not support the request",
    4: "the request contradicts itself",
}


class CoredumpRequest(NamedTuple):
    """The kernel's beginning: its ``size`` in bytes, the ``size_ack`` it takes, the bits of ``mask`` that it knows."""

    size: int
    size_ack: int
    mask: int

    @property
    def rest(self) -> int:
        """How many bytes of it are still to be read and dropped."""
        return self.size - REQUEST_SIZE


def decode_request(raw: bytes) -> CoredumpRequest:
    """The request that begins with these bytes. Raises ProtocolError."""
    if len(raw) < REQUEST_SIZE:
        raise ProtocolError(f"the request has {counted(len(raw), 'byte')}, not {REQUEST_SIZE}")
    request = CoredumpRequest(*_REQUEST.unpack_from(raw))
    if not REQUEST_SIZE <= request.size <= MOST_OF_A_REQUEST:
        raise ProtocolError(f"the request says that it has {counted(request.size, 'byte')}")
    if request.size_ack < ACK_SIZE:
        raise ProtocolError(
            f"the request asks for {counted(request.size_ack, 'byte')}, and an acknowledgement has {ACK_SIZE}"
        )
    return request


def encode_ack(request: CoredumpRequest, wanted: int) -> bytes:
    """The acknowledgement that wants these bits. Raises ProtocolError for one that the kernel does not know."""
    if wanted & ~request.mask:
        raise ProtocolError(f"the kernel does not know all of {wanted:#x}, only {request.mask:#x}")
    return _ACK.pack(ACK_SIZE, 0, wanted)


def check_mark(raw: bytes) -> None:
    """Raise ProtocolError unless these bytes say that the kernel will do what was wanted."""
    if len(raw) < MARK_SIZE:
        raise ProtocolError("the kernel ended before it answered")
    (mark,) = _MARK.unpack_from(raw)
    if mark:
        raise ProtocolError(f"the kernel answered {mark}: {MARKS.get(mark, 'not known')}")
