"""One append from packing to being seen: the bytes, the guards, and how its fate is judged from an answer of etcd."""

import asyncio
import enum
import time
from typing import Any

import msgspec

from .errors import Fenced, FenceMissing
from .keys import DEAD, Fence, Keys, Position
from .requests import found, get, holds, put, transaction


class Outcome(enum.Enum):
    """What is known about an append."""

    ADVANCED = (
        enum.auto()
    )  # our fence stands behind it: the batch, or the empty entry that competed with it, is in the log
    RIVAL_MOVED = enum.auto()  # nothing was appended: the second guard, on the dead node's fence, did not hold


class Rival(msgspec.Struct, frozen=True):
    """The fence that an heir entry sets to dead in its own transaction."""

    key: bytes
    as_read: Fence

    def dead(self) -> bytes:
        return Fence(self.as_read.incarnation, self.as_read.sequence, DEAD).encode()


class Batch:
    """One entry on its way. Its bytes never change: every attempt sends the same request under the same guard."""

    def __init__(
        self,
        keys: Keys,
        node: str,
        fence: Fence,
        value: bytes,
        offers: list[Any] | None,
        size: int,
        rival: Rival | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.fence = fence  # as this entry leaves it
        self.value = value
        self.offers = offers
        self.size = size
        self.empty = b""  # the sealed empty entry, once it competes
        self.began = time.monotonic()
        self.known_at = 0.0  # when an answer (not the watch) told the fate
        self.fate: asyncio.Future[Outcome] = loop.create_future()
        self.carried: asyncio.Future[bool] = (
            loop.create_future()
        )  # seen in the watch: was it the batch, not the empty entry?
        self.rival = rival
        self.rival_value = b""  # the rival's fence as the failed transaction has read it
        self._keys = keys
        self._fence_key = keys.fence(node)
        self._as_read = Fence(fence.incarnation, fence.sequence - 1, fence.token).encode()
        self.key = keys.entry(Position(node, fence.incarnation, fence.sequence))
        self.request = self._request(value, rival)

    def settle(self, empty: bytes) -> None:
        """From now on attempts carry the empty entry under the same guard and key: one of the two wins."""
        self.empty = empty
        self.request = self._request(empty, None)

    def _request(self, value: bytes, rival: Rival | None) -> Any:
        guards = [holds(self._fence_key, self._as_read)]
        puts = [put(self._fence_key, self.fence.encode()), put(self.key, value), put(self._keys.head, b"")]
        reads = [get(self._fence_key)]
        if rival is not None:
            guards.append(holds(rival.key, rival.as_read.encode()))
            puts.insert(1, put(rival.key, rival.dead()))
            reads.append(get(rival.key))
        return transaction(puts, guards, reads)

    def judge(self, response: Any) -> Outcome:
        """Read the answer to any attempt. Raises Fenced or FenceMissing."""
        if response.succeeded:
            return Outcome.ADVANCED
        kvs = found(response, 0)
        if not kvs:
            raise FenceMissing(f"{self._fence_key.decode()} is gone: etcd's data was lost or replaced")
        value = kvs[0].value
        if value == self.fence.encode():
            return Outcome.ADVANCED
        if value == self._as_read and self.rival is not None:
            rival = found(response, 1)
            self.rival_value = rival[0].value if rival else b""
            return Outcome.RIVAL_MOVED
        raise Fenced(
            f"{self._fence_key.decode()} is {value.decode(errors='replace')!r}, we are {self.fence.encode().decode()!r}"
        )
