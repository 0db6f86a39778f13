"""Who connects to the switch, and comes back when a connection is over: what terminals and debtor agents share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from outside import DELAYED_ACK_S, Frames
from world import Timer, Violation, World


class Client(ABC):
    """`decode` reads what a frame holds. What it hears is given to `heard`; `up` is called when it is connected."""

    def __init__(
        self, world: World, network: Any, name: str, addresses: list[tuple[str, int]], decode: Callable[[bytes], Any]
    ) -> None:
        self.name = name
        self.gone = False  # for good
        self.lost_sessions: list[tuple[str, float, float]] = []  # its address, connected since, ended when
        self._world, self._network, self._addresses, self._decode = world, network, addresses, decode
        self._wire: Any = None
        self._connected = False
        self._connected_at = 0.0
        self._frames = Frames(name, decode)
        self._heard_at = 0.0
        self._mishaps: list[Timer] = []  # of its own, that are to come

    def begin(self) -> None:
        self._world.at(self._world.latency(0.02), self._connect)

    @property
    @abstractmethod
    def done(self) -> bool:
        """It has said all it had to say, and was told what it asked for."""

    @property
    def address(self) -> str:
        """Of its connection, as the switch knows it; "" where there is none."""
        return "{}:{}".format(*self._wire.local) if self._connected else ""

    def once_more(self) -> None:
        """It asks for one thing more, now that nothing goes wrong any more."""
        for mishap in self._mishaps:
            mishap.cancel()
        self.asks()

    @abstractmethod
    def asks(self) -> None:
        """For one thing more."""

    @property
    @abstractmethod
    def served(self) -> bool:
        """What it asked for last was approved, without a repeat."""

    @property
    @abstractmethod
    def waits_for(self) -> str:
        """Why it is not done, in words."""

    @abstractmethod
    def up(self) -> None:
        """It is connected, again."""

    def heard(self, body: Any) -> None:
        """On one of its connections."""
        self._heard_at = self._world.now

    @property
    def remainder(self) -> bool:
        """Whether its stream goes on and holds a part of a frame."""
        return self._wire is not None and bool(self._frames.rest)

    def reset(self) -> None:
        """It goes away without a word, and comes back."""
        if self._wire is None:
            return
        if self.unacknowledged():
            # its kernel would reset a connection on which it has read an answer that it has not acknowledged yet (on a dead
            # line it cannot, seed 114471): to the switch that answer was never delivered, and what it counts is all there
            # is to know (issue 5, 4: bytes_acked). No terminal lets go of its line within the instant of an approval.
            self._mishaps.append(self._world.at(DELAYED_ACK_S, self.reset))
            return
        self._world.trace(self.name, "resets its connection")
        self._wire.reset()
        self._away()

    def unacknowledged(self) -> bool:
        """Whether its kernel may not have acknowledged yet what it has heard on its line."""
        return self._world.now - self._heard_at < DELAYED_ACK_S or self._wire.owes

    def _connect(self) -> None:
        if self.gone:
            return
        self._frames = Frames(self.name, self._decode)
        self._connected = False
        self._wire = self._network.connect(self._world.dice.choice(self._addresses), self._changed)

    def _away(self) -> None:
        self._wire, self._connected = None, False
        self._world.at(0.05 + self._world.latency(0.1), self._connect)

    def _changed(self) -> None:
        wire = self._wire
        if wire is None:
            return
        if wire.connected and not self._connected:
            self._connected, self._connected_at = True, self._world.now
            self.up()
        while data := wire.receive(4096):
            for body in self._frames.take(data):
                self.heard(body)
        if self._wire is wire and (wire.broken or wire.finished):
            self._world.trace(self.name, "its connection is over")
            if self._connected:
                self.lost_sessions.append(("{}:{}".format(*wire.local), self._connected_at, self._world.now))
            if self._frames.rest and not wire.broken:
                raise Violation(f"{self.name}: the stream ended in the middle of a frame")
            wire.close()
            self._away()
