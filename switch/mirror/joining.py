"""Take this node's fence for a new incarnation, with the join entry in the same transaction."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .client import Client
from .errors import Fenced
from .keys import Fence, Keys, Position, decode_fence
from .requests import absent, found, get, holds, put, transaction
from .sealing import Sealer

log = logging.getLogger("switch.mirror")


class Joining:
    """One join of one process. Its entry is recognised in the watch by its bytes."""

    def __init__(self, client: Client, keys: Keys, sealer: Sealer, node: str, token: str) -> None:
        self._client, self._keys, self._sealer = client, keys, sealer
        self._node, self._token = node, token
        self._value = b""
        self.applied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take_fence(self, make_body: Callable[[int, str], bytes]) -> Fence:
        """The fence as it stands when the join entry is in the log. Raises Fenced when another process was faster."""
        key = self._keys.fence(self._node)
        former = await self._read(key)
        first = former
        while True:
            fence = Fence(former.incarnation + 1 if former else 1, 1, self._token)
            entry = self._keys.entry(Position(self._node, fence.incarnation, fence.sequence))
            self._value = self._sealer.seal(entry, make_body(fence.incarnation, self._token))
            guard = holds(key, former.encode()) if former else absent(key)
            puts = [put(key, fence.encode()), put(entry, self._value), put(self._keys.head, b"")]
            response = await self._client.call(lambda endpoint: endpoint.kv.Txn, transaction(puts, [guard], [get(key)]))
            if response.succeeded:
                return fence
            kvs = found(response, 0)
            former = decode_fence(kvs[0].value) if kvs else None
            if former == fence:
                return fence
            if (former.incarnation if former else 0) != (first.incarnation if first else 0):
                raise Fenced(f"another process joined as {self._node} at the same time: its fence is {former}")
            log.info("join.slipped node=%s fence=%s", self._node, former)

    async def _read(self, key: bytes) -> Fence | None:
        response = await self._client.call(lambda endpoint: endpoint.kv.Txn, transaction([get(key)]))
        kvs: list[Any] = found(response, 0)
        return decode_fence(kvs[0].value) if kvs else None

    def saw(self, value: bytes) -> None:
        """An entry was applied: ours?"""
        if value == self._value and not self.applied.done():
            self.applied.set_result(None)

    def skipped(self, fence: Fence, later: list[Position]) -> None:
        """A snapshot was loaded: our entry is in it if the fence is ours and the log after it does not hold the entry."""
        first = Position(self._node, fence.incarnation, 1)
        if fence.token == self._token and first not in later and not self.applied.done():
            self.applied.set_result(None)
