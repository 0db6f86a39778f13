"""Where a request can go now: the first target that is there, has room, and whose dialect can hold it."""

import msgspec

from messages.message import Codec, Message, MessageError, Outbound, Reason
from switch.core.routing import Routing
from switch.core.rules import Rules
from switch.core.state import State
from switch.core.wires import Wire


class Choice(msgspec.Struct, frozen=True):
    """A session of a target, and the request as it goes there. Without a session it is for the target, and cannot go."""

    target: str
    session: str
    stan: int
    outbound: Outbound
    frame: bytes
    date: str


class Targets:
    """Chooses for one incarnation. Reads the state and changes nothing in it."""

    def __init__(self, state: State, wires: dict[str, Wire], rules: Rules, node: str, incarnation: str) -> None:
        self._state = state
        self._wires = wires
        self._routing = Routing(rules)
        self._node = node
        self._incarnation = incarnation
        self._turn = 0

    def names(self, source: str, message: Message) -> list[str]:
        return self._routing.targets(source, message.attributes)

    def choose(self, names: list[str], message: Message, codec: Codec, age_ms: int) -> Choice | Reason:
        """A session of the first of these links that can carry it, or why none can. `codec`: of the message."""
        state = self._state
        reason = Reason.NO_ROUTE
        for name in names:
            wire = self._wires[name]
            if age_ms >= wire.link.timeout_ms:
                return Reason.TOO_OLD
            if not state.has_room(wire.link):
                reason = Reason.OVERLOAD
                continue
            session = self._session(name)
            if session is None:
                reason = Reason.LINK_DOWN
                continue
            stan = wire.stan(state, self._node)
            try:
                choice = self.encode(name, session, message, codec, stan)
            except MessageError:
                reason = Reason.FORMAT
                continue
            found = (name, choice.outbound.match_key)
            if found in state.pending or found in state.advice_keys:
                reason = Reason.DUPLICATE
                continue
            return choice
        return reason

    def encode(self, name: str, session: str, message: Message, codec: Codec, stan: int) -> Choice:
        """The request as it goes to this link. Raises MessageError when its dialect cannot hold it."""
        wire, date = self._wires[name], self._state.dates.get(name, "")
        outbound = wire.codec.forward(message, stan, codec, date=date)
        return Choice(name, session, stan, outbound, wire.frame(outbound.payload), date)

    def _session(self, target: str) -> str | None:
        """A session of the link that can carry a request: our own ones in turn, else the peer's."""
        mine: list[str] = []
        others: list[str] = []
        state = self._state
        breaker = state.breakers.get(target)
        if breaker is not None and breaker.open:
            return None
        for id_ in state.links.get(target, ()):
            session = state.sessions[id_]
            if session.ready and session.output - session.acked < self._wires[target].link.outbox_max_bytes // 2:
                (mine if state.acting(session.owner) == self._incarnation else others).append(id_)
        choice = mine or others
        if not choice:
            return None
        self._turn += 1
        return choice[self._turn % len(choice)]
