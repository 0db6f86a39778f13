"""What tests of accepted connections share: who takes them, in the sessions' place."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

from switch.core.rules import Limits, Link


class Sessions:
    """Takes what is accepted, on one link of node a."""

    def __init__(self) -> None:
        link = Link(name="pos", listen={"a": "127.0.0.1:0"}, framing="2-byte-be")
        rules, state = SimpleNamespace(limits=Limits()), SimpleNamespace(live=list)
        self.engine: Any = SimpleNamespace(wires={"pos": SimpleNamespace(link=link)}, rules=rules, state=state)
        self.connections: dict[int, socket.socket] = {}

    def open(self, link: str, sock: socket.socket, *_: Any) -> None:
        self.connections[sock.fileno()] = sock


async def turns(count: int = 20) -> None:
    """Whatever is ready has had its turn."""
    for _ in range(count):
        await asyncio.sleep(0)
