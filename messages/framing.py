"""Wire framings: where one payload ends and the next begins in a TCP stream.

A framing is a row of `FRAMINGS`: a length prefix and how it is read and written. A header (TPDU or fixed bytes) may
stand between the prefix and the payload; the length counts it. A body of no bytes at all is a keep-alive.
"""

import struct
from collections.abc import Callable

import msgspec

from messages.message import MessageError

Buffer = bytes | bytearray | memoryview

TPDU_LENGTH = 5
TPDU_DEFAULT = bytes.fromhex("6000000000")  # id 60 (transactions), destination and source network 0000

_HEX_DIGITS = b"0123456789abcdefABCDEF"
_BE16 = struct.Struct(">H")
_LE16 = struct.Struct("<H")
_BE32 = struct.Struct(">I")
_VAP = struct.Struct(">HH")


class FramingError(MessageError):
    """A length or header that cannot be right: the stream cannot be followed any further.

    The length itself is not told: where a sender is out of step it is made of the digits of a card number.
    offset: where the bad frame starts in the data that was cut; None for a frame that was to be written.
    """

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason, "frame", offset)


class Framing(msgspec.Struct, frozen=True):
    """One way to write a length. `read` finds `prefix` bytes at its position and raises ValueError(reason)."""

    name: str
    prefix: int  # bytes before the body
    capacity: int  # the largest body the prefix can tell
    read: Callable[[Buffer, int], int]  # length of the body
    write: Callable[[int], bytes]


def _inclusive(data: Buffer, at: int) -> int:
    length: int = _BE16.unpack_from(data, at)[0]
    if length < 2:
        raise ValueError("length is below 2 though it counts itself")
    return length - 2


def _vap(data: Buffer, at: int) -> int:
    length, pad = _VAP.unpack_from(data, at)
    if pad:
        raise ValueError("the two bytes after the length are not zero")
    return int(length)


def _bcd(data: Buffer, at: int) -> int:
    digits = bytes(data[at : at + 2]).hex()
    if not digits.isdigit():
        raise ValueError("length holds a nibble that is no decimal digit")
    return int(digits)


def _hex(data: Buffer, at: int) -> int:
    digits = bytes(data[at : at + 4])
    if digits.strip(_HEX_DIGITS):
        raise ValueError("length is not hexadecimal")
    return int(digits, 16)


def _ascii(width: int) -> Framing:
    def read(data: Buffer, at: int) -> int:
        digits = bytes(data[at : at + width])
        if not digits.isdigit():
            raise ValueError("length is not decimal digits")
        return int(digits)

    return Framing(f"{width}-ascii", width, 10**width - 1, read, lambda length: b"%0*d" % (width, length))


