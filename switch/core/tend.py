"""What the state is due by itself: timeouts, reversals, sign-on and echo, advices, forgetting. Reads the state only.

Each thing has one incarnation that acts for it, by log order; the others leave it alone.
"""

from collections.abc import Iterable, Iterator

from messages.message import Decision, Kind, MessageError, NetworkFunction, Outbound, Outcome, Reason
from switch.core.proposals import (
    AdviceSend,
    End,
    Expire,
    Forget,
    Frames,
    NetworkSend,
    Proposal,
    Timeout,
    Undo,
)
from switch.core.records import Advice, Session, Transaction, Waiter
from switch.core.rules import Rules
from switch.core.state import State
from switch.core.wires import Wire

Subject = tuple[str, object]
Due = tuple[Subject, Proposal]
NOTHING = Outbound(b"", b"")


class Tending:
    """Makes the proposals an incarnation owes. `outstanding`: the subjects already proposed and not yet resolved."""

    def __init__(self, state: State, wires: dict[str, Wire], rules: Rules, node: str, incarnation: str) -> None:
        self._state = state
        self._wires = wires
        self._limits = rules.limits
        self._outbound = [link for link in rules.links if link.outbound]
        self._node = node
        self._incarnation = incarnation
        self.outstanding: set[Subject] = set()

    def all(self, expired: Iterable[int], clock: int, utc: float) -> Iterator[Due]:
        for subject, proposal in self._all(expired, clock, utc):
            self.outstanding.add(subject)
            yield subject, proposal

    def _all(self, expired: Iterable[int], clock: int, utc: float) -> Iterator[Due]:
        state = self._state
        lead = state.lead() == self._incarnation
        for number in expired:
            transaction = state.transactions[number]
            subject = ("transaction", number)
            if subject not in self.outstanding and state.acting(transaction.owner) == self._incarnation:
                yield subject, self._timeout(transaction, utc)
        for number in list(state.undeliverable):
            transaction = state.transactions[number]
            subject = ("transaction", number)
            if subject not in self.outstanding and state.acting(transaction.owner) == self._incarnation:
                yield subject, self._undo(transaction, utc)
        yield from self._networks(clock, utc)
        if lead:
            yield from self._advices(clock)
            yield from self._forget(clock)

    # --- transactions

    def _timeout(self, transaction: Transaction, utc: float) -> Proposal:
        if transaction.kind is not Kind.REQUEST:
            return Expire(transaction.id)
        outcome = self._wires[transaction.link].codec.refuse(transaction.original, Reason.TIMEOUT)
        interim = outcome.decision is Decision.INTERIM  # by the link's profile: undone by nobody yet
        stan, reversal = (0, NOTHING) if interim else self._reversal(transaction, utc)
        frames = self._frames(transaction, outcome, utc)
        return Timeout(transaction.id, outcome, frames, reversal.payload, reversal.match_key, stan)

    def _undo(self, transaction: Transaction, utc: float) -> Proposal:
        outcome = self._wires[transaction.link].codec.refuse(transaction.original, Reason.UNDELIVERABLE)
        stan, reversal = self._reversal(transaction, utc)
        frames = self._frames(transaction, outcome, utc)
        return Undo(transaction.id, outcome, frames, reversal.payload, reversal.match_key, stan)

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

    def _reversal(self, transaction: Transaction, utc: float) -> tuple[int, Outbound]:
        """The advice that undoes the request at its target, under its own STAN; an empty one where there is none."""
        wire = self._wires[transaction.target]
        stan = wire.stan(self._state, self._node)
        try:
            reversal = wire.codec.reversal(transaction.original, transaction.stan, stan, utc)
        except MessageError:
            reversal = None
        return stan, reversal or NOTHING

    # --- network management

    def _networks(self, clock: int, utc: float) -> Iterator[Due]:
        state = self._state
        for link in self._outbound:
            for id_ in list(state.links.get(link.name, ())):
                session, subject = state.sessions[id_], ("session", id_)
                if not session.connected or subject in self.outstanding:
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
            return self._network_send(session, NetworkFunction.SIGN_ON, utc)
        if link.echo_interval_ms and clock - session.heard_ms >= link.echo_interval_ms:
            return self._network_send(session, NetworkFunction.ECHO, utc)
        return None

    def _network_send(self, session: Session, function: NetworkFunction, utc: float) -> NetworkSend | None:
        wire = self._wires[session.link]
        stan = wire.stan(self._state, self._node)
        outbound = wire.codec.network_request(function, stan, utc)
        if outbound is None:
            return None
        return NetworkSend(session.id, function, stan, outbound.match_key, wire.frame(outbound.payload))

    # --- advices

    def _advices(self, clock: int) -> Iterator[Due]:
        for name, lane in self._state.lanes.items():
            if not lane:
                continue
            link = self._wires[name].link
            outstanding = 0
            for number in lane:
                advice, subject = self._state.advices[number], ("advice", number)
                if outstanding >= link.advice_window:
                    break
                waits = advice.session and clock < advice.deadline_ms
                if waits or subject in self.outstanding:
                    outstanding += advice.tries <= link.advice_tries_max
                    continue
                session = self._advice_session(name)
                if session is None:
                    break
                outstanding += 1
                yield subject, self._advice_send(advice, session)

    def _advice_session(self, link: str) -> str | None:
        ready = [id_ for id_ in self._state.links.get(link, ()) if self._state.sessions[id_].ready]
        return ready[0] if ready else None

    def _advice_send(self, advice: Advice, session: str) -> AdviceSend:
        wire = self._wires[advice.link]
        payload = wire.codec.repeat(advice.payload) if advice.tries else advice.payload
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
