"""The handover socket when the peer dies: what it had sent is taken in, whatever of ours it left unread."""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from switch.core.proposals import Open
from switch.sessions.handover import Handover
from switch.sessions.handover_messages import BEAT, Gone, Sockets, encode

OPEN = Open("b1.1", "pos", -1, "", "r:1", "l:1", "")


class Holder:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(*arguments: Any) -> None:
            self.told.append(name)
            for each in arguments:
                if isinstance(each, list):
                    for sock in each:
                        sock.close()

        return note


@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize("noticed_by", ["reading", "sending"])
def test_sockets_that_a_dead_peer_had_sent_are_taken_in(tmp_path: Path, unread: bool, noticed_by: str) -> None:
    """With something unread at its end Linux says ECONNRESET, once, before what it had sent (unix(7) does not)."""

    async def inside() -> None:
        holder = Holder()
        handover = Handover(tmp_path / "a", tmp_path / "b", holder)  # type: ignore[arg-type]
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed, other = socket.socketpair()
        mine.setblocking(False)
        handover._peer, handover.peer = mine, "b1"
        asyncio.get_running_loop().add_reader(mine, handover.drain)
        with passed, other:
            if unread:
                mine.send(BEAT)
            socket.send_fds(its, [encode(Sockets((OPEN,)))], [passed.fileno()])
            its.close()
            if noticed_by == "reading":
                handover.drain()
            else:
                handover.send(Gone(("a1.1",)), [])
        assert holder.told == ["received", "peer_down"] and not handover.up

    asyncio.run(inside())


def test_who_has_no_descriptors_for_its_peers_sockets_says_so_and_ends(tmp_path: Path) -> None:
    """The kernel cuts off what there is no room for, and says so in a flag only (recvmsg(2), MSG_CTRUNC)."""

    async def inside() -> None:
        holder = Holder()
        handover = Handover(tmp_path / "a", tmp_path / "b", holder)  # type: ignore[arg-type]
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        handover._peer, handover.peer = mine, "b1"
        passed = [socket.socket() for _ in range(3)]
        socket.send_fds(its, [encode(Sockets((OPEN,) * 3))], [sock.fileno() for sock in passed])
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = passed[-1].fileno() + 2  # room for one more descriptor
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            with pytest.raises(OSError, match="raise LimitNOFILE") as refused:
                handover.drain()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert refused.value.errno == errno.EMFILE and not holder.told
        for sock in [mine, its, *passed]:
            sock.close()

    asyncio.run(inside())
