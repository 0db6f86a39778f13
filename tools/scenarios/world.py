"""What the player needs of a world: two nodes with their connections, in virtual time or as real processes."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec


class Arrived(msgspec.Struct, frozen=True):
    """One frame that the switch wrote to an actor."""

    actor: str
    stream: str
    header: bytes
    payload: bytes


How = Literal["closes", "half-closes", "resets"]


class World(Protocol):
    """Two nodes that serve, with the hosts connected that are not played by hand.

    Nothing here judges; what the switch wrote is handed over by `arrivals`, in order for each connection.
    """

    def connect(self, actor: str, at: str) -> None:
        """A terminal or bank connects; `at`: the node that is to own its session, "" for any."""
        ...

    def leave(self, actor: str, how: How) -> None:
        """close(2), shutdown(2) of the sending side, or an abortive close."""
        ...

    def connected(self, actor: str) -> bool:
        """Whether the actor has a connection that it has not ended itself, and the switch neither."""
        ...

    def listen(self, host: str) -> None:
        """A host takes connections; returns when the switch has made all (and, not by hand, signed on)."""
        ...

    def disconnect(self, host: str) -> None:
        """A host ends its connections and takes none; returns when the switch knows."""
        ...

    def write(self, actor: str, stream: str, data: bytes) -> None:
        """Bytes from an actor, on this connection; "": its only, or of a host its first one."""
        ...

    def take(self, actor: str, extent: int | None) -> None:
        """The actor's kernel acknowledges so many bytes more and then nothing, or (None) everything."""
        ...

    def arrivals(self) -> list[Arrived]:
        """What has come since the last call."""
        ...

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Let the switch work until this holds; False when it never does."""
        ...

    def quiet(self) -> None:
        """Long enough for anything that is due to come."""
        ...

    def pass_ms(self, passed: int) -> None: ...

    def owner(self, actor: str) -> str:
        """The node that acts for the actor's session."""
        ...

    def kill(self, node: str, *, stays_down: bool) -> None:
        """SIGKILL for "a", "b" or "both". It comes back unless it is to stay down."""
        ...

    def restart(self, node: str) -> None:
        """A node that runs leaves in order and comes back; one that is down is started."""
        ...

    def etcd(self, what: str) -> None:
        """ "stops" or "returns"."""
        ...

    def database(self, what: str) -> None:
        """The journal's "stops": it takes no more rows; or "returns"."""
        ...

    def extract(self, books: str, link: str, date: str) -> list[dict[str, str]]:
        """The rows of "totals" or "journal" as an operator gets them for this link and date, "" being any."""
        ...

    def operate(self, command: str, value: Any) -> bool:
        """An operator's command; False when it is refused."""
        ...

    def figure(self, name: str) -> int | str: ...

    def noted(self, event: str) -> tuple[int, bool]:
        """How often an event was told of since the start, and whether that is exact."""
        ...
