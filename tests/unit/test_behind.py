"""Sockets that the peer has not got would end with us: while some wait for it, no more are accepted."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from switch.core.proposals import Open
from switch.core.rules import Limits, Link
from switch.sessions.connection import Connection
from switch.sessions.handover import Handover
from switch.sessions.links import Links
from switch.succession import Succession

CLIENTS = 20


class Sessions:
    """Takes what is accepted and shares it, as the real ones do."""

    def __init__(self) -> None:
        link = Link(name="pos", listen={"a": "127.0.0.1:0"}, framing="2-byte-be")
        rules, state = SimpleNamespace(limits=Limits()), SimpleNamespace(live=list)
        self.engine: Any = SimpleNamespace(wires={"pos": SimpleNamespace(link=link)}, rules=rules, state=state)
        self.connections: dict[int, socket.socket] = {}
        self.shared = 0
        self.succession: Any = None

    def open(self, link: str, sock: socket.socket, *_: Any) -> None:
        self.connections[sock.fileno()] = sock
        connection = Connection(Open(f"a1.{sock.fileno()}", link, -1, "", "r:1", "l:1", ""), sock)
        Succession.keep(self.succession, connection, self._then)

    def _then(self) -> None:
        self.shared += 1


async def _turns() -> None:
    for _ in range(3 * CLIENTS):
        await asyncio.sleep(0)


def test_while_the_peer_takes_no_sockets_connections_wait_in_the_backlog(tmp_path: Path) -> None:
    async def inside() -> None:
        sessions = Sessions()
        links = Links(sessions, "a", {}, lambda: 0.0)  # type: ignore[arg-type]
        handover = Handover(tmp_path / "a", tmp_path / "b", SimpleNamespace())
        pair: Any = SimpleNamespace(
            _links=links, handover=handover, store=SimpleNamespace(keep=lambda *_: None), peer=lambda: None, _noticed={}
        )
        sessions.succession = pair
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        handover._peer, handover.peer = mine, "b1"
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # its least: a few messages
        listener = socket.create_server(("127.0.0.1", 0))
        links._given["pos/a"] = listener
        links.listen()
        clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
        await _turns()
        assert handover.behind and len(sessions.connections) == sessions.shared + 1 < CLIENTS
        while sessions.shared < CLIENTS:  # the peer reads again
            _, fds, _, _ = socket.recv_fds(its, 65_536, 250)
            for fd in fds:
                socket.close(fd)
            await _turns()
            assert len(sessions.connections) <= sessions.shared + 1
            Succession._part(pair)
            await _turns()
        assert not handover.behind and len(sessions.connections) == CLIENTS
        links.close()
        for sock in [mine, its, *clients, *sessions.connections.values()]:
            sock.close()

    asyncio.run(inside())
