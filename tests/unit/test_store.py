"""What the service manager gives and keeps: names and addresses of listening sockets, and what the fd store is told."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from switch.core.rules import Link
from switch.sessions.activation import NAMES_MAX_BYTES, Store, accepted_by, listeners, stored


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield sockets
    for sock in sockets:
        sock.close()


def _address(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


def _link(name: str, **listen: socket.socket) -> Link:
    return Link(name=name, framing="2-byte-be", listen={node: _address(sock) for node, sock in listen.items()})


def test_a_given_socket_belongs_to_the_link_that_listens_at_its_address(listening: list[socket.socket]) -> None:
    links = [_link("terminals", a=listening[0], b=listening[1]), _link("banks", a=listening[2], b=listening[2])]
    found = listeners([("switch.socket", sock) for sock in listening], links)
    assert found == {"terminals/a": listening[0], "terminals/b": listening[1], "banks/": listening[2]}


def test_a_given_socket_may_have_the_name_of_its_link(listening: list[socket.socket]) -> None:
    assert listeners([("banks", listening[2])], [_link("banks", a=listening[0])]) == {"banks/": listening[2]}


def test_a_given_socket_that_no_link_wants_is_closed(listening: list[socket.socket]) -> None:
    assert listeners([("switch.socket", listening[2])], [_link("banks", a=listening[0])]) == {}
    assert listening[2].fileno() == -1


def test_names_of_sessions_are_told_from_names_of_listening_sockets() -> None:
    assert stored("a12.345") and stored("b1.1")
    assert not any(map(stored, ("switch.socket", "terminals", "a.socket", "c1.1", "a1.1.1", "")))


def test_a_stored_connection_of_no_known_session_was_accepted_by_the_link_at_its_local_address(
    listening: list[socket.socket],
) -> None:
    links = [_link("terminals", a=listening[0])]
    with socket.create_connection(listening[0].getsockname()) as client:
        accepted, _ = listening[0].accept()
        assert accepted_by(accepted, links, {}) == "terminals"
        assert accepted_by(client, links, {}) == ""
        assert accepted_by(accepted, [_link("banks", a=listening[1])], {"cards/": listening[0]}) == "cards"
        accepted.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The other end of NOTIFY_SOCKET, at tmp_path/notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def _told(manager: socket.socket) -> list[tuple[str, int]]:
    """Messages and how many descriptors came with each."""
    told = []
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(manager, 4096, 4)
        except BlockingIOError:
            return told
        for fd in fds:
            os.close(fd)
        told.append((data.decode(), len(fds)))


def test_a_session_is_kept_once_and_forgotten_once(manager: socket.socket, listening: list[socket.socket]) -> None:
    store = Store(manager.getsockname())
    for _ in range(2):
        store.keep("a1.1", listening[0].fileno())
    store.restored("a1.2")
    store.keep("a1.2", listening[1].fileno())  # it came from the store
    for session in ("a1.1", "a1.1", "a1.2", "a1.3"):
        store.forget(session)
    store.close()
    assert _told(manager) == [
        ("FDSTORE=1\nFDNAME=a1.1\nFDPOLL=0", 1),
        ("FDSTOREREMOVE=1\nFDNAME=a1.1", 0),
        ("FDSTOREREMOVE=1\nFDNAME=a1.2", 0),
    ]


def test_no_more_is_kept_than_the_unit_can_be_started_with_again(
    manager: socket.socket, listening: list[socket.socket]
) -> None:
    store, size = Store(manager.getsockname()), NAMES_MAX_BYTES // 4 - 1
    for letter in "12345":
        store.keep(letter * size, listening[0].fileno())
    assert [name[18] for name, _ in _told(manager)] == ["1", "2", "3", "4"]
    store.forget("1" * size)
    store.keep("5" * size, listening[0].fileno())
    assert [(text.partition("=")[0], text.partition("FDNAME=")[2][0]) for text, _ in _told(manager)] == [
        ("FDSTOREREMOVE", "1"), ("FDSTORE", "5"),
    ]  # fmt: skip
    store.close()


def test_while_the_manager_is_busy_the_rest_waits_in_order_with_descriptors_of_its_own(manager: socket.socket) -> None:
    sessions = [f"a1.{number}" for number in range(2000)]
    told: list[tuple[str, int]] = []

    async def run() -> None:
        store = Store(manager.getsockname())
        for session in sessions:
            with socket.socket() as sock:  # closed long before its turn
                store.keep(session, sock.fileno())
        while len(told) < len(sessions):
            told.extend(_told(manager))
            await asyncio.sleep(0)
        store.close()

    asyncio.run(run())
    assert told == [(f"FDSTORE=1\nFDNAME={session}\nFDPOLL=0", 1) for session in sessions]
