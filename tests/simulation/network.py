"""The kernel's networks: who listens where, which connections there are, and what is done to them."""

import errno
from collections.abc import Callable
from math import inf

from remote import Door, Remote
from tcp import LISTEN, Address, TcpEnd, Wire, failure
from world import File, Process, World

Observe = Callable[[str, Process, TcpEnd, int, int], None]
DATAGRAMS_MAX = 11  # net.unix.max_dgram_qlen, and one more


class Mailbox:
    """Receives datagrams. Files are held until `receive` returns: it has to hold() what it keeps."""

    def __init__(self, world: World, receive: Callable[[bytes, list[File]], None], delay_s: float) -> None:
        self._world = world
        self._receive = receive
        self._delay_s = delay_s
        self._waiting: list[tuple[bytes, tuple[File, ...]]] = []

    def post(self, data: bytes, files: tuple[File, ...]) -> bool:
        """False when the queue is full."""
        if len(self._waiting) >= DATAGRAMS_MAX:
            return False
        for file in files:
            file.hold()
        self._waiting.append((data, files))
        if len(self._waiting) == 1:
            self._world.at(self._world.latency(self._delay_s), self._read)
        return True

    def _read(self) -> None:
        waiting, self._waiting = self._waiting, []
        for data, files in waiting:
            self._receive(data, list(files))
            for file in files:
                file.release()


class Network:
    """All sockets of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.latency_s = 0.000_2  # one way, typically
        self.slow = 1.0  # times all latencies
        self.tearing = 0.1  # how often a part of what is sent arrives later than the rest
        self.delayed_acks = 0.1
        self.observe: Observe | None = None  # told of each consuming recv ("read") and each send ("write")
        self.turned_away: Callable[[Address], None] | None = None  # told whose connection ends with the listening socket
        self.live: dict[int, Wire] = {}  # the connections that are not over, by their number
        self.paths: dict[str, File] = {}  # AF_UNIX names
        self.mailboxes: dict[str, Mailbox] = {}
        self._listening: dict[Address, TcpEnd] = {}
        self._cookies = 0
        self._wires = 0
        self._ports = 32_768

    # --- for the world outside

    def connect(self, address: Address, on_change: Callable[[], None] | None = None) -> Remote:
        remote = Remote(self, on_change)
        try:
            remote.connect(address)
        except BlockingIOError:
            return remote
        raise AssertionError("connect() has to wait")

    def listen(self, address: Address, on_accept: Callable[[Remote], None]) -> Callable[[], None]:
        """`on_accept` is to set on_change of what it gets. Returns what ends the listening; connections stay."""
        door = Door(self, on_accept)
        door.local, door.backlog_max, door.state = address, 1024, LISTEN
        if not self.occupy(door):
            raise failure(errno.EADDRINUSE)
        door.hold()
        return door.release

    def datagrams(self, path: str, receive: Callable[[bytes, list[File]], None], delay_s: float = 0.000_1) -> None:
        """Who receives datagrams under that name."""
        self.mailboxes[path] = Mailbox(self.world, receive, delay_s)

    def unlink(self, path: str) -> bool:
        """Remove an AF_UNIX name (what is connected or listens goes on). False when there is none."""
        return self.paths.pop(path, None) is not None

    # --- faults

    def connections(self) -> list[Wire]:
        """Those that are not over, the oldest first."""
        return list(self.live.values())

    def heal(self) -> None:
        """No cut lasts, nothing is slow. What was under way in a cut comes when it would have ended. The dead stay dead."""
        self.slow = 1.0
        for wire in self.live.values():
            wire.cut_until, wire.slow = 0.0 if wire.cut_until < inf else inf, 1.0

    def cut(self, connection: Wire | TcpEnd, seconds: float) -> None:
        """Nothing arrives for so long; then everything that was sent does."""
        wire = connection if isinstance(connection, Wire) else connection.wire
        if wire is not None:
            wire.cut_until = max(wire.cut_until, self.world.now + seconds)

    def break_(self, connection: Wire | TcpEnd) -> None:
        """Both ends get a RST from somewhere between them, at once: nothing that is sent meanwhile arrives at one of them."""
        wire = connection if isinstance(connection, Wire) else connection.wire
        if wire is not None:
            for end in (wire.connecting, wire.accepted):
                self.world.at(0.0, end.reset_arrives)

    def cramp(self, connection: Wire | TcpEnd, size: int) -> None:
        """Its receive queues are full at so many bytes, as Linux's are when they hold many small segments."""
        wire = connection if isinstance(connection, Wire) else connection.wire
        if wire is not None:
            for end in (wire.connecting, wire.accepted):
                end.window, end.window_set = size, True
                end.changed()

    # --- for the ends

    def delay(self, wire: Wire | None) -> float:
        typical = self.latency_s * self.slow
        return self.world.latency(typical if wire is None else typical * wire.slow)

    def cookie(self) -> int:
        self._cookies += 1
        return self._cookies

    def port(self) -> int:
        self._ports += 1
        return self._ports

    def listener(self, address: Address) -> TcpEnd | None:
        return self._listening.get(address) or self._listening.get(("0.0.0.0", address[1]))

    def taken(self, address: Address) -> bool:
        return address in self._listening

    def occupy(self, end: TcpEnd) -> bool:
        assert end.local is not None
        return self._listening.setdefault(end.local, end) is end

    def unlisten(self, end: TcpEnd) -> None:
        assert end.local is not None
        if self._listening.get(end.local) is end:
            del self._listening[end.local]

    def join(self, connecting: TcpEnd, accepted: TcpEnd) -> Wire:
        self._wires += 1
        wire = self.live[self._wires] = Wire(self._wires, connecting, accepted)
        return wire

    def leave(self, wire: Wire) -> None:
        """One end of it is over."""
        self.live.pop(wire.number, None)
