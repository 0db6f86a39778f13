"""From a frame to a proposal: parse, find the duplicate, route, encode. Reads the state and changes nothing in it."""

import msgspec

from messages.framing import Frame
from messages.message import (
    Decision,
    Kind,
    Message,
    MessageError,
    NetworkFunction,
    Reason,
    Reconciliation,
)
from switch.core.proposals import (
    Absorb,
    AdviceAnswer,
    Answer,
    Attach,
    Input,
    NetworkAnswer,
    NetworkRequest,
    Refuse,
    Reply,
    Request,
)
from switch.core.reconcile import figures
from switch.core.records import Session, Stage, Transaction, Waiter
from switch.core.routing import Routing
from switch.core.rules import Link, Rules
from switch.core.state import State, outcome_key
from switch.core.wires import Wire

JOURNAL_FULL = "the journal is full"


class Place(msgspec.Struct, frozen=True):
    """Where an input stands: its session and the bytes it takes there."""

    session: Session
    link: Link
    start: int
    end: int

    @property
    def span(self) -> tuple[str, int, int]:
        return self.session.id, self.start, self.end


class Offers:
    """Makes proposals from input, for one incarnation."""

    def __init__(self, state: State, wires: dict[str, Wire], rules: Rules, node: str, incarnation: str) -> None:
        self._state = state
        self._wires = wires
        self._routing = Routing(rules)
        self._limits = rules.limits
        self._node = node
        self._incarnation = incarnation
        self._turn = 0

    def frame(self, session: Session, start: int, end: int, frame: Frame, age_ms: int) -> Input:
        """The proposal for one frame, which takes input [start, end) of the session and waited `age_ms`.

        Raises MessageError for bytes that are no message of this link.
        """
        wire = self._wires[session.link]
        place = Place(session, wire.link, start, end)
        if not frame.payload:
            echo = wire.framer.keepalive if wire.link.keepalive == "echo" else b""
            return Absorb(*place.span, "", echo)
        message = wire.codec.decode(frame.payload)
        match message.kind:
            case Kind.REQUEST | Kind.ADVICE:
                return self._request(place, frame.header, message, age_ms)
            case Kind.ANSWER | Kind.ADVICE_ANSWER:
                return self._answer(place, message)
            case Kind.NETWORK_REQUEST:
                payload = wire.answer(frame.header, wire.codec.network_answer(message))
                return NetworkRequest(*place.span, message.network_function or NetworkFunction.OTHER, payload)
            case Kind.NETWORK_ANSWER:
                return self._network_answer(place, message)
            case _:
                return Absorb(*place.span, "notification")

    # --- requests

    def _request(self, place: Place, header: bytes, message: Message, age_ms: int) -> Input:
        state, wire = self._state, self._wires[place.link.name]
        key = outcome_key(place.link.name, message.duplicate_key)
        original = wire.codec.original(message)
        finished = state.outcomes.get(key)
        if finished is not None:
            if finished.digest != message.digest:
                return self._refuse(place, header, message, original, Reason.DUPLICATE)
            frame = wire.answer(header, wire.codec.answer(original, finished.outcome))
            return Reply(*place.span, message.duplicate_key, finished.outcome, frame)
        number = state.in_flight.get(key)
        if number is not None:
            return self._attach(place, header, message, original, state.transactions[number])
        return self._forward(place, header, message, original, age_ms)

    def _attach(self, place: Place, header: bytes, message: Message, original: bytes, to: Transaction) -> Input:
        if to.digest != message.digest:
            return self._refuse(place, header, message, original, Reason.DUPLICATE)
        waiter = Waiter(place.session.id, header, original)
        if to.stage is Stage.ANSWERED and to.outcome is not None:
            wire = self._wires[place.link.name]
            frame = wire.answer(header, wire.codec.answer(original, to.outcome))
            return Attach(*place.span, to.id, waiter, to.outcome, frame)
        waiting = [held.session for held in to.waiters if held.session in self._state.sessions]
        if place.session.id in waiting or len(waiting) >= self._limits.waiters_max:
            # its answer comes on this session already, or on as many others as may wait
            return Absorb(*place.span, "repeat of a request in flight")
        return Attach(*place.span, to.id, waiter, None, b"")

    def _forward(self, place: Place, header: bytes, message: Message, original: bytes, age_ms: int) -> Input:
        state, source = self._state, self._wires[place.link.name]
        if self._journal_full(message.kind):
            return self._refuse(place, header, message, original, Reason.MALFUNCTION, JOURNAL_FULL)
        if place.link.reconciliation is not None and (period := source.codec.reconciles(message)) is not None:
            ours = figures(state, place.link.name, place.link.reconciliation, *period)
            return self._reconcile(place, header, message, original, ours)
        reason = Reason.NO_ROUTE
        for target in self._routing.targets(place.link.name, message.attributes):
            wire = self._wires[target]
            link = wire.link
            if age_ms >= link.timeout_ms:
                reason = Reason.TOO_OLD
                break
            if not state.has_room(link) or len(state.transactions) >= self._limits.transactions_max:
                reason = Reason.OVERLOAD
                continue
            session = self._pick(target)
            if session is None:
                reason = Reason.LINK_DOWN
                continue
            stan = wire.stan(state, self._node)
            try:
                outbound = wire.codec.forward(message, stan, source.codec)
                forward = wire.frame(outbound.payload)
            except MessageError:
                reason = Reason.FORMAT
                continue
            found = (target, outbound.match_key)
            if found in state.pending or found in state.advice_keys:
                reason = Reason.DUPLICATE
                continue
            return Request(
                *place.span, message.kind, message.duplicate_key, message.digest, header, original, target, session,
                stan, outbound.match_key, forward, link.timeout_ms - age_ms, message.summary,
            )  # fmt: skip
        return self._refuse(place, header, message, original, reason)

    def _pick(self, target: str) -> str | None:
        """A session of the link that can carry a request: our own ones in turn, else the peer's."""
        mine: list[str] = []
        others: list[str] = []
        state = self._state
        for id_ in state.links.get(target, ()):
            session = state.sessions[id_]
            if session.ready and session.output - session.acked < self._wires[target].link.outbox_max_bytes // 2:
                (mine if state.acting(session.owner) == self._incarnation else others).append(id_)
        choice = mine or others
        if not choice:
            return None
        self._turn += 1
        return choice[self._turn % len(choice)]

    def _reconcile(
        self, place: Place, header: bytes, message: Message, original: bytes, ours: Reconciliation
    ) -> Input:
        """Answered here, from the totals as they stand now; kept for repeats."""
        wire = self._wires[place.link.name]
        try:
            outcome = wire.codec.reconcile(message, ours)
        except MessageError:
            return self._refuse(place, header, message, original, Reason.FORMAT)
        frame = wire.answer(header, wire.codec.answer(original, outcome))
        why = "in balance" if outcome.decision is Decision.APPROVED else "out of balance"
        key, digest, summary = message.duplicate_key, message.digest, message.summary
        return Refuse(*place.span, key, digest, outcome, frame, original, summary, why, reconciled=True)

    def _journal_full(self, kind: Kind) -> bool:
        """Advices are taken twice as long, and then not: their senders repeat them."""
        limit = self._limits.journal_waiting_max
        return 0 < limit * (1 if kind is Kind.REQUEST else 2) <= len(self._state.journal)

    def _refuse(
        self, place: Place, header: bytes, message: Message, original: bytes, reason: Reason, why: str = ""
    ) -> Input:
        """A local answer by record. An advice is never refused: silence makes its sender repeat."""
        if message.kind is Kind.ADVICE:
            return Absorb(*place.span, f"advice: {why or reason}")
        wire = self._wires[place.link.name]
        outcome = wire.codec.refuse(original, reason)
        frame = wire.answer(header, wire.codec.answer(original, outcome))
        # a different message under a used key must not replace what is kept there; what was not accepted is not kept
        key = b"" if reason is Reason.DUPLICATE or why else message.duplicate_key
        return Refuse(*place.span, key, message.digest, outcome, frame, original, message.summary, why)

    # --- answers

    def _answer(self, place: Place, message: Message) -> Input:
        state = self._state
        found = (place.link.name, message.match_key)
        number = state.pending.get(found)
        if number is None:
            advice = state.advice_keys.get(found)
            if advice is not None:
                return AdviceAnswer(*place.span, advice)
            return Absorb(*place.span, "late or unmatched answer")
        assert message.outcome is not None
        if message.outcome.decision is Decision.INTERIM:
            return Absorb(*place.span, "interim status")
        transaction = state.transactions[number]
        wire = self._wires[transaction.link]
        try:
            frames = tuple(
                (waiter.session, wire.answer(waiter.header, wire.codec.answer(waiter.original, message.outcome)))
                for waiter in transaction.waiters
                if waiter.session in state.sessions
            )
        except MessageError:
            # no fault of this session; at its timeout the request is refused, and undone at the target
            return Absorb(*place.span, "answer that its source's dialect cannot hold")
        return Answer(*place.span, number, message.match_key, message.outcome, frames, message.attributes.amount)

    def _network_answer(self, place: Place, message: Message) -> Input:
        wait = place.session.network
        if wait is None or wait.match_key != message.match_key:
            return Absorb(*place.span, "unmatched network management answer")
        approved = message.outcome is None or message.outcome.decision is Decision.APPROVED
        return NetworkAnswer(*place.span, wait.match_key, approved)
