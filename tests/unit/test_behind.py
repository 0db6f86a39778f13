"""Sockets that the peer has not got would end with us: while some wait for it, no more are accepted."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from accepting import Sessions, turns

from switch.core.proposals import Open
from switch.sessions.connection import Connection
from switch.sessions.handover import Handover
from switch.sessions.links import Links
from switch.succession import Succession

CLIENTS = 20


class Sharing(Sessions):
    """Shares what it takes with the peer, as the real ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = 0
        self.succession: Any = None

    def open(self, link: str, sock: socket.socket, *more: Any) -> None:
        super().open(link, sock, *more)
        connection = Connection(Open(f"a1.{sock.fileno()}", link, -1, "", "r:1", "l:1", ""), sock)
        Succession.keep(self.succession, connection, self._then)

    def _then(self) -> None:
        self.shared += 1


def test_while_the_peer_takes_no_sockets_connections_wait_in_the_backlog(tmp_path: Path) -> None:
    async def inside() -> None:
        sessions = Sharing()
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
        await turns(3 * CLIENTS)
        assert handover.behind and len(sessions.connections) == sessions.shared + 1 < CLIENTS
        while sessions.shared < CLIENTS:  # the peer reads again
            _, fds, _, _ = socket.recv_fds(its, 65_536, 250)
            for fd in fds:
                socket.close(fd)
            await turns(3 * CLIENTS)
            assert len(sessions.connections) <= sessions.shared + 1
            Succession._part(pair)
            await turns(3 * CLIENTS)
        assert not handover.behind and len(sessions.connections) == CLIENTS
        links.close()
        for sock in [mine, its, *clients, *sessions.connections.values()]:
            sock.close()

    asyncio.run(inside())
