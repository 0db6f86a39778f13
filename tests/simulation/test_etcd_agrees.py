"""The twin of etcd against etcd itself: random histories of requests must get the same answers and show the same events.

Where the two differ, etcd is right. A history is made of its seed alone: the number that a failure names is enough to
see it again (`AGREE_SEED=17 pytest tests/simulation/test_etcd_agrees.py`).
"""

import asyncio
import os
import random
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from etcd3 import etcdrpc
from etcd_twin import Cluster
from loop import SimLoop
from world import World

from switch.mirror.client import Endpoint, _channel
from switch.mirror.requests import absent, delete, get, get_range, holds, put, transaction, unchanged
from switch.mirror.settings import EtcdSettings
from tools.etcd import Etcd

HISTORIES, IN_A_TEST = 240, 40
STEPS = 22
KEYS = 7
TIMEOUT_S = 10.0
LEASE_TTL_S = 3600  # none may end by itself: that is a matter of time, not of agreement

Range, Compare, Create = etcdrpc.RangeRequest, etcdrpc.Compare, etcdrpc.WatchCreateRequest


class History:
    """One random history, played to an endpoint. What it was answered is in `seen`, with revisions counted from its start."""

    def __init__(self, seed: int, endpoint: Any, former: "list[asyncio.Task[None]]") -> None:
        self.seed, self.endpoint = seed, endpoint
        self.seen: list[Any] = []
        self.watches: list[asyncio.Task[None]] = []
        self._former = former  # watches of earlier histories, which a compaction must not overtake
        self._dice = random.Random(seed)
        self._prefix = f"/agree/{seed:06d}/".encode()
        self._end = self._prefix[:-1] + b"0"
        self._base = self._revision = 0
        self._compacted = 0
        self._leases: list[int] = []
        self._last: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    async def play(self) -> None:
        """Random steps; then every key is put and deleted once more, so that each watch knows where to end."""
        dice = self._dice
        steps = [
            (self._txn, 24),
            (self._range, 12),
            (self._watch_from_now, 2),
            (self._compact, 1),  # seldom: it waits for watches from the past, which etcd serves every 100 ms
            (self._lease, 8),
            (self._refused, 2),
        ]
        answer = await self.endpoint.kv.Txn(transaction([put(self._key(0), b"first")]), timeout=TIMEOUT_S)
        self._base = answer.header.revision
        ways, weights = zip(*steps, strict=True)
        for _ in range(STEPS):
            await dice.choices(ways, weights)[0]()
        for _ in range(dice.randrange(3)):
            await self._watch_from_the_past()
        await self._ask(self.endpoint.kv.Txn, transaction(put(self._key(n), b"last") for n in range(KEYS)))
        put_last = self._revision
        for number in self._leases:
            await self._ask(self.endpoint.lease.LeaseRevoke, etcdrpc.LeaseRevokeRequest(ID=number))
        await self._ask(self.endpoint.kv.Txn, transaction([delete(self._prefix, self._end)]))
        self._last.set_result((put_last, self._revision))
        if dice.random() < 0.3:
            await self._watch_from_the_past()

    # --- steps

    async def _txn(self) -> None:
        dice = self._dice
        guards = [self._guard() for _ in range(dice.choice((0, 1, 1, 2)))]
        success = [self._operation() for _ in range(dice.randrange(1, 5))]
        failure = [self._operation() for _ in range(dice.randrange(3))]
        await self._ask(self.endpoint.kv.Txn, transaction(success, guards, failure))

    async def _range(self) -> None:
        await self._ask(self.endpoint.kv.Range, self._any_range())

    async def _watch_from_now(self) -> None:
        await self._watch(self._dice.choice((None, None, self._revision + 1, self._revision + 3)))

    async def _watch_from_the_past(self) -> None:
        oldest = self._compacted and self._dice.random() < 0.5
        await self._watch(self._dice.randrange(0, (self._compacted if oldest else self._revision) + 1))

    async def _compact(self) -> None:
        await asyncio.gather(*self._former)
        revision = self._dice.randrange(0, self._revision + 3)
        if revision <= self._revision:
            self._compacted = max(revision, self._compacted)
        request = etcdrpc.CompactionRequest(revision=self._base + revision)
        await self._ask(self.endpoint.kv.Compact, request)

    async def _lease(self) -> None:
        dice, lease = self._dice, self.endpoint.lease
        known = self._leases and dice.random() < 0.8
        number = dice.choice(self._leases) if known else self.seed * 1000 + len(self._leases) + 1
        fate = dice.random()
        if fate < 0.4:
            ttl = dice.choice((1, LEASE_TTL_S))
            await self._ask(lease.LeaseGrant, etcdrpc.LeaseGrantRequest(TTL=ttl, ID=number))
            if not known and ttl == 1:  # only what it is made of it
                await self._ask(lease.LeaseRevoke, etcdrpc.LeaseRevokeRequest(ID=number))
            elif not known:
                self._leases.append(number)
                keys = dice.sample(range(KEYS), 3)
                await self._ask(
                    self.endpoint.kv.Txn, transaction(put(self._key(n), self._value(), number) for n in keys)
                )
        elif fate < 0.6:
            await self._ask(lease.LeaseRevoke, etcdrpc.LeaseRevokeRequest(ID=number))
            if known:
                self._leases.remove(number)
        else:
            call = lease.LeaseKeepAlive(timeout=TIMEOUT_S)
            await call.write(etcdrpc.LeaseKeepAliveRequest(ID=number))
            self._note(await call.read())
            await call.done_writing()
            call.cancel()

    async def _refused(self) -> None:
        """What no etcd takes."""
        dice = self._dice
        key = self._key()
        request = dice.choice(
            (
                lambda: transaction([put(key, b"1"), put(key, b"2")]),
                lambda: transaction([], [], [delete(self._prefix, self._end), put(key, b"1")]),
                lambda: transaction([put(key, b"1")] * 129),
                lambda: transaction([get(key)] * 128),
                lambda: transaction([get(key)] * 129),
                lambda: transaction([get(key)], [absent(key)] * 129),
                lambda: transaction([put(key, bytes(1_600_000))]),
                lambda: transaction([put(b"", b"1")]),
                lambda: transaction([get(b"")]),
                lambda: transaction([get(key)], [absent(b"")]),
                lambda: transaction([put(key, b"1", 77)], [absent(key)], [get(key)]),
                lambda: transaction([]),
            )
        )()
        await self._ask(self.endpoint.kv.Txn, request)

    # --- what they are made of

    def _key(self, number: int | None = None) -> bytes:
        number = self._dice.randrange(KEYS) if number is None else number
        return self._prefix + b"k%d" % number

    def _value(self) -> bytes:
        return b"v%d" % self._dice.randrange(3)

    def _span(self) -> tuple[bytes, bytes]:
        """A range: of one key, some, all, from one on, none."""
        one, other = self._key(), self._key()
        return self._dice.choice(
            ((one, b""), (one, other), (one, self._end), (self._prefix, self._end), (one, b"\0"), (one, one))
        )

    def _guard(self) -> Any:
        dice, key = self._dice, self._key()
        somewhere = self._base + dice.randrange(0, self._revision + 2)
        plain = (
            lambda: holds(key, self._value()),
            lambda: absent(key),
            lambda: unchanged(key, somewhere),
            lambda: unchanged(key, 0),
        )
        if dice.random() < 0.6:
            return dice.choice(plain)()
        result = dice.choice((Compare.EQUAL, Compare.NOT_EQUAL, Compare.GREATER, Compare.LESS))
        start, end = self._span() if dice.random() < 0.3 else (key, b"")
        target, named = dice.choice(
            (
                (Compare.VALUE, {"value": self._value()}),
                (Compare.CREATE, {"create_revision": somewhere}),
                (Compare.MOD, {"mod_revision": somewhere}),
                (Compare.VERSION, {"version": dice.randrange(4)}),
                (Compare.LEASE, {"lease": dice.choice((0, *self._leases))}),
            )
        )
        return Compare(result=result, target=target, key=start, range_end=end, **named)

    def _operation(self) -> Any:
        dice, fate = self._dice, self._dice.random()
        if fate < 0.55:
            lease = dice.choice(self._leases) if self._leases and dice.random() < 0.4 else 0
            return put(self._key(), self._value(), lease)
        if fate < 0.65:
            return delete(*dice.choice(((self._key(),), self._span())))
        if fate < 0.75:
            return get(self._key())
        if fate < 0.9:
            start, end = self._span()
            return get_range(start, end, keys_only=dice.random() < 0.5, by_revision=dice.random() < 0.5)
        return etcdrpc.RequestOp(request_range=self._any_range())

    def _any_range(self) -> Any:
        dice = self._dice
        start, end = self._span()
        named: dict[str, Any] = {}
        if dice.random() < 0.6:
            named["sort_target"] = dice.choice((Range.KEY, Range.VERSION, Range.CREATE, Range.MOD, Range.VALUE))
            named["sort_order"] = dice.choice((Range.NONE, Range.ASCEND, Range.DESCEND))
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision", "revision"):
            if dice.random() < 0.15:
                named[name] = self._base + dice.randrange(0, self._revision + 2)
        if dice.random() < 0.2:
            named["limit"] = dice.randrange(1, 5)
        named["keys_only"] = dice.random() < 0.3
        named["count_only"] = dice.random() < 0.1
        return Range(key=start, range_end=end, **named)

    # --- asking and noting

    async def _ask(self, method: Any, request: Any) -> None:
        try:
            answer = await method(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            self.seen.append((error.code().name, error.details()))
        else:
            self._note(answer)

    def _note(self, answer: Any) -> None:
        self._revision = answer.header.revision - self._base
        noted: list[Any] = [self._revision]
        for name in ("succeeded", "ID", "TTL"):
            if hasattr(answer, name):
                noted.append((name, getattr(answer, name)))
        if hasattr(answer, "kvs"):
            noted.append(self._found(answer))
        for response in getattr(answer, "responses", ()):
            if _has(response, "response_range"):
                noted.append(self._found(response.response_range))
            elif _has(response, "response_delete_range"):
                noted.append(("deleted", response.response_delete_range.deleted))
            else:
                noted.append("put")
        self.seen.append(tuple(noted))

    def _found(self, answer: Any) -> Any:
        return [self._kv(kv) for kv in answer.kvs], answer.count, answer.more

    def _kv(self, kv: Any) -> tuple[Any, ...]:
        created = kv.create_revision - self._base if kv.create_revision else None
        return kv.key, kv.value, created, kv.mod_revision - self._base, kv.version, kv.lease

    # --- watches

    async def _watch(self, start: int | None) -> None:
        """Begin one (None: from now); its events are collected until the last that it will show."""
        dice = self._dice
        begin, end = self._span()
        hidden = dice.choice(([], [Create.NODELETE], [Create.NODELETE], [Create.NOPUT]))
        if start is not None and start == self._compacted:
            hidden = [Create.NODELETE]  # a deletion at the very revision of a compaction may or may not be kept
        create = Create(key=begin, range_end=end, filters=hidden)
        if start is not None:
            create.start_revision = self._base + start
        call = self.endpoint.watch.Watch(metadata=(("hasleader", "true"),))
        await call.write(etcdrpc.WatchRequest(create_request=create))
        created = await call.read()
        events: list[Any] = [("created", created.created, created.canceled, created.header.revision - self._base)]
        self.seen.append(events)
        if any(_covers(begin, end, self._key(number)) for number in range(KEYS)):
            self.watches.append(asyncio.create_task(self._collect(call, events, start or 0, hidden)))
        else:
            call.cancel()  # it will never show anything

    async def _collect(self, call: Any, events: list[Any], start: int, hidden: list[int]) -> None:
        put_last, deleted_last = await self._last
        last = put_last if hidden == [Create.NODELETE] else deleted_last
        reached = last if start > last else 0
        while reached < last:
            async with asyncio.timeout(TIMEOUT_S):
                response = await call.read()
            if response.canceled:
                events.append(("canceled", response.compact_revision - self._base, response.header.revision))
                break
            for event in response.events:
                reached = event.kv.mod_revision - self._base
                if reached <= last and event.kv.key.startswith(self._prefix):
                    events.append((event.type, self._kv(event.kv)))
        call.cancel()


def _has(response: Any, name: str) -> bool:
    """Which answer of the transaction is it? (Real answers know all names and say which is set.)"""
    which = getattr(response, "WhichOneof", None)
    return which("response") == name if which else getattr(response, name) is not None


def _covers(begin: bytes, end: bytes, key: bytes) -> bool:
    return key == begin if not end else begin <= key and (key < end or end == b"\0")


async def play(seeds: list[int], endpoint: Any) -> list[list[Any]]:
    """The histories one after the other: what each has seen."""
    histories: list[History] = []
    watches: list[asyncio.Task[None]] = []
    for seed in seeds:
        history = History(seed, endpoint, watches)
        histories.append(history)
        await history.play()
        watches = [watch for watch in (*watches, *history.watches) if not watch.done()]
    await asyncio.gather(*watches)
    return [history.seen for history in histories]


async def play_to_etcd(seeds: list[int], url: str) -> list[list[Any]]:
    endpoint = Endpoint(url, _channel(url, EtcdSettings(endpoints=(url,))))
    try:
        return await play(seeds, endpoint)
    finally:
        await endpoint.channel.close()


def play_to_twin(seed: int) -> list[Any]:
    world = World(seed)
    cluster = Cluster(world)
    process = world.spawn("history")
    loop = SimLoop(process)

    async def begin() -> list[list[Any]]:
        return await play([seed], cluster.endpoint(cluster.urls[0]))

    task: asyncio.Task[list[list[Any]]] = loop.create_task(begin())
    assert world.run(task.done, limit_s=60.0), "the history has not come to its end"
    return task.result()[0]


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd"), snapshot_count=20_000) as running:
        yield running


def groups() -> list[list[int]]:
    if "AGREE_SEED" in os.environ:
        return [[int(os.environ["AGREE_SEED"])]]
    return [list(range(first, first + IN_A_TEST)) for first in range(1, HISTORIES, IN_A_TEST)]


@pytest.mark.parametrize("seeds", groups(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_etcd_and_its_twin_agree(etcd: Etcd, seeds: list[int]) -> None:
    for seed, real in zip(seeds, uvloop.run(play_to_etcd(seeds, etcd.endpoints[0])), strict=True):
        twin = play_to_twin(seed)
        for number, (expected, found) in enumerate(zip(real, twin, strict=False)):
            assert found == expected, f"AGREE_SEED={seed}: answer {number} differs"
        assert len(twin) == len(real), f"AGREE_SEED={seed}"
