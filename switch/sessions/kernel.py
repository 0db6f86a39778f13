"""What the kernel knows of a TCP connection: its identity, its counters, its options (tcp(7), linux/tcp.h, linux/sockios.h).

Counters are absolute offsets of the connection's byte streams, as in the state. They are not atomic together: they are read
until two readings of TCP_INFO agree.
"""

import array
import fcntl
import socket
import struct
import termios

import msgspec

from switch.core.rules import Tcp

SO_COOKIE = 57
SIOCINQ = termios.FIONREAD  # 0x541B: input not read yet
SIOCOUTQ = termios.TIOCOUTQ  # 0x5411: written, not acknowledged
TCP_USER_TIMEOUT = 18
_INFO = struct.Struct("=B119xQQ")  # state @0, bytes_acked @120, bytes_received @128
_WAITING = struct.Struct("=52xI96xI")  # last_data_recv @52, data_segs_in @152
_SIZE = 256
ESTABLISHED, SYN_SENT, CLOSE = 1, 2, 7
OPEN = frozenset((ESTABLISHED, 8))  # we have not ended our stream; the remote may have (CLOSE_WAIT)
_FIN_RECEIVED = frozenset((8, 9, 11, 6))  # CLOSE_WAIT, LAST_ACK, CLOSING, TIME_WAIT: a received FIN counts as a byte


class Counters(msgspec.Struct, frozen=True):
    """Where a connection's streams stand. `consumed` is meaningless in state CLOSE: a FIN before a RST may count or not."""

    consumed: int  # input taken out of the kernel's queue
    acked: int  # output the remote kernel acknowledged
    written: int  # output given to the kernel
    state: int  # of TCP


def cookie(sock: socket.socket) -> int:
    """SO_COOKIE: the socket's identity until reboot, the same in every duplicate."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")


def address(name: tuple[str, int]) -> str:
    """A socket's name as host:port."""
    return f"{name[0]}:{name[1]}"


def remote(sock: socket.socket) -> str:
    """The peer's address; "" when there is none (any more)."""
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return ""
    return address((host, port))


def _queue(fd: int, request: int) -> int:
    value = array.array("i", [0])
    fcntl.ioctl(fd, request, value, True)
    return value[0]


def unread(sock: socket.socket) -> int:
    """Bytes in the receive queue."""
    return _queue(sock.fileno(), SIOCINQ)


def unacknowledged(sock: socket.socket) -> int:
    """Bytes written that the remote kernel has not acknowledged."""
    return _queue(sock.fileno(), SIOCOUTQ)


def arrived(sock: socket.socket) -> int:
    """Bytes that came so far, read or not; one more after a FIN."""
    received: int = _INFO.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE))[2]
    return received


def waiting(sock: socket.socket) -> tuple[int, bool]:
    """Milliseconds since data came last, and whether that was all at once: else what came before has waited for longer."""
    idle, segments = _WAITING.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.size))
    return int(idle), segments <= 1


def counters(sock: socket.socket, *, connecting: bool) -> Counters:
    """The counters of an accepted socket, or of one that connected (its SYN counts as an acknowledged byte)."""
    while True:
        before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        state, acked, received = _INFO.unpack_from(before)
        inq = unread(sock) if state != CLOSE else 0
        outq = unacknowledged(sock) if state != CLOSE else 0
        again = _INFO.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE))
        if again == (state, acked, received):
            break
    acked -= 1 if connecting and acked else 0
    return Counters(
        consumed=received - inq - (1 if state in _FIN_RECEIVED else 0),
        acked=acked,
        written=acked + outq,
        state=state,
    )


def configure(sock: socket.socket, tcp: Tcp, frame_max_bytes: int) -> None:
    """The link's options. The receive buffer holds the largest frame, so that a whole one can be peeked.

    Urgent data is input as any other (SO_OOBINLINE, tcp(7)): else reads pass it over, and the counters do not.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, tcp.keepalive_idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, tcp.keepalive_interval_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_count)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, tcp.user_timeout_ms)
    if tcp.receive_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(tcp.receive_buffer_bytes, 2 * frame_max_bytes))


def low_water(sock: socket.socket, size: int) -> None:
    """SO_RCVLOWAT: be woken when so many bytes wait (or the queue is full, or the stream ends)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
