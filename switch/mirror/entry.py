"""What the mirror hands over and to whom: an entry of the log, and the follower that applies it."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

NO_PROPOSALS = b"\x90"  # msgpack: an array of none


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log, opened. Its body is msgpack: [version, [proposal, ...]]."""

    index: int  # etcd's version of `head`: gap-free over both nodes
    node: str
    incarnation: int
    sequence: int
    body: bytes
    revision: int  # etcd's mod_revision
    offers: list[Any] | None = (
        None  # own batch: the context of each proposal, in order. Else, and for join, heir, settling: None
    )


class Follower(Protocol):
    """The state that follows the log. All calls come on the event loop, one at a time; none may raise or block."""

    def load(self, index: int, chunks: list[bytes], segments: dict[str, bytes]) -> None:
        """Replace the state by a snapshot: before the first apply, or later where the log was truncated under us."""

    def apply(self, entry: Entry) -> None:
        """Fold in the entry of the next index."""

    def dropped(self, offers: list[Any]) -> None:
        """These proposals are not in the log and never will be (or are in a snapshot that was loaded): offer anew."""

    def holding(self, held: bool) -> None:
        """The switch holds, or may go on. While held, what is submitted comes back through `dropped`."""


def pack(version: int, proposals: Sequence[bytes]) -> bytes:
    """The body of an entry from proposals that are encoded already, without encoding them again."""
    count = len(proposals)
    if count < 16:
        header = bytes((0x90 | count,))
    elif count < 65536:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((b"\x92", msgspec.msgpack.encode(version), header, *proposals))
