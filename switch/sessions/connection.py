"""One connection of the world: a socket and how far it has followed the state. Knows no engine and no event loop."""

import socket
from collections import deque

from switch.core.proposals import Open
from switch.core.records import Session
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
        self.started = False  # connect() was called
        self.consumed = 0
        self.written = 0
        self.pending = 0  # offers of its input that wait for the log
        self.lost = False  # one of them was refused
        self.losses = 0  # in a row
        self.low_water = 1
        self.reading = False
        self.writing = False
        self.finished = False  # the remote sent a FIN
        self.ending = False  # its end is proposed
        self.failure = ""
        self.fin_ms = 0.0
        self.acked = 0
        self.acked_ms = 0.0  # when `acked` last moved, or output began to wait
        self.seen: deque[tuple[int, float]] = deque()  # (input offset, when bytes below it were first seen)

    def peek(self, scratch: memoryview) -> int:
        """Look at the input that was not consumed. 0: the stream ended. Raises BlockingIOError, or OSError when it broke."""
        return self.sock.recv_into(scratch, 0, socket.MSG_PEEK)

    def consume(self, applied: int, scratch: memoryview) -> None:
        """Take applied input out of the kernel's queue. Raises OSError when it is not there."""
        while self.consumed < applied:
            taken = self.sock.recv_into(scratch, min(applied - self.consumed, len(scratch)))
            if not taken:
                raise OSError("applied input is not in the kernel's queue")
            self.consumed += taken

    def note_seen(self, upto: int, now: float) -> None:
        if (not self.seen or upto > self.seen[-1][0]) and len(self.seen) < SEEN_MAX:
            self.seen.append((upto, now))

    def age_ms(self, end: int, now: float) -> int:
        """How long the input below `end` has been waiting."""
        for upto, at in self.seen:
            if upto >= end:
                return int(now - at)
        return 0

    def forget_seen(self) -> None:
        while self.seen and self.seen[0][0] <= self.consumed:
            self.seen.popleft()

    def write(self, session: Session) -> bool:
        """Write what the outbox holds beyond `written`. True when the kernel took all of it. Raises OSError."""
        while self.written < session.output:
            parts: list[bytes | memoryview] = []
            size = 0
            for out in session.outbox:
                if out.end <= self.written:
                    continue
                skip = max(self.written - out.offset, 0)
                parts.append(memoryview(out.data)[skip:] if skip else out.data)
                size += len(out.data) - skip
                if size >= SEND_BYTES:
                    break
            try:
                sent = self.sock.send(parts[0] if len(parts) == 1 else b"".join(parts))
            except BlockingIOError:
                return False
            self.written += sent
            if sent < size:
                return False
        return True

    def want(self, size: int) -> None:
        """Be woken for `size` bytes of input."""
        if size != self.low_water:
            kernel.low_water(self.sock, size)
            self.low_water = size

    def counters(self) -> kernel.Counters:
        return kernel.counters(self.sock, connecting=self.connecting)
