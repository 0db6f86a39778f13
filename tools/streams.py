"""The auditor's own cutter: finds the messages in a stream of bytes without any code of the switch.

The names of framings and headers are those of the switch's configuration.
"""

from collections.abc import Callable
from typing import NamedTuple

TPDU_BYTES = 5

# prefix bytes, and how many bytes follow them (header included)
PREFIXES: dict[str, tuple[int, Callable[[bytes], int]]] = {
    "2-byte-be": (2, lambda prefix: int.from_bytes(prefix, "big")),
    "2-byte-be-inclusive": (2, lambda prefix: int.from_bytes(prefix, "big") - 2),
    "2-byte-le": (2, lambda prefix: int.from_bytes(prefix, "little")),
    "4-byte-be": (4, lambda prefix: int.from_bytes(prefix, "big")),
    "4-ascii": (4, lambda prefix: _digits(prefix, 10)),
    "6-ascii": (6, lambda prefix: _digits(prefix, 10)),
    "8-ascii": (8, lambda prefix: _digits(prefix, 10)),
    "4-hex": (4, lambda prefix: _digits(prefix, 16)),
    "2-byte-bcd": (2, lambda prefix: _digits(prefix.hex().encode(), 10)),
    "2-byte-be-vap": (4, lambda prefix: int.from_bytes(prefix[:2], "big")),
}


class StreamError(Exception):
    """Bytes that cannot be cut. `offset`: where in the stream the bad frame starts."""

    def __init__(self, reason: str, offset: int) -> None:
        self.offset = offset
        super().__init__(f"{reason} at offset {offset}")


class Cut(NamedTuple):
    """One frame of a stream: where it starts and how long it is on the wire, its header and payload."""

    offset: int
    length: int
    header: bytes
    payload: bytes


class Stream:
    """One direction of one session, fed in pieces of any size."""

    def __init__(self, framing: str, header: str) -> None:
        self._prefix_bytes, self._length_of = PREFIXES[framing]
        kind, _, size = header.partition(":")
        self._header_bytes = TPDU_BYTES if kind == "tpdu" else int(size or 0)
        self._rest = b""
        self._offset = 0

    @property
    def remainder(self) -> int:
        """Bytes at the end that are no whole frame."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Cut]:
        """The frames that `data` completes; keep-alives (frames without a body) are left out. Raises StreamError."""
        data = self._rest + data
        cuts = []
        start = 0
        while len(data) - start >= self._prefix_bytes:
            body = start + self._prefix_bytes
            try:
                length = self._length_of(data[start:body])
            except ValueError:
                length = -1
            if length < 0 or 0 < length < self._header_bytes:
                self._rest = data[start:]
                raise StreamError("no length of a frame", self._offset + start)
            if body + length > len(data):
                break
            if length:
                payload = body + self._header_bytes
                end = body + length
                cuts.append(Cut(self._offset + start, end - start, data[body:payload], data[payload:end]))
            start = body + length
        self._rest = data[start:]
        self._offset += start
        return cuts


def swapped(header: bytes, kind: str) -> bytes:
    """The header that the answer must carry: a TPDU with source and destination swapped, any other as it was."""
    return header[:1] + header[3:5] + header[1:3] if kind == "tpdu" else header


def _digits(prefix: bytes, radix: int) -> int:
    if not prefix.isalnum():  # int() would take signs, spaces and underscores
        raise ValueError("no digits")
    return int(prefix, radix)
