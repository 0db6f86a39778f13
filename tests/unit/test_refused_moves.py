"""A handover that was proposed and never came about: the session is this node's as before, also while it connects."""

import asyncio
import socket
from pathlib import Path

from engines import Pair

from switch.core.proposals import Connected, Move, Proposal
from switch.core.tend import Subject
from switch.datakeys import DataKeys
from switch.poison import Poison
from switch.sessions import kernel
from switch.sessions.connection import Connection
from switch.sessions.sessions import Sessions

PATIENCE_S = 20.0  # Linux sends a SYN again after one second, then after two more


class Keeper:
    """Of a node without a peer."""

    def keep(self, connection: Connection, then) -> None:
        then()

    def forget(self, connection: Connection) -> None:
        pass

    def release(self, connection: Connection) -> None:
        pass


async def full(listener: socket.socket) -> list[socket.socket]:
    """Connections until the backlog takes no more: a further SYN stays without an answer."""
    clients = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        clients.append(client)
    await asyncio.sleep(0.1)
    return clients


async def refused_while_it_connects(directory: Path) -> list[Proposal]:
    """What a node submits whose connection, its SYN still unanswered, was to become its peer's."""
    pair, submitted = Pair(), []

    def submit(proposal: Proposal, subject: Subject) -> None:
        submitted.append(proposal)

    marks = Poison(directory / "marks", "a", 1), DataKeys(directory / "keys", "a", 5)
    sessions = Sessions(pair.engines["a"], submit, Keeper(), *marks, "boot", lambda: 0.0)
    with socket.socket() as listener, socket.socket() as sock:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        listener.setblocking(False)
        clients = await full(listener)
        sock.setblocking(False)
        id_ = sessions.open("net", sock, 0, kernel.address(listener.getsockname())).session
        assert pair.append("a", submitted[0]) == [True]
        sessions.follow((id_,))
        assert kernel.counters(sock, connecting=True).state == kernel.SYN_SENT
        sessions.move((id_,), pair.engines["b"].incarnation)
        assert isinstance(submitted[-1], Move)
        sessions.moved((id_,))
        sessions.follow((id_,))
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not isinstance(submitted[-1], Connected) and asyncio.get_running_loop().time() < deadline:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                await asyncio.sleep(0.05)
        for client in clients:
            client.close()
    return submitted


def test_a_connection_that_was_to_move_while_its_syn_was_unanswered_is_noticed_when_it_is_made(tmp_path: Path) -> None:
    assert isinstance(asyncio.run(refused_while_it_connects(tmp_path))[-1], Connected)
