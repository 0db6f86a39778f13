"""From a frame to a proposal: parse, find the duplicate, route, encode. Reads the state and changes nothing in it."""

from collections.abc import Container
from itertools import islice

import msgspec

from messages.framing import Frame
from messages.message import (
    Cause,
    Decision,
    Kind,
    Message,
    MessageError,
    NetworkFunction,
    Outbound,
    Reason,
    Reconciliation,
    Trait,
)
from switch.core.originals import Standing, barred, blocks, crowded, find, undone_before
from switch.core.proposals import (
    LATE_ANSWER,
    NOTHING,
    UNMATCHED_ANSWER,
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
    Store,
    fitting,
)
from switch.core.reconcile import figures
from switch.core.records import Session, Stage, Transaction, Waiter
from switch.core.rules import Link, Rules
from switch.core.state import State, outcome_key
from switch.core.targets import Choice, Targets
from switch.core.wires import Wire

NOWHERE = Outbound(b"", b"")
JOURNAL_FULL = "the journal is full"
# what repeating an advice as it is would not mend
LASTING = (Reason.FORMAT, Reason.DUPLICATE, Reason.NOT_REVERSIBLE)
NEAREST_MAX = 200  # pending requests that an unmatched answer is compared with


class Place(msgspec.Struct, frozen=True):
    """Where an input stands: its session and the bytes it takes there."""

    session: Session
    link: Link
    start: int
    end: int
    utc: float  # seconds since the epoch, for fields of time
    payload: bytes

    @property
    def span(self) -> tuple[str, int, int]:
        return self.session.id, self.start, self.end


