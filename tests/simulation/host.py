"""Who the switch connects to, over one or more networks, each a link of it: what the issuer and the creditor agent share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from outside import Frames
from world import World


class Host(ABC):
    """`networks`: the address of each, by the name of its link. What comes is given to `heard`.

    Each of `KINDS` is an attribute: the chance that an answer goes wrong in that way, or what comes is not heard.
    """

    KINDS: tuple[str, ...]

    def __init__(
        self, world: World, network: Any, name: str, networks: dict[str, tuple[str, int]], decode: Callable[[bytes], Any]
    ) -> None:
        self.name, self.networks = name, networks
        self.usual: dict[str, float] = {}  # by kind, where that is not never
        self._world, self._network, self._decode = world, network, decode
        self._doors: dict[str, Callable[[], None]] = {}  # what ends the listening
        self.wires: dict[Any, str] = {}  # its connections, and the link that each is of
        self.lost_sessions: list[tuple[str, float, float]] = []  # as of a Client: those that it has not ended itself
        self._since: dict[Any, float] = {}
        self._frames: dict[Any, Frames] = {}
        self.there()

    @abstractmethod
    def heard(self, link: str, wire: Any, body: Any) -> None:
        """What came on a connection of this link."""

    def usually(self, kind: str) -> None:
        """As often as it usually does."""
        setattr(self, kind, self.usual.get(kind, 0.0))

    def heal(self) -> None:
        """Nothing goes wrong any more but what usually does."""
        for kind in self.KINDS:
            self.usually(kind)
        self.there()

    @property
    def remainder(self) -> bool:
        """Whether a stream that goes on holds a part of a frame."""
        return any(frames.rest for frames in self._frames.values())

    def there(self) -> None:
        """All of its networks listen."""
        for link, address in self.networks.items():
            if link not in self._doors:
                self._doors[link] = self._network.listen(address, lambda wire, link=link: self._accept(link, wire))

    def away(self, link: str) -> None:
        """A network breaks its connections, and does not listen until `there`."""
        door = self._doors.pop(link, None)
        if door is not None:
            self._world.trace(self.name, f"is away from {link}")
            door()
            for wire in [wire for wire, its in self.wires.items() if its == link]:
                self._forget(wire)
                wire.reset()

    def stuck(self, link: str) -> None:
        """The connections of a network take nothing more of the switch."""
        for wire in [wire for wire, its in self.wires.items() if its == link]:
            end = wire.wire.connecting
            end.output_max = end.written - end.acked

    def _forget(self, wire: Any) -> None:
        del self.wires[wire]
        del self._frames[wire]
        del self._since[wire]

    def _accept(self, link: str, wire: Any) -> None:
        frames = self._frames[wire] = Frames(self.name, self._decode)
        self.wires[wire] = link
        self._since[wire] = self._world.now

        def changed() -> None:
            while data := wire.receive(16_384):
                for body in frames.take(data):
                    self.heard(link, wire, body)
            if wire in self.wires and (wire.broken or wire.finished):
                self.lost_sessions.append(("{}:{}".format(*wire.remote), self._since[wire], self._world.now))
                self._forget(wire)
                wire.close()

        wire.on_change = changed
        changed()
