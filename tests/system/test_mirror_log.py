"""Two mirrors on one etcd: the same log on both, one writer per incarnation, nothing in clear."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
import pytest
from etcd3 import etcdrpc
from mirror_rig import WAIT_S, Nodes, eventually, failure, heir_body, join_body, on_loop, same

from switch.mirror import mirror
from switch.mirror.append import PROPOSAL_BYTES_MAX
from switch.mirror.client import Client
from switch.mirror.errors import Fenced, FenceMissing, ProposalTooLarge, Unsealable
from switch.mirror.fitness import examine, quota_warning, snapshot_count_warning, version_warning
from switch.mirror.sealing import create_key_file
from switch.mirror.settings import EtcdSettings
from tools.etcd import Etcd

LASTING_S = 600  # of a lease


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd"), snapshot_count=20_000) as running:
        yield running


async def raw(etcd: Etcd, request: Any) -> Any:
    """One transaction past the mirror."""
    async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
        return await etcdrpc.KVStub(channel).Txn(request)


@on_loop
async def test_two_mirrors_apply_the_same_sequence(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        assert [await a.begin(), await b.begin()] == [1, 1]
        for number in range(300):
            a.offer(["a", number])
            b.offer(["b", number])
            if number % 7 == 0:
                await asyncio.sleep(0)
        for node in (a, b):
            await node.recorder.until(lambda node=node: len(node.recorder.proposals()) == 600)
        await same(a, b)
        assert [index for index, _ in a.recorder.log] == list(range(1, a.index + 1))
        for node in (a, b):
            assert node.recorder.carried == [[node.node, number] for number in range(300)]
            assert [each for each in a.recorder.proposals() if each[0] == node.node] == node.recorder.carried
            assert node.recorder.lost == []
            assert node.backlog == node.backlog_bytes == 0


@on_loop
async def test_proposals_gather_while_an_append_is_in_flight(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints, batch_bytes_max=1000) as nodes:
        a = nodes.make("a")
        await a.begin()
        for number in range(100):
            a.offer([number, "x" * 90])
        assert a.backlog_bytes > 9000
        await a.recorder.until(lambda: len(a.recorder.carried) == 100)
        sizes = [len(entry.body) for entry in a.recorder.entries]
        assert len(sizes) < 20 and max(sizes) <= 1010
        a.offer("x" * 5000)  # more than a batch: an entry alone
        await a.recorder.until(lambda: len(a.recorder.carried) == 101)
        with pytest.raises(ProposalTooLarge, match="larger than an entry"):
            a.offer("x" * (PROPOSAL_BYTES_MAX + 1))


@on_loop
async def test_a_second_start_has_the_next_incarnation_and_the_older_is_fenced(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        older, newer = nodes.make("a"), nodes.make("a")
        await older.begin()
        older.offer("first")
        await older.recorder.until(lambda: older.recorder.carried)
        assert await newer.begin() == 2
        older.offer("too late")
        assert isinstance(await failure(older), Fenced)
        newer.offer("second")
        await newer.recorder.until(lambda: newer.recorder.carried)
        assert newer.recorder.proposals() == ["first", "second"]


@on_loop
async def test_a_fenced_append_is_refused_by_etcd_itself(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a = nodes.make("a")
        await a.begin()
        a._replica.take = lambda index, kv: None  # blind: what the watch shows cannot warn it
        put = etcdrpc.PutRequest(key=f"/switch/{nodes.pair}/fence/a".encode(), value=b"1 1 dead")
        await raw(etcd, etcdrpc.TxnRequest(success=[etcdrpc.RequestOp(request_put=put)]))
        a.offer("too late")
        assert isinstance(await failure(a), Fenced)
        b = nodes.make("b")
        await b.start()
        assert b.recorder.proposals() == []


@on_loop
async def test_of_two_processes_that_join_at_once_one_is_told_to_leave(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        rivals = [nodes.make("a"), nodes.make("a")]
        for each in rivals:
            await each.start()
        results = await asyncio.gather(*(each.join(join_body) for each in rivals), return_exceptions=True)
        winners = [each for each, result in zip(rivals, results, strict=True) if isinstance(result, int)]
        losers = [each for each in rivals if each not in winners]
        for loser in losers:
            assert any(isinstance(result, Fenced) for result in results) or isinstance(await failure(loser), Fenced)
        if len(winners) == 2:  # one after the other after all
            assert isinstance(await failure(min(winners, key=lambda each: each.incarnation)), Fenced)


@on_loop
async def test_a_missing_fence_is_told_apart(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a = nodes.make("a")
        await a.begin()
        request = etcdrpc.DeleteRangeRequest(key=f"/switch/{nodes.pair}/fence/a".encode())
        await raw(etcd, etcdrpc.TxnRequest(success=[etcdrpc.RequestOp(request_delete_range=request)]))
        a.offer("anything")
        assert isinstance(await failure(a), FenceMissing)
        with pytest.raises(FenceMissing, match="has entries of node a"):
            await nodes.make("a").start()


@on_loop
async def test_an_heir_sets_the_dead_fence_even_while_it_slips_on(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.begin()
        apply = a.recorder.apply

        def apply_and_offer(entry: Any) -> None:
            apply(entry)
            a.offer(entry.index)  # so its fence moves on while b tries

        a.recorder.apply = apply_and_offer
        a.offer(0)
        await b.recorder.until(lambda: len(b.recorder.proposals()) > 20)
        assert await b.take_fence_of("a", 1, heir_body) is True
        assert isinstance(await failure(a), Fenced)
        assert b.recorder.proposals().count("heir") == 1
        assert b.recorder.proposals()[-1] == "heir"
        assert await b.take_fence_of("a", 1, heir_body) is False
        assert await b.take_fence_of("a", 7, heir_body) is False
        again = nodes.make("a")
        assert await again.begin() == 2
        assert await b.take_fence_of("a", 1, heir_body) is False
        await same(again, b)


@on_loop
async def test_a_lost_event_is_noticed_and_read_from_the_log(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.start()
        take, lost = b._watcher._receive, []

        async def lossy(response: Any) -> None:
            if response.events and not lost:
                lost.append(response)
                return
            await take(response)

        b._watcher._receive = lossy
        a.offer(0)
        await eventually(lambda: lost)  # its entry alone: what comes later shows the gap
        for number in range(1, 200):
            a.offer(number)
            await a.recorder.until(lambda number=number: len(a.recorder.carried) > number)
        await same(a, b)
        assert b.recorder.proposals() == list(range(200))


@on_loop
async def test_a_backlog_of_many_megabytes_comes_through(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a = nodes.make("a")
        await a.begin()
        for number in range(40):
            a.offer([number, "x" * 500_000])
        await a.recorder.until(lambda: len(a.recorder.carried) == 40)
        b = nodes.make("b")
        await b.start()
        await same(a, b)


@on_loop
async def test_nothing_in_etcd_shows_the_content(etcd: Etcd, tmp_path: Path) -> None:
    marker = "MARKER4111111111111111"
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a = nodes.make("a")
        await a.begin()
        a.offer(marker)
        await a.recorder.until(lambda: a.recorder.carried)
        assert await a.write_snapshot(a.index, iter([marker.encode()]), {"s1": marker.encode})
        prefix = f"/switch/{nodes.pair}".encode()
        everything = etcdrpc.RangeRequest(key=prefix + b"/", range_end=prefix + b"0")
        response = await raw(etcd, etcdrpc.TxnRequest(success=[etcdrpc.RequestOp(request_range=everything)]))
        kvs = response.responses[0].response_range.kvs
        assert len([kv for kv in kvs if b"snapshot/" in kv.key]) >= 2
        assert not [kv.key for kv in kvs if b"MARKER" in kv.value or b"MARKER" in kv.key]


@on_loop
async def test_keys_are_rotated_one_node_after_the_other(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.begin()
        a.offer("under k1")
        await a.recorder.until(lambda: a.recorder.carried)
        create_key_file(tmp_path / "new", "k2")
        old, new = nodes.key_file.read_text(), (tmp_path / "new").read_text()
        nodes.key_file.write_text(new + old)
        a._sealer.reload()  # as its restart does; b seals under k1 until its own
        a.offer("under k2")
        await a.recorder.until(lambda: len(a.recorder.carried) == 2)
        await same(a, b)
        assert a.health()["sealed_with"] == "k2"
        nodes.key_file.write_text(new)
        with pytest.raises(Unsealable, match="k1"):
            await nodes.make("b").start()


@on_loop
async def test_an_entry_that_cannot_be_unsealed_stops_the_node(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path / "one", etcd.endpoints) as nodes, Nodes(tmp_path / "two", etcd.endpoints) as others:
        others.pair = nodes.pair
        b = others.make("b")
        await b.start()
        await nodes.make("a").begin()
        assert isinstance(await failure(b), Unsealable)


@on_loop
async def test_an_error_of_the_follower_stops_the_node(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await b.start()

        def broken(entry: Any) -> None:
            raise ArithmeticError("poison")

        b.recorder.apply = broken
        await a.begin()
        assert isinstance(await failure(b), ArithmeticError)


@on_loop
async def test_nodes_say_who_they_are_until_they_leave(
    etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LEAVE_S", WAIT_S)  # who leaves waits for a slow etcd
    async with Nodes(tmp_path, etcd.endpoints, lease_ttl_s=LASTING_S) as nodes:
        a, b = nodes.make("a"), nodes.make("b")
        await a.begin()
        await b.begin()
        await eventually(lambda: a._presence._lease and b._presence._lease)
        present = await a.nodes()
        assert set(present) == {"a", "b"}
        assert present["b"]["incarnation"] == 1 and present["b"]["boot_id"]
        b.offer("last words")
        await b.leave()
        assert set(await a.nodes()) == {"a"}
        await same(b, a)
        assert a.recorder.proposals() == ["last words"]


@on_loop
async def test_a_lost_lease_is_granted_anew(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints, lease_ttl_s=1) as nodes:
        a = nodes.make("a")
        grant, allowed = a._client.endpoint.lease.LeaseGrant, asyncio.Event()

        async def grant_when_allowed(request: Any, **options: Any) -> Any:
            """One that does not expire while this machine sleeps, as one of a second would."""
            await allowed.wait()
            return await grant(etcdrpc.LeaseGrantRequest(TTL=LASTING_S), **options)

        a._client.endpoint.lease.LeaseGrant = grant_when_allowed
        allowed.set()
        await a.begin()
        await eventually(lambda: a._presence._lease)
        lost = a._presence._lease
        allowed.clear()
        await a._client.endpoint.lease.LeaseRevoke(etcdrpc.LeaseRevokeRequest(ID=lost))
        assert await a.nodes() == {}
        allowed.set()
        await eventually(lambda: a._presence._lease not in (0, lost))
        assert set(await a.nodes()) == {"a"}


@on_loop
async def test_health_has_a_figure_for_everything(etcd: Etcd, tmp_path: Path) -> None:
    async with Nodes(tmp_path, etcd.endpoints) as nodes:
        a = nodes.make("a")
        await a.begin()
        a.offer(1)
        await a.recorder.until(lambda: a.recorder.carried)
        await eventually(lambda: a.version)
        health = a.health()
        assert health["index"] == 2 and health["sequence"] == 2 and health["held"] is False
        assert health["append_p50_ms"] > 0 and health["endpoint"] == etcd.endpoints[0]
        assert any("--snapshot-count 5000" in warning for warning in health["warnings"])
        assert msgspec.json.encode(health)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{",  # it dies in the midst of its answer
        b"nothing of HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"cmdline": 1}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff",
        b"",
    ],
)
@on_loop
async def test_an_etcd_that_does_not_tell_its_settings_is_warned_about_and_used(etcd: Etcd, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    client = Client(EtcdSettings(endpoints=etcd.endpoints[:1]))
    try:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            client.endpoint.url = "http://{}:{}".format(*server.sockets[0].getsockname())
            version, warnings = await examine(client)
    finally:
        await client.close()
    assert version and any("cannot read its settings over HTTP" in warning for warning in warnings)


def test_versions_with_known_faults_are_warned_about() -> None:
    assert [version for version in ("3.4.41", "3.4.42", "3.5.27", "3.5.28", "3.6.8", "3.6.9", "3.7.0", "3.3.27", "main")
            if version_warning(version)] == ["3.4.41", "3.5.27", "3.6.8", "3.3.27", "main"]  # fmt: skip


def test_unfit_settings_are_warned_about() -> None:
    assert snapshot_count_warning("3.4.42", ["etcd"]) is not None
    assert snapshot_count_warning("3.6.9", ["etcd"]) is None
    assert snapshot_count_warning("3.4.42", ["etcd", "--snapshot-count", "5000"]) is None
    assert snapshot_count_warning("3.4.42", ["etcd", "--snapshot-count=50000"]) is not None
    assert quota_warning("etcd_server_quota_backend_bytes 1.048576e+06\n") is not None
    assert quota_warning("etcd_server_quota_backend_bytes 2.147483648e+09\n") is None
