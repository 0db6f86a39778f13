"""AF_UNIX as the kernel keeps it (net/unix/af_unix.c): SOCK_SEQPACKET with descriptors, and SOCK_DGRAM to systemd.

A message is in the receiver's queue when send returns, also when its sender dies the next moment: only the wake-up takes time.
"""

import errno
from collections import deque
from typing import TYPE_CHECKING

from tcp import BOTH, RCV, SEND, failure
from world import File, Process, Violation

if TYPE_CHECKING:
    from network import Network

FRESH, CONNECTED, LISTENING = 0, 1, 2
SNDBUF = 212_992  # net.core.wmem_default
SNDBUF_MAX = 8_388_608  # twice net.core.wmem_max
WAKE_S = 0.000_05


def footprint(size: int) -> int:
    """What a message takes of its sender's SO_SNDBUF (skb->truesize): hence 278 small ones fit."""
    pages = -(-(size - 16_064) // 4096) * 4096 if size > 16_064 else 0
    head = 512
    while head < size - pages + 320:
        head *= 2
    return head + 256 + pages


class Message:
    """In a receive queue. It holds its files."""

    __slots__ = ("cost", "data", "files", "sender")

    def __init__(self, data: bytes, files: tuple[File, ...], sender: "UnixEnd") -> None:
        self.data = data
        self.files = files
        self.sender = sender
        self.cost = footprint(len(data))
        sender.under_way += self.cost
        for file in files:
            file.hold()

    def taken(self) -> None:
        """Out of the queue; whoever took it holds the files it wants."""
        sender = self.sender
        full = sender.under_way * 4 > sender.sndbuf
        sender.under_way -= self.cost
        if full and sender.under_way * 4 <= sender.sndbuf:
            sender.wake()
        for file in self.files:
            file.release()


class UnixEnd(File):
    """A SOCK_SEQPACKET socket."""

    LISTENING = LISTENING

    def __init__(self, network: "Network") -> None:
        super().__init__()
        self.network = network
        self.world = network.world
        self.cookie = network.cookie()
        self.state = FRESH
        self.path = ""
        self.remote_path = ""
        self.nonblocking = False
        self.peer: UnixEnd | None = None
        self.peer_pid = 0  # SO_PEERCRED
        self.pid = 0  # of who called listen()
        self.error = 0
        self.shut = 0
        self.sndbuf = SNDBUF
        self.under_way = 0
        self.queue: deque[Message] = deque()
        self.backlog: deque[UnixEnd] = deque()
        self.backlog_max = 0
        self._woken = False

    def readable(self) -> bool:
        if self.state == LISTENING:
            return bool(self.backlog)
        return bool(self.queue or self.error or self.shut & RCV or self.state == FRESH)

    def writable(self) -> bool:
        if self.state == LISTENING:
            return False
        return bool(self.error or self.shut == BOTH or self.under_way * 4 <= self.sndbuf)

    def wake(self) -> None:
        if not self._woken and self.waiters:
            self._woken = True
            self.world.at(self.world.dice.random() * WAKE_S, self._awake)

    def _awake(self) -> None:
        self._woken = False
        self.changed()

    def blocks(self, dontwait: bool) -> OSError:
        """What to raise where a call would have to wait."""
        if not self.nonblocking and not dontwait:
            raise Violation("a unix socket blocks")
        return failure(errno.EAGAIN)

    def set_output(self, size: int) -> None:
        self.sndbuf = min(max(2 * size, 4608), SNDBUF_MAX)
        self.changed()

    # --- connecting

    def bind(self, path: str) -> None:
        if path in self.network.paths:  # until it is unlinked, whoever is gone
            raise failure(errno.EADDRINUSE)
        self.network.paths[path] = self
        self.path = path

    def listen(self, backlog: int, process: Process) -> None:
        if not self.path:
            raise failure(errno.EINVAL)
        self.state, self.backlog_max, self.pid = LISTENING, backlog, process.pid

    def connect(self, path: str, process: Process) -> None:
        listener = self.network.paths.get(path)
        if listener is None:
            raise failure(errno.ENOENT)
        if not isinstance(listener, UnixEnd) or listener.state != LISTENING:
            raise failure(errno.ECONNREFUSED)
        if len(listener.backlog) > listener.backlog_max:
            raise self.blocks(False)
        if self.state != FRESH:
            raise failure(errno.EISCONN if self.state == CONNECTED else errno.EINVAL)
        other = UnixEnd(self.network)
        other.path = self.remote_path = path
        join(self, other)
        self.peer_pid, other.peer_pid = listener.pid, process.pid  # the listener's: nobody has accepted yet
        listener.backlog.append(other)
        listener.wake()

    # --- messages

    def send(self, data: bytes, files: tuple[File, ...] = (), dontwait: bool = False) -> int:
        if self.error:
            code, self.error = self.error, 0
            raise failure(code)
        if self.state != CONNECTED:
            raise failure(errno.ENOTCONN)
        if self.shut & SEND:
            raise failure(errno.EPIPE)
        if len(data) > self.sndbuf - 32:
            raise failure(errno.EMSGSIZE)
        if self.under_way >= self.sndbuf:
            raise self.blocks(dontwait)
        peer = self.peer
        assert peer is not None
        peer.queue.append(Message(data, files, self))
        peer.wake()
        return len(data)

    def receive(self, dontwait: bool = False) -> Message | None:
        """The next message, which the caller has to end by taken(); None: the end of the stream. Raises OSError.

        An error comes before what is queued, once (__skb_try_recv_datagram).
        """
        if self.state != CONNECTED:
            raise failure(errno.ENOTCONN)
        if self.error:
            code, self.error = self.error, 0
            raise failure(code)
        if self.queue:
            return self.queue.popleft()
        if self.shut & RCV:
            return None
        raise self.blocks(dontwait)

    def shutdown(self, how: int) -> None:
        if self.state != CONNECTED:
            raise failure(errno.ENOTCONN)
        self.shut |= how
        peer = self.peer
        assert peer is not None
        peer.shut |= (SEND if how & RCV else 0) | (RCV if how & SEND else 0)
        self.wake()
        peer.wake()

    def closed(self) -> None:
        """The other end gets ECONNRESET when there were messages that nobody read, else the end of the stream."""
        while self.backlog:
            self.backlog.popleft().end(embryo=True)
        if self.state == CONNECTED:
            self.end(embryo=False)
        self.state = FRESH

    def end(self, *, embryo: bool) -> None:
        peer = self.peer
        assert peer is not None
        self.shut = BOTH
        if peer.peer is self:
            peer.shut = BOTH
            if self.queue or embryo:
                peer.error = errno.ECONNRESET
            peer.wake()
        while self.queue:
            self.queue.popleft().taken()


def join(first: UnixEnd, second: UnixEnd) -> None:
    first.peer, second.peer = second, first
    first.state = second.state = CONNECTED


class Datagrams(File):
    """A SOCK_DGRAM socket that only sends."""

    def __init__(self, network: "Network") -> None:
        super().__init__()
        self.network = network
        self.cookie = network.cookie()
        self.nonblocking = False
        self.path = ""  # where it is connected to

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def send(self, data: bytes, files: tuple[File, ...], path: str) -> int:
        mailbox = self.network.mailboxes.get(path)
        if mailbox is None:
            raise failure(errno.ECONNREFUSED if path in self.network.paths else errno.ENOENT)
        if not mailbox.post(data, files):
            if not self.nonblocking:
                raise Violation("a datagram socket blocks")
            raise failure(errno.EAGAIN)
        return len(data)