class Offers:
    """Makes proposals from input, for one incarnation. `late`: what timed out, by target and match key."""

    def __init__(
        self,
        state: State,
        wires: dict[str, Wire],
        rules: Rules,
        node: str,
        targets: Targets,
        late: Container[tuple[str, bytes]],
    ) -> None:
        self._state = state
        self._wires = wires
        self._targets = targets
        self._limits = rules.limits
        self._node = node
        self._late = late
        self._stand_ins = {target for rule in rules.stand_ins for target in rule.targets}

    def frame(
        self, session: Session, start: int, end: int, frame: Frame, age_ms: int, utc: float, answered: set[bytes]
    ) -> Input:
        """The proposal for one frame, which takes input [start, end) of the session and waited `age_ms`.

        `answered`: match keys of the answers before it that wait for their decision. If those are refused, so is this one.
        Raises MessageError for bytes that are no message of this link.
        """
        wire = self._wires[session.link]
        place = Place(session, wire.link, start, end, utc, frame.payload)
        if not frame.payload:
            echo = wire.framer.keepalive if wire.link.keepalive == "echo" else b""
            return Absorb(*place.span, "", echo)
        message = wire.codec.decode(frame.payload)
        match message.kind:
            case Kind.REQUEST | Kind.ADVICE:
                return self._request(place, frame.header, message, age_ms)
            case Kind.ANSWER | Kind.ADVICE_ANSWER:
                if message.flaw:  # it decides nothing: the request has its timeout, and the session its other answers
                    return Absorb(*place.span, f"answer: {message.flaw}")
                if message.match_key in answered:
                    return Absorb(*place.span, "the same answer once more")
                proposal = self._answer(place, message)
                if isinstance(proposal, Answer | AdviceAnswer):
                    answered.add(message.match_key)
                return proposal
            case Kind.NETWORK_REQUEST:
                payload = wire.answer(frame.header, wire.codec.network_answer(message))
                function = message.network_function or NetworkFunction.OTHER
                return NetworkRequest(*place.span, function, payload, message.date)
            case Kind.NETWORK_ANSWER:
                return self._network_answer(place, message)
            case _:
                return Absorb(*place.span, "notification")

    def unreadable(self, session: Session, start: int, end: int, frame: Frame, error: MessageError, utc: float) -> Input:
        """What a frame gets that is no message, where the link wants its session to live on: never its own bytes."""
        wire = self._wires[session.link]
        told = b""
        if wire.link.unparseable == "reject":
            told = wire.reject(frame.header)
        elif wire.link.unparseable == "advise":
            stan = wire.stan(self._state, self._node)
            try:
                complaint = wire.codec.complaint(frame.payload, error, start, stan, utc)
                told = wire.frame(complaint.payload) if complaint is not None else b""
            except MessageError:  # by the link's rules or framing there is none: passed over
                told = b""
        return Absorb(session.id, start, end, "unparseable", told)

    # --- requests

    def _request(self, place: Place, header: bytes, message: Message, age_ms: int) -> Input:
        state, wire = self._state, self._wires[place.link.name]
        key = outcome_key(place.link.name, message.duplicate_key)
        original = wire.codec.original(message)
        finished = state.outcomes.get(key)
        if finished is not None:
            if finished.digest != message.digest:
                return self._refuse(place, header, message, original, Reason.DUPLICATE)
            frame = wire.answer(header, wire.codec.answer(original, finished.outcome, utc=place.utc))
            return Reply(*place.span, message.duplicate_key, finished.outcome, frame, message.summary.identity)
        number = state.in_flight.get(key)
        if number is not None:
            return self._attach(place, header, message, original, state.transactions[number])
        if message.flaw:
            return self._refuse(place, header, message, original, Reason.FORMAT)
        if message.summary.is_(Trait.FORBIDDEN):
            return self._refuse(place, header, message, original, Reason.NOT_REVERSIBLE)
        if self._journal_full(message.kind):
            return self._refuse(place, header, message, original, Reason.MALFUNCTION, JOURNAL_FULL)
        if place.link.reconciliation is not None and (period := wire.codec.reconciles(message)) is not None:
            ours = figures(state, place.link.name, place.link.reconciliation, *period)
            return self._reconcile(place, header, message, original, ours)
        if message.kind is Kind.ADVICE:
            return self._store(place, header, message, original)
        reason = barred(state, place.link.name, message.summary.identity)
        if reason is not None:
            return self._refuse(place, header, message, original, reason)
        return self._forward(place, header, message, original, age_ms)

    def _attach(self, place: Place, header: bytes, message: Message, original: bytes, to: Transaction) -> Input:
        if to.digest != message.digest:
            return self._refuse(place, header, message, original, Reason.DUPLICATE)
        waiter, identity = Waiter(place.session.id, header, original), message.summary.identity
        if to.stage is Stage.ANSWERED and to.outcome is not None:
            wire = self._wires[place.link.name]
            frame = wire.answer(header, wire.codec.answer(original, to.outcome, utc=place.utc))
            return Attach(*place.span, to.id, waiter, to.outcome, frame, identity)
        waiting = {held.session: held for held in to.waiters if held.session in self._state.sessions}
        same = waiting.get(place.session.id)
        if same == waiter or (same is None and len(waiting) >= self._limits.waiters_max):
            # its answer comes on this session already, or on as many others as may wait
            return Absorb(*place.span, "repeat of a request in flight")
        return Attach(*place.span, to.id, waiter, None, b"", identity)

    def _forward(self, place: Place, header: bytes, message: Message, original: bytes, age_ms: int) -> Input:
        codec = self._wires[place.link.name].codec
        route = self._targets.route(place.link.name, message)
        if route is None:
            return self._refuse(place, header, message, original, Reason.NO_ROUTE)
        if len(self._state.transactions) >= self._limits.transactions_max:
            return self._refuse(place, header, message, original, Reason.OVERLOAD)
        names = self._targets.order(route, original, codec)
        choice = self._targets.choose(route, names, message, codec, age_ms, place.utc)
        if choice is Reason.LINK_DOWN and (of := self._stand_in(names, message)):
            choice = Choice(of, "", 0, NOWHERE, self._wires[place.link.name].frame(place.payload), "")
        if isinstance(choice, Reason):
            return self._refuse(place, header, message, original, choice)
        outbound, timeout_ms = choice.outbound, self._wires[choice.target].link.timeout_ms
        return Request(
            *place.span, message.duplicate_key, message.digest, header, original, message.summary, route.name,
            choice.target, choice.session, choice.stan, outbound.match_key, outbound.reference, choice.date, choice.frame,
            timeout_ms - age_ms,
        )  # fmt: skip

    def _stand_in(self, names: list[str], message: Message) -> str:
        """The first target for which some rule may approve it here, "" if none. Limits are looked at when that is decided."""
        if not message.summary.is_(Trait.STAND_IN) or message.summary.is_(Trait.PIN):
            return ""
        return next((name for name in names if name in self._stand_ins), "")

    # --- advices

    def _store(self, place: Place, header: bytes, message: Message, original: bytes) -> Input:
        """An advice is kept for the target of its original, else for where its route leads, and acknowledged at once.

        One that cannot be kept now is not refused: silence makes its sender repeat.
        """
        state, wire, summary = self._state, self._wires[place.link.name], message.summary
        standing, found, _ = find(state, place.link.name, summary.refers)
        reversal = summary.is_(Trait.REVERSAL)
        needless = reversal and (standing in (Standing.DECLINED, Standing.UNDONE) or blocks(standing, found))
        unknown = reversal and standing is Standing.UNKNOWN and place.link.unknown_original == "acknowledge"
        names = [found.target] if found is not None and found.target in self._wires else []
        if not names and (route := self._targets.route(place.link.name, message)) is not None:
            names = route.targets
        if crowded(state, place.link.name, summary.identity):
            return Absorb(*place.span, f"advice: {Reason.DUPLICATE}")
        target, stan, outbound = "", 0, NOWHERE
        blocked = undone_before(state, place.link.name, summary.identity)
        if not needless and not unknown and not blocked:
            if not names:
                return Absorb(*place.span, f"advice: {Reason.NO_ROUTE}")
            target = names[0]
            to = self._wires[target]
            if not (state.lane_room(to.link) and state.parked_room(to.link)):
                return Absorb(*place.span, f"advice: {Reason.OVERLOAD}")
            stan = to.stan(state, self._node)
            reference = found.reference if found is not None else b""
            date = "" if reversal else state.dates.get(target, "")  # a reversal has its original's
            try:
                outbound = to.codec.forward(message, stan, wire.codec, reference=reference, date=date, utc=place.utc)
                to.frame(outbound.payload)
            except MessageError:
                return Absorb(*place.span, f"advice: {Reason.FORMAT}")
        outcome = wire.codec.accept(original)
        frame = wire.answer(header, wire.codec.answer(original, outcome, utc=place.utc))
        refusal = wire.codec.refuse(original, Reason.REVERSED) if reversal else None
        return Store(
            *place.span, message.duplicate_key, message.digest, original, summary, outcome, frame, standing,
            found.reference if found is not None else b"", refusal,
            target, outbound.payload, outbound.match_key, stan, outbound.reference, message.attributes.amount or 0,
        )  # fmt: skip

    def _reconcile(
        self, place: Place, header: bytes, message: Message, original: bytes, ours: Reconciliation
    ) -> Input:
        """Answered here, from the totals as they stand now; kept for repeats."""
        wire = self._wires[place.link.name]
        try:
            outcome = wire.codec.reconcile(message, ours)
        except MessageError:
            return self._refuse(place, header, message, original, Reason.FORMAT)
        frame = wire.answer(header, wire.codec.answer(original, outcome, utc=place.utc))
        why = "in balance" if outcome.decision is Decision.APPROVED else "out of balance"
        key, digest, summary = message.duplicate_key, message.digest, message.summary
        return Refuse(*place.span, key, digest, original, summary, outcome, frame, why=why, reconciled=True)

    def _journal_full(self, kind: Kind) -> bool:
        """Advices are taken twice as long, and then not: their senders repeat them."""
        limit = self._limits.journal_waiting_max
        return 0 < limit * (1 if kind is Kind.REQUEST else 2) <= len(self._state.journal)

    def _refuse(
        self, place: Place, header: bytes, message: Message, original: bytes, reason: Reason, why: str = ""
    ) -> Input:
        """A local answer by record.

        An advice that another time may be taken gets silence, which makes its sender repeat. One that never will be is told
        so, and is nowhere else: not under its key, which may be another's, nor in the books, since it decides nothing.
        """
        flaw = message.flaw if reason is Reason.FORMAT else ""
        advice = message.kind is Kind.ADVICE
        if advice and reason not in LASTING:
            return Absorb(*place.span, f"advice: {why or reason}")
        wire = self._wires[place.link.name]
        outcome = wire.codec.refuse(original, reason, flaw)
        frame = wire.answer(header, wire.codec.answer(original, outcome, utc=place.utc))
        if advice:
            return Absorb(*place.span, f"advice: {flaw or reason}", frame)
        # a different message under a used key must not replace what is kept there; one with a flaw may have no true key;
        # what was not accepted is not kept
        key = b"" if reason is Reason.DUPLICATE or flaw or why else message.duplicate_key
        return Refuse(*place.span, key, message.digest, original, message.summary, outcome, frame, flaw, why)

    # --- answers

    def _answer(self, place: Place, message: Message) -> Input:
        state = self._state
        found = (place.link.name, message.match_key)
        number = state.pending.get(found) if message.kind is Kind.ANSWER else None  # an advice's answer decides no request
        assert message.outcome is not None
        if number is None:
            advice = state.advice_keys.get(found)
            if advice is not None:
                verdict = self._wires[place.link.name].codec.verdict(message.outcome)
                return AdviceAnswer(*place.span, advice, message.match_key, verdict, message.outcome.code)
            if found in self._late:
                return Absorb(*place.span, LATE_ANSWER)
            return Absorb(*place.span, f"{UNMATCHED_ANSWER}{self._nearest(place.link, message)}")
        if message.outcome.decision is Decision.INTERIM:
            return Absorb(*place.span, "interim status")
        transaction = state.transactions[number]
        wire, outcome, utc = self._wires[transaction.link], message.outcome, place.utc
        approved, undo = outcome.decision is Decision.APPROVED, NOTHING
        try:
            if approved and transaction.reversal:
                outcome = wire.codec.refuse(transaction.original, Reason.REVERSED)
            elif approved and self._wires[place.link.name].codec.partial(outcome) and not wire.codec.takes_partial:
                outcome = wire.codec.refuse(transaction.original, Reason.PARTIAL)
                undo = self._wires[place.link.name].reversal(state, self._node, transaction, utc, Cause.PARTIAL)
            frames = tuple(
                (
                    waiter.session,
                    wire.answer(waiter.header, wire.codec.answer(waiter.original, outcome, utc=utc, message=message)),
                )
                for waiter in transaction.waiters
                if waiter.session in state.sessions
            )
        except MessageError:
            # no fault of this session; at its timeout the request is refused, and undone at the target
            return Absorb(*place.span, "answer that its source's dialect cannot hold")
        untold = outcome is not message.outcome
        told = fitting(frames, len(outcome.content) + len(undo.payload))
        return Answer(
            *place.span, number, message.match_key, outcome, told, bool(transaction.reversal), untold, undo,
            message.attributes.amount,
        )

    def _nearest(self, link: Link, message: Message) -> str:
        """The pending request whose key differs from the answer's in the fewest fields, and which ones: no values."""
        codec = self._wires[link.name].codec
        best: tuple[int, int, tuple[str, ...]] | None = None
        pending = ((key, number) for (name, key), number in self._state.pending.items() if name == link.name)
        for key, number in islice(pending, NEAREST_MAX):
            differs = codec.difference(message.match_key, key)
            if best is None or len(differs) < best[0]:
                best = (len(differs), number, differs)
        if best is None:
            return ", nothing is pending on the link"
        return f", nearest is transaction {best[1]}: {' and '.join(best[2])} differ"

    def _network_answer(self, place: Place, message: Message) -> Input:
        wait = place.session.network
        if wait is None or wait.match_key != message.match_key:
            return Absorb(*place.span, f"{UNMATCHED_ANSWER} of network management")
        approved = message.outcome is None or message.outcome.decision is Decision.APPROVED
        return NetworkAnswer(*place.span, wait.match_key, approved)
