"""Patches that remove safeguards of advices: reversals and their originals, store-and-forward lanes, stand-in, parts."""

import contextlib
from typing import Any
from unittest import mock

from msgspec.structs import replace
from patching import all_of, replaced, rule

from messages.message import Verdict
from switch.core import apply_payments, apply_sessions, apply_stand_in, apply_store, proposals, tend
from switch.core.originals import Standing
from switch.node import Node

# --- reversals and their originals


def _no_refusal(standing: Standing) -> Any:
    """A reversal of what stands so leaves its outcome as it is."""

    def make(store: Any) -> Any:
        def lenient(state_fold: Any, p: Any) -> bool:
            return bool(store(state_fold, replace(p, refusal=None) if p.standing is standing else p))

        return lenient

    return rule(proposals.Store, make)


def outcome_replaced() -> Any:
    """What its terminal has reversed stays approved for its repeats."""
    return _no_refusal(Standing.APPROVED)


def original_blocked() -> Any:
    """A reversal that comes first is forgotten when its original comes."""
    return _no_refusal(Standing.UNKNOWN)


def original_first() -> Any:
    """A reversal does not wait for the decision of its original."""
    return mock.patch.object(tend.Tending, "_follows", lambda self, advice: False)


def reversed_once() -> Any:
    """At a timeout the switch undoes also what its terminal has reversed."""

    def make_tend(timeout: Any) -> Any:
        return lambda self, transaction, utc: timeout(self, replace(transaction, reversal=0), utc)

    def make_rule(timeout: Any) -> Any:
        def twice(state_fold: Any, p: Any) -> bool:
            transactions = state_fold.state.transactions
            if p.transaction in transactions:
                state_fold.state.put_transaction(p.transaction, replace(transactions[p.transaction], reversal=0))
            return bool(timeout(state_fold, p))

        return twice

    return all_of(
        lambda: replaced(tend.Tending, "_timeout", make_tend), lambda: rule(proposals.Timeout, make_rule)
    )


def told_as_reversed() -> Any:
    """An approval is told to a terminal that has reversed it meanwhile."""

    def make(answer: Any) -> Any:
        def blind(state_fold: Any, p: Any) -> bool:
            transaction = state_fold.state.transactions.get(p.transaction)
            return bool(answer(state_fold, replace(p, reversed=transaction is not None and bool(transaction.reversal))))

        return blind

    return rule(proposals.Answer, make)


# --- lanes


def kept_first() -> Any:
    """An advice is acknowledged when it is proposed."""

    def make(submit: Any) -> Any:
        def hasty(self: Any, proposal: Any, subject: Any) -> None:
            submit(self, proposal, subject)
            if isinstance(proposal, proposals.Store):
                to, session = self.sessions.connections.get(proposal.session), self.engine.state.sessions.get(proposal.session)
                if to is not None and to.mine and session is not None and to.written == session.output:
                    with contextlib.suppress(OSError):
                        to.written += to.sock.send(proposal.frame)

        return hasty

    return replaced(Node, "submit", make)


def order_of_originals() -> Any:
    """Advices about one original are sent as if they were about different ones."""

    def make(queue: Any) -> Any:
        return lambda state_fold, link, advice, about, *more, **named: queue(state_fold, link, advice, b"", *more, **named)

    return all_of(lambda: replaced(apply_store, "queue_advice", make), lambda: replaced(apply_payments, "queue_advice", make))


def parked_first() -> Any:
    """What is about the same original as a parked advice does not wait for an operator."""

    def make(heads: Any) -> Any:
        def passing(self: Any, lane: Any) -> Any:
            with mock.patch.object(self._state, "stopped", {}):
                return list(heads(self, lane))

        return passing

    return replaced(tend.Tending, "_heads", make)


def one_copy() -> Any:
    """A further copy of an advice goes out while one is outstanding."""

    def make(lane: Any) -> Any:
        def eager(self: Any, link: Any, numbers: Any, session: str, clock: int) -> Any:
            yield from lane(self, link, numbers, session, clock + 10_000)

        return eager

    return replaced(tend.Tending, "_lane", make)


def tried_again() -> Any:
    """An advice that its receiver cannot take now counts as taken."""

    def make(answer: Any) -> Any:
        return lambda state_fold, p: answer(state_fold, replace(p, verdict=Verdict.DONE) if p.verdict is Verdict.RETRY else p)

    return rule(proposals.AdviceAnswer, make)


# --- requests that no target has, and parts


def unsent_only() -> Any:
    """A request whose session has ended is sent anew, whatever of it was written."""

    def make(ended: Any) -> Any:
        return lambda state_fold, out, session, written: ended(state_fold, out, session, 0)

    return replaced(apply_sessions, "forward_ended", make)


def stand_in_limits() -> Any:
    """What a card has left is looked at where it is proposed, and not in the order of the log."""
    return mock.patch.object(apply_stand_in, "left", lambda *given: True)


def stand_in_told() -> Any:
    """The issuer is not told what was approved in its place."""

    def make(decide: Any) -> Any:
        return lambda state_fold, p: decide(state_fold, replace(p, advice=proposals.NOTHING) if p.stand_in else p)

    return rule(proposals.Decide, make)


def part_undone() -> Any:
    """An approval of a part stands at the issuer, where its source takes none."""

    def make(answer: Any) -> Any:
        return lambda state_fold, p: answer(state_fold, replace(p, undo=proposals.NOTHING))

    return rule(proposals.Answer, make)
