"""A node is killed, or stops, with work in its hands: the other goes on with every session at the exact byte.

One traffic goes on through all of it, and is audited at the end.
"""

import asyncio
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import msgspec
import pytest
from mirror_rig import Proxy
from switch_rig import (
    ALL,
    TRANSFERS,
    Recording,
    Traffic,
    Wire,
    card_request,
    clean,
    fresh,
    hashes_agree,
    heard_by_issuer,
    log_lines,
    logged,
    owned,
    postings,
    session,
    settled,
    until,
)

from tools.kills import duplex
from tools.pair import Settings, Switch
from tools.transfer_requests import TransferRequest, built_in_templates

KILLED = -signal.SIGKILL
SETTINGS = Settings(
    limits={"heartbeat_ms": 100},
    echo_interval_ms=600_000,  # what the issuer hears of network management is sign-on alone
    issuer_options=("--delay-ms", "300..600"),
)
WIRES = 12
TRANSFERS_OWED = 200
NODES = ("a", "b")


@pytest.fixture(scope="module")
def traffic(switch: Switch) -> Iterator[Traffic]:
    with Traffic(switch, rate=60, terminals=60) as running:
        yield running


@pytest.fixture(scope="module")
def recording(switch: Switch) -> Recording:
    return Recording(switch.directory / "own")


def other(node: str) -> str:
    return "ba"["ab".index(node)]


def kill(switch: Switch, node: str) -> None:
    """Kill a node and wait until the other has taken over."""
    dead = switch.ask(node)["incarnation"]
    switch.nodes[node].kill()
    taken_over(switch, dead)


def taken_over(switch: Switch, dead: str) -> None:
    logged(switch, "takeover.done", f"dead={dead} ", nodes=other(dead[0]))


def back(switch: Switch, node: str) -> None:
    """Start a node again; the pair is whole afterwards."""
    switch.nodes[node].start()
    until(lambda: duplex(switch), "the pair to be whole")


def acting(switch: Switch, wire: Wire) -> str:
    """The node that reads and writes the session of this connection."""

    owner = until(lambda: session(switch, wire), f"the session of {wire.local}")["owner"]
    incarnations = switch.ask("a")["incarnations"]
    while incarnations[owner]["heir"]:
        owner = incarnations[owner]["heir"]
    return str(owner[0])


def wires(switch: Switch, recording: Recording, count: int = WIRES) -> list[Wire]:
    """Connections whose sessions are a's and b's in turn."""
    return [owned(switch, NODES[place % 2], recording=recording) for place in range(count)]


def close(connections: list[Wire]) -> None:
    for each in connections:
        each.close()


# --- stopped


@pytest.mark.parametrize("node", NODES)
def test_a_node_that_is_stopped_is_killed_by_the_other_and_never_wakes_up(
    node: str, switch: Switch, traffic: Traffic
) -> None:
    process, dead = switch.nodes[node], switch.ask(node)["incarnation"]
    process.signal(signal.SIGSTOP)
    taken_over(switch, dead)
    assert log_lines(switch, "peer.suspect", f"incarnation={dead} ", "silent", nodes=other(node))
    assert process.wait() == KILLED  # it has ended: nothing is left that SIGCONT could wake up
    traffic.more(20)
    back(switch, node)


# --- work in hand


