"""TCP as the kernel keeps it: the ends of connections and what travels between them.

An end is what a descriptor refers to (net/ipv4/tcp*.c): state, queue, counters, options. Offsets count bytes of a stream; as in
Linux the SYN of the side that connected and a FIN take one each. What one end sends travels in one flight at a time, in order;
an acknowledgement travels with the data that goes back, or alone and then sometimes late.
"""

import errno
import os
from collections import deque
from typing import TYPE_CHECKING

from world import File, Timer, Violation

if TYPE_CHECKING:
    from network import Network

ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 2, 4, 5, 7, 8, 9, 10, 11
RCV, SEND, BOTH = 1, 2, 3  # directions that are shut down
WINDOW = 65_536  # of a receive buffer of the default size
OUTPUT = 262_144  # written and not acknowledged, at most
DELAYED_ACK_S = 0.04  # TCP_DELACK_MIN
_FIN_SENT = frozenset((FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING))
RETRY_S = 1.0  # of a SYN that found the backlog full
Address = tuple[str, int]


def failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Wire:
    """A connection from outside: what the simulator disturbs."""

    __slots__ = ("accepted", "connecting", "cut_until", "number", "slow")

    def __init__(self, number: int, connecting: "TcpEnd", accepted: "TcpEnd") -> None:
        self.number = number
        self.connecting = connecting
        self.accepted = accepted
        self.cut_until = 0.0
        self.slow = 1.0


