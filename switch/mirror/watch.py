"""Follow the log through one watch, and see to it that a lost, late or silent watch is noticed.

The watch covers `head` and `log/`, which every append puts in one revision; the version of `head` is the entry's index.
Only index + 1 is handed on: whatever the watch loses or delays shows as a gap, and the caller reads the log instead.
"""

import asyncio
import logging
import time
from typing import Any

import grpc.aio
from etcd3 import etcdrpc

from .client import BACKOFF_MAX_S, BACKOFF_S, Client, Endpoint, describe
from .keys import Keys
from .replica import Replica
from .requests import get, transaction

log = logging.getLogger("switch.mirror")

BURST_ENTRIES = 32  # applied in a row before other tasks get a turn


class _Gap(Exception):
    """The watch cannot show the next entry."""


class _Broken(Exception):
    """The watch has ended, or must be."""


class Watcher:
    """Shows the replica every entry, in order; lets it catch up from the log where the watch has a gap."""

    def __init__(self, client: Client, keys: Keys, replica: Replica) -> None:
        self._client, self._keys, self._replica = client, keys, replica
        self._call: Any = None
        self._endpoint = client.endpoint
        self._avoid: Endpoint | None = None
        self._pending: Any = None  # an entry whose `head` has not come yet
        self.since = 0.0  # when the present watch was created, monotonic; 0: there is none

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    async def run(self) -> None:
        """Until cancelled. Raises MirrorError, and whatever the follower raises."""
        backoff = BACKOFF_S
        while True:
            self._endpoint = self._choose()
            try:
                await self._follow(self._endpoint)
            except _Gap as gap:
                log.warning("watch.gap endpoint=%s index=%d reason=%s", self._endpoint.url, self._replica.index, gap)
                await self._replica.catch_up()
                continue
            except grpc.aio.AioRpcError as error:
                reason = describe(error)
                await self._client.recover(self._endpoint, error)
            except (_Broken, TimeoutError, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # grpc.aio reports faults of the stream as CancelledError too: one that nobody asked for is a failure.
                reason = str(error) or type(error).__name__
                await self._client.authenticate()
            if self.since:
                backoff = BACKOFF_S
            self.since = 0.0
            self._avoid = self._endpoint
            log.warning("watch.ended endpoint=%s index=%d reason=%s", self._endpoint.url, self._replica.index, reason)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MAX_S)

    def leave(self, endpoint: Endpoint, reason: str) -> None:
        """Move to another endpoint if the watch is on this one: it does not answer, or shows nothing."""
        if self._endpoint is endpoint and self._call is not None:
            log.warning("watch.moving endpoint=%s reason=%s", endpoint.url, reason)
            self._call.cancel()

    def _choose(self) -> Endpoint:
        """The endpoint that appends use, or the one after that on which the watch has just failed."""
        return self._client.after(self._avoid) if self._avoid else self._client.endpoint

    async def _follow(self, endpoint: Endpoint) -> None:
        await self._client.call(
            lambda current: current.kv.Txn, transaction([get(self._keys.head)])
        )  # our cluster, not from before
        client = self._client
        call = self._call = endpoint.watch.Watch(metadata=(*client.metadata, ("hasleader", "true")))
        self._pending = None
        try:
            async with asyncio.timeout(client.settings.call_timeout_ms / 1000):
                await call.write(self._create_request())
                await self._receive(await call.read())
            self.since = time.monotonic()
            self._avoid = None
            log.info("watch.created endpoint=%s index=%d", endpoint.url, self._replica.index)
            while True:
                await self._receive(await call.read())
        finally:
            self._call = None
            call.cancel()

    def _create_request(self) -> Any:
        request = etcdrpc.WatchCreateRequest(
            key=self._keys.head,
            range_end=self._keys.log_end,
            start_revision=self._client.revision + 1,
            filters=[etcdrpc.WatchCreateRequest.NODELETE],
        )
        return etcdrpc.WatchRequest(create_request=request)

    async def _receive(self, response: Any) -> None:
        if response is grpc.aio.EOF:
            raise _Broken("stream ended")
        if response.compact_revision:
            raise _Gap(f"compacted up to {response.compact_revision}")
        if response.canceled:
            raise _Broken(f"cancelled by etcd: {response.cancel_reason}")
        self._client.check(response.header, 0)
        burst = 0
        for event in response.events:
            kv = event.kv
            if kv.key != self._keys.head:
                self._pending = kv
                continue
            index = self._replica.index
            if kv.version <= index:
                continue
            if kv.version != index + 1 or self._pending is None or self._pending.mod_revision != kv.mod_revision:
                raise _Gap(f"entry {kv.version} shown")
            self._replica.take(kv.version, self._pending)
            burst += 1
            if burst % BURST_ENTRIES == 0:
                await asyncio.sleep(0)
