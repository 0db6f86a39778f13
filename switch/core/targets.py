"""Where a request can go now: the first target that is there, has room, and whose dialect can hold it."""

import msgspec

from messages.message import Codec, Message, MessageError, Outbound, Reason
from switch.core.routing import Routing
from switch.core.rules import Route, Rules
from switch.core.state import State
from switch.core.wires import Wire


class Choice(msgspec.Struct, frozen=True):
    """A session of a target, and the request as it goes there.

    Without a session it cannot go there now: then the frame is as its source has sent it.
    """

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
        self._turn = self._weighed = 0

    def route(self, source: str, message: Message) -> Route | None:
        return self._routing.route(source, message.attributes)

    def order(self, route: Route, original: bytes, source: Codec) -> list[str]:
        """The route's targets, as they are to be tried."""
        names = route.targets
        if route.strategy == "order" or len(names) < 2:
            return names
        if route.strategy == "least_outstanding":
            return sorted(names, key=lambda name: self._state.waiting.get(name, 0))
        if route.strategy == "weighted":
            self._weighed += 1
            first = _weighed(route.weights, self._weighed % sum(route.weights))
        else:
            first = int.from_bytes(source.account(original)[:4], "big") % len(names)
        return [*names[first:], *names[:first]]

    def choose(
        self, route: Route, names: list[str], message: Message, codec: Codec, age_ms: int, utc: float
    ) -> Choice | Reason:
        """A session of the first of these links that can carry it, or why none can. `codec`: of the message."""
        state = self._state
        if not within(state, route):
            return Reason.OVERLOAD
        reason = Reason.NO_ROUTE
        for name in names:
            wire = self._wires[name]
            if age_ms >= wire.link.timeout_ms:
                return Reason.TOO_OLD
            if not state.has_room(wire.link) or not state.has_rate(f"link/{name}", wire.link.rate_max):
                reason = _graver(reason, Reason.OVERLOAD)
                continue
            session = self._session(name)
            if isinstance(session, Reason):
                reason = _graver(reason, session)
                continue
            stan = wire.stan(state, self._node)
            try:
                choice = self._encode(name, session, message, codec, stan, utc)
            except MessageError:
                reason = _graver(reason, Reason.FORMAT)
                continue
            found = (name, choice.outbound.match_key)
            if found in state.pending or found in state.advice_keys:
                reason = _graver(reason, Reason.DUPLICATE)
                continue
            return choice
        return reason

    def _encode(self, name: str, session: str, message: Message, codec: Codec, stan: int, utc: float) -> Choice:
        wire, date = self._wires[name], self._state.dates.get(name, "")
        outbound = wire.codec.forward(message, stan, codec, date=date, utc=utc)
        return Choice(name, session, stan, outbound, wire.frame(outbound.payload), date)

    def _session(self, target: str) -> str | Reason:
        """A session of the link that can carry a request: our own ones in turn, else the peer's. Or why there is none."""
        mine: list[str] = []
        others: list[str] = []
        state = self._state
        breaker = state.breakers.get(target)
        if breaker is not None and breaker.open:
            return Reason.LINK_DOWN
        busy = False
        for id_ in state.links.get(target, ()):
            session = state.sessions[id_]
            if session.ready and session.output - session.acked >= self._wires[target].link.outbox_max_bytes // 2:
                busy = True
            elif session.ready:
                (mine if state.acting(session.owner) == self._incarnation else others).append(id_)
        choice = mine or others
        if not choice:
            return Reason.OVERLOAD if busy else Reason.LINK_DOWN
        self._turn += 1
        return choice[self._turn % len(choice)]


# of several targets' reasons the last one here is told, whatever their order
_REASONS = (Reason.NO_ROUTE, Reason.FORMAT, Reason.LINK_DOWN, Reason.DUPLICATE, Reason.OVERLOAD)


def _graver(reason: Reason, other: Reason) -> Reason:
    return max(reason, other, key=_REASONS.index)


def within(state: State, route: Route) -> bool:
    """Whether the route's own limits let one request more through."""
    room = not route.inflight_max or state.routed.get(route.name, 0) < route.inflight_max
    return room and state.has_rate(f"route/{route.name}", route.rate_max)


def _weighed(weights: list[int], turn: int) -> int:
    """Whose turn it is, of so many as the weights sum up to."""
    for place, weight in enumerate(weights):
        if turn < weight:
            return place
        turn -= weight
    raise AssertionError("a turn is below the sum of the weights")
