"""A node takes as many descriptors as it may have, accepts no more sessions than they are for, and says when they are few."""

import asyncio
import errno
import logging
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from accepting import Sessions, turns

from switch import daemon
from switch.core.rules import Limits
from switch.sessions.links import DESCRIPTORS_OTHER, Links, sessions_held


@pytest.mark.parametrize(("sessions_max", "told"), [(1_792, ""), (1_793, "limits.sessions_max to 1792")])
def test_too_few_descriptors_are_told_with_what_to_do(monkeypatch, caplog, sessions_max, told):
    taken = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: taken.append(limits))
    with caplog.at_level(logging.WARNING):
        daemon.descriptors(sessions_max)
    assert taken == [(4_096, 4_096)]
    assert bool(caplog.records) == bool(told)
    assert all("descriptors.few" in str(record.__dict__) and told in str(record.__dict__) for record in caplog.records)


class Door:
    """A listening socket for which there are no descriptors until there are."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.tries, self.short = 0, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> Any:
        self.tries += 1
        if self.short:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()


def _links(sessions: Sessions) -> tuple[Links, Door]:
    links = Links(sessions, "a", {}, lambda: 0.0)  # type: ignore[arg-type]
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    door = Door(sock)
    links._given["pos/a"] = door  # type: ignore[assignment]
    links.listen()
    return links, door


def test_a_node_short_of_descriptors_tries_again_when_it_looks_and_not_at_once() -> None:
    async def inside() -> None:
        sessions = Sessions()
        links, door = _links(sessions)
        with socket.create_connection(door.getsockname()):
            await turns()
            assert door.tries == 1
            door.short = False
            await turns()
            assert not sessions.connections
            links.connect()
            await turns()
            assert len(sessions.connections) == 1
        links.close()
        for sock in sessions.connections.values():
            sock.close()

    asyncio.run(inside())


def test_no_more_sessions_are_accepted_than_there_are_descriptors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inside() -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (DESCRIPTORS_OTHER + 4, DESCRIPTORS_OTHER + 4))
        sessions = Sessions()
        links, door = _links(sessions)
        door.short = False
        clients = [socket.create_connection(door.getsockname()) for _ in range(3)]
        await turns()
        assert len(sessions.connections) == 2
        sessions.connections.popitem()[1].close()
        links.connect()
        await turns()
        assert len(sessions.connections) == 2
        links.close()
        for sock in [*clients, *sessions.connections.values()]:
            sock.close()

    asyncio.run(inside())


def test_the_unit_has_room_for_as_many_sessions_as_the_default_says() -> None:
    unit = (Path(__file__).parents[2] / "systemd" / "switch@.service").read_text()
    given = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert int(given["FileDescriptorStoreMax"]) >= Limits().sessions_max
    assert sessions_held(int(given["LimitNOFILE"])) >= Limits().sessions_max
