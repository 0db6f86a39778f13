"""A node that leaves has given its sessions away before: as long as some go, it waits for the others."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from switch import node as nodes
from switch.core.proposals import Leave
from switch.node import DRAIN_S, LEAVE_S, Node

LOOK_MS = 20.0  # between two looks


class Leaving:
    """As much of a node as leaves, in a time of its own: so many sessions go at each look."""

    def __init__(self, sessions: int, at_once: int) -> None:
        self.clock, self.left, self.lost = 0.0, sessions, -1
        self.engine: Any = SimpleNamespace(state=SimpleNamespace(meta=SimpleNamespace(version=1)))
        self.links: Any = SimpleNamespace(close=lambda: None)
        self.mirror: Any = SimpleNamespace(failed=SimpleNamespace(done=lambda: False), leave=self._left)
        self.succession: Any = SimpleNamespace(drain=self._drain)
        self._at_once = at_once

    def now(self) -> float:
        return self.clock

    def _acting(self) -> int:
        return self.left

    def _drain(self) -> bool:
        self.clock += LOOK_MS
        self.left = max(self.left - self._at_once, 0)
        return True

    async def _become(self, proposal: Any, *_: Any) -> None:
        assert isinstance(proposal, Leave)
        self.lost = self.left

    async def _left(self) -> None:
        pass


@pytest.mark.parametrize(
    ("sessions", "at_once", "lost", "seconds"),
    [
        (30_000, 50, 0, 12.0),  # the most there are by default: none is lost
        (1, 0, 1, LEAVE_S),  # one that cannot go is not waited for longer
        (30_000, 1, 30_000 - int(DRAIN_S * 1000 / LOOK_MS), DRAIN_S),  # nor do they go for ever
    ],
)
def test_sessions_go_as_long_as_some_do(
    monkeypatch: pytest.MonkeyPatch, sessions: int, at_once: int, lost: int, seconds: float
) -> None:
    monkeypatch.setattr(nodes, "POLL_MS", 0)
    leaving: Any = Leaving(sessions, at_once)
    asyncio.run(Node._leave(leaving))
    assert leaving.lost == lost and leaving.clock == pytest.approx(seconds * 1000, abs=LOOK_MS)


def test_the_unit_waits_as_long() -> None:
    unit = (Path(__file__).parents[2] / "systemd" / "switch@.service").read_text()
    found = re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
    assert found and int(found[1]) > DRAIN_S + 2 * LEAVE_S
