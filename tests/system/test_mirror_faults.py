"""The mirror when etcd or the way to it fails: nothing lost, nothing doubled, held while nothing is known."""

import asyncio
import random
from pathlib import Path

import pytest
from mirror_rig import NEVER_MS, PATIENT, Node, Nodes, Proxy, eventually, heir_body, on_loop, same

from switch.mirror.mirror import SUPERVISE_EVERY_S
from tools.etcd import Etcd

QUICK = {
    "append_timeout_ms": 200,
    "call_timeout_ms": 400,
    "settle_after_ms": 400,
    "hold_after_ms": 400,
    "watch_stall_ms": 400,
}
ROUNDS = 40  # of what a way to etcd does


@on_loop
async def test_an_append_whose_answer_was_lost_is_repeated_and_applied_once(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        target = etcd.endpoints[0]
        async with (
            Proxy(target) as one,
            Proxy(target) as two,
            Nodes(tmp_path, (one.endpoint, two.endpoint), append_timeout_ms=200, call_timeout_ms=400) as nodes,
        ):
            a, b = nodes.make("a"), nodes.make("b", etcd.endpoints)
            await a.begin()
            await b.start()
            for proxy in (one, two):
                proxy.withhold("answers")
            a.offer("once")
            await b.recorder.until(lambda: b.recorder.proposals())  # it is in the log, and a does not know
            assert a.recorder.carried == []
            await eventually(lambda: a.health()["endpoint"] == two.endpoint)
            two.pass_all()
            await a.recorder.until(lambda: a.recorder.carried)
            a.offer("twice")
            await a.recorder.until(lambda: len(a.recorder.carried) == 2)
            await same(a, b)
            assert b.recorder.proposals() == a.recorder.carried == ["once", "twice"]
            await eventually(lambda: a.health()["endpoint"] == a.health()["watch_endpoint"] == two.endpoint)


@on_loop
async def test_a_batch_that_never_arrived_is_settled_dropped_and_offered_anew(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with Proxy(etcd.endpoints[0]) as proxy, Nodes(tmp_path, (proxy.endpoint,), **QUICK) as nodes:
            a, b = nodes.make("a"), nodes.make("b", etcd.endpoints)
            await a.begin()
            await b.start()
            proxy.refuse()
            a.offer("in flight")
            await a.recorder.until(lambda: a.held)
            a.offer("queued meanwhile")
            await a.recorder.until(lambda: a.recorder.lost)
            assert a.recorder.lost == ["queued meanwhile"]  # the other one's fate is not known yet
            await until_settling(a)
            a.recorder.again = a.offer
            a.appends(**PATIENT)  # else a slow etcd makes it hold once more
            proxy.pass_all()
            await a.recorder.until(lambda: len(a.recorder.carried) == 2)
            await same(a, b)
            assert sorted(b.recorder.proposals()) == ["in flight", "queued meanwhile"]
            assert b"\x92\x01\x90" in [body for _, body in b.recorder.log]  # the empty entry
            assert a.recorder.holds == [True, False]


@on_loop
async def test_a_batch_that_arrived_late_wins_over_its_settling_entry(tmp_path: Path) -> None:
    quick = QUICK | {"settle_after_ms": NEVER_MS}
    with Etcd(tmp_path / "etcd") as etcd:
        async with Proxy(etcd.endpoints[0]) as proxy, Nodes(tmp_path, (proxy.endpoint,), **quick) as nodes:
            a, b = nodes.make("a"), nodes.make("b", etcd.endpoints)
            await a.begin()
            await b.start()
            a.recorder.again = a.offer
            proxy.withhold("answers")
            a.offer("arrived")
            await b.recorder.until(lambda: b.recorder.proposals())
            a._appender._in_flight.began -= NEVER_MS / 1000  # it settles what is in the log already
            await until_settling(a)
            await a.recorder.until(lambda: a.held)
            proxy.pass_all()
            await a.recorder.until(lambda: not a.held)
            a.offer("after")  # and after the empty entry, if that were in the log as well
            await a.recorder.until(lambda: "after" in a.recorder.carried)
            await same(a, b)
            assert b.recorder.proposals() == a.recorder.carried == ["arrived", "after"]
            assert b"\x92\x01\x90" not in [body for _, body in b.recorder.log]


@on_loop
async def test_an_heir_entry_that_was_settled_is_tried_again(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with Proxy(etcd.endpoints[0]) as proxy, Nodes(tmp_path, (proxy.endpoint,), **QUICK) as nodes:
            a, b = nodes.make("a", etcd.endpoints), nodes.make("b")
            await a.begin()
            await b.begin()
            txn, refused = b._client.endpoint.kv.Txn, asyncio.Event()

            def refuse_heir(request, **options):
                if len(request.compare) == 2:
                    proxy.refuse()
                    refused.set()
                return txn(request, **options)

            b._client.endpoint.kv.Txn = refuse_heir
            taking = asyncio.ensure_future(b.take_fence_of("a", 1, heir_body))
            await refused.wait()
            await until_settling(b)
            b._client.endpoint.kv.Txn = txn
            proxy.pass_all()
            assert await taking is True
            assert b.recorder.proposals().count("heir") == 1
            await b.recorder.until(lambda: not b.held)


@on_loop
async def test_etcd_stopped_and_restarted_holds_the_switch_and_loses_nothing(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with Nodes(tmp_path, etcd.endpoints) as nodes:
            a, b = nodes.make("a"), nodes.make("b")
            for node in (a, b):
                await node.begin()
                node.recorder.again = node.offer
                node.offer([node.node, 0])
                await node.recorder.until(lambda node=node: node.recorder.carried)
            etcd.stop(0)
            for node in (a, b):
                node.appends(**QUICK)
                node.offer([node.node, 1])
                await node.recorder.until(lambda node=node: node.held)
                node.offer([node.node, 2])
                node.appends(**PATIENT)  # else a slow etcd makes it hold once more
            etcd.start(0, wait=False)
            for node in (a, b):
                await node.recorder.until(lambda node=node: len(node.recorder.carried) == 3)
            await same(*((a, b) if a.index > b.index else (b, a)))
            assert sorted(a.recorder.proposals()) == [[name, number] for name in "ab" for number in range(3)]
            assert a.recorder.holds == [True, False]


@on_loop
async def test_with_three_members_a_killed_leader_and_a_paused_member_are_survived(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd", members=3) as etcd:
        async with Nodes(tmp_path, etcd.endpoints, **QUICK) as nodes:
            a, b = nodes.make("a"), nodes.make("b", etcd.endpoints[::-1])
            enough = asyncio.Event()
            traffic = [asyncio.create_task(offer_steadily(node, enough)) for node in (a, b) if await node.begin()]
            await a.recorder.until(lambda: a.index > 50)
            leader = etcd.leader()
            etcd.kill(leader)
            reached = a.index
            await a.recorder.until(lambda: a.index > reached + 50)
            etcd.start(leader, wait=False)
            await asyncio.to_thread(etcd.wait_ready, leader)
            paused = etcd.endpoints.index(a.health()["watch_endpoint"])
            etcd.pause(paused)
            reached = a.index
            await a.recorder.until(lambda: a.index > reached + 50)
            assert a.health()["watch_endpoint"] != etcd.endpoints[paused]
            etcd.resume(paused)
            enough.set()
            counts = await asyncio.gather(*traffic)
            await same(*((a, b) if a.index > b.index else (b, a)))
            for name, count in zip("ab", counts, strict=True):
                numbers = [number for who, number in a.recorder.proposals() if who == name]
                assert sorted(numbers) == list(range(count))


@on_loop
async def test_a_silent_watch_is_noticed_while_appends_go_on(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd", members=3) as etcd:
        follower = next(number for number in range(3) if number != etcd.leader())
        others = tuple(endpoint for number, endpoint in enumerate(etcd.endpoints) if number != follower)
        stalls = {"watch_stall_ms": 400, "call_timeout_ms": 1000}  # the latter: until a watch has begun
        async with Nodes(tmp_path, (etcd.endpoints[follower], *others), **stalls) as nodes:
            a = nodes.make("a")
            await a.begin()
            await a.watching()
            watched = a._watcher.endpoint  # the follower, unless it was slow to answer
            a._client.endpoint = a._client.after(watched)  # appends elsewhere: only the watch is on the paused member
            paused = etcd.endpoints.index(watched.url)
            etcd.pause(paused)
            a.offer("unseen for a while")
            await a.recorder.until(lambda: a.recorder.carried)
            assert a.health()["watch_endpoint"] != watched.url
            assert a.recorder.proposals() == ["unseen for a while"]
            etcd.resume(paused)


@on_loop
async def test_a_watch_on_a_member_far_away_is_given_the_time_to_be_made(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        target = etcd.endpoints[0]
        async with (
            Proxy(target) as near,
            Proxy(target, away_s=2 * SUPERVISE_EVERY_S) as far,
            Nodes(tmp_path, (near.endpoint, far.endpoint), watch_stall_ms=400) as nodes,
        ):
            a = nodes.make("a")
            await a.begin()
            await a.watching()
            a._client.endpoint = a._client.after(a._watcher.endpoint)
            near.withhold("answers")
            a.offer("seen from far away")
            await a.recorder.until(lambda: a.recorder.carried)
            assert a.health()["watch_endpoint"] == far.endpoint


@pytest.mark.parametrize("seed", [1, 2, 3])
@on_loop
async def test_whatever_the_network_does_each_proposal_is_in_the_log_exactly_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Etcd(tmp_path / "etcd") as etcd:
        target = etcd.endpoints[0]
        quick = {
            "append_timeout_ms": 60,
            "call_timeout_ms": 150,
            "settle_after_ms": 120,
            "hold_after_ms": 120,
            "watch_stall_ms": 150,
        }
        async with (
            Proxy(target) as one,
            Proxy(target) as two,
            Nodes(tmp_path, (one.endpoint, two.endpoint), **quick) as nodes,
        ):
            a, b = nodes.make("a"), nodes.make("b", (target,))
            await a.begin()
            await b.start()
            enough = asyncio.Event()
            traffic = asyncio.create_task(offer_steadily(a, enough))
            for _ in range(ROUNDS):
                for proxy in (one, two):
                    chance.choice((proxy.cut, proxy.refuse, proxy.pass_all, proxy.pass_all,
                                   lambda proxy=proxy: proxy.withhold("answers"),
                                   lambda proxy=proxy: proxy.withhold("requests")))()  # fmt: skip
                await asyncio.sleep(chance.uniform(0.01, 0.2))
                if chance.random() < 0.3:
                    one.pass_all()
                    two.pass_all()
                    reached = len(a.recorder.carried)
                    await a.recorder.until(lambda: len(a.recorder.carried) > reached)  # noqa: B023
            one.pass_all()
            two.pass_all()
            enough.set()
            count = await traffic
            await same(a, b)
            assert sorted(number for _, number in b.recorder.proposals()) == list(range(count)), f"seed {seed}"


async def offer_steadily(node: Node, enough: asyncio.Event) -> int:
    """Offer numbers one or a few at a time, those that were dropped anew, until it is enough and all are in the log."""
    node.recorder.again = node.offer
    count = 0
    while not enough.is_set():
        node.offer([node.node, count])
        count += 1
        await node.recorder.until(lambda: node.backlog < 4 and not node.held)
    await node.recorder.until(lambda: len(node.recorder.carried) == count)
    return count


async def until_settling(node: Node) -> None:
    """Wait until the empty entry competes with the batch in flight."""
    await eventually(lambda: any(batch.empty for batch in node._appender._unseen.values()))
