"""Patches that remove safeguards of credit transfers: interim statuses, and negative confirmations to the creditor agent."""

from typing import Any

from msgspec.structs import replace
from patching import replaced, rule

from messages.message import Decision
from switch.core import offer, proposals
from switch.core.apply_advices import advice_delivered


def confirmed_negatively() -> Any:
    """A transfer that is rejected at its timeout stands at the creditor agent."""

    def make(timeout: Any) -> Any:
        return lambda state_fold, p: timeout(state_fold, p if p.advice.match_key else replace(p, advice=proposals.NOTHING))

    return rule(proposals.Timeout, make)


def confirmed_until_acknowledged() -> Any:
    """A negative confirmation counts as delivered when it is written."""

    def make(send: Any) -> Any:
        def hasty(state_fold: Any, p: Any) -> bool:
            sent = bool(send(state_fold, p))
            if sent:
                advice_delivered(state_fold, p.advice)
            return sent

        return hasty

    return rule(proposals.AdviceSend, make)


def interim_absorbed() -> Any:
    """A status that is not final decides the transfer."""

    def make(answer: Any) -> Any:
        def hasty(self: Any, place: Any, message: Any) -> Any:
            outcome = message.outcome
            if outcome.decision is Decision.INTERIM:
                message = replace(message, outcome=replace(outcome, decision=Decision.DECLINED))
            return answer(self, place, message)

        return hasty

    return replaced(offer.Offers, "_answer", make)


def pending_for_good() -> Any:
    """What comes after a transfer's agent was told that it is pending is late."""

    def make(answer: Any) -> Any:
        def hasty(self: Any, place: Any, message: Any) -> Any:
            number = self._state.pending.get((place.link.name, message.match_key))
            if number is not None and self._state.transactions[number].outcome is not None:
                return proposals.Absorb(*place.span, offer.LATE_ANSWER)
            return answer(self, place, message)

        return hasty

    return replaced(offer.Offers, "_answer", make)
