"""How long input has waited: nothing passes for younger than it is, whoever looks, and however much of it there is."""

import itertools
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from switch.core.proposals import Open
from switch.core.rules import Tcp
from switch.sessions import kernel
from switch.sessions.connection import SEEN_MAX, Connection
from switch.sessions.polling import Polling

LOOK_MS = 100


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    """A terminal's end, and the connection that the switch has accepted."""
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as terminal:
        accepted, _ = door.accept()
        with accepted:
            kernel.configure(accepted, Tcp(), 4096)
            yield terminal, Connection(Open("a1.1", "pos", -1, "", "r:1", "l:1", ""), accepted)


def test_beyond_so_many_looks_ages_get_coarser_and_never_lower(ends: tuple[socket.socket, Connection]) -> None:
    _, connection = ends
    looks = 5 * SEEN_MAX
    for number in range(looks):
        connection.note_seen(number + 1, float(number * LOOK_MS))
    now = float(looks * LOOK_MS)
    ages = [connection.age_ms(number + 1, now) for number in range(looks)]
    assert len(connection.seen) <= SEEN_MAX
    assert ages == sorted(ages, reverse=True)
    for number, age in enumerate(ages):
        true = now - number * LOOK_MS
        assert true <= age <= true + 20 * LOOK_MS


def _sessions(connection: Connection, held: bool) -> Any:
    session = SimpleNamespace(applied=0, connected=True)
    engine = SimpleNamespace(state=SimpleNamespace(sessions={"a1.1": session}), wires={})
    return SimpleNamespace(engine=engine, held=held, connections={"a1.1": connection})


def _session(applied: int = 0) -> Any:
    return SimpleNamespace(connected=True, applied=applied)


def _sent(terminal: socket.socket, connection: Connection, data: bytes) -> None:
    upto = kernel.arrived(connection.sock) + len(data)
    terminal.sendall(data)
    while kernel.arrived(connection.sock) < upto:
        pass


def test_an_heir_knows_what_had_waited_in_a_hold_before_its_owner_died(ends: tuple[socket.socket, Connection]) -> None:
    """Its sender goes on sending: when data came last tells nothing of the first of it."""
    terminal, connection = ends
    clock = [0.0]
    polling = Polling(_sessions(connection, held=True), lambda *_: None, lambda: clock[0])
    for _ in range(20):
        _sent(terminal, connection, b"x" * 10)
        polling.poll()
        clock[0] += 1_000.0
    assert not connection.mine
    connection.adopt(_session(), clock[0])
    connection.note_seen(connection.consumed + kernel.unread(connection.sock), clock[0])
    ages = [connection.age_ms(end, clock[0]) for end in range(10, 201, 10)]
    assert ages[0] >= 20_000 - LOOK_MS and ages[-1] < 1_500
    assert all(first - second == 1_000 for first, second in itertools.pairwise(ages[1:]))


def test_an_heir_forgets_what_its_owner_had_consumed_after_the_hold(ends: tuple[socket.socket, Connection]) -> None:
    terminal, connection = ends
    polling = Polling(_sessions(connection, held=True), lambda *_: None, lambda: 0.0)
    _sent(terminal, connection, b"x" * 10)
    polling.poll()
    assert connection.seen
    connection.sock.recv(10)
    connection.adopt(_session(10), 60_000.0)
    assert not connection.seen
    _sent(terminal, connection, b"y")
    connection.note_seen(connection.consumed + 1, 60_000.0)
    assert connection.age_ms(11, 60_000.0) < 5_000


def test_while_the_log_goes_on_a_standby_does_not_look(ends: tuple[socket.socket, Connection]) -> None:
    terminal, connection = ends
    _sent(terminal, connection, b"x")
    Polling(_sessions(connection, held=False), lambda *_: None, lambda: 0.0).poll()
    assert not connection.seen


def test_urgent_data_counts_as_it_is_read(ends: tuple[socket.socket, Connection]) -> None:
    """Without SO_OOBINLINE (tcp(7)) a read passes over it, and an heir's counters would be one ahead of the stream."""
    terminal, connection = ends
    _sent(terminal, connection, b"before")
    terminal.send(b"!", socket.MSG_OOB)
    _sent(terminal, connection, b"after")
    while kernel.arrived(connection.sock) < 12:
        pass
    scratch, read = memoryview(bytearray(100)), b""
    while len(read) < 12:  # a read ends at the mark
        size = connection.peek(scratch[:4])
        assert connection.sock.recv(size) == bytes(scratch[:size])
        read += bytes(scratch[:size])
        counters = kernel.counters(connection.sock, connecting=False)
        assert (counters.consumed, kernel.unread(connection.sock)) == (len(read), 12 - len(read))
    assert read == b"before!after"


@pytest.mark.parametrize("parts", [1, 2])
def test_what_came_in_parts_to_a_backlog_counts_as_old_as_the_backlog(
    ends: tuple[socket.socket, Connection], parts: int
) -> None:
    """Of one part it is known when it came; of more only when the last did."""
    terminal, connection = ends
    for _ in range(parts):
        _sent(terminal, connection, b"x" * 10)
    connection.since = 1_000.0
    connection.note_seen(10 * parts, 61_000.0)
    age = connection.age_ms(10 * parts, 61_000.0)
    assert age == 60_000 if parts > 1 else age < 5_000


@pytest.mark.parametrize("look", ["by an heir", "in a hold"])
def test_what_comes_later_has_not_waited_in_the_backlog(ends: tuple[socket.socket, Connection], look: str) -> None:
    """Whoever accepted it may look at it for the first time when its owner dies, long after."""
    terminal, connection = ends
    connection.since = 1_000.0
    for _ in range(3):
        _sent(terminal, connection, b"x" * 10)
    connection.sock.recv(30)
    _sent(terminal, connection, b"y" * 10)
    if look == "in a hold":
        connection.stand_by(30, 61_000.0)
    connection.adopt(_session(30), 61_000.0)
    connection.note_seen(40, 61_000.0)
    assert connection.age_ms(40, 61_000.0) < 5_000
