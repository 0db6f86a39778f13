"""One connection of the world: a socket and how far it has followed the state. Knows no engine and no event loop."""

import socket
from collections import deque
from collections.abc import Callable

from switch.core.proposals import Open
from switch.core.records import Session
from switch.core.sealed import Sealed
from switch.points import reach
from switch.sessions import kernel

SEEN_MAX = 256
SEND_BYTES = 262_144


class Connection:
    """The socket of a session. `consumed` and `written` follow the state's `applied` and `output`."""

    def __init__(self, open_: Open, sock: socket.socket) -> None:
        self.open = open_
        self.session = open_.session
        self.link = open_.link
        self.sock = sock
        self.fd = sock.fileno()
        self.connecting = open_.slot >= 0  # made by connect(): its counters are one off (kernel.py)
        self.shareable = False  # its turn to reach the peer has come, if there was one
        self.opened = False  # the state had its session
        self.since: float | None = None  # since when its first input may have waited to be accepted
        self.mine = False  # this node reads and writes it; else it stands by
        self.moving = False  # its handover to the peer is proposed: no effects until that is decided
        self.reading = False
        self.writing = False
        self.seen: deque[tuple[int, float]] = deque()  # (input offset, when bytes below it were first seen)
        self.reset()

    def reset(self) -> None:
        """What is known of a socket that somebody else reads and writes: nothing, but since when its input waits."""
        self.started = False  # connect() was called, or need not be
        self.consumed = 0
        self.written = 0
        self.pending = 0  # offers of its input that wait for the log
        self.advanced = False  # one of them was accepted
        self.losses = 0  # peeks in a row of which nothing was accepted
        self.low_water = 1
        self.finished = False  # the remote sent a FIN
        self.fin_ms = 0.0
        self.ending = False  # its end is proposed
        self.failure = ""
        self.acked = 0
        self.acked_ms = 0.0  # when `acked` last moved, or output began to wait
        self.looked = False  # at its input

    def adopt(self, session: Session, now: float) -> int:
        """Begin to read and write it: the kernel's counters say where the streams stand. The TCP state."""
        self.reset()
        self.mine = True
        kernel.low_water(self.sock, 1)  # whatever the former owner had set
        counters = kernel.counters(self.sock, connecting=self.connecting)
        self.started = session.connected
        self.consumed, self.written, self.acked = counters.consumed, counters.written, counters.acked
        self.acked_ms = now
        if self.consumed:
            self.since = None
        self._forget_seen()
        return counters.state

    def peek(self, scratch: memoryview) -> int:
        """Look at the input that was not consumed. 0: the stream ended. Raises BlockingIOError, or OSError when broken."""
        return self.sock.recv_into(scratch, 0, socket.MSG_PEEK)

    def consume(self, applied: int, scratch: memoryview) -> None:
        """Take applied input out of the kernel's queue. Raises OSError when it is not there."""
        reach("consume.before")
        while self.consumed < applied:
            taken = self.sock.recv_into(scratch, min(applied - self.consumed, len(scratch)))
            if not taken:
                raise OSError("applied input is not in the kernel's queue")
            self.consumed += taken
        self._forget_seen()
        reach("consume.after")

    def _forget_seen(self) -> None:
        while self.seen and self.seen[0][0] <= self.consumed:
            self.seen.popleft()

    def stand_by(self, applied: int, now: float) -> None:
        """Note what has come while its owner may consume nothing."""
        upto = kernel.arrived(self.sock)
        if applied:
            self.since = None
        if upto > applied:
            self.note_seen(upto, now)

    def note_seen(self, upto: int, now: float) -> None:
        """Input below `upto` is there. At the first look it may have waited long: for its session's entry, or an heir."""
        if self.seen and upto <= self.seen[-1][0]:
            return
        if not self.looked:
            self.looked = True
            idle_ms, at_once = kernel.waiting(self.sock)
            now -= idle_ms
            if self.since is not None and not at_once:
                now = min(now, self.since)
            self.since = None
        if len(self.seen) == SEEN_MAX:
            self._join_looks()
        self.seen.append((upto, now))

    def _join_looks(self) -> None:
        """Of the two that are nearest in time the older counts for both: nothing passes for younger than it is."""
        looks = list(self.seen)
        place = min(range(1, len(looks)), key=lambda at: looks[at][1] - looks[at - 1][1])
        looks[place - 1 : place + 1] = [(looks[place][0], looks[place - 1][1])]
        self.seen = deque(looks)

    def age_ms(self, end: int, now: float) -> int:
        """How long the input below `end` has been waiting."""
        for upto, at in self.seen:
            if upto >= end:
                return int(now - at)
        return 0

    def write(self, session: Session, opened: Callable[[bytes | Sealed], bytes]) -> bool:
        """Write what the outbox holds beyond `written`. True when the kernel took all of it. Raises OSError."""
        reach("write.before")
        while self.written < session.output:
            parts: list[bytes | memoryview] = []
            size = 0
            for out in session.outbox:
                if out.end <= self.written:
                    continue
                skip = max(self.written - out.offset, 0)
                data = opened(out.data)
                parts.append(memoryview(data)[skip:] if skip else data)
                size += len(data) - skip
                if size >= SEND_BYTES:
                    break
            try:
                sent = self.sock.send(parts[0] if len(parts) == 1 else b"".join(parts))
            except BlockingIOError:
                return False
            self.written += sent
            if sent < size:
                return False
        reach("write.after")
        return True

    def want(self, size: int) -> None:
        """Be woken for `size` bytes of input."""
        if size != self.low_water:
            kernel.low_water(self.sock, size)
            self.low_water = size