FRAMINGS: dict[str, Framing] = {
    framing.name: framing
    for framing in (
        Framing("2-byte-be", 2, 0xFFFF, lambda data, at: _BE16.unpack_from(data, at)[0], _BE16.pack),
        Framing("2-byte-be-inclusive", 2, 0xFFFF - 2, _inclusive, lambda length: _BE16.pack(length + 2)),
        Framing("2-byte-le", 2, 0xFFFF, lambda data, at: _LE16.unpack_from(data, at)[0], _LE16.pack),
        Framing("4-byte-be", 4, 0xFFFFFFFF, lambda data, at: _BE32.unpack_from(data, at)[0], _BE32.pack),
        _ascii(4),
        _ascii(6),
        _ascii(8),
        Framing("2-byte-bcd", 2, 9999, _bcd, lambda length: bytes.fromhex(f"{length:04d}")),
        Framing("4-hex", 4, 0xFFFF, _hex, lambda length: b"%04X" % length),
        Framing("2-byte-be-vap", 4, 0xFFFF, _vap, lambda length: _VAP.pack(length, 0)),
    )
}


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame. Its repr holds no payload."""

    start: int  # offset of its prefix in the data that was cut
    end: int  # offset of the byte after it
    header: bytes
    payload: bytes  # b"" is a keep-alive

    def __repr__(self) -> str:
        return f"Frame({self.start}..{self.end})"


class Cuts(msgspec.Struct, frozen=True):
    """What `Framer.cut` found."""

    frames: list[Frame]
    need: int  # bytes that the incomplete frame at the end will have (or its prefix, if that is incomplete); 0 if none
    error: FramingError | None = None


class Framer(msgspec.Struct, frozen=True):
    """The framing of one link. Build it with `Framer.of`."""

    framing: Framing
    maximum: int  # bytes of header and payload
    header_length: int
    header_default: bytes
    is_tpdu: bool

    @classmethod
    def of(cls, name: str, header: str = "none", maximum: int = 4096, header_default: bytes | None = None) -> "Framer":
        """The framer of a configured link.

        name: a key of FRAMINGS. header: "none", "tpdu" or "fixed:N". maximum: bytes of header and payload, lowered to
        what the length can tell. header_default: what `frame` writes without a header of its own; without it
        60 00 00 00 00 for a TPDU and zeros for a fixed header. Raises ValueError.
        """
        framing = FRAMINGS.get(name)
        if framing is None:
            raise ValueError(f"unknown framing {name!r}: one of {', '.join(FRAMINGS)}")
        kind, _, size = header.partition(":")
        if header not in ("none", "tpdu") and not (kind == "fixed" and size.isdecimal() and size.isascii()):
            raise ValueError(f'unknown header {header!r}: "none", "tpdu" or "fixed:N"')
        length = TPDU_LENGTH if kind == "tpdu" else int(size or 0)
        maximum = min(maximum, framing.capacity)
        if maximum <= length:
            raise ValueError(f"maximum of {maximum} bytes leaves no room after a header of {length}")
        default = header_default if header_default is not None else TPDU_DEFAULT if kind == "tpdu" else bytes(length)
        if len(default) != length:
            raise ValueError(f"default header has {len(default)} bytes, the link's header {length}")
        return cls(framing, maximum, length, default, kind == "tpdu")

    @property
    def name(self) -> str:
        return self.framing.name

    @property
    def keepalive(self) -> bytes:
        """A frame without header and payload."""
        return self.framing.write(0)

    def cut(self, data: Buffer) -> Cuts:
        """Cut whole frames from the start of `data`. Never raises for what the data holds: see `Cuts.error`."""
        if isinstance(data, bytearray):
            data = memoryview(data)  # a slice of a bytearray would copy once more
        prefix, read, header_length, maximum = self.framing.prefix, self.framing.read, self.header_length, self.maximum
        frames: list[Frame] = []
        start, size = 0, len(data)
        while start < size:
            body = start + prefix
            if body > size:
                return Cuts(frames, prefix)
            try:
                length = read(data, start)
            except ValueError as error:
                return Cuts(frames, 0, FramingError(str(error), start))
            if length > maximum:
                return Cuts(frames, 0, FramingError(f"length is over the maximum of {maximum}", start))
            if 0 < length < header_length:
                return Cuts(frames, 0, FramingError(f"length is below the header's {header_length}", start))
            end = body + length
            if end > size:
                return Cuts(frames, end - start)
            if header_length and length:
                payload = body + header_length
                frames.append(Frame(start, end, bytes(data[body:payload]), bytes(data[payload:end])))
            else:
                frames.append(Frame(start, end, b"", bytes(data[body:end])))
            start = end
        return Cuts(frames, 0)

    def frame(self, payload: bytes, header: bytes = b"") -> bytes:
        """The bytes to write. Without a header the link's own is used. Raises FramingError over the maximum."""
        header = header or self.header_default
        if len(header) != self.header_length:
            raise FramingError(f"header has {len(header)} bytes, the link's header {self.header_length}")
        length = len(header) + len(payload)
        if length > self.maximum:
            raise FramingError(f"length {length} is over the maximum of {self.maximum}")
        return self.framing.write(length) + header + payload

    def answer_header(self, header: bytes) -> bytes:
        """The header of an answer: of a TPDU (id, destination 2, source 2) the addresses swapped, else as it is."""
        if self.is_tpdu and len(header) == TPDU_LENGTH:
            return header[:1] + header[3:5] + header[1:3]
        return header
