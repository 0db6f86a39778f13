"""Presence: `node/{a,b}` under this node's lease, in clear text. Its expiry makes a node suspect."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
from etcd3 import etcdrpc

from .client import Client
from .errors import LogBroken, Unavailable
from .keys import Keys
from .requests import absent, found, get, get_range, put, transaction

log = logging.getLogger("switch.mirror")
_decode_facts = msgspec.json.Decoder(dict[str, Any]).decode


def process_facts() -> dict[str, Any]:
    """What identifies this process on its host: boot id, pid, start time in clock ticks since boot (proc(5))."""
    stat = Path("/proc/self/stat").read_text()
    return {
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "pid": os.getpid(),
        "start_ticks": int(stat.rpartition(")")[2].split()[19]),
    }


class Presence:
    """Keeps the key alive from the join until the node leaves or stops."""

    def __init__(self, client: Client, keys: Keys, node: str) -> None:
        self._client, self._keys, self._key = client, keys, keys.node(node)
        self._ttl_s = client.settings.lease_ttl_s
        self._value = b""
        self._lease = 0
        self._left = False

    async def run(self, facts: dict[str, Any]) -> None:
        """Until cancelled. A lost lease is granted anew; a newer process's key is never replaced."""
        self._value = msgspec.json.encode(facts)
        first = True
        while not self._left:
            if self._lease == 0:
                await self._grant(replace=first)
                first = False
            await asyncio.sleep(self._ttl_s / 3)
            if self._lease:
                await self._keep_alive()

    async def _grant(self, replace: bool) -> None:
        granted = await self._client.call(
            lambda endpoint: endpoint.lease.LeaseGrant, etcdrpc.LeaseGrantRequest(TTL=self._ttl_s)
        )
        guards = [] if replace else [absent(self._key)]
        request = transaction([put(self._key, self._value, granted.ID)], guards, [get(self._key)])
        try:
            response = await self._client.call(lambda endpoint: endpoint.kv.Txn, request, patience_s=float(self._ttl_s))
        except Unavailable as error:
            log.warning("lease.not_put reason=%s", error)
            return
        if response.succeeded or any(kv.value == self._value and kv.lease == granted.ID for kv in found(response, 0)):
            self._lease = granted.ID
            log.info("lease.granted id=%x ttl_s=%d", granted.ID, granted.TTL)

    async def _keep_alive(self) -> None:
        endpoint = self._client.endpoint
        call = endpoint.lease.LeaseKeepAlive(
            timeout=self._client.settings.call_timeout_ms / 1000, metadata=self._client.metadata
        )
        try:
            await call.write(etcdrpc.LeaseKeepAliveRequest(ID=self._lease))
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            await self._client.recover(endpoint, error)
            return
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return  # grpc.aio reports faults of the stream as CancelledError too; the next turn tries again
        finally:
            call.cancel()  # and not `done_writing`, which fails in its own way when the call has just ended
        if answer is not grpc.aio.EOF and answer.TTL <= 0:
            log.warning("lease.lost id=%x", self._lease)
            self._lease = 0

    async def revoke(self) -> None:
        """Take the key away at once. Raises Unavailable."""
        self._left = True
        if self._lease:
            request = etcdrpc.LeaseRevokeRequest(ID=self._lease)
            self._lease = 0
            await self._client.call(lambda endpoint: endpoint.lease.LeaseRevoke, request, patience_s=1.0)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes that are present and what they say of themselves. Raises Unavailable, LogBroken."""
        request = transaction([get_range(self._keys.nodes, self._keys.nodes_end)])
        response = await self._client.call(lambda endpoint: endpoint.kv.Txn, request, patience_s=1.0)
        start = len(self._keys.nodes)
        try:
            return {kv.key[start:].decode(): _decode_facts(kv.value) for kv in found(response, 0)}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # msgspec lets the latter two through
            raise LogBroken(f"{self._keys.nodes.decode()} has what no node says ({type(error).__name__})") from None