@pytest.mark.parametrize("node", NODES)
def test_requests_that_the_issuer_thinks_about_are_answered_whoever_dies(
    node: str, switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    """Among them: of terminals of the dead node, and forwarded on its sessions to the issuer."""
    connections, numbers = wires(switch, recording), [fresh() for _ in range(WIRES)]
    for wire, number in zip(connections, numbers, strict=True):
        wire.request(card_request(number))
    until(lambda: all(heard_by_issuer(switch, number) for number in numbers), "the issuer to have them all")
    kill(switch, node)
    for wire, number in zip(connections, numbers, strict=True):
        answer = wire.fields()
        assert (answer[11], answer[39]) == (f"{number:06d}", "00")
        assert postings(switch, number) == (1, 1)
        assert heard_by_issuer(switch, number) == {"0200": 1}
    back(switch, node)
    close(connections)


@pytest.mark.parametrize("node", NODES)
def test_repeats_hear_the_recorded_outcome_from_the_heir(
    node: str, switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    connections, numbers = wires(switch, recording, 4), [fresh() for _ in range(8)]
    decided, thought_about = numbers[:4], numbers[4:]
    first = [wire.ask(card_request(number)) for wire, number in zip(connections, decided, strict=True)]
    for wire, number in zip(connections, thought_about, strict=True):
        wire.request(card_request(number))
    until(lambda: all(heard_by_issuer(switch, number) for number in thought_about), "the issuer to have them all")
    kill(switch, node)
    # to both addresses: the heir accepts at both
    fresh_connections = [Wire(switch.ports.terminals[each], recording=recording) for each in "abab"]
    for wire, number in zip(fresh_connections, thought_about, strict=True):
        wire.request(card_request(number, mti="0201"))
    for wire, repeating, number in zip(connections, fresh_connections, thought_about, strict=True):
        answer = wire.fields()
        assert (answer[11], answer[39]) == (f"{number:06d}", "00")
        assert repeating.fields() == answer
    for each in connections, fresh_connections:
        assert [wire.ask(card_request(number, mti="0201")) for wire, number in zip(each, decided, strict=True)] == first
    for number in numbers:
        assert postings(switch, number) == (1, 1)
        assert heard_by_issuer(switch, number) == {"0200": 1}
    back(switch, node)
    close(connections + fresh_connections)


@pytest.mark.parametrize("node", NODES)
def test_a_frame_that_was_half_received_is_completed_at_the_heir(
    node: str, switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    """Cut anywhere: in its length, its header, its middle, before its last byte; some with a whole frame before it."""
    connections, numbers = wires(switch, recording), [fresh() for _ in range(WIRES)]
    rests, firsts = [], []
    for place, (wire, number) in enumerate(zip(connections, numbers, strict=True)):
        frame = wire.frame(card_request(number))
        cut = (1, 2, 3, 8, len(frame) // 2, len(frame) - 1)[place // 2]
        firsts.append(fresh() if place % 4 < 2 else None)
        before = b"" if firsts[-1] is None else wire.frame(card_request(firsts[-1]))
        wire.send(before + frame[:cut])
        rests.append(frame[cut:])
    kill(switch, node)
    for wire, rest in zip(connections, rests, strict=True):
        wire.send(rest)
    for wire, first, number in zip(connections, firsts, numbers, strict=True):
        expected = {f"{each:06d}" for each in (first, number) if each is not None}
        answers = [wire.fields() for _ in expected]
        assert {answer[11] for answer in answers} == expected and {answer[39] for answer in answers} == {"00"}
    back(switch, node)
    close(connections)


def transfer(place: int) -> TransferRequest:
    return built_in_templates()[place % 8].build("5555555555", fresh(), datetime.now(UTC), random.Random(fresh()))


def test_answers_that_were_half_written_to_a_slow_reader_are_completed_byte_for_byte(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    requests = [transfer(place) for place in range(TRANSFERS_OWED)]
    wire = Wire(switch.ports.banks["a"], TRANSFERS, recording=recording, receive_buffer=2048)
    for request in requests:
        wire.request(request.payload)

    def row() -> dict[str, Any]:
        found: dict[str, Any] = until(lambda: session(switch, wire), "the session to be open")
        return found

    until(lambda: row()["applied"] == sum(len(wire.frame(each.payload)) for each in requests), "all to be taken")
    until(lambda: not row()["waiting"], "all to be answered")
    owed = row()["output"] - row()["acked"]
    assert owed > 50_000  # more than the kernels between us hold: some frame is written in part
    due = {each.end_to_end_id for each in requests}
    for count in (TRANSFERS_OWED // 3, TRANSFERS_OWED // 3, 0):
        node = acting(switch, wire)
        kill(switch, node)
        for _ in range(count or len(due)):
            due.remove(re.search(rb"OrgnlEndToEndId>([^<]+)<", wire.answer())[1].decode())  # type: ignore[index]
        back(switch, node)
    assert not due and not wire.received
    wire.close()


# --- sessions on their way


def test_a_node_that_dies_again_as_soon_as_it_is_back_loses_nothing(switch: Switch, traffic: Traffic) -> None:
    """In the middle of what it is given: sockets first, then sessions by handover."""
    for node in NODES * 3:
        switch.nodes[node].kill()
        served = len(log_lines(switch, "node.live", nodes=node))
        switch.nodes[node].start()
        until(lambda node=node, served=served: len(log_lines(switch, "node.live", nodes=node)) > served, "it to live")
        time.sleep(random.uniform(0, 0.15))  # some instant of its first moments
        switch.nodes[node].kill()
        back(switch, node)
        traffic.more(10)


def test_both_networks_were_signed_on_to_once(switch: Switch, traffic: Traffic) -> None:
    assert heard_by_issuer(switch)["0800"] == 2


def test_nothing_was_lost_or_doubled_and_every_session_stayed_open(
    switch: Switch, traffic: Traffic, recording: Recording
) -> None:
    hashes_agree(switch, 3)
    traffic.more(60)
    clean(switch, traffic, recording)


# --- with a switch of their own

Start = Callable[..., Switch]


def test_timeouts_that_were_pending_are_decided_by_the_heir(start: Start) -> None:
    lossy = Settings(
        timeout_ms=1500, limits={"heartbeat_ms": 100}, issuer={"advice_retry_ms": 700},
        issuer_options=("--lose", "1/5"), bank_options=("--lose", "1/7"),
    )  # fmt: skip
    switch = start(lossy)
    # of 120 a second 20 lose their answer, and wait 1.5 seconds: 30 are pending, however fast all others are answered
    with Traffic(switch, rate=120, terminals=200, banks=8) as traffic:
        for node in NODES:
            until(lambda: switch.ask("a")["transactions"] > 20, "requests to wait")
            kill(switch, node)
            traffic.more(60)
            back(switch, node)
        until(lambda: heard_by_issuer(switch)["0420"] > 10, "reversals")
        until(lambda: traffic.answered - traffic.approved > 20, "declines")
    settled(switch)
    verdict = clean(switch, traffic)
    assert verdict.declined > 20


class EtcdOf:
    """One node's own way to etcd, which can be cut."""

    def __init__(self, switch: Switch, node: str) -> None:
        self._proxy: Proxy | None = None
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._target = switch.etcd.endpoints[0]
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        config = msgspec.toml.decode(switch.config_path.read_bytes())
        config["etcd"]["endpoints"] = [self._proxy.endpoint]  # type: ignore[union-attr]
        path = switch.directory / f"switch-{node}.toml"
        path.write_bytes(msgspec.toml.encode(config))
        arguments = switch.nodes[node].arguments
        arguments[arguments.index("--config") + 1] = str(path)

    async def _serve(self) -> None:
        async with Proxy(self._target) as self._proxy:
            self._ready.set()
            await self._stop.wait()

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.refuse)  # type: ignore[union-attr]

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.pass_all)  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.mark.parametrize("node", NODES if ALL else NODES[1:])
def test_a_node_that_was_cut_off_from_etcd_and_stopped_is_replaced_and_writes_nothing(
    node: str, start: Start
) -> None:
    switch = start(Settings(limits={"heartbeat_ms": 100}))
    with EtcdOf(switch, node) as etcd, Traffic(switch, rate=60) as traffic:
        switch.nodes[node].kill()
        back(switch, node)
        process, dead = switch.nodes[node], switch.ask(node)["incarnation"]
        etcd.cut()
        logged(switch, "switch.held", nodes=node)
        process.signal(signal.SIGSTOP)
        taken_over(switch, dead)
        assert process.wait() == KILLED
        traffic.more(60)
        etcd.mend()
        back(switch, node)
        traffic.more(20)
        hashes_agree(switch, 3)
        clean(switch, traffic)


@pytest.mark.parametrize("node", NODES if ALL else NODES[:1])
def test_a_node_that_alone_is_cut_off_from_etcd_is_replaced(node: str, start: Start) -> None:
    """It lives and beats, but its sessions wait for a log that goes on without it."""
    switch = start(Settings(limits={"heartbeat_ms": 100}))
    with EtcdOf(switch, node) as etcd, Traffic(switch, rate=60) as traffic:
        switch.nodes[node].kill()
        back(switch, node)
        process, dead = switch.nodes[node], switch.ask(node)["incarnation"]
        etcd.cut()
        logged(switch, "peer.suspect", f"incarnation={dead} ", "its entries have stopped", nodes=other(node))
        taken_over(switch, dead)
        assert process.wait() == KILLED
        traffic.more(60)
        etcd.mend()
        back(switch, node)
        traffic.more(20)
        hashes_agree(switch, 3)
        clean(switch, traffic)
