"""Addresses that change their link: what the peer still holds is tried again, what the rules want no longer is let go."""

import asyncio
import errno
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from switch.core.rules import Limits, Link
from switch.sessions.links import BUSY_MS, Links


class Node:
    """The links of node a, under rules that change."""

    def __init__(self) -> None:
        self.now = 0.0
        self.accepted: list[str] = []
        rules, state = SimpleNamespace(limits=Limits()), SimpleNamespace(live=list)
        self.engine: Any = SimpleNamespace(wires={}, rules=rules, state=state)
        self.connections: dict[str, Any] = {}
        self.links = Links(self, "a", {}, lambda: self.now)  # type: ignore[arg-type]

    def rules(self, **addresses: str) -> None:
        self.engine.wires = {
            name: SimpleNamespace(link=Link(name=name, listen={"a": address}, framing="2-byte-be"))
            for name, address in addresses.items()
        }

    def open(self, link: str, sock: socket.socket, *_: Any) -> SimpleNamespace:
        self.accepted.append(link)
        sock.close()
        return SimpleNamespace(session="a1.1")


def _free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_an_address_of_a_link_with_a_new_name_is_tried_again_until_the_peer_has_let_it_go(caplog: Any) -> None:
    async def inside() -> None:
        node, address = Node(), _free()
        node.rules(old=address)
        node.links.listen()
        of_the_peer = node.links.listening["old/a"].dup()
        node.rules(new=address)
        with caplog.at_level(logging.ERROR):
            assert node.links.configured() and not node.links.listening
            assert not node.links.bind_again() and not caplog.records
            of_the_peer.close()
            assert node.links.bind_again() and set(node.links.listening) == {"new/a"}
            assert not node.links.bind_again() and not caplog.records
        node.links.close()

    asyncio.run(inside())


def test_an_address_that_stays_in_use_is_told_once(caplog: Any) -> None:
    async def inside() -> None:
        node = Node()
        node.rules()
        node.links.listen()
        with socket.create_server(("127.0.0.1", 0)) as other, caplog.at_level(logging.ERROR):
            node.rules(new=f"127.0.0.1:{other.getsockname()[1]}")
            assert node.links.configured()
            for node.now in (BUSY_MS / 2, BUSY_MS + 1, BUSY_MS + 2):
                assert not node.links.bind_again()
        assert caplog.text.count("link.not_listening") == 1
        node.links.close()

    asyncio.run(inside())


@pytest.mark.parametrize("rules", [{}, {"pos": "127.0.0.1:1"}])
def test_what_the_peer_shared_before_the_rules_changed_is_not_accepted_from(rules: dict[str, str]) -> None:
    """A node that starts has its peer's listening sockets before it listens; a link may go, or move, meanwhile."""

    async def inside() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        node, shared = Node(), socket.create_server(("127.0.0.1", 0))
        node.rules(pos="127.0.0.1:2")
        node.links.hold("pos/a", shared)
        node.rules(**rules)
        assert not node.links.configured()
        node.links._unbound = list  # type: ignore[method-assign]  # its own are no matter here
        node.links.listen()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not told and not node.links.listening and shared.fileno() == -1
        node.links.close()

    asyncio.run(inside())


def test_what_the_peer_shares_under_new_rules_takes_the_place_of_the_old_also_before_we_listen() -> None:
    async def inside() -> None:
        node, (old, new) = Node(), (_free(), _free())
        node.rules(pos="127.0.0.1:2")
        node.engine.wires["pos"].link.listen["b"] = old
        node.links.hold("pos/b", socket.create_server(("127.0.0.1", 0)))
        node.rules(pos="127.0.0.1:2")
        node.engine.wires["pos"].link.listen["b"] = new
        assert not node.links.configured()
        shared = socket.create_server(("127.0.0.1", 0))
        node.links.hold("pos/b", shared)
        assert node.links.listening == {"pos/b": shared}
        node.links.close()

    asyncio.run(inside())


def test_a_host_without_ipv6_goes_on_to_the_next_address(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    class Without(socket.socket):
        def __init__(self, family: int = socket.AF_INET, *more: Any, **named: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *more, **named)

    async def inside() -> None:
        node = Node()
        link = Link(name="net", connect=["[2001:db8::1]:9000", "192.0.2.1:9000"], connections=1, framing="2-byte-be")
        node.engine.wires, node.engine.incarnation = {"net": SimpleNamespace(link=link)}, "a1"
        node.engine.state = SimpleNamespace(live=lambda: ["a1"], slots={}, sessions={})
        monkeypatch.setattr(socket, "socket", Without)
        with caplog.at_level(logging.WARNING):
            for node.now in (0.0, 1.0, 1_000.0):
                node.links.connect()
        assert node.accepted == ["net"] and caplog.text.count("link.not_connecting link=net") == 1

    asyncio.run(inside())
