"""The handover socket between the two nodes (unix(7) SOCK_SEQPACKET): every session's socket reaches the peer here first.

    greeting    both send Hello; the peer's credentials must fit the incarnation that the log knows
    sockets     Sockets with up to 250 descriptors: each new session before its entry, all of them when a node joins;
                Gone when a session is over
    listening   Listeners with their descriptors: both nodes accept from all of them
    Synced      everything held was sent: the joiner may say that it has caught up
    Beat        from a thread, so that a busy event loop does not look dead; it stops when the loop has stood still

Messages are msgpack, one a datagram. A descriptor in flight survives its sender's death.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from switch.core.proposals import Open
from switch.ops.logs import event
from switch.sessions.beats import Beats
from switch.sessions.handover_messages import (
    BEAT,
    Gone,
    Hello,
    Listeners,
    Message,
    Sockets,
    Synced,
    decode,
    encode,
)

log = logging.getLogger("switch.handover")
FDS_MAX = 250  # SCM_MAX_FD is 253 (unix(7))
DATAGRAM_MAX = 212_992
BUFFER_BYTES = 4 << 20
EARLY_MAX = 4
_CREDENTIALS = struct.Struct("iii")  # pid, uid, gid


class Holder(Protocol):
    """Whom the handover tells."""

    def known(self, hello: Hello, pid: int) -> bool | None:
        """Whether the log knows this incarnation by this process; None: not yet."""
        ...

    def peer_up(self) -> None:
        """The peer is let in: share with it what is held."""
        ...

    def peer_down(self, incarnation: str, reason: str) -> None:
        """The connection is over; without a reason we ended it ourselves."""
        ...

    def received(self, opens: tuple[Open, ...], sockets: list[socket.socket]) -> None: ...

    def received_gone(self, ids: tuple[str, ...]) -> None: ...

    def received_listeners(self, names: tuple[str, ...], sockets: list[socket.socket]) -> None: ...

    def peer_synced(self) -> None: ...

    def peer_beat(self) -> None: ...


class Waiting(NamedTuple):
    """Who greeted us before we have read its join entry. It has read ours, and hears from here on that we live."""

    sock: socket.socket
    hello: Hello
    pid: int
    beats: Beats


class Handover:
    """This node's end. At most one peer."""

    def __init__(self, path: Path, peer_path: Path, holder: Holder) -> None:
        self._path = path
        self.peer_path = peer_path
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._waiting: Waiting | None = None
        self._early: list[socket.socket] = []  # greeted us before we had joined
        self._hello: Hello | None = None
        self._queue: deque[tuple[bytes, list[int], Callable[[], None]]] = deque()
        self._beats: Beats | None = None
        self.peer = ""  # incarnation at the other end
        self.entries = 0  # the newest version of entries that the peer applies

    @property
    def up(self) -> bool:
        return self._peer is not None

    @property
    def behind(self) -> bool:
        """Whether the peer has not taken what waits for it: sockets that would end with us."""
        return bool(self._queue)

    def listen(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(self._path))
        self._path.chmod(0o600)
        self._listener.listen(4)
        self._loop.add_reader(self._listener, self._accept)

    def introduce(self, hello: Hello) -> None:
        """Who we are, once we have joined."""
        self._hello = hello
        early, self._early = self._early, []
        for sock in early:
            self._begin(sock)

    def connect(self, *, again: bool = False) -> bool:
        """Greet the peer that was here before us. False when it does not listen: told the first time.

        Raises BlockingIOError where it listens, and has not accepted those before us.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            sock.connect(str(self.peer_path))
        except BlockingIOError:
            sock.close()
            raise
        except OSError as error:
            if not again:
                event(log, logging.WARNING, "handover.not_connected", error=error.strerror)
            sock.close()
            return False
        self._begin(sock)
        return True

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        if self._hello is None:
            self._early.append(sock)  # it saw our join entry before we did, or is not our peer
            for older in self._early[:-EARLY_MAX]:
                older.close()
            del self._early[:-EARLY_MAX]
            return
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            sock.send(encode(self._hello))
        except OSError as error:
            event(log, logging.WARNING, "handover.not_greeted", error=error.strerror)
            sock.close()
            return
        self._loop.add_reader(sock, self._greeting, sock)

    def _greeting(self, sock: socket.socket) -> None:
        """The first datagram must be a Hello of a process that the log knows."""
        try:
            data = sock.recv(DATAGRAM_MAX)
            hello = decode(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            hello = None
        self._loop.remove_reader(sock)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        ours = self._hello
        if (
            not isinstance(hello, Hello)
            or ours is None
            or uid != os.getuid()
            or (hello.version, hello.pair) != (ours.version, ours.pair)
        ):
            event(log, logging.WARNING, "handover.refused", pid=pid, uid=uid)
            sock.close()
            return
        self._forget_waiting()
        self._waiting = Waiting(sock, hello, pid, Beats(sock))
        self.consider()

    def consider(self) -> None:
        """Let in who greeted us, if the log knows it by now."""
        if self._waiting is None:
            return
        sock, hello, pid = self._waiting.sock, self._waiting.hello, self._waiting.pid
        known = self._holder.known(hello, pid)
        if known is None:
            return
        if not known:
            event(log, logging.WARNING, "handover.refused", pid=pid, incarnation=hello.incarnation)
            self._forget_waiting()
            return
        beats, self._waiting = self._waiting.beats, None
        self.part()  # the end of a former incarnation is noticed in other ways, too
        self._peer, self.peer, self._beats = sock, hello.incarnation, beats
        self.entries = hello.entries
        self._loop.add_reader(sock, self.drain)
        event(log, logging.INFO, "handover.up", peer=hello.incarnation, pid=pid)
        self._holder.peer_up()

    def _forget_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.beats.stop()
            self._waiting.sock.close()
            self._waiting = None

    # --- sending

    def send(self, message: Message, fds: list[int], then: Callable[[], None] | None = None) -> None:
        """Queue a message; `then` is called when the kernel has it, or at once when there is no peer."""
        data, after = encode(message), then or _nothing
        if self._peer is None or (not self._queue and self._sent(data, fds)):
            after()
            return
        # its sockets may be closed, and their numbers be those of others, before its turn comes
        self._queue.append((data, [os.dup(fd) for fd in fds], after))

    def _sent(self, data: bytes, fds: list[int]) -> bool:
        """False when it has to wait: too much is under way."""
        assert self._peer is not None
        try:
            socket.send_fds(self._peer, [data], fds)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS):  # the latter: descriptors in flight (unix(7))
                self._loop.add_writer(self._peer, self._flush)
                return False
            self.drain()  # descriptors in flight survive their sender
            self._down(f"cannot be written to: {error.strerror}")
        return True

    def _flush(self) -> None:
        while self._queue and self._peer is not None:
            data, fds, after = self._queue[0]
            if not self._sent(data, fds):
                return
            if self._queue:  # else the connection broke, which has emptied it
                self._queue.popleft()
                _close(fds)
                after()
        if self._peer is not None:
            self._loop.remove_writer(self._peer)

    # --- receiving

    def drain(self) -> None:
        """Take in everything the peer sent."""
        while self._peer is not None:
            try:
                data, fds, flags, _ = socket.recv_fds(self._peer, DATAGRAM_MAX, FDS_MAX)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it died with something of ours unread: Linux says so once, before what it had sent
            except OSError as error:
                self._down(error.strerror or "broken")
                return
            if not data:
                self._down("its end of the handover socket closed")
                return
            if flags & socket.MSG_CTRUNC:  # who has not all of them cannot stand in for its peer
                raise OSError(errno.EMFILE, f"no descriptors for the peer's sockets beyond {len(fds)}: raise LimitNOFILE")
            self._take(data, [socket.socket(fileno=fd) for fd in fds])

    def _take(self, data: bytes, sockets: list[socket.socket]) -> None:
        if data == BEAT:
            self._holder.peer_beat()
            return
        try:
            message = decode(data)
        except ValueError as error:
            event(log, logging.ERROR, "handover.unreadable", error=type(error).__name__)
            for sock in sockets:
                sock.close()
            return
        match message:
            case Sockets(opens):
                self._holder.received(opens, sockets)
            case Gone(ids):
                self._holder.received_gone(ids)
            case Listeners(names):
                self._holder.received_listeners(names, sockets)
            case Synced():
                self._holder.peer_synced()
            case _:
                event(log, logging.WARNING, "handover.unexpected", message=type(message).__name__)

    def alive(self) -> None:
        """The event loop turns: the thread may go on beating."""
        for beats in (self._beats, self._waiting and self._waiting.beats):
            if beats is not None:
                beats.turned = time.monotonic()

    def part(self) -> None:
        """Close the connection to the peer, if there is one; not a reason to suspect it."""
        self._down("")

    def _down(self, reason: str) -> None:
        peer, self._peer = self._peer, None
        if peer is None:
            return
        if self._beats is not None:
            self._beats.stop()
            self._beats = None
        self._loop.remove_reader(peer)
        self._loop.remove_writer(peer)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)  # the beats' duplicate must not keep it open
        peer.close()
        queue, self._queue = self._queue, deque()
        for _, fds, after in queue:
            _close(fds)
            after()
        self._holder.peer_down(self.peer, reason)

    def close(self) -> None:
        self.part()
        self._forget_waiting()
        for sock in self._early:
            sock.close()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None


def _nothing() -> None:
    pass


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
