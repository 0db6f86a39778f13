"""A node that starts greets who was here before it: one that listens has to answer in time, whoever waits before us."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from switch.detector import Detector
from switch.sessions.handover import Handover
from switch.sessions.handover_messages import VERSION, Hello
from switch.succession import TICK_MS, UNMET_MS, Succession

SILENCE_MS = 1_000.0
BACKLOG = 4
LIVES = 5  # of us, that ended soon after their greeting: the backlog is full
PEER: Any = SimpleNamespace(id="b1")


class Newcomer:
    """As much of a node as meets its peer, in a time of its own."""

    def __init__(self, directory: Path) -> None:
        self.clock = 0.0
        self.suspected: list[str] = []
        self.handover = Handover(directory / "a", directory / "b", SimpleNamespace())
        self.handover.introduce(Hello(VERSION, "p", "a1", "t", 3))
        self._unmet, self._crowded, self._succeeding = None, False, dict[str, Any]()
        self._host = SimpleNamespace(now=lambda: self.clock)
        self._detector = Detector(SILENCE_MS, TICK_MS)

    def suspect(self, id_: str, reason: str) -> None:
        self.suspected.append(reason)

    def _greet(self) -> None:
        Succession._greet(self)  # type: ignore[arg-type]

    def tick(self) -> None:
        self.clock += TICK_MS
        Succession._meet(self, PEER)  # type: ignore[arg-type]


def _peer(directory: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    listener.bind(str(directory / "b"))
    listener.listen(BACKLOG)
    for _ in range(LIVES):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as former:
            former.connect(str(directory / "b"))
    return listener


def test_a_peer_that_stands_still_is_suspect_though_its_queue_is_full(tmp_path: Path) -> None:
    async def inside() -> None:
        with _peer(tmp_path):
            node = Newcomer(tmp_path)
            node._greet()
            while not node.suspected:
                node.tick()
            assert node.suspected == ["does not answer"] and SILENCE_MS <= node.clock < SILENCE_MS + UNMET_MS
        node.handover.close()

    asyncio.run(inside())


def test_a_peer_that_was_busy_is_greeted_as_soon_as_it_accepts(tmp_path: Path) -> None:
    async def inside() -> None:
        with _peer(tmp_path) as listener:
            node = Newcomer(tmp_path)
            node._greet()
            for _ in range(int(SILENCE_MS / TICK_MS / 2)):
                node.tick()
            assert node._crowded
            for _ in range(LIVES):
                listener.accept()[0].close()
            node.tick()
            greeted, _ = listener.accept()
            with greeted:
                assert greeted.recv(4_096) and not node._crowded and not node.suspected
        node.handover.close()

    asyncio.run(inside())


def test_a_peer_that_does_not_listen_is_left_alone(tmp_path: Path) -> None:
    async def inside() -> None:
        node = Newcomer(tmp_path)
        node._greet()
        with pytest.raises(OSError, match="b1 runs, and does not listen"):
            while True:
                node.tick()
        assert not node.suspected and node.clock == UNMET_MS
        node.handover.close()

    asyncio.run(inside())
