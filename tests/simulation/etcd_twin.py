"""A twin of an etcd cluster in virtual time: what stands behind switch.mirror.client.Endpoint, and all that can go wrong there.

One store (etcd_store.py) is the cluster's agreed state: every request of the switch is linearizable, so no member may
answer from the past. What members, the network and chance add is *when* a request is applied, whether its answer comes
back, and what a watch shows when.

with install(cluster):
    ...  # mirrors made in processes of cluster.world talk to the cluster, under cluster.urls
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import grpc
import grpc.aio
from etcd3 import etcdrpc
from etcd_store import DELETE, FROM_KEY, PUT, Answer, Event, Header, Lease, Refused, Store, Txn
from world import Process, Timer, World

WAY_S = 0.000_3  # of a request or an answer
COMMIT_S = 0.000_5  # until a majority has it on disk
WATCH_S = 0.000_5  # from the commit to the watcher
SYNC_EVERY_S = 0.1  # a watch from the past is served by a loop of this period (etcd: syncWatchersLoop)
EXPIRY_EVERY_S = 0.5  # how late a lease may expire
NO_LEADER_S = 3.0  # then a stream that asked for a leader is ended
KEEPALIVE_S = (10.0, 13.0)  # then gRPC gives a silent connection up
RECONNECT_S = (0.1, 1.0)  # gRPC's backoff after a connection that was refused, first and longest

UP, REFUSING, SILENT = range(3)
_Code = grpc.StatusCode
_Filter = etcdrpc.WatchCreateRequest
CONNECT_FAILED = (_Code.UNAVAILABLE, "failed to connect to all addresses; last error: Connection refused")
SOCKET_CLOSED = (_Code.UNAVAILABLE, "Socket closed")
PING_TIMEOUT = (_Code.UNAVAILABLE, "ping timeout")
NO_LEADER = (_Code.UNAVAILABLE, "etcdserver: no leader")
LEADER_CHANGED = (_Code.UNAVAILABLE, "etcdserver: leader changed")
DEADLINE = (_Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
NO_AUTH = (_Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")


def failure(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)


class Member:
    """One etcd process."""

    def __init__(self, number: int, identity: int) -> None:
        self.number, self.identity = number, identity
        self.url = f"http://etcd{number}:2379"
        self.ended_until = 0.0  # refuses connections
        self.stopped_until = 0.0  # SIGSTOP: connections stay open and silent
        self.lagging_until = 0.0  # its watches show nothing


class Cluster:
    """The members, what they agree on, and the faults that the simulation may call. All chance is the world's."""

    def __init__(self, world: World, members: int = 1) -> None:
        self.world = world
        self.store = Store()
        self.store.on_revision = self._committed
        self.cluster_id = world.dice.getrandbits(63) + 1
        self.members = [Member(number, world.dice.getrandbits(63) + 1) for number in range(members)]
        self.urls = tuple(member.url for member in self.members)
        self.leader = self.members[0]
        self.streams: dict[Watch, None] = {}
        self.calm = True  # no fault: nothing has to be looked at
        self._requests_lost = self._replies_lost = self._requests_late = self._late_s = self._fragments = 0.0
        self._no_leader_until = 0.0
        self._slow, self._slow_until = 1.0, 0.0
        self._cuts: list[tuple[str | None, Member | None, float]] = []  # (process or all, member or all, until)
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._led = True

    @property
    def on_put(self) -> list[Callable[[bytes, bytes], None]]:
        """Told (key, value) of each put that is applied."""
        return self.store.on_put

    def endpoint(self, url: str, channel: Any = None) -> "SimEndpoint":
        return SimEndpoint(self, url, channel)

    # --- how things stand

    def reach(self, process: Process, member: Member) -> int:
        if self.calm:
            return UP
        now = self.world.now
        if now < member.ended_until:
            return REFUSING
        if now < member.stopped_until:
            return SILENT
        for name, cut_off, until in self._cuts:
            if now < until and name in (None, process.name) and cut_off in (None, member):
                return SILENT
        return UP

    def led(self) -> bool:
        """Is there a leader, with a majority behind it?"""
        now = self.world.now
        if self.calm:
            return True
        running = sum(now >= member.ended_until and now >= member.stopped_until for member in self.members)
        return now >= self._no_leader_until and 2 * running > len(self.members)

    def lag(self, typical_s: float) -> float:
        """A latency, longer while etcd is slow."""
        if self._slow != 1.0 and self.world.now < self._slow_until:
            typical_s *= self._slow
        return self.world.latency(typical_s)

    def header(self, member: Member, revision: int | None = None) -> Header:
        return Header(self.cluster_id, member.identity, self.store.revision if revision is None else revision)

    def when(self, condition: Callable[[], bool], call: Callable[[], None]) -> None:
        """Once a fault has ended and the condition holds."""
        self._waiting.append((condition, call))

    def _kick(self) -> None:
        """A fault may have ended."""
        if self.led() != self._led:
            self._led = not self._led
            if self._led:
                for lease in self.store.leases.values():  # a new leader gives every lease its whole time
                    self.keep(lease)
        waiting, self._waiting = self._waiting, []
        for condition, call in waiting:
            if condition():
                self.world.at(self.lag(WAY_S), call)
            else:
                self._waiting.append((condition, call))
        for stream in list(self.streams):
            stream.wake()

    def _committed(self) -> None:
        for stream in self.streams:
            stream.wake()

    # --- leases

    def keep(self, lease: Lease) -> None:
        """The lease's time begins anew."""
        if lease.expiry is not None:
            lease.expiry.cancel()
        late = self.world.dice.random() * EXPIRY_EVERY_S
        lease.expiry = self.world.at(lease.ttl + late, lambda: self._expire(lease))

    def _expire(self, lease: Lease) -> None:
        if self.led() and self.store.leases.get(lease.number) is lease:  # else the next leader begins it anew
            self.world.trace("etcd", f"lease {lease.number:x} expires")
            self.store.revoke(lease.number)

    # --- faults

    def lose_requests(self, probability: float) -> None:
        """They never arrive: the caller's deadline passes."""
        self.calm = False
        self._requests_lost = probability

    def lose_replies(self, probability: float) -> None:
        """Applied, and the caller's deadline passes."""
        self.calm = False
        self._replies_lost = probability

    def delay_requests(self, probability: float, seconds: float) -> None:
        """They arrive up to so many seconds after their caller's deadline has passed, dead or alive."""
        self.calm = False
        self._requests_late, self._late_s = probability, seconds

    def fragment(self, probability: float) -> None:
        """The events of one revision come in two responses."""
        self._fragments = probability

    def down(self, seconds: float, refusing: bool | None = None) -> None:
        """No member answers: all have ended (refusing), or the network to them swallows everything. None: either."""
        if refusing is None:
            refusing = self.world.chance(0.5)
        if refusing:
            for member in self.members:
                self.restart_member(member.number, seconds)
            if len(self.members) > 1:
                self.leader_change(seconds + 1.2 * self.world.dice.random())  # the election after they are back
        else:
            self.cut(None, seconds)

    def cut(self, name: str | None, seconds: float, member: int | None = None) -> None:
        """Nothing gets through between the processes of this name (None: all) and a member (None: all). TCP tries on."""
        self._trace(f"cut {name} member {member} for {seconds:.3f} s")
        self._cuts.append((name, None if member is None else self.members[member], self._until(seconds)))
        self._watch_silence()

    def stop_member(self, number: int, seconds: float = math.inf) -> None:
        """SIGSTOP: connections stay open and silent until `continue_member`, or so long."""
        self._trace(f"member {number} stops for {seconds:.3f} s")
        self.members[number].stopped_until = self._until(seconds)
        self._watch_silence()
        self._lead_without(number)

    def continue_member(self, number: int) -> None:
        self._trace(f"member {number} goes on")
        self.members[number].stopped_until = 0.0
        self._kick()

    def restart_member(self, number: int, seconds: float) -> None:
        """It ends, its connections break, and it is back after so long."""
        self._trace(f"member {number} ends for {seconds:.3f} s")
        member = self.members[number]
        member.ended_until, member.stopped_until = self._until(seconds), 0.0
        for stream in [stream for stream in self.streams if stream.member is member]:
            stream.end(SOCKET_CLOSED)
        self._lead_without(number)

    def leader_change(self, seconds: float) -> None:
        """An election: meanwhile requests wait, fail or are lost; leases begin anew after it."""
        self._trace(f"an election of {seconds:.3f} s")
        self._no_leader_until = max(self._no_leader_until, self._until(seconds))
        if len(self.members) > 1:
            self.leader = self.members[(self.leader.number + 1) % len(self.members)]
        self._watch_leader()

    def quorum_loss(self, seconds: float) -> None:
        """The members have lost each other: connections are there, and nothing is answered."""
        self._trace(f"no quorum for {seconds:.3f} s")
        self._no_leader_until = max(self._no_leader_until, self._until(seconds))
        self._watch_leader()

    def slow(self, factor: float, seconds: float) -> None:
        """Every latency is so many times as long."""
        self._trace(f"{factor:.1f} times as slow for {seconds:.3f} s")
        self._slow, self._slow_until = factor, self._until(seconds)

    def watch_lag(self, seconds: float, member: int | None = None, name: str | None = None) -> None:
        """The watches of a member, or of the processes of a name, or all, show nothing for so long."""
        self._trace(f"watches of member {member}, process {name} lag for {seconds:.3f} s")
        until = self._until(seconds)
        for stream in self.streams:
            if (member is None or stream.member.number == member) and (name is None or stream.process.name == name):
                stream.lagging_until = until
        if name is None:
            for each in self.members if member is None else [self.members[member]]:
                each.lagging_until = until

    def lose_event(self, name: str | None = None) -> None:
        """One watch (of a process of that name) will silently miss an event, or a whole revision."""
        streams = [stream for stream in self.streams if name in (None, stream.process.name)]
        if streams:
            self._trace("a watch will miss an event")
            self.world.dice.choice(streams).to_lose += 1

    def expire_leases(self) -> None:
        """All leases end before their time."""
        self._trace("leases expire early")
        for lease in list(self.store.leases.values()):
            self._expire(lease)

    def compact(self, revision: int | None = None) -> None:
        """Somebody compacts, up to the present at the most."""
        revision = self.store.revision if revision is None else min(revision, self.store.revision)
        if revision > self.store.compacted:
            self._trace(f"compaction at {revision}")
            self.store.compact(revision)

    def heal(self) -> None:
        """All faults end. (What was delayed still comes, and a broken connection is tried again after its backoff.)"""
        self._trace("healed")
        self._requests_lost = self._replies_lost = self._requests_late = self._fragments = 0.0
        self._slow = 1.0
        self._no_leader_until = 0.0
        self._cuts.clear()
        for member in self.members:
            member.ended_until = member.stopped_until = member.lagging_until = 0.0
        for stream in self.streams:
            stream.lagging_until, stream.to_lose = 0.0, 0
        self._kick()
        self.calm = True

    def _trace(self, text: str) -> None:
        self.world.trace("etcd", text)

    def _until(self, seconds: float) -> float:
        """When a fault that begins now ends; what waits for that is woken then."""
        self.calm = False
        if seconds < math.inf:
            self.world.at(seconds, self._kick)
        return self.world.now + seconds

    def _lead_without(self, number: int) -> None:
        """A member is gone: was it the leader?"""
        if self.members[number] is self.leader and len(self.members) > 1:
            self.leader_change(1.0 + 1.2 * self.world.dice.random())
        else:
            self._watch_leader()

    def _watch_leader(self) -> None:
        """Where there is no leader for a while, streams that asked for one are ended."""
        self._led = self._led and self.led()
        self.world.at(NO_LEADER_S + self.world.dice.random(), self._no_leader)

    def _no_leader(self) -> None:
        if not self.led():
            for stream in [stream for stream in self.streams if stream.needs_leader]:
                if self.reach(stream.process, stream.member) == UP:
                    stream.end(NO_LEADER)

    def _watch_silence(self) -> None:
        """gRPC gives up a connection on which its pings are not answered."""

        def give_up() -> None:
            for stream in list(self.streams):
                if self.reach(stream.process, stream.member) == SILENT:
                    stream.end(PING_TIMEOUT)

        self.world.at(self.world.dice.uniform(*KEEPALIVE_S), give_up)

    # --- the way of a request, for the calls below

    def send(self, call: "Unary") -> None:
        """On its way: it will be applied, refused, late or lost."""
        world = self.world
        if self.calm and not call.endpoint.retry_at:
            world.at(self.lag(WAY_S) + (COMMIT_S if call.writes else 0.0), call.apply)
            return
        endpoint = call.endpoint
        reach = self.reach(call.process, endpoint.member)
        if world.now < endpoint.retry_at or reach == REFUSING:
            endpoint.refused()
            world.at(self.lag(WAY_S / 3), lambda: call.fail(CONNECT_FAILED))
        elif reach == SILENT:
            if world.chance(0.5):  # TCP sends it again until it arrives, unless the connection is given up before
                self.when(lambda: self.reach(call.process, endpoint.member) != SILENT, call.apply)
        elif world.chance(self._requests_lost):
            pass
        elif world.chance(self._requests_late):
            world.at((call.timeout or 1.0) + self._late_s * world.dice.random(), call.apply)
        else:
            world.at(self.lag(WAY_S) + self.lag(COMMIT_S), call.apply)

    def hinders(self, call: "Unary") -> bool:
        """Is the request that has just arrived not to be applied now?"""
        world, member = self.world, call.endpoint.member
        reach = self.reach(call.process, member)
        if reach == REFUSING:
            call.fail(SOCKET_CLOSED)
            return True
        if reach == SILENT and world.now < member.stopped_until:
            self.when(lambda: world.now >= member.stopped_until, call.apply)
            return True
        if self.led():
            return False
        fate = world.dice.random()
        if fate < 0.3:
            call.fail(LEADER_CHANGED)
        if fate < 0.15 or fate > 0.5:  # kept by a member, and put to the next leader
            self.when(self.led, call.apply)
        return True  # what is in between was known only to the old leader

    def reply(self, call: "Unary", outcome: Any) -> None:
        if self.calm:
            self.world.at(self.lag(WAY_S), lambda: call.answer(outcome))
            return
        if self.world.chance(self._replies_lost):
            return

        def arrive() -> None:
            reach = self.reach(call.process, call.endpoint.member)
            if reach == UP:
                call.answer(outcome)
            elif reach == REFUSING:
                call.fail(SOCKET_CLOSED)
            elif self.world.chance(0.5):
                self.when(lambda: self.reach(call.process, call.endpoint.member) == UP, lambda: call.answer(outcome))

        self.world.at(self.lag(WAY_S), arrive)

    def split(self) -> bool:
        return self._fragments > 0.0 and self.world.chance(self._fragments)


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

    def __init__(self, cluster: Cluster, url: str, channel: Any) -> None:
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


class Channel:
    async def close(self) -> None:
        """The calls on it have been cancelled before."""


@contextlib.contextmanager
def install(cluster: Cluster) -> Iterator[None]:
    """Mirrors that are made meanwhile have this cluster for etcd."""

    async def examine(client: Any) -> tuple[str, list[str]]:
        return "3.6.9", []

    with (
        mock.patch("switch.mirror.client.Endpoint", cluster.endpoint),
        mock.patch("switch.mirror.client._channel", lambda url, settings: Channel()),
        mock.patch("switch.mirror.mirror.examine", examine),
    ):
        yield
