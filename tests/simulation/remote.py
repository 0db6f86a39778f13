"""Ends of TCP connections in the outside world: terminals, issuers. They have no descriptors and no process."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tcp import CLOSE, CLOSE_WAIT, ESTABLISHED, SEND, TcpEnd

if TYPE_CHECKING:
    from network import Network


class Remote(TcpEnd):
    """An end in the outside world: no descriptor, no process. `on_change` is called after anything may have changed."""

    def __init__(self, network: "Network", on_change: Callable[[], None] | None = None) -> None:
        super().__init__(network)
        self.nonblocking = True
        self.on_change = on_change
        self.holders = 1
        self._told = False

    def changed(self) -> None:
        if self.on_change is not None and not self._told:
            self._told = True
            self.world.at(0.0, self._tell)

    def _tell(self) -> None:
        self._told = False
        if self.on_change is not None:
            self.on_change()

    @property
    def connected(self) -> bool:
        """It was, and is not broken."""
        return self.peer is not None and not self.broken

    @property
    def finished(self) -> bool:
        """The stream from the other side ended and all of it is read."""
        return self.fin and not self.queue

    @property
    def broken(self) -> bool:
        """By a RST, or never connected: nothing sent from now on arrives."""
        return bool(self.error)

    @property
    def unacknowledged(self) -> int:
        return self.written - self.acked

    @property
    def owes(self) -> bool:
        """It has received what the other kernel has no acknowledgement of yet."""
        return self.peer is not None and self.peer.acked < self.received + self.peer.syn

    def send(self, data: bytes | memoryview, dontwait: bool = True) -> int:
        """How much was taken: 0 when the buffer is full, before it is connected and when it is broken."""
        if self.error or self.state not in (ESTABLISHED, CLOSE_WAIT):
            return 0
        if self.written - self.acked >= self.output_max:
            return 0
        return super().send(data)

    def receive(self, limit: int = 1 << 30) -> bytes:
        """What is there; b"" when nothing is."""
        data = bytes(self.queue[:limit])
        if data:
            self.take(len(data))
        return data

    def shutdown(self, how: int = SEND) -> None:
        if self.state != CLOSE:
            super().shutdown(how)

    def close(self) -> None:
        self.on_change = None
        if self.holders:
            self.release()

    def reset(self) -> None:
        self.resets = True
        self.close()


class Door(TcpEnd):
    """A listening place of the outside world."""

    def __init__(self, network: "Network", on_accept: Callable[[Remote], None]) -> None:
        super().__init__(network)
        self.on_accept = on_accept

    def child(self) -> TcpEnd:
        return Remote(self.network)

    def changed(self) -> None:
        while self.backlog:
            remote = self.backlog.popleft()
            assert isinstance(remote, Remote)
            self.on_accept(remote)
