"""The one pipeline of appends of a node: group commit, one in flight, guarded retries, settling, and when to hold.

Theory. Every append compares our fence with the exact bytes we left there and advances it, so at most one of all
attempts for a sequence number ever applies, whatever the network delays or repeats. An attempt without an answer is
therefore repeated with identical bytes. After a while it is *settled*: an empty entry competes under the same guard and
the same key. Which of the two is in the log is told by the log itself, when the watch shows the entry.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc.aio
import msgspec

from ..points import reach
from .batch import Batch, Outcome, Rival
from .client import BACKOFF_MAX_S, BACKOFF_S, Client
from .entry import Follower, pack
from .errors import LogBroken, MirrorError, ProposalTooLarge
from .keys import Fence, Keys, Position, decode_fence
from .sealing import Sealer

log = logging.getLogger("switch.mirror")

PROPOSAL_BYTES_MAX = 1024 * 1024  # one larger than `batch_bytes_max` is an entry alone; etcd takes 1.5 MiB
UNSEEN_MAX = 8  # appended and not yet seen: beyond it the next append waits for the watch
LATENCIES_KEPT = 512


class Claim(msgspec.Struct, frozen=True):
    """An heir entry that waits for its turn in the pipeline."""

    rival: Rival
    make_body: Callable[[], bytes]
    done: "asyncio.Future[bool]"


class Appender:
    """Appends for one incarnation. Bounded by its user, who watches `backlog_bytes`."""

    def __init__(self, client: Client, keys: Keys, sealer: Sealer, follower: Follower, node: str) -> None:
        self._client, self._keys, self._sealer, self._follower, self._node = client, keys, sealer, follower, node
        self._settings = client.settings
        self._fence: Fence | None = None  # as our last append leaves it; None before the join
        self._queue: deque[tuple[bytes, Any]] = deque()
        self._queue_bytes = 0
        self._queued_since = 0.0
        self._claims: deque[Claim] = deque()
        self._unseen: dict[int, Batch] = {}  # by sequence: sent, not yet seen in the log
        self._in_flight: Batch | None = None
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()  # something left the pipeline
        self._attempts: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.held = False
        self.version = 1  # of the entries' bodies
        self.latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.seen_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.on_failure: Callable[[BaseException], None] = lambda error: None

    def open(self, fence: Fence) -> None:
        """The join entry is in the log: appending may begin."""
        self._fence = fence
        self._wake.set()

    @property
    def fence(self) -> Fence | None:
        return self._fence

    @property
    def backlog(self) -> int:
        """Proposals queued, plus batches sent but not yet applied."""
        return len(self._queue) + len(self._unseen)

    @property
    def backlog_bytes(self) -> int:
        return self._queue_bytes + sum(batch.size for batch in self._unseen.values())

    def submit(self, proposal: bytes, context: Any) -> None:
        """Queue one encoded proposal for the next entry."""
        if len(proposal) > PROPOSAL_BYTES_MAX:
            raise ProposalTooLarge(f"a proposal of {len(proposal)} bytes is larger than an entry may be")
        if not self._queue:
            self._queued_since = time.monotonic()
        self._queue.append((proposal, context))
        self._queue_bytes += len(proposal)
        self._wake.set()

    async def claim(self, rival: Rival, make_body: Callable[[], bytes]) -> bool:
        """Append an heir entry; False if the rival's fence is dead already or of a newer incarnation."""
        claim = Claim(rival, make_body, asyncio.get_running_loop().create_future())
        self._claims.append(claim)
        self._wake.set()
        return await claim.done

    async def run(self) -> None:
        """Append what is queued, one entry after the other, until cancelled. Raises MirrorError."""
        while True:
            while self._fence is None or not (self._claims or self._queue) or len(self._unseen) >= UNSEEN_MAX:
                self._wake.clear()
                await self._wake.wait()
            if self._claims:
                await self._carry_out(self._claims[0])
                self._claims.popleft()
                self._resume_if_settled()
            else:
                await self._commit(self._pack())

    def _pack(self) -> Batch:
        """Everything queued, up to the size of an entry."""
        limit, size = self._settings.batch_bytes_max, 0
        proposals: list[bytes] = []
        offers: list[Any] = []
        while self._queue and (size + len(self._queue[0][0]) <= limit or not proposals):
            proposal, context = self._queue.popleft()
            proposals.append(proposal)
            offers.append(context)
            size += len(proposal)
        self._queue_bytes -= size
        self._queued_since = time.monotonic()
        return self._batch(pack(self.version, proposals), offers, size)

    def _batch(self, body: bytes, offers: list[Any] | None, size: int, rival: Rival | None = None) -> Batch:
        assert self._fence is not None
        fence = Fence(self._fence.incarnation, self._fence.sequence + 1, self._fence.token)
        value = self._sealer.seal(self._entry_key(fence), body)
        return Batch(self._keys, self._node, fence, value, offers, size, rival)

    def _entry_key(self, fence: Fence) -> bytes:
        return self._keys.entry(Position(self._node, fence.incarnation, fence.sequence))

    async def _commit(self, batch: Batch) -> Outcome:
        """Send until its fate is known, by an answer or by the watch."""
        self._in_flight = self._unseen[batch.fence.sequence] = batch
        task = asyncio.create_task(self._deliver(batch))
        self._attempts.add(task)
        task.add_done_callback(self._delivered)
        outcome = await batch.fate
        self._in_flight = None
        if outcome is Outcome.ADVANCED:
            self._fence = batch.fence
            self.latencies_ms.append((time.monotonic() - batch.began) * 1000)
        else:
            del self._unseen[batch.fence.sequence]
        self._resume_if_settled()
        return outcome

    async def _deliver(self, batch: Batch) -> None:
        """Attempt after attempt of one batch. Not cancelled when the watch was faster: its answer is due at once."""
        client, settings = self._client, self._settings
        backoff = BACKOFF_S
        while not batch.fate.done():
            if not batch.empty and time.monotonic() - batch.began >= settings.settle_after_ms / 1000:
                batch.settle(self._sealer.seal(batch.key, pack(self.version, ())))
                log.warning("append.settling sequence=%d", batch.fence.sequence)
            endpoint, floor = client.endpoint, client.revision
            reach("append.before")
            try:
                response = await endpoint.kv.Txn(
                    batch.request, timeout=settings.append_timeout_ms / 1000, metadata=client.metadata
                )
            except grpc.aio.AioRpcError as error:
                if not batch.fate.done():
                    await client.recover(endpoint, error)
                    await asyncio.sleep(backoff)
                    backoff = min(2 * backoff, BACKOFF_MAX_S)
                continue
            reach("append.after")
            if not batch.fate.done():  # else the watch was faster, and our fence may have moved on since
                client.check(response.header, floor)
                outcome = batch.judge(response)
                batch.known_at = time.monotonic()
                batch.fate.set_result(outcome)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        if not task.cancelled():
            if (error := task.exception()) is not None:
                self.on_failure(error)
        elif not self._stopped:
            self.on_failure(MirrorError("an append was cancelled by nobody"))

    async def _carry_out(self, claim: Claim) -> None:
        """Append an heir entry against a fence that may still slip on, until it is in or has lost."""
        rival, incarnation = claim.rival, claim.rival.as_read.incarnation
        while not claim.done.done():
            if rival.as_read.dead or rival.as_read.incarnation != incarnation:
                claim.done.set_result(False)
                return
            batch = self._batch(claim.make_body(), None, 0, rival)
            if await self._commit(batch) is Outcome.RIVAL_MOVED:
                rival = Rival(rival.key, decode_fence(batch.rival_value))
            elif await batch.carried and not claim.done.done():  # it is cancelled when nobody waits any more
                claim.done.set_result(True)

    def seen(self, sequence: int, value: bytes) -> tuple[list[Any] | None, list[Any]]:
        """An entry of ours is in the log: (the offers it carries, the offers it displaced)."""
        batch = self._unseen.pop(sequence, None)
        if batch is None:
            raise LogBroken(f"an entry of this incarnation that this process has not sent: sequence {sequence}")
        carried = value == batch.value
        if not carried and value != batch.empty:
            raise LogBroken(f"entry {batch.key.decode()} is not the one this process has sent")
        self.seen_ms.append((time.monotonic() - batch.began) * 1000)
        if not batch.fate.done():
            batch.fate.set_result(Outcome.ADVANCED)
        batch.carried.set_result(carried)
        self._wake.set()
        self._moved.set()
        return (batch.offers, []) if carried else (None, batch.offers or [])

    def after_apply(self) -> None:
        """To be called when the follower has applied what was seen."""
        if self.held:
            self._resume_if_settled()

    def abandon(self, sequence: int) -> list[Any]:
        """A loaded snapshot stands for our entries up to `sequence`: their offers, for which no entry will come."""
        offers: list[Any] = []
        for number in [number for number in self._unseen if number <= sequence]:
            batch = self._unseen.pop(number)
            offers += batch.offers or []
            if not batch.fate.done():
                batch.fate.set_result(Outcome.ADVANCED)
            batch.carried.set_result(False)
        self._wake.set()
        return offers

    def supervise(self, now: float) -> None:
        """Called often, with the monotonic time: hold when nothing gets through, hand back what is queued meanwhile."""
        if not self.held:
            oldest = min((batch.began for batch in self._unseen.values()), default=now)
            if self._queue:
                oldest = min(oldest, self._queued_since)
            if self._fence is not None and now - oldest >= self._settings.hold_after_ms / 1000:
                self.held = True
                log.warning("append.holding sequence=%d backlog=%d", self._fence.sequence, self.backlog)
                self._follower.holding(True)
        if self.held:
            self._drop_queue()

    def silent_since(self) -> float | None:
        """Since when an entry is known to be in the log but was not shown by the watch; None if there is none."""
        return min((batch.known_at for batch in self._unseen.values() if batch.known_at), default=None)

    def _resume_if_settled(self) -> None:
        if self.held and not self._unseen and self._in_flight is None and not self._claims:
            self._drop_queue()
            self.held = False
            log.info("append.resumed")
            self._follower.holding(False)

    def _drop_queue(self) -> None:
        if self._queue:
            offers = [context for _, context in self._queue]
            self._queue.clear()
            self._queue_bytes = 0
            self._follower.dropped(offers)

    def stop(self) -> None:
        """End the attempts that are under way."""
        self._stopped = True
        for task in self._attempts:
            task.cancel()

    async def flushed(self) -> None:
        """Until everything submitted is appended and seen."""
        while self._queue or self._unseen or self._claims:
            self._moved.clear()
            await self._moved.wait()
