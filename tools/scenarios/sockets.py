"""Connections of a scenario's actors as real sockets: each has a thread that reads, cuts frames and hands them over."""

import select
import socket
import struct
import threading
from collections.abc import Callable

from tools.scenarios.speech import Speech
from tools.scenarios.world import Arrived, How

POLL_S = 0.02
LINGER_NOT = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close(2) sends a reset (socket(7))
Take = Callable[["Stream", Arrived], None]


class Stream:
    """One connection of an actor. `over`: the switch has closed it, or it was closed here."""

    def __init__(self, actor: str, sock: socket.socket, spoken: Speech, take: Take) -> None:
        self.actor = actor
        self.local = "{}:{}".format(*sock.getsockname())
        self.peer = "{}:{}".format(*sock.getpeername())
        self.name = f"{self.local}-{self.peer}"
        self.over = False
        self.failure = ""
        self._sock = sock
        self._speech = spoken
        self._take = take
        self._ending = False
        self._lock = threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._read, name=f"{actor} {self.name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        rest = b""
        while not self._ending:
            if not select.select([self._sock], [], [], POLL_S)[0]:
                continue
            try:
                data = self._sock.recv(65_536)
            except OSError:
                data = b""
            if not data:
                break
            cuts = self._speech.framer.cut(rest + data)
            if cuts.error is not None:
                self.failure = f"the switch wrote what is no frame: {cuts.error}"
                break
            for frame in cuts.frames:
                self._take(self, Arrived(self.actor, self.name, frame.header, frame.payload))
            rest = (rest + data)[cuts.frames[-1].end if cuts.frames else 0 :]
        self.over = True

    def write(self, data: bytes) -> None:
        """Raises OSError when the connection is over."""
        with self._lock:
            self._sock.sendall(data)

    def leave(self, how: How) -> None:
        if how == "half-closes":
            self._sock.shutdown(socket.SHUT_WR)
            return
        self._ending = True
        self._thread.join()
        if how == "resets":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._sock.close()


class Host:
    """A host's port. It takes connections only while it listens: else the kernel refuses them."""

    def __init__(self, name: str, port: int, joined: Callable[[str, socket.socket], None]) -> None:
        self.name = name
        self._port = port
        self._joined = joined
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def listen(self) -> None:
        self._ending.clear()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=16)
        self._thread = threading.Thread(target=self._accept, args=(listener,), name=self.name, daemon=True)
        self._thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._ending.is_set():
                if select.select([listener], [], [], POLL_S)[0]:
                    self._joined(self.name, listener.accept()[0])

    def close(self) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
