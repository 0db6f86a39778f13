"""Bytes of a request on its way (track, PIN block, CVV, chip data) in the state: sealed with a data key, closed to `apply`.

A key is destroyed when no value that it sealed is left in the state (switch/datakeys.py). State, hash and snapshot hold what
is sealed as it is, so they are the same with and without the key; only who writes or reads on needs it.

A value is: the key's id (8 bytes), how many values the key had sealed before (8 bytes), AES-256-GCM ciphertext, tag (16 bytes).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from switch.core.state import State

KEY_ID_BYTES = 8
COUNT_BYTES = 8
TAG_BYTES = 16
MORE_BYTES = KEY_ID_BYTES + COUNT_BYTES + TAG_BYTES  # than what is sealed


class KeyGone(OSError):
    """What is sealed cannot be opened: its session cannot go on, and what it was to carry is decided without it."""


class Sealed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Stands where bytes may stand; `len` is that of those bytes."""

    value: Annotated[bytes, msgspec.Meta(min_length=MORE_BYTES)]

    def __len__(self) -> int:
        return len(self.value) - MORE_BYTES

    def __repr__(self) -> str:
        return "Sealed"

    @property
    def key(self) -> bytes:
        return self.value[:KEY_ID_BYTES]


def plain(data: bytes | Sealed) -> bytes:
    """For an engine without keys. Raises KeyGone for what is sealed."""
    if isinstance(data, Sealed):
        raise KeyGone("no data keys here")
    return data


def sealed_in(state: "State") -> Iterator[Sealed]:
    """All that the state holds sealed."""
    for session in state.sessions.values():
        for out in session.outbox:
            if isinstance(out.data, Sealed):
                yield out.data
        if isinstance(session.piece, tuple):
            yield from (part for part in session.piece if isinstance(part, Sealed))
    for number in state.unsent:
        unsent = state.transactions[number].unsent
        if isinstance(unsent, Sealed):
            yield unsent
