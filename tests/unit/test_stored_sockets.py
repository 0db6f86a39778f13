"""Sockets that came back from the service manager and that no entry knows: who opens them, who closes them, who lets go."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engines import Pair

from switch.core.proposals import Open, Proposal
from switch.core.tend import Subject
from switch.datakeys import DataKeys
from switch.poison import Poison
from switch.sessions import kernel
from switch.sessions.connection import Connection
from switch.sessions.sessions import Sessions

Marks = tuple[Poison, DataKeys]


class Keeper:
    """Writes down what the peer and the service manager are told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def keep(self, connection: Connection, then: Callable[[], None]) -> None:
        self.told.append(("keep", connection.session))
        then()

    def forget(self, connection: Connection) -> None:
        self.told.append(("forget", connection.session))

    def release(self, connection: Connection) -> None:
        self.told.append(("release", connection.session))


class Node:
    """The sessions of one node of a pair, and connections to it."""

    def __init__(self, pair: Pair, node: str, marks: Marks) -> None:
        self.keeper = Keeper()
        self.submitted: list[Proposal] = []
        self.sessions = Sessions(pair.engines[node], self._submit, self.keeper, *marks, "boot", lambda: 0.0)

    def _submit(self, proposal: Proposal, subject: Subject) -> None:
        self.submitted.append(proposal)

    def restore(self, session: str, sock: socket.socket, slot: int = -1) -> None:
        self.sessions.stand_by(Open(session, "pos", slot, f"boot:{kernel.cookie(sock):x}", "remote:1", "", ""), sock)

    @property
    def held(self) -> list[str]:
        return list(self.sessions.connections)


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Poison(tmp_path / "marks", "a", 1), DataKeys(tmp_path / "keys", "a", 5)


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client and what was accepted of it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), 10) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted


def both_dead(pair: Pair) -> None:
    """Both nodes died; a is back first and heir of both; b is back."""
    former = pair.engines["b"].incarnation
    pair.die("a")
    pair.restart("a")
    pair.die("b")
    pair.restart("b")
    assert pair.state.over("a1") and pair.state.over(former)


def run(check: Callable[[], None]) -> None:
    async def inside() -> None:
        check()

    asyncio.run(inside())


def test_who_acts_for_the_dead_opens_a_brand_new_connection_once_although_it_has_it_twice(marks: Marks) -> None:
    def check() -> None:
        pair = Pair()
        both_dead(pair)
        acting = pair.state.acting("a1")
        with connected() as (_, accepted):
            node = Node(pair, acting[0], marks)
            node.restore("a1.7", accepted)
            node.restore("b1.9", accepted.dup())  # the same, as the peer knew it
            node.sessions.settle_orphans("")
            assert node.held == [f"{acting}.1"]
            assert [proposal.session for proposal in node.submitted if isinstance(proposal, Open)] == [f"{acting}.1"]
            assert ("keep", f"{acting}.1") in node.keeper.told

    run(check)


def test_the_other_node_lets_go_once_the_acting_one_has_all_and_not_before(marks: Marks) -> None:
    def check() -> None:
        pair = Pair()
        both_dead(pair)
        acting = pair.state.acting("a1")
        other = "ba"["ab".index(acting[0])]
        with connected() as (client, accepted):
            node = Node(pair, other, marks)
            node.restore("a1.7", accepted.dup())
            node.sessions.settle_orphans("")
            assert node.held == ["a1.7"]
            node.sessions.settle_orphans(acting)
            assert (node.held, node.submitted) == ([], [])
            assert node.keeper.told == [("release", "a1.7")]
            accepted.sendall(b"lives")  # a plain close of one of several holders
            assert client.recv(5) == b"lives"

    run(check)


def test_a_connection_whose_stream_we_have_ended_is_not_opened_anew(marks: Marks) -> None:
    """The session that it was is over: quarantined at its first frame, say. The peer's fd store still had it."""

    def check() -> None:
        pair = Pair()
        both_dead(pair)
        with connected() as (client, accepted):
            client.sendall(b"poison")
            accepted.shutdown(socket.SHUT_WR)
            node = Node(pair, pair.state.acting("a1")[0], marks)
            node.restore("a1.7", accepted)
            node.sessions.settle_orphans("")
            assert (node.held, node.submitted) == ([], [])

    run(check)


def test_a_connection_that_has_been_used_and_that_nobody_knows_is_closed_in_order(marks: Marks) -> None:
    def check() -> None:
        pair = Pair()
        both_dead(pair)
        acting = pair.state.acting("a1")
        with connected() as (client, accepted):
            accepted.sendall(b"answer")
            node = Node(pair, acting[0], marks)
            node.restore("a1.7", accepted)
            node.sessions.settle_orphans("")
            assert (node.held, node.submitted) == ([], [])
            assert node.keeper.told == [("forget", "a1.7")]
            assert client.recv(100) == b"answer"
            assert client.recv(100) == b""  # its end, and not a reset

    run(check)


def test_a_connection_whose_entry_may_still_come_waits(marks: Marks) -> None:
    def check() -> None:
        pair = Pair()
        with connected() as (_, accepted):
            node = Node(pair, "b", marks)
            node.restore("a1.7", accepted)
            node.sessions.settle_orphans("a1")
            assert (node.held, node.keeper.told) == (["a1.7"], [])

    run(check)


def test_what_is_over_here_is_not_held_again_when_the_peer_brings_it_back(marks: Marks) -> None:
    """It ended while the peer was down, whose fd store kept a copy."""

    def check() -> None:
        pair = Pair()
        with connected() as (_, accepted):
            node = Node(pair, "a", marks)
            node.restore("a1.7", accepted)
            assert node.held == []
            assert accepted.fileno() == -1

    run(check)
