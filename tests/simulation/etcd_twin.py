"""A twin of an etcd cluster in virtual time, and all that can go wrong with it.

One store (etcd_store.py) is the cluster's agreed state: every request of the switch is linearizable, so no member may
answer from the past. What members, the network and chance add is *when* a request is applied, whether its answer comes
back, and what a watch shows when. The calls themselves are in etcd_calls.py.

with install(cluster):
    ...  # mirrors made in processes of cluster.world talk to the cluster, under cluster.urls
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import grpc
from etcd_calls import (
    CONNECT_FAILED,
    NO_LEADER,
    REFUSING,
    SILENT,
    SOCKET_CLOSED,
    UP,
    WAY_S,
    SimEndpoint,
    Unary,
    Watch,
)
from etcd_store import Header, Lease, Store
from world import Process, World

COMMIT_S = 0.000_5  # until a majority has it on disk
EXPIRY_EVERY_S = 0.5  # how late a lease may expire
NO_LEADER_S = 3.0  # then a stream that asked for a leader is ended
KEEPALIVE_S = (10.0, 13.0)  # then gRPC gives a silent connection up
PING_TIMEOUT = (grpc.StatusCode.UNAVAILABLE, "ping timeout")
LEADER_CHANGED = (grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed")


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

    def endpoint(self, url: str, channel: Any = None) -> SimEndpoint:
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
                for lease in self.store.leases.values():
                    self._extend(lease)
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

    def _extend(self, lease: Lease) -> None:
        """There is a leader again: a new one gives each lease its whole time, one that only stood still does not."""
        if lease.expiry is None and len(self.members) == 1 and self.world.chance(0.5):
            lease.expiry = self.world.at(self.world.dice.random() * EXPIRY_EVERY_S, lambda: self._expire(lease))
        else:
            self.keep(lease)

    def _expire(self, lease: Lease) -> None:
        if self.store.leases.get(lease.number) is not lease:
            return
        if self.led():
            self.world.trace("etcd", f"lease {lease.number:x} expires")
            self.store.revoke(lease.number)
        else:
            lease.expiry = None

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
        for lease in list(self.store.leases.values()) if self.led() else []:
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

    def send(self, call: Unary) -> None:
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

    def hinders(self, call: Unary) -> bool:
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

    def reply(self, call: Unary, outcome: Any) -> None:
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
