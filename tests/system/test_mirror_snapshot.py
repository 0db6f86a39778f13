"""Snapshots, truncation and compaction: a late joiner gets the state, and the log does not grow without end."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from etcd3 import etcdrpc
from mirror_rig import Node, Nodes, on_loop

from switch.mirror.errors import LogBroken
from switch.mirror.keys import Keys
from tools.etcd import Etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as running:
        yield running


async def keys_in(etcd: Etcd, start: bytes, end: bytes) -> list[bytes]:
    async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
        response = await etcdrpc.KVStub(channel).Range(etcdrpc.RangeRequest(key=start, range_end=end, keys_only=True))
        return [kv.key for kv in response.kvs]


async def offer_each(node: Node, numbers: range) -> None:
    """One entry for each number."""
    for number in numbers:
        done = len(node.recorder.carried)
        node.offer(number)
        await node.recorder.until(lambda done=done: len(node.recorder.carried) > done)


@on_loop
async def test_a_late_joiner_loads_the_snapshot_and_the_log_above_it(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await offer_each(a, range(63))
        chunks = [bytes([number]) * 512_000 for number in range(20)]
        assert await a.write_snapshot(a.index, iter(chunks), {"old": lambda: b"outcomes", "older": lambda: b"more"})
        assert a.index == 64
        await offer_each(a, range(63, 100))
        await a.truncate(a.index)  # not beyond the snapshot, whatever is asked
        keys = Keys(nodes.pair)
        assert len(await keys_in(etcd, keys.log, keys.log_end)) == a.index - 64
        assert await b.begin() == 1
        assert b.recorder.loaded == [(64, chunks, {"old": b"outcomes", "older": b"more"})]
        assert b.recorder.proposals() == list(range(63, 100))
        await a.recorder.until(lambda: a.index == b.index)
        assert b.recorder.log == [each for each in a.recorder.log if each[0] > 64]


@on_loop
async def test_segments_are_written_once_and_deleted_when_no_longer_named(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, keys = nodes.make("a"), Keys(nodes.pair)
        await a.begin()
        encoded: list[str] = []

        def segment(name: str) -> Any:
            return lambda: (encoded.append(name), name.encode())[1]

        assert await a.write_snapshot(a.index, iter([b"x", b"y"]), {name: segment(name) for name in ("s1", "s2")})
        first = a.index
        await offer_each(a, range(1))
        assert await a.write_snapshot(a.index, iter([b"z"]), {name: segment(name) for name in ("s2", "s3")})
        assert encoded == ["s1", "s2", "s3"]
        await a.truncate(0)
        assert await keys_in(etcd, keys.segments, keys.segments_end) == [keys.segment("s2"), keys.segment("s3")]
        assert await keys_in(etcd, keys.chunks_of(first), keys.chunks_of(first) + b"9") == []
        b = nodes.make("b")
        await b.start()
        assert b.recorder.loaded == [(a.index, [b"z"], {"s2": b"s2", "s3": b"s3"})]


@on_loop
async def test_the_pointer_only_grows(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a = nodes.make("a")
        await a.begin()
        await offer_each(a, range(2))
        assert await a.write_snapshot(a.index, iter([b"new"]), {})
        assert not await a.write_snapshot(a.index, iter([b"again"]), {})
        assert not await a.write_snapshot(a.index - 1, iter([b"old"]), {})
        with pytest.raises(ValueError, match="too many"):
            await a.write_snapshot(a.index + 1, iter([b"x" * 1_100_000]), {})


@on_loop
async def test_of_two_snapshots_and_a_deletion_at_once_none_names_what_is_gone(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.begin()
        for number in range(10):
            await offer_each(a, range(1))
            old, kept, new = f"s{number}", f"s{number + 1}", f"s{number + 2}"
            await asyncio.gather(
                a.write_snapshot(a.index, iter([b"a"]), {kept: kept.encode, new: new.encode}),
                b.write_snapshot(a.index - 1, iter([b"b"]), {old: old.encode, kept: kept.encode}),
                b.truncate(0),
                a.truncate(0),
            )
            joiner = nodes.make("b")
            await joiner.start()
            for _, _, segments in joiner.recorder.loaded:
                assert all(value == name.encode() for name, value in segments.items())
            await joiner.close()


@on_loop
async def test_a_node_whose_watch_was_compacted_away_catches_up_from_the_log(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.start()
        blocked = await silence(b)
        await offer_each(a, range(100))
        await a.write_snapshot(a.index, iter([b"state"]), {})
        async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
            await etcdrpc.KVStub(channel).Compact(etcdrpc.CompactionRequest(revision=a.health()["revision"]))
        blocked.set()
        await b.recorder.until(lambda: b.index == a.index)
        assert b.recorder.log == a.recorder.log
        assert b.recorder.loaded == []


@on_loop
async def test_a_node_whose_log_was_truncated_loads_the_snapshot_in_mid_life(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.begin()
        blocked = await silence(b)
        b.offer("mine")  # appended while it sees nothing
        await offer_each(a, range(97))
        await a.recorder.until(lambda: "mine" in a.recorder.proposals())
        await a.write_snapshot(a.index, iter([b"state"]), {})
        reached = a.index
        await offer_each(a, range(97, 100))
        await a.truncate(reached)
        blocked.set()
        await b.recorder.until(lambda: b.index >= a.index)
        assert b.recorder.loaded == [(reached, [b"state"], {})]
        assert b.recorder.log[-3:] == a.recorder.log[-3:]
        assert b.recorder.lost == ["mine"]  # is in the snapshot: the state refuses it when it is offered anew
        b.recorder.again = b.offer
        await b.recorder.until(lambda: not b.held)
        b.offer("goes on")
        await b.recorder.until(lambda: "goes on" in b.recorder.carried)


@on_loop
async def test_truncation_and_compaction_bound_the_database(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, keys = nodes.make("a"), Keys(nodes.pair)
        await a.begin()
        for round_number in range(4):
            for number in range(320):
                a.offer([number, "x" * 400_000 if number % 32 == 0 else "y"])
                await a.recorder.until(lambda: a.backlog < 2)
            await a.recorder.until(lambda: not a.backlog)
            await a.write_snapshot(a.index, iter([b"state"]), {})
            await a.truncate(a.index)
            assert len(await keys_in(etcd, keys.log, keys.log_end)) < 16, round_number
        again = nodes.make("a")
        assert await again.begin() == 2  # the entries of the older incarnation are truncated by the newer one
        await offer_each(again, range(40))
        await again.write_snapshot(again.index, iter([b"state"]), {})
        await again.truncate(again.index)
        assert len(await keys_in(etcd, keys.log, keys.log_end)) < 16


@on_loop
async def test_a_log_with_a_hole_is_refused(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, keys = nodes.make("a"), Keys(nodes.pair)
        await a.begin()
        await offer_each(a, range(3))
        async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
            first = (await keys_in(etcd, keys.log, keys.log_end))[1]
            await etcdrpc.KVStub(channel).DeleteRange(etcdrpc.DeleteRangeRequest(key=first))
        with pytest.raises(LogBroken, match="no snapshot reaches"):
            await nodes.make("b").start()


@on_loop
async def test_a_snapshot_that_lacks_a_chunk_is_refused(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, keys = nodes.make("a"), Keys(nodes.pair)
        await a.begin()
        assert await a.write_snapshot(a.index, iter([b"one", b"two"]), {})
        async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
            await etcdrpc.KVStub(channel).DeleteRange(etcdrpc.DeleteRangeRequest(key=keys.chunk(a.index, 1)))
        with pytest.raises(LogBroken, match="lacks a chunk"):
            await nodes.make("b").start()


async def silence(node: Node) -> asyncio.Event:
    """End the node's watch and keep it from making another until the event is set."""
    released, created = asyncio.Event(), asyncio.Event()
    follow = node._watcher._follow

    async def wait_then_follow(endpoint: Any) -> None:
        created.set()
        await released.wait()
        await follow(endpoint)

    node._watcher._follow = wait_then_follow
    while not created.is_set():
        if node._watcher._call is not None:
            node._watcher._call.cancel()
        await asyncio.sleep(0.01)
    return released
