"""The mirror: what the daemon starts, joins, submits to and leaves. Wires append, watch, snapshot and lease."""

import asyncio
import logging
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from .append import Appender
from .batch import Rival
from .client import Client, Endpoint
from .entry import Follower
from .errors import FenceMissing, MirrorError, Unavailable
from .fitness import examine
from .joining import Joining
from .keys import NODES, Keys, decode_fence
from .lease import Presence, process_facts
from .replica import Replica
from .requests import found, get, transaction
from .sealing import Sealer
from .settings import EtcdSettings
from .snapshot import Snapshots
from .truncate import truncate_log
from .watch import Watcher

log = logging.getLogger("switch.mirror")

SUPERVISE_EVERY_S = 0.05
LEAVE_S = 2.0

T = TypeVar("T")


class Mirror:
    """One node's replica of the log of its pair.

    `failed` gets the exception that ends this incarnation (MirrorError, or what the follower raised): nothing is
    written or applied after it, and the process must leave at once.
    """

    def __init__(
        self,
        settings: EtcdSettings,
        pair: str,
        node: str,
        sealer: Sealer,
        follower: Follower,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """`facts` (software version, entry versions) are added to what `node/{me}` says; in clear text."""
        if node not in NODES:
            raise ValueError(f"a node is one of {NODES}, not {node!r}")
        self.node = node
        self.token = os.urandom(8).hex()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.warnings: list[str] = []
        self.version = ""
        self._settings, self._sealer = settings, sealer
        self._facts = facts or {}
        self._keys = Keys(pair)
        self._client = Client(settings)
        self._client.on_failover = self._endpoint_failed
        self._appender = Appender(self._client, self._keys, sealer, follower, node)
        self._appender.on_failure = self._fail
        self._snapshots = Snapshots(self._client, self._keys, sealer)
        self._replica = Replica(self._client, self._keys, sealer, follower, node, self._appender, self._snapshots)
        self._watcher = Watcher(self._client, self._keys, self._replica)
        self._presence = Presence(self._client, self._keys, node)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Wait for etcd, load snapshot and log up to the head, start the watch. Does not join. Raises MirrorError."""
        await self._client.authenticate()
        await self._replica.catch_up()
        log.info("mirror.started index=%d cluster=%x", self.index, self._client.cluster_id)
        self._spawn(self._watcher.run())
        self._spawn(self._supervise())
        self._spawn(self._examine())

    async def join(self, make_body: Callable[[int, str], bytes]) -> int:
        """Begin a new incarnation with the entry `make_body(incarnation, token)`; returns when that is applied.

        Any older incarnation of this node is fenced by it. Raises Fenced if another process joined meanwhile.
        """
        joining = self._replica.joining = Joining(self._client, self._keys, self._sealer, self.node, self.token)
        fence = await joining.take_fence(make_body)
        await self._or_failed(joining.applied)
        self._replica.incarnation = fence.incarnation
        self._appender.open(fence)
        self._spawn(self._appender.run())
        facts = {**process_facts(), "incarnation": fence.incarnation, "token": self.token, **self._facts}
        self._spawn(self._presence.run(facts))
        log.info("mirror.joined node=%s incarnation=%d index=%d", self.node, fence.incarnation, self.index)
        return fence.incarnation

    def submit(self, proposal: bytes, context: Any) -> None:
        """Queue one msgpack value for the next entry. `context` comes back in `Entry.offers` or through `dropped`."""
        self._appender.submit(proposal, context)

    @property
    def index(self) -> int:
        """Of the last entry applied."""
        return self._replica.index

    @property
    def incarnation(self) -> int:
        """0 before the join."""
        return self._replica.incarnation

    @property
    def entry_version(self) -> int:
        """The version that the bodies of this node's entries carry."""
        return self._appender.version

    @entry_version.setter
    def entry_version(self, version: int) -> None:
        self._appender.version = version

    @property
    def held(self) -> bool:
        return self._appender.held

    @property
    def backlog(self) -> int:
        """Proposals queued and batches not yet applied."""
        return self._appender.backlog

    @property
    def backlog_bytes(self) -> int:
        """Queued or sent and not yet applied."""
        return self._appender.backlog_bytes

    async def take_fence_of(self, node: str, incarnation: int, make_body: Callable[[], bytes]) -> bool:
        """Append an heir entry that sets the fence of a dead incarnation to dead in the same transaction.

        `make_body` is called anew for each try. False if that fence was dead already or a newer incarnation has it;
        then, as always, the applied state says who is heir. Raises FenceMissing for a node that never joined.
        """
        key = self._keys.fence(node)
        response = await self._client.call(lambda endpoint: endpoint.kv.Txn, transaction([get(key)]))
        kvs = found(response, 0)
        if not kvs:
            raise FenceMissing(f"{key.decode()} does not exist")
        fence = decode_fence(kvs[0].value)
        if fence.incarnation != incarnation:
            return False
        return await self._or_failed(asyncio.ensure_future(self._appender.claim(Rival(key, fence), make_body)))

    async def write_snapshot(
        self, index: int, chunks: Iterator[bytes], segments: dict[str, Callable[[], bytes]]
    ) -> bool:
        """Write the state at `index` slice by slice; True when it has become the snapshot.

        Chunks are at most 1 MiB (512 KB is good) and are taken one at a time. A segment is encoded only if etcd has
        none of its name.
        """
        return await self._snapshots.write(index, chunks, segments)

    async def truncate(self, below: int) -> None:
        """Delete the log up to about `below` (never beyond the snapshot), old chunks and unnamed segments; compact.

        The caller knows that every live or joining incarnation has applied `below`.
        """
        try:
            below = min(below, await self._snapshots.index())
            await truncate_log(self._client, self._keys, self._replica.marks, below)
            await self._snapshots.delete_old()
        except Unavailable as error:
            log.warning("log.not_truncated index=%d reason=%s", below, error)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes that are present, by their leases, and their facts. Raises Unavailable."""
        return await self._presence.nodes()

    async def leave(self) -> None:
        """Let what is submitted become applied, for two seconds at most, and give up the lease."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._appender.flushed()
                await self._presence.revoke()
        except (TimeoutError, Unavailable) as error:
            log.warning("mirror.left_early backlog=%d reason=%r", self.backlog, error)

    async def close(self) -> None:
        """Stop all tasks and close the channels. Nothing is written."""
        self._stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def health(self) -> dict[str, Any]:
        """Figures for operators."""
        appender, fence = self._appender, self._appender.fence
        silent = appender.silent_since()
        return {
            "endpoint": self._client.endpoint.url,
            "watch_endpoint": self._watcher.endpoint.url,
            "held": appender.held,
            "index": self.index,
            "revision": self._client.revision,
            "incarnation": self.incarnation,
            "sequence": fence.sequence if fence else 0,
            "append_p50_ms": _p50(appender.latencies_ms),
            "seen_p50_ms": _p50(appender.seen_ms),
            "watch_lag_ms": 0.0 if silent is None else (time.monotonic() - silent) * 1000,
            "backlog": appender.backlog,
            "backlog_bytes": appender.backlog_bytes,
            "cluster_id": f"{self._client.cluster_id:x}",
            "etcd_version": self.version,
            "sealed_with": self._sealer.key_id,
            "sealed": self._sealer.sealed,
            "warnings": self.warnings,
        }

    async def _supervise(self) -> None:
        """Hold, resume, and leave a watch that shows nothing, by the monotonic clock."""
        stall_s = self._settings.watch_stall_ms / 1000
        while True:
            await asyncio.sleep(SUPERVISE_EVERY_S)
            now = time.monotonic()
            self._appender.supervise(now)
            silent, watching = self._appender.silent_since(), self._watcher.since
            # one that is being made is given its time: on a long way this is looked at many times meanwhile
            if silent is not None and watching and now - max(silent, watching) >= stall_s:
                self._watcher.leave(self._watcher.endpoint, "own entry not shown")

    async def _examine(self) -> None:
        self.version, self.warnings = await examine(self._client)

    def _endpoint_failed(self, endpoint: Endpoint) -> None:
        self._watcher.leave(endpoint, "did not answer")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            if (error := task.exception()) is not None:
                self._fail(error)
        elif not self._stopping:
            self._fail(MirrorError(f"{task.get_coro()} was cancelled by nobody"))

    def _fail(self, error: BaseException) -> None:
        """This incarnation is over: say why, stop everything."""
        if self.failed.done():
            return
        log.critical("mirror.failed node=%s index=%d cause=%s: %s", self.node, self.index, type(error).__name__, error)
        self.failed.set_exception(error)
        self.failed.exception()  # retrieved: whoever does not wait for it has read the log line
        self._client.stopped = error
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._appender.stop()
        for task in self._tasks:
            task.cancel()

    async def _or_failed(self, future: "asyncio.Future[T]") -> T:
        """The future's result, unless this incarnation ends first."""
        await asyncio.wait((future, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            future.cancel()
            self.failed.result()
        return future.result()


def _p50(values: "deque[float]") -> float:
    return round(statistics.median(values), 3) if values else 0.0
