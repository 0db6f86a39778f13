"""What stands behind switch.mirror.client.Endpoint in the simulation: calls as grpc.aio shows them, in virtual time.

A call belongs to the process that made it, and lives on when that has ended: a request on its way may still be applied.
Whether and when things arrive is the cluster's affair (etcd_twin.py).
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from etcd3 import etcdrpc
from etcd_store import DELETE, FROM_KEY, PUT, Answer, Event, Header, Refused, Store, Txn
from world import Timer

if TYPE_CHECKING:
    from etcd_twin import Cluster

WAY_S = 0.000_3  # of a request or an answer
WATCH_S = 0.000_5  # from the commit to the watcher
SYNC_EVERY_S = 0.1  # a watch from the past is served by a loop of this period (etcd: syncWatchersLoop)
RECONNECT_S = (0.1, 1.0)  # gRPC's backoff after a connection that was refused, first and longest

UP, REFUSING, SILENT = range(3)  # how a member is reached

_Code = grpc.StatusCode
_Filter = etcdrpc.WatchCreateRequest
CONNECT_FAILED = (_Code.UNAVAILABLE, "failed to connect to all addresses; last error: Connection refused")
SOCKET_CLOSED = (_Code.UNAVAILABLE, "Socket closed")
NO_LEADER = (_Code.UNAVAILABLE, "etcdserver: no leader")
DEADLINE = (_Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
NO_AUTH = (_Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")


def failure(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)


class Unary:
    """One request and its answer. It lives on when its caller does not."""

    __slots__ = ("_deadline", "cluster", "endpoint", "future", "process", "timeout", "until", "work", "writes")

    def __init__(self, endpoint: "SimEndpoint", work: Callable[[], Any], timeout: float | None, writes: bool) -> None:
        cluster = endpoint.cluster
        self.cluster, self.endpoint, self.work, self.timeout, self.writes = cluster, endpoint, work, timeout, writes
        process = cluster.world.process
        assert process is not None
        self.process = process
        self.future: asyncio.Future[Any] = asyncio.Future(loop=process.loop)
        self._deadline: Timer | None = None
        self.until = math.inf
        if timeout is not None:
            self.until = cluster.world.now + timeout
            self._deadline = cluster.world.at(timeout, lambda: self.fail(DEADLINE))
        cluster.send(self)

    async def result(self) -> Any:
        """Raises AioRpcError."""
        outcome = await self.future
        world = self.cluster.world
        if world.now >= self.until and world.chance(0.5):
            outcome = failure(*DEADLINE)  # the process was stopped or slow: both came, and either may be seen first
        if type(outcome) is grpc.aio.AioRpcError:
            raise outcome
        return outcome

    def apply(self) -> None:
        """The request is at its member, and agreed on."""
        cluster = self.cluster
        if not cluster.calm and cluster.hinders(self):
            return
        if not self.process.alive and cluster.world.chance(0.3):
            return  # the kernel had not sent it yet
        try:
            outcome = self.work()
            outcome.header = cluster.header(self.endpoint.member)
        except Refused as refused:
            outcome = failure(*refused.args)
        self.endpoint.retry_at = 0.0
        if not self.future.done():
            cluster.reply(self, outcome)

    def answer(self, outcome: Any) -> None:
        if not self.future.done():
            if self._deadline is not None:
                self._deadline.cancel()
            self.future.set_result(outcome)

    def fail(self, why: tuple[grpc.StatusCode, str]) -> None:
        if not self.future.done():
            self.answer(failure(*why))


class Watch:
    """One stream of watches, as grpc.aio shows it."""

    def __init__(self, endpoint: "SimEndpoint", needs_leader: bool) -> None:
        cluster = endpoint.cluster
        process = cluster.world.process
        assert process is not None
        self.cluster, self.world, self.process, self.member = cluster, cluster.world, process, endpoint.member
        self.needs_leader = needs_leader
        self.lagging_until = self.member.lagging_until
        self.to_lose = 0
        self._endpoint = endpoint
        self._loop = process.loop
        self._inbox: deque[Any] = deque()
        self._reader: asyncio.Future[Any] | None = None
        self._fate: tuple[grpc.StatusCode, str] | None = None
        self._ended = self._cancelled = False
        self._timer: Timer | None = None
        self._views: list[View] = []
        self._ids = 0
        process.ended.append(self._gone)

    # --- for the client

    async def write(self, request: Any) -> None:
        """Raises AioRpcError where there is no connection, CancelledError after `cancel`."""
        create = request.create_request
        if request.WhichOneof("request_union") != "create_request" or create.progress_notify or create.prev_kv:
            raise NotImplementedError("the twin of etcd knows no other watches than those of the switch")
        self._check()
        cluster = self.cluster
        reach = cluster.reach(self.process, self.member)
        if reach == REFUSING or self.world.now < self._endpoint.retry_at:
            self._endpoint.refused()
            self._fate, self._ended = CONNECT_FAILED, True
        sent: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        self.world.at(cluster.lag(WAY_S / 3), lambda: sent.done() or sent.set_result(None))
        try:
            await sent
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._check()
        if reach == SILENT:
            cluster.when(lambda: cluster.reach(self.process, self.member) != SILENT, lambda: self._create(create))
        else:
            self.world.at(cluster.lag(WAY_S), lambda: self._create(create))

    async def read(self) -> Any:
        """The next response; raises AioRpcError or CancelledError when the stream is broken."""
        if self._inbox:
            return self._inbox.popleft()
        self._check()
        reader = self._reader = asyncio.Future(loop=self._loop)
        try:
            response = await reader
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._reader = None
        if response is None:
            self._check()
        return response

    def cancel(self) -> bool:
        if self._ended or not self.process.alive:  # a dead process's frames are cleared away at any time
            return False
        self._ended = self._cancelled = True
        self._inbox.clear()
        self._gone()
        if self._reader is not None:
            self._reader.cancel()
        return True

    def _check(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError
        if self._fate is not None:
            raise failure(*self._fate)

    # --- for the cluster

    def end(self, why: tuple[grpc.StatusCode, str]) -> None:
        """The stream breaks. grpc.aio says so by an error, or as if the call had been cancelled."""
        if self._ended:
            return
        self._ended = True
        self._gone()
        if self.world.chance(0.5):
            self._inbox.clear()
        if self.world.chance(0.3):
            self._cancelled = True
        else:
            self._fate = why
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def wake(self) -> None:
        """There may be something to show."""
        if self._timer is None:
            self._timer = self.world.at(self.cluster.lag(WATCH_S), self._show)

    def _gone(self) -> None:
        self.cluster.streams.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def _create(self, request: Any) -> None:
        """The request is at the member."""
        cluster = self.cluster
        if self._ended or not self.process.alive:
            return
        reach = cluster.reach(self.process, self.member)
        cluster.streams[self] = None  # from now on it can break
        if reach == REFUSING:
            self.end(SOCKET_CLOSED)
        elif reach == SILENT:
            cluster.when(lambda: cluster.reach(self.process, self.member) != SILENT, lambda: self._create(request))
        elif self.needs_leader and not cluster.led():
            self.end(NO_LEADER)
        else:
            self._begin(request)

    def _begin(self, request: Any) -> None:
        store = self.cluster.store
        start = request.start_revision or store.revision + 1
        view = View(self._ids, request, start, start <= store.revision)
        if view.end and view.end != FROM_KEY and view.start >= view.end:  # an empty range
            view.number = -1
            self._deliver(view.response(self.cluster.header(self.member), created=True, canceled=True))
            return
        self._ids += 1
        self._views.append(view)
        self._endpoint.retry_at = 0.0
        self._deliver(view.response(self.cluster.header(self.member), created=True))
        if view.behind and self._timer is None:
            self._timer = self.world.at(self.world.dice.random() * SYNC_EVERY_S, self._show)

    def _show(self) -> None:
        """Everything that has happened since, to the client."""
        self._timer = None
        cluster = self.cluster
        if not cluster.calm:
            now = self.world.now
            if now < self.lagging_until:
                for view in self._views:
                    view.behind = True
                return  # woken when it ends
            if cluster.reach(self.process, self.member) != UP:
                return
        for view in list(self._views):
            if view.since <= cluster.store.revision:
                self._show_view(view)

    def _show_view(self, view: "View") -> None:
        store = self.cluster.store
        if view.behind and view.since < store.compacted:
            self._views.remove(view)
            self._deliver(
                view.response(self.cluster.header(self.member, 0), canceled=True, compact_revision=store.compacted)
            )
            return
        revisions = list(view.collect(store))
        view.since = store.revision + 1
        if self.to_lose and revisions:
            self._lose(revisions)
        if len(revisions) > 1 and (view.behind or self.world.chance(0.2)):
            revisions = [(store.revision, [event for _, events in revisions for event in events])]
        view.behind = False
        for revision, events in revisions:
            header = self.cluster.header(self.member, revision)
            if len(events) > 1 and self.cluster.split():
                cut = self.world.dice.randrange(1, len(events))
                self._deliver(view.response(header, events=events[:cut]))
                events = events[cut:]
            self._deliver(view.response(header, events=events))

    def _lose(self, revisions: list[tuple[int, list[Event]]]) -> None:
        """An event, or all of a revision."""
        self.to_lose -= 1
        place = self.world.dice.randrange(len(revisions))
        revision, events = revisions.pop(place)
        if len(events) > 1 and self.world.chance(0.5):
            number = self.world.dice.randrange(len(events))
            revisions.insert(place, (revision, events[:number] + events[number + 1 :]))

    def _deliver(self, response: "WatchAnswer") -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(response)
        else:
            self._inbox.append(response)


class View:
    """One watch on a stream: a range, and how far it has been shown."""

    __slots__ = ("behind", "end", "hidden", "number", "since", "start")

    def __init__(self, number: int, request: Any, since: int, behind: bool) -> None:
        self.number, self.since = number, since
        self.behind = behind  # served from the store, which may have been compacted meanwhile
        self.start, self.end = request.key, request.range_end
        filters = {_Filter.NODELETE: DELETE, _Filter.NOPUT: PUT}
        self.hidden = frozenset(filters[each] for each in request.filters)

    def collect(self, store: Store) -> Iterator[tuple[int, list[Event]]]:
        for revision, events in store.events(self.since, self.start, self.end):
            shown = [event for event in events if event.type not in self.hidden] if self.hidden else events
            if shown:
                yield revision, shown

    def response(self, header: Header, **named: Any) -> "WatchAnswer":
        return WatchAnswer(header, self.number, **named)


class WatchAnswer:
    __slots__ = ("cancel_reason", "canceled", "compact_revision", "created", "events", "header", "watch_id")

    def __init__(
        self,
        header: Header,
        watch_id: int,
        events: list[Event] | tuple[()] = (),
        created: bool = False,
        canceled: bool = False,
        compact_revision: int = 0,
    ) -> None:
        self.header, self.watch_id, self.events = header, watch_id, events
        self.created, self.canceled, self.compact_revision, self.cancel_reason = created, canceled, compact_revision, ""


class KeepAlive:
    """A stream of keep-alives; each is a request of its own here."""

    def __init__(self, endpoint: "SimEndpoint", timeout: float | None) -> None:
        self._endpoint, self._timeout = endpoint, timeout
        self._calls: deque[Unary] = deque()

    async def write(self, request: Any) -> None:
        cluster, number = self._endpoint.cluster, request.ID

        def work() -> Answer:
            lease = cluster.store.leases.get(number)
            if lease is not None:
                cluster.keep(lease)
            return cluster.store.keep_alive(number)

        self._calls.append(Unary(self._endpoint, work, self._timeout, writes=False))

    async def read(self) -> Any:
        """Raises AioRpcError or CancelledError, as grpc.aio does on streams."""
        if not self._calls:
            return grpc.aio.EOF
        try:
            return await self._calls.popleft().result()
        except grpc.aio.AioRpcError as error:
            if error.code() is _Code.UNAVAILABLE and self._endpoint.cluster.world.chance(0.3):
                raise asyncio.CancelledError from error
            raise

    async def done_writing(self) -> None:
        """Nothing more will be asked."""

    def cancel(self) -> bool:
        for call in self._calls:
            call.future.cancel()
        return True


class SimEndpoint:
    """What a process has in place of switch.mirror.client.Endpoint."""

    def __init__(self, cluster: "Cluster", url: str, channel: Any) -> None:
        self.cluster, self.url, self.channel = cluster, url, channel
        self.member = cluster.members[cluster.urls.index(url)]
        self.retry_at = 0.0  # no connection is tried before; 0: the last one was good
        self._backoff_s = RECONNECT_S[0]
        self.kv = self.watch = self.lease = self.auth = self.maintenance = self

    def refused(self) -> None:
        """A connection has failed: gRPC fails all calls until it has tried again."""
        world = self.cluster.world
        if not self.retry_at:
            self._backoff_s = RECONNECT_S[0]
        if world.now >= self.retry_at:
            self.retry_at = world.now + self._backoff_s * (0.8 + 0.4 * world.dice.random())
            self._backoff_s = min(1.6 * self._backoff_s, RECONNECT_S[1])

    def _call(self, work: Callable[[], Any], timeout: float | None, writes: bool = True) -> Any:
        return Unary(self, work, timeout, writes).result()

    def Txn(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        txn, store = Txn(request), self.cluster.store
        return self._call(lambda: store.txn(txn), timeout, not txn.reads_only)

    def Range(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        return self._call(lambda: self.cluster.store.range(request), timeout, False)

    def Compact(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        return self._call(lambda: self.cluster.store.compact(request.revision), timeout)

    def LeaseGrant(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        cluster = self.cluster
        number = request.ID or cluster.world.dice.getrandbits(62) + 1

        def work() -> Answer:
            granted = cluster.store.grant(number, request.TTL)
            cluster.keep(cluster.store.leases[number])
            return granted

        return self._call(work, timeout)

    def LeaseRevoke(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        return self._call(lambda: self.cluster.store.revoke(request.ID), timeout)

    def LeaseKeepAlive(self, timeout: float | None = None, metadata: Any = ()) -> KeepAlive:
        return KeepAlive(self, timeout)

    def Watch(self, metadata: Any = ()) -> Watch:
        return Watch(self, ("hasleader", "true") in tuple(metadata))

    def Authenticate(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        def work() -> Answer:
            raise Refused(*NO_AUTH)

        return self._call(work, timeout, False)

    def Status(self, request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
        return self._call(lambda: Answer(version="3.6.9", leader=self.cluster.leader.identity), timeout, False)
