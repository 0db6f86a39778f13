"""Patches that remove safeguards of streams and of requests: taken once, answered once, told only what is decided."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from msgspec.structs import replace
from patching import replaced, rule

from messages.message import Decision
from switch.core import apply_outcomes, apply_sessions, fold, offer, proposals, wires
from switch.core.records import Stage
from switch.core.state import State
from switch.core.tend import Tending
from switch.node import Node
from switch.sessions import connection, kernel, polling, reading
from switch.succession import Succession

# --- streams


def _adopting(change: Callable[[Any, Any], None]) -> Any:
    def make(adopt: Any) -> Any:
        def otherwise(self: Any, session: Any, now: float) -> int:
            state = adopt(self, session, now)
            change(self, session)
            return int(state)

        return otherwise

    return replaced(connection.Connection, "adopt", make)


def kernel_counters() -> Any:
    """A session is resumed where the state, not the kernel, says."""

    def change(adopted: Any, session: Any) -> None:
        adopted.consumed, adopted.written, adopted.acked = session.applied, session.acked, session.acked

    return _adopting(change)


def skip_applied() -> Any:
    """What is applied is believed to be consumed."""

    def change(adopted: Any, session: Any) -> None:
        adopted.consumed = max(adopted.consumed, session.applied)

    return _adopting(change)


def syn_counted() -> Any:
    """The counters of a socket that connected are read as those of one that was accepted."""
    return replaced(
        kernel, "counters", lambda counters: lambda sock, *, connecting: counters(sock, connecting=False)
    )


def counters_once() -> Any:
    """The counters of a socket are believed although they changed as they were read."""

    def make(read: Any) -> Any:
        def once(sock: Any, *, connecting: bool) -> Any:
            first = sock.getsockopt(kernel.socket.IPPROTO_TCP, kernel.socket.TCP_INFO, kernel._SIZE)

            class Once:
                """Its TCP_INFO stays as it was."""

                def getsockopt(self, *_: Any) -> bytes:
                    return bytes(first)

                def fileno(self) -> int:
                    return int(sock.fileno())

            return read(Once(), connecting=connecting)

        return once

    return replaced(kernel, "counters", make)


def consume_after() -> Any:
    """Input is taken out of the kernel when it is offered."""

    def make(propose: Any) -> Any:
        def greedy(self: Any, read: Any, proposal: Any) -> None:
            propose(self, read, proposal)
            read.consume(proposal.end, memoryview(bytearray(65_536)))

        return greedy

    return replaced(reading.Reading, "_propose", make)


def write_after() -> Any:
    """An answer is written when it is proposed."""

    def make(submit: Any) -> Any:
        def hasty(self: Any, proposal: Any, subject: Any) -> None:
            submit(self, proposal, subject)
            for id_, frame in proposal.frames if isinstance(proposal, proposals.Answer) else ():
                to, session = self.sessions.connections.get(id_), self.engine.state.sessions.get(id_)
                if to is not None and to.mine and session is not None and to.written == session.output:
                    with contextlib.suppress(OSError):
                        to.written += to.sock.send(frame)

        return hasty

    return replaced(Node, "submit", make)


def until_acknowledged() -> Any:
    """Output leaves the state when the kernel has it, not when the remote one has."""
    deaf = SimpleNamespace(unread=kernel.unread, unacknowledged=lambda sock: 0)
    return mock.patch.object(polling, "kernel", deaf)


# --- payments


def duplicates() -> Any:
    """A repeat is a request like any other."""

    def make(request: Any) -> Any:
        def forgetful(self: Any, place: Any, header: bytes, message: Any, age_ms: int) -> Any:
            key = message.duplicate_key + f"{place.session.id}@{place.start}".encode()
            return request(self, place, header, replace(message, duplicate_key=key), age_ms)

        return forgetful

    return replaced(offer.Offers, "_request", make)


class _Blind(dict[Any, Any]):
    """Says of nothing that it is there; `get` finds it all the same."""

    def __contains__(self, key: object) -> bool:
        return False


class _BlindSet(set[Any]):
    def __contains__(self, key: object) -> bool:
        return False


def _blind(*names: str) -> Any:
    def make(init: Any) -> Any:
        def begin(self: State) -> None:
            init(self)
            for name in names:
                setattr(self, name, _Blind() if isinstance(getattr(self, name), dict) else _BlindSet())

        return begin

    return replaced(State, "__init__", make)


def duplicates_applied() -> Any:
    """Whether a request is a repeat is decided where it is read, and not in the order of the log."""
    return _blind("in_flight", "outcomes")


def stan_parity() -> Any:
    """Both nodes give the same STANs."""
    return replaced(wires.Wire, "stan", lambda stan: lambda self, state, node: stan(self, state, "a"))


def stan_applied() -> Any:
    """Whether a STAN or match key is free is not asked."""
    return _blind("pending", "stans_busy")


def undeliverable() -> Any:
    """An approval that reached nobody stands."""
    return mock.patch.object(apply_outcomes, "_must_undo", lambda *given: False)


def delivered() -> Any:
    """An approval that was acknowledged counts as undelivered."""
    return replaced(
        apply_sessions,
        "copy_settled",
        lambda settled: lambda state_fold, number, *, delivered: settled(state_fold, number, delivered=False),
    )


def late_answers() -> Any:
    """After its timeout a request still takes its answer."""

    def make(timeout: Any) -> Any:
        def patient(state_fold: Any, p: Any) -> bool:
            return bool(timeout(state_fold, replace(p, outcome=replace(p.outcome, decision=Decision.INTERIM))))

        return patient

    return rule(proposals.Timeout, make)


def first_decision() -> Any:
    """A second answer decides anew."""

    def make(answer: Any) -> Any:
        def again(state_fold: Any, p: Any) -> bool:
            decided = state_fold.state.transactions.get(p.transaction)
            if decided is not None and decided.stage is Stage.ANSWERED:
                state_fold.state.put_transaction(decided.id, replace(decided, stage=Stage.SENT))
            return bool(answer(state_fold, p))

        return again

    return rule(proposals.Answer, make)


def answered_before() -> Any:
    """An answer and its copy that come together are both offered."""

    def make(frame: Any) -> Any:
        return lambda self, *given: frame(self, *given[:-1], set())

    return replaced(offer.Offers, "frame", make)


def advice_acknowledged() -> Any:
    """An advice is done with when it is sent."""

    def make(send: Any) -> Any:
        def careless(state_fold: Any, p: Any) -> bool:
            sent = bool(send(state_fold, p))
            if sent:
                state_fold.state.put_advice(p.advice, None)
            return sent

        return careless

    return rule(proposals.AdviceSend, make)


def first_of_two_ticks() -> Any:
    """Every tick advances log time."""
    return rule(
        proposals.Tick,
        lambda tick: lambda state_fold, p: tick(state_fold, replace(p, clock_index=state_fold.state.meta.clock_index)),
    )


def order_of_input() -> Any:
    """Input is accepted wherever it begins."""

    def make(taken: Any) -> Any:
        def anywhere(self: Any, proposal: Any) -> Any:
            session = self.state.sessions.get(proposal.session)
            return taken(self, replace(proposal, start=session.applied) if session is not None else proposal)

        return anywhere

    return replaced(fold.Fold, "taken", make)


def one_offer() -> Any:
    """Input is offered again while its offer waits for the log."""

    def make(offering: Any) -> Any:
        def again(self: Any, read: Any, *given: Any) -> None:
            offering(self, read, *given)
            if read.pending:
                read.pending = 0
                self.want(read, True)

        return again

    return replaced(reading.Reading, "_offer", make)


def over_entries() -> Any:
    """What an incarnation that is over has appended counts as its heir's."""

    def make(apply: Any) -> Any:
        def lenient(self: Any, by: str, *given: Any) -> Any:
            known = by in self.state.incarnations and self.state.over(by)
            return apply(self, (known and self.state.acting(by)) or by, *given)

        return lenient

    return replaced(fold.Fold, "apply", make)


def quarantine() -> Any:
    """A frame that ends who parses it is parsed again by the next one."""
    return mock.patch.object(reading, "QUARANTINED", 1 << 30)


def parted() -> Any:
    """A node opens sessions that it cannot share with a peer that may be about to end it."""
    return mock.patch.object(Succession, "_part", lambda self: None)


def outcomes_kept() -> Any:
    """A segment of outcomes is forgotten as soon as it is closed."""

    def make(forget: Any) -> Any:
        def at_once(self: Any, clock: int) -> Any:
            yield from forget(self, clock + self._limits.replay_window_ms)

        return at_once

    return replaced(Tending, "_forget", make)