class TcpEnd(File):
    """A TCP socket: unconnected, listening, or one end of a connection."""

    def __init__(self, network: "Network") -> None:
        super().__init__()
        self.network = network
        self.world = network.world
        self.cookie = network.cookie()
        self.state = CLOSE
        self.connecting = False  # connect() was called and has not reported yet (SS_CONNECTING)
        self.local: Address | None = None
        self.remote: Address | None = None
        self.wire: Wire | None = None
        self.peer: TcpEnd | None = None
        self.nonblocking = False
        self.resets = False  # SO_LINGER 0: close() sends a RST
        self.error = 0  # SO_ERROR
        self.shut = 0
        self.backlog: deque[TcpEnd] = deque()
        self.backlog_max = 0
        # input
        self.queue = bytearray()
        self.received = 0  # TCP_INFO's bytes_received
        self.segments = 0  # TCP_INFO's data_segs_in: one a flight here
        self.consumed = 0  # taken out of the queue
        self.fin = False  # was received (SOCK_DONE)
        self.arrived = self.world.now  # when data came last
        self.low_water = 1
        self.window = WINDOW
        self.window_set = False  # by SO_RCVBUF
        # output
        self.out = bytearray()  # has not arrived yet
        self.written = 0  # with SYN and FIN (write_seq)
        self.acked = 0  # TCP_INFO's bytes_acked (snd_una)
        self.syn = 0  # 1 at the side that connected
        self.output_max = OUTPUT
        self.user_timeout_s = 0.0  # TCP_USER_TIMEOUT; 0: Linux's own, which is longer than a run
        self._sent_at = 0.0  # when what is under way set out
        self.finishing = False  # a FIN follows what is in `out`
        self.resetting = False  # a RST follows what is under way
        self._flight: Timer | None = None
        self._alone = False  # the flight is nothing but an acknowledgement
        self._size = 0  # of `out` that the flight carries
        self._fin = False  # it carries the FIN
        self._ack = 0  # input that it acknowledges

    # --- readiness (tcp_poll)

    def readable(self) -> bool:
        if self.state == LISTEN:
            return bool(self.backlog)
        if self.shut & RCV or self.error or self.state == CLOSE:
            return True
        size = len(self.queue)
        return size >= self.low_water or size >= self.window

    def writable(self) -> bool:
        state = self.state
        if state in (LISTEN, SYN_SENT):
            return False
        if self.shut & SEND or self.error or state == CLOSE:
            return True
        waits = self.written - self.acked
        return waits < self.output_max and waits * 3 <= self.output_max * 2

    # --- options

    def set_low_water(self, size: int) -> None:
        """At most what fits (tcp_set_rcvlowat): a buffer of the default size grows with it."""
        if not self.window_set and size > self.window:
            self.window = size
            self._opened()
        self.low_water = max(min(size, self.window), 1)
        self.changed()

    def set_output(self, size: int) -> None:
        self.output_max = max(size, 2304)
        self.changed()

    @property
    def sent(self) -> int:
        """Bytes written so far."""
        return self.written - self.syn - (self.state in _FIN_SENT)

    # --- connecting

    def listen(self, backlog: int) -> None:
        if self.state not in (CLOSE, LISTEN) or self.peer is not None:
            raise failure(errno.EINVAL)
        if self.local is None:
            self.local = ("0.0.0.0", self.network.port())
        if not self.network.occupy(self):
            raise failure(errno.EADDRINUSE)
        self.state, self.backlog_max = LISTEN, backlog

    def connect(self, address: Address) -> None:
        """Raises BlockingIOError (EINPROGRESS), or whatever connect(2) says at a socket that is not new."""
        if self.connecting:
            if self.state == SYN_SENT:
                raise failure(errno.EALREADY)
            self.connecting = False
            if self.state == CLOSE:
                code, self.error = self.error, 0
                raise failure(code or errno.ECONNABORTED)
            return
        if self.state == LISTEN or self.peer is not None:
            raise failure(errno.EISCONN)
        if not self.nonblocking:
            raise Violation("a blocking connect")
        if self.local is None:
            self.local = (address[0], self.network.port())
        self.remote = address
        self.connecting = True
        self.state, self.shut, self.error = SYN_SENT, 0, 0
        self.syn = self.written = 1
        self.changed()
        self._knock()
        raise failure(errno.EINPROGRESS)

    def _knock(self) -> None:
        delay = self.network.delay(self.wire) + self.network.delay(self.wire)
        self._flight = self.world.at(delay, self._answered)

    def _answered(self) -> None:
        """The SYN was there and its answer is here."""
        self._flight = None
        assert self.remote is not None and self.local is not None
        listener = self.network.listener(self.remote)
        if listener is None:
            self.reset_arrives()
            return
        if len(listener.backlog) > listener.backlog_max:
            self._flight = self.world.at(RETRY_S, self._knock)  # Linux drops the SYN
            return
        other = listener.child()
        other.local, other.remote, other.state = self.remote, self.local, ESTABLISHED
        other.window, other.window_set = listener.window, listener.window_set
        other.output_max = listener.output_max
        other.peer, self.peer = self, other
        other.wire = self.wire = self.network.join(self, other)
        self.state, self.acked, self.arrived = ESTABLISHED, 1, self.world.now
        listener.backlog.append(other)
        self.changed()
        listener.changed()

    def child(self) -> "TcpEnd":
        return TcpEnd(self.network)

    # --- reading

    def ended(self, dontwait: bool = False) -> None:
        """What recv says when the queue is empty. Returns for the end of the stream, else raises OSError."""
        if self.fin:
            return
        if self.state == LISTEN:
            raise failure(errno.ENOTCONN)
        if self.error:
            code, self.error = self.error, 0
            raise failure(code)
        if self.shut & RCV:
            return
        if self.state == CLOSE:
            raise failure(errno.ENOTCONN)
        if not self.nonblocking and not dontwait:
            raise Violation("recv blocks")
        raise failure(errno.EAGAIN)

    def take(self, size: int) -> None:
        """So much was read from the head of the queue."""
        del self.queue[:size]
        self.consumed += size
        self._opened()

    def _opened(self) -> None:
        """There is room in the window."""
        peer = self.peer
        if peer is not None and (peer.out or peer.finishing):
            peer.transmit(2)

    # --- writing

    def send(self, data: bytes | memoryview, dontwait: bool = False) -> int:
        """How much of it the buffer takes. Raises OSError."""
        if self.state != ESTABLISHED and self.state != CLOSE_WAIT:
            code, self.error = self.error, 0
            if not code and self.state == SYN_SENT:
                code = errno.EAGAIN
            raise failure(code or errno.EPIPE)
        if self.shut & SEND or self.error:
            code, self.error = self.error, 0
            raise failure(code or errno.EPIPE)
        size = len(data)
        free = self.output_max - self.written + self.acked
        if size > free:
            if free <= 0:
                if not self.nonblocking and not dontwait:
                    raise Violation("send blocks")
                raise failure(errno.EAGAIN)
            size = free
            data = data[:size]
        self.out += data
        self.written += size
        self.transmit()
        return size

    def shutdown(self, how: int) -> None:
        """`how` as `shut`. Raises OSError."""
        if self.state == CLOSE:
            self.shut |= how
            raise failure(errno.ENOTCONN)
        if self.state in (LISTEN, SYN_SENT):
            if self.state == SYN_SENT or how & RCV:
                self._disconnect()
        else:
            self.connecting = False
            self.shut |= how
            if how & SEND:
                self._finish()
        self.changed()

    def _finish(self) -> None:
        if self.state == ESTABLISHED:
            self.state = FIN_WAIT1
        elif self.state == CLOSE_WAIT:
            self.state = LAST_ACK
        else:
            return
        self.finishing = True
        self.written += 1
        self.transmit()

    # --- the end

    def closed(self) -> None:
        """The last holder is gone: FIN, or RST if there is input that nobody read (__tcp_close)."""
        if self.state in (LISTEN, SYN_SENT):
            self._disconnect()
        elif self.state != CLOSE:
            self.shut = BOTH
            if self.queue or self.resets:
                self.abort()
            else:
                self._finish()
        self.queue.clear()

    def _disconnect(self) -> None:
        if self.state == LISTEN:
            self.network.unlisten(self)
            while self.backlog:
                waiting = self.backlog.popleft()
                if self.network.turned_away is not None and waiting.remote is not None:
                    self.network.turned_away(waiting.remote)
                waiting.abort()
        else:
            self._discard()
            self.error = errno.ECONNRESET
        self.state = CLOSE
        self.connecting = False

    def abort(self) -> None:
        """Send a RST: it follows what is under way, the rest of the output is lost."""
        if self.state == CLOSE:
            return
        self._over()
        if self._flight is not None and not self._alone:
            self.resetting = True
        else:
            self._send_reset()

    def _send_reset(self) -> None:
        self._discard()
        assert self.peer is not None
        self.world.at(self.network.delay(self.wire), self.peer.reset_arrives)

    def _discard(self) -> None:
        self.out.clear()
        self.finishing = self.resetting = False
        if self._flight is not None:
            self._flight.cancel()
            self._flight = None

    def _over(self) -> None:
        """No more of this connection (tcp_done)."""
        self.state = CLOSE
        self.shut = BOTH
        if self.wire is not None:
            self.network.leave(self.wire)

    def _timed_out(self) -> None:
        """Nothing was acknowledged for too long (tcp_write_err)."""
        self.error = errno.ETIMEDOUT
        self._over()
        self._discard()
        self.changed()

    def reset_arrives(self) -> None:
        wire = self.wire
        if wire is not None and wire.cut_until > self.world.now:
            self.world.at(wire.cut_until - self.world.now + self.network.delay(wire), self.reset_arrives)
            return
        if self.state == CLOSE:
            return
        if self.state == SYN_SENT:
            self.error = errno.ECONNREFUSED
        else:
            # what is in the receive queue can still be read
            self.error = errno.EPIPE if self.state == CLOSE_WAIT else errno.ECONNRESET
        self._over()
        self._discard()
        self.changed()

    # --- under way

    def transmit(self, trips: int = 1) -> None:
        """Send what may go; while something is under way the rest goes with the next flight."""
        flight = self._flight
        if flight is not None and not self._alone:
            return
        peer, world = self.peer, self.world
        assert peer is not None
        size = min(len(self.out), max(peer.window - len(peer.queue), 0))
        fin = self.finishing and size == len(self.out)
        if not size and not fin:
            return
        if size > 1 and world.dice.random() < self.network.tearing:
            size, fin = world.dice.randrange(1, size), False
        if flight is not None:
            flight.cancel()
        self._alone = False
        self._size, self._fin, self._ack = size, fin, self.received
        self._sent_at = world.now
        self._flight = world.at(self.network.delay(self.wire) * trips, self._arrive)

    def _acknowledge(self, late: bool = False) -> None:
        self._alone = True
        delay = self.network.delay(self.wire)
        if late or self.world.dice.random() < self.network.delayed_acks:
            delay += DELAYED_ACK_S
        self._flight = self.world.at(delay, self._arrive)

    def hurry(self) -> None:
        """What is under way to this end arrives now: between two system calls of a process, as another CPU lets it."""
        sender = self.peer
        if sender is not None and sender._flight is not None and sender.state != SYN_SENT:
            sender._flight.cancel()
            sender._arrive()

    def _arrive(self) -> None:
        self._flight = None
        peer, wire, now = self.peer, self.wire, self.world.now
        assert peer is not None and wire is not None
        if wire.cut_until > now:
            again = wire.cut_until - now + self.network.delay(wire)
            if self.user_timeout_s and not self._alone:
                left = self._sent_at + self.user_timeout_s - now
                if left <= 0:
                    self._timed_out()
                    return
                again = min(again, left)
            self._flight = self.world.at(again, self._arrive)
            return
        if self._alone:
            peer.acknowledged(self.received)
            return
        size = self._size
        if peer.state == CLOSE or (size and peer.shut & RCV and peer.state in (FIN_WAIT1, FIN_WAIT2)):
            if peer.state != CLOSE:  # nobody is to read it any more
                peer.error = errno.ECONNRESET
                peer._over()
                peer._discard()
                peer.changed()
            self._discard()
            self.world.at(self.network.delay(wire), self.reset_arrives)
            return
        peer.acknowledged(self._ack)
        if size:
            peer.queue += self.out[:size]
            del self.out[:size]
            peer.received += size
            peer.segments += 1
            peer.arrived = now
        late = False
        if self._fin:
            self.finishing = self._fin = False
            peer._fin_arrives()
            late = peer.state == CLOSE_WAIT  # it may close, too: Linux waits for that
        if peer._flight is None:
            peer._acknowledge(late)
        peer.changed()
        if self.resetting:
            self._send_reset()
            return
        if self.out or self.finishing:
            self.transmit()
        if self._flight is None and self.received > self._ack:
            self._acknowledge()

    def _fin_arrives(self) -> None:
        self.received += 1
        self.fin = True
        self.shut |= RCV
        if self.state == ESTABLISHED:
            self.state = CLOSE_WAIT
        elif self.state == FIN_WAIT1:
            self.state = CLOSING
        elif self.state == FIN_WAIT2:
            self._over()  # TIME_WAIT is kept apart from the socket, which is CLOSE

    def acknowledged(self, upto: int) -> None:
        """The other kernel has so much."""
        acked = upto + self.syn
        if acked <= self.acked or self.state == CLOSE:
            return
        self.acked = acked
        if self.shut & SEND and acked == self.written:
            if self.state == FIN_WAIT1:
                self.state = FIN_WAIT2
            elif self.state in (CLOSING, LAST_ACK):
                self._over()
        self.changed()
