"""What the state is due by itself: timeouts, reversals, sign-on and echo, advices, forgetting. Reads the state only.

Each thing has one incarnation that acts for it, by log order; the others leave it alone.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice

from msgspec.structs import replace

from messages.message import Cause, Decision, Message, MessageError, NetworkFunction, Outcome, Reason
from switch.core.apply_payments import host
from switch.core.apply_stand_in import allows, left
from switch.core.proposals import (
    NOTHING,
    AdviceSend,
    Decide,
    End,
    Forget,
    Frames,
    Local,
    NetworkSend,
    Park,
    Proposal,
    Redeliver,
    Resend,
    Timeout,
    Undo,
    fitting,
)
from switch.core.records import Advice, Role, Session, Stage, Transaction, Waiter
from switch.core.rules import Link, Rules
from switch.core.sealed import KeyGone, Sealed
from switch.core.state import State
from switch.core.targets import Choice, Targets
from switch.core.wires import Wire

PATIENT_TRIES = 3  # of an advice for which the rest of its lane waits
LOOK_MAX = 200  # advices of a lane that are looked at in one round, and as many of the rest
DAY_S = 86_400
Subject = tuple[str, object]
Due = tuple[Subject, Proposal]


class Tending:
    """Makes the proposals an incarnation owes. `outstanding`: the subjects already proposed and not yet resolved."""

    def __init__(
        self,
        state: State,
        wires: dict[str, Wire],
        rules: Rules,
        node: str,
        incarnation: str,
        targets: Targets,
        opened: Callable[[bytes | Sealed], bytes],
    ) -> None:
        self._state = state
        self._opened = opened
        self._wires = wires
        self._targets = targets
        self._limits = rules.limits
        self._stand_ins = rules.stand_ins
        self._links = rules.links
        self._node = node
        self._incarnation = incarnation
        self._looked: dict[str, int] = {}  # link: after which of its lane `_beyond` looks
        self.outstanding: set[Subject] = set()

    def all(self, expired: Iterable[int], clock: int, utc: float) -> Iterator[Due]:
        for subject, proposal in self._all(expired, clock, utc):
            self.outstanding.add(subject)
            yield subject, proposal

    def _all(self, expired: Iterable[int], clock: int, utc: float) -> Iterator[Due]:
        state = self._state
        lead = state.lead() == self._incarnation
        for number in chain(expired, tuple(state.unsent), tuple(state.undeliverable)):
            transaction = state.transactions[number]
            if self._is_due(transaction):
                yield ("transaction", number), self._transaction(transaction, clock, utc)
        yield from self._networks(clock, utc)
        if lead:
            yield from self._advices(clock)
            yield from self._forget(clock)

    # --- transactions

    def _is_due(self, transaction: Transaction) -> bool:
        waits = ("transaction", transaction.id) in self.outstanding
        return not waits and self._state.acting(transaction.owner) == self._incarnation

    def _transaction(self, transaction: Transaction, clock: int, utc: float) -> Proposal:
        proposal = self._of(transaction, clock, utc)
        if not isinstance(proposal, Local):
            return proposal
        beside = len(proposal.outcome.content) + len(proposal.advice.payload)
        return replace(proposal, frames=fitting(proposal.frames, beside))

    def _of(self, transaction: Transaction, clock: int, utc: float) -> Proposal:
        if transaction.stage is Stage.UNDELIVERABLE:
            return self._undeliverable(transaction, utc)
        return self._unsent(transaction, clock, utc) if transaction.stage is Stage.UNSENT else self._timeout(transaction, utc)

    def _refusal(self, transaction: Transaction, reason: Reason, utc: float) -> tuple[Outcome, Frames]:
        outcome = self._wires[transaction.link].codec.refuse(transaction.original, reason)
        return outcome, self._frames(transaction, outcome, utc)

    def _timeout(self, transaction: Transaction, utc: float) -> Timeout:
        outcome, frames = self._refusal(transaction, Reason.TIMEOUT, utc)
        interim = outcome.decision is Decision.INTERIM  # by the link's profile: undone by nobody yet
        advice = NOTHING
        if not interim and not transaction.reversal and not transaction.completed:
            advice = self._wires[transaction.target].reversal(self._state, self._node, transaction, utc, Cause.TIMEOUT)
        return Timeout(transaction.id, outcome, frames, advice)

    def _undeliverable(self, transaction: Transaction, utc: float) -> Undo | Redeliver:
        other = self._other_session(transaction)
        if other:
            assert transaction.outcome is not None
            waiter = Waiter(other, transaction.header, transaction.original)
            frame = self._frame(transaction.link, waiter, transaction.outcome, utc)
            if frame:
                return Redeliver(transaction.id, other, frame)
        outcome, frames = self._refusal(transaction, Reason.UNDELIVERABLE, utc)
        target = self._wires[transaction.target]
        advice = target.reversal(self._state, self._node, transaction, utc, Cause.UNDELIVERABLE)
        return Undo(transaction.id, outcome, frames, advice)

    def _other_session(self, transaction: Transaction) -> str:
        """A session of the same concentrator, where its link may be told an approval on another one; "" if there is none.

        Where its terminal asks again already, it gets the refusal.
        """
        asked = any(waiter.session in self._state.sessions for waiter in transaction.waiters)
        if asked or transaction.redelivered or not self._wires[transaction.link].link.redeliver:
            return ""
        for id_ in self._state.links.get(transaction.link, ()):
            session = self._state.sessions[id_]
            if session.connected and host(session) == transaction.remote:
                return id_
        return ""

    # --- requests that no target has

    def _unsent(self, transaction: Transaction, clock: int, utc: float) -> Resend | Decide:
        """To the same link or the next target; else it is decided here, since no byte of it has left."""
        if transaction.reversal or transaction.followed:
            return self._decide(transaction, Reason.REVERSED if transaction.reversal else Reason.LINK_DOWN, utc)
        own = not transaction.match_key  # as its source has sent it
        wire = self._wires[transaction.link if own else transaction.target]
        try:
            frame = self._opened(transaction.unsent)
            cut = wire.framer.cut(frame).frames
            if not cut:
                raise MessageError("the link's framing is another one now", "")
            message = wire.codec.decode(cut[0].payload)
        except (KeyGone, MessageError):
            return self._decide(transaction, Reason.LINK_DOWN, utc)
        age_ms = self._wires[transaction.target].link.timeout_ms - (transaction.deadline_ms - clock)
        route = self._targets.route(transaction.link, message)
        if route is None:
            return self._decide(transaction, Reason.NO_ROUTE, utc)
        try:
            names = self._targets.order(route, transaction.original, self._wires[transaction.link].codec)
        except MessageError:  # its source's dialect was changed
            return self._decide(transaction, Reason.LINK_DOWN, utc)
        if not own and self._rewritten(transaction):
            names = [name for name in names if name == transaction.target]
        choice = self._targets.choose(route, names, message, wire.codec, age_ms, utc)
        if isinstance(choice, Choice) and not own and choice.target == transaction.target:
            free = (choice.target, transaction.stan) not in self._state.stans_busy
            if free and (choice.target, transaction.match_key) not in self._state.pending:  # as it was to go out before
                return Resend(
                    transaction.id, route.name, choice.target, choice.session, transaction.stan, transaction.match_key,
                    transaction.reference, transaction.date, frame,
                )  # fmt: skip
        if isinstance(choice, Choice):
            outbound = choice.outbound
            return Resend(
                transaction.id, route.name, choice.target, choice.session, choice.stan, outbound.match_key, outbound.reference,
                choice.date, choice.frame,
            )  # fmt: skip
        approval = self._stand_in(transaction, message, utc) if choice is Reason.LINK_DOWN else None
        return approval or self._decide(transaction, choice, utc)

    def _rewritten(self, transaction: Transaction) -> bool:
        """Whether its target's rules have changed what another target is to have as its source has sent it."""
        options = self._wires[transaction.target].link.iso8583
        return bool(transaction.date) or (options is not None and bool(options.field))

    def _decide(self, transaction: Transaction, reason: Reason, utc: float) -> Decide:
        outcome, frames = self._refusal(transaction, reason, utc)
        return Decide(transaction.id, outcome, frames, NOTHING, "", b"", 0)

    def _stand_in(self, transaction: Transaction, message: Message, utc: float) -> Decide | None:
        """Its approval in the issuer's place, and the advice that tells the issuer, where a rule allows it."""
        source, target = self._wires[transaction.link].codec, self._wires[transaction.target]
        day = max(int(utc // DAY_S), self._state.meta.stand_in_day)
        for rule in self._stand_ins:
            bins = not rule.bins or message.attributes.bin.startswith(tuple(rule.bins))
            if not bins or not allows(rule, transaction):
                continue
            try:
                account = source.account(transaction.original)
            except MessageError:
                continue
            amount, cards_max = transaction.summary.amount, self._limits.stand_in_cards_max
            if not account or not left(self._state, rule, account, day, amount, cards_max):
                continue
            stan, date = target.stan(self._state, self._node), self._state.dates.get(transaction.target, "")
            try:
                outcome = source.approve(transaction.original, stan)
                told = target.codec.stand_in_advice(
                    transaction.original, outcome, Cause.UNAVAILABLE, stan, utc, date=date
                )
                advice = target.advice(told, stan)
            except MessageError:
                continue
            return Decide(
                transaction.id, outcome, self._frames(transaction, outcome, utc), advice, rule.name, account, day
            )
        return None

    # --- answers

    def _frames(self, transaction: Transaction, outcome: Outcome, utc: float) -> Frames:
        sessions, link = self._state.sessions, transaction.link
        return tuple(
            (waiter.session, self._frame(link, waiter, outcome, utc))
            for waiter in transaction.waiters
            if waiter.session in sessions
        )

    def _frame(self, link: str, waiter: Waiter, outcome: Outcome, utc: float) -> bytes:
        """The waiter's answer; b"" where its dialect cannot hold one, since what is due must not fail."""
        wire = self._wires[link]
        try:
            return wire.answer(waiter.header, wire.codec.answer(waiter.original, outcome, utc=utc))
        except MessageError:
            return b""

    # --- network management

    def _networks(self, clock: int, utc: float) -> Iterator[Due]:
        state = self._state
        for link in self._links:
            breaker = state.breakers.get(link.name)
            # who connects to us signs on and sends echoes; ours are for what is closed to requests
            asked = link.outbound or (breaker is not None and breaker.open)
            if not asked and not link.breaker_timeouts:
                continue
            for id_ in list(state.links.get(link.name, ())):
                session, subject = state.sessions[id_], ("session", id_)
                if not session.connected or subject in self.outstanding or not (asked or session.network):
                    continue
                if state.acting(session.owner) != self._incarnation:
                    continue
                due = self._network(session, clock, utc)
                if due is not None:
                    yield subject, due

    def _network(self, session: Session, clock: int, utc: float) -> Proposal | None:
        link = self._wires[session.link].link
        if session.network is not None:
            if clock < session.network.deadline_ms:
                return None
            what = "no answer to" if session.network.match_key else "not served after"
            return End(session.id, -1, f"{what} {session.network.function.name.lower()}")
        if not session.ready:
            return None if session.accepted else self._network_send(session, NetworkFunction.SIGN_ON, utc)
        breaker = self._state.breakers.get(session.link)
        if breaker is not None and breaker.open:  # half-open: an echo, never a customer's payment
            return self._network_send(session, NetworkFunction.ECHO, utc) if clock >= breaker.due_ms else None
        if link.echo_interval_ms and clock - session.heard_ms >= link.echo_interval_ms:
            return self._network_send(session, NetworkFunction.ECHO, utc)
        return None

    def _network_send(self, session: Session, function: NetworkFunction, utc: float) -> NetworkSend | None:
        wire = self._wires[session.link]
        stan = wire.stan(self._state, self._node)
        try:
            outbound = wire.codec.network_request(function, stan, utc)
            frame = wire.frame(outbound.payload) if outbound is not None else b""
        except MessageError:  # of rules in the log: a file with such is refused
            return None
        return NetworkSend(session.id, function, stan, outbound.match_key, frame) if outbound is not None else None

    # --- advices

    def _advices(self, clock: int) -> Iterator[Due]:
        for name, lane in self._state.lanes.items():
            if not lane or clock < self._state.paces.get(name, 0):
                continue
            session, link = self._advice_session(name), self._wires[name].link
            if session is not None:
                yield from self._lane(link, lane, session, clock)
            elif link.advice_expires_ms:
                yield from self._expired(link, lane, clock)

    def _expired(self, link: Link, lane: Iterable[int], clock: int) -> Iterator[Due]:
        """While the link is away: an operator sees what became too old."""
        for advice in self._heads(lane):
            subject = ("advice", advice.id)
            waits = subject in self.outstanding or self._follows(advice) or clock < advice.deadline_ms
            if not waits and clock - advice.queued_ms > link.advice_expires_ms:
                yield subject, Park(advice.id, "expired")

    def _lane(self, link: Link, lane: Collection[int], session: str, clock: int) -> Iterator[Due]:
        """The first that are due, as many as may be outstanding. One that was not answered a few times lets others pass."""
        outstanding, keys = 0, self._state.advice_keys
        beyond = self._beyond(link.name, lane) if len(lane) > LOOK_MAX else ()
        for advice in chain(self._heads(lane), beyond):
            if outstanding >= link.advice_window:
                return
            subject = ("advice", advice.id)
            if subject in self.outstanding or (advice.session and clock < advice.deadline_ms):
                outstanding += advice.tries <= PATIENT_TRIES
            elif keys.get((link.name, advice.match_key), advice.id) != advice.id:
                continue  # its answer could not be told from that of another
            elif due := self._advice_due(link, advice, session, clock):
                outstanding += 1
                yield subject, due
                if link.advice_rate_max:
                    return

    def _heads(self, lane: Iterable[int]) -> Iterator[Advice]:
        """In order: of those about one original only the first, and none of what waits with a parked one."""
        before: set[bytes] = set()
        for number in islice(lane, LOOK_MAX):
            advice = self._state.advices[number]
            if advice.about in before or advice.about in self._state.stopped:
                continue
            if advice.about:
                before.add(advice.about)
            yield advice

    def _beyond(self, link: str, lane: Iterable[int]) -> Iterator[Advice]:
        """Of those after the first ones, so many at a time: where there is nothing to do and none is out, the next go on.

        Else so many that are never answered, of one issuer behind a network, would hold up those of all others until they
        are parked. Where others are about the same original it waits to be among the first.
        """
        state, numbers = self._state, list(lane)  # in order
        start = max(bisect_right(numbers, self._looked.get(link, 0)), LOOK_MAX)
        part, stays = numbers[start : start + LOOK_MAX], False
        for number in part:
            advice = state.advices[number]
            if state.abouts.get(advice.about, 0) > 1:
                continue
            yield advice
            if ("advice", number) in self.outstanding or _patient(advice):
                stays = True
        if not stays:
            self._looked[link] = part[-1] if len(part) == LOOK_MAX else 0

    def _behind(self, advice: Advice) -> str:
        """The session in whose outbox its original still stands: its owner may be late, and write it after the advice.

        Only there the advice is behind it for sure; "" when the original is acknowledged, or goes nowhere any more.
        """
        number = advice.books.transaction if advice.books is not None else 0
        for id_ in self._state.links.get(advice.link, ()) if number else ():
            if any(out.ref == number and out.role is Role.FORWARD for out in self._state.sessions[id_].outbox):
                return id_
        return ""

    def _follows(self, advice: Advice) -> bool:
        """Whether it waits for the decision of its original."""
        original = self._state.transactions.get(advice.after)
        return original is not None and original.open

    def _advice_due(self, link: Link, advice: Advice, session: str, clock: int) -> Proposal | None:
        if clock < advice.due_ms or self._follows(advice):
            return None
        if advice.tries >= link.advice_tries_max:
            return Park(advice.id, "unanswered")
        if link.advice_expires_ms and clock - advice.queued_ms > link.advice_expires_ms:
            return Park(advice.id, "expired")
        session = self._behind(advice) or session
        if not self._state.sessions[session].ready:
            return None
        try:
            return self._advice_send(advice, session)
        except MessageError:  # the link's framing has become smaller
            return Park(advice.id, "too long")

    def _advice_session(self, link: str) -> str | None:
        ready = [id_ for id_ in self._state.links.get(link, ()) if self._state.sessions[id_].ready]
        return ready[0] if ready else None

    def _advice_send(self, advice: Advice, session: str) -> AdviceSend:
        wire = self._wires[advice.link]
        payload = wire.codec.repeat(advice.payload) if advice.tries or advice.sent else advice.payload
        return AdviceSend(advice.id, advice.tries, session, wire.frame(payload))

    # --- outcomes

    def _forget(self, clock: int) -> Iterator[Due]:
        meta, closed = self._state.meta, self._state.closed
        subject = ("segment", meta.oldest)
        if meta.oldest not in closed or subject in self.outstanding:
            return
        old = closed[meta.oldest] + self._limits.replay_window_ms <= clock
        if old or len(self._state.outcomes) > self._limits.outcomes_max:
            yield subject, Forget(meta.oldest)


def _patient(advice: Advice) -> bool:
    """Whether a copy of it is out for which the rest of its lane waits."""
    return bool(advice.session) and advice.tries <= PATIENT_TRIES
