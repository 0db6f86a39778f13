"""Money is conserved: at the end issuer and creditor agent hold of each deal what who asked for it counts as paid."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outside import APPROVED
from transfers import PENDING, SETTLED
from world import Violation

if TYPE_CHECKING:
    from simulation import Simulation


NOTICED_S = 5.0  # until the switch knows of a dead line: that takes its kernel 3 s


def check(
    simulation: "Simulation", patience_s: float, in_flight: list[bytes], excused_at: Callable[[float, float], bool]
) -> None:
    """`patience_s`: what is older is declined, not forwarded; 0: is not looked at. `in_flight`: entries of which etcd's going
    away left the fate unknown: what one of them forwards was made in time.
    """
    ledger = dict(simulation.issuer.ledger)
    for terminal in simulation.terminals:
        for deal in terminal.deals:
            entry = ledger.pop(deal.rrn, None)
            excused = any(deal.rrn.encode() in body for body in in_flight)
            late = entry is not None and entry.requests and entry.heard_s - deal.sent_s > patience_s
            if patience_s and entry is not None and late and not excused:
                raise Violation(f"rrn={deal.rrn} was {entry.heard_s - deal.sent_s:.1f} s old when it was forwarded")
            _told(deal)
            if entry is not None and any(asked != deal.card_fields for asked in entry.asked):
                raise Violation(f"rrn={deal.rrn} came to the issuer with other fields than its terminal has sent")
            held = entry.held if entry is not None else 0
            if terminal.gone and not deal.outcome:
                # a terminal that saw no byte of an approval will never ask: it has to be reversed; what it told stands.
                # Of a socket that was lost with both nodes nobody knows whether it was delivered: that stands, too.
                unknown = excused_at(deal.sent_s, terminal.gone_s + NOTICED_S)
                if deal.first == "request" and held and not deal.told and not unknown:
                    raise Violation(f"rrn={deal.rrn} stands at the issuer, and its terminal is gone without an answer")
                continue
            if held != deal.holds:
                raise Violation(f"rrn={deal.rrn} is {deal.outcome} at its terminal with {deal.holds}; the issuer holds {held}")
    if ledger:
        raise Violation(f"the issuer knows deals that no terminal made: {sorted(ledger)}")
    _transferred(simulation, patience_s, in_flight)
    _stood_in(simulation)


def _transferred(simulation: "Simulation", patience_s: float, in_flight: list[bytes]) -> None:
    """What is pending to the end is nobody's to say but the creditor agent's: the switch was never told a final status."""
    ledger = dict(simulation.creditor.ledger)
    for transfer in (transfer for agent in simulation.agents for transfer in agent.transfers.values()):
        credit = ledger.pop(transfer.id, None)
        held, age_s = (credit.held, credit.heard_s - transfer.sent_s) if credit is not None else (0, 0.0)
        if patience_s and age_s > patience_s and not any(transfer.id.encode() in body for body in in_flight):
            raise Violation(f"{transfer.id} was {age_s:.1f} s old when it was forwarded")
        if transfer.final == PENDING:
            if credit is not None and credit.said_on in simulation.creditor.wires:
                raise Violation(f"{transfer.id} is pending at its agent; the creditor agent has said {credit.status}")
            continue
        counts = transfer.amount if transfer.final == SETTLED else 0
        if held != counts:
            raise Violation(f"{transfer.id} is {transfer.final} for {counts} at its agent; the creditor agent holds {held}")
    if ledger:
        raise Violation(f"the creditor agent knows transfers that nobody ordered: {sorted(ledger)}")


def _told(deal: Any) -> None:
    """One outcome: an approval may be replaced by a refusal, where its terminal has reversed it; never the other way."""
    approvals = [answer in APPROVED for answer, _ in deal.told]
    if len(set(deal.told)) > 1:
        declined = [told for told in deal.told if told[0] not in APPROVED]
        if "reversal" not in deal.steps or approvals != sorted(approvals, reverse=True) or len(set(declined)) > 1:
            raise Violation(f"rrn={deal.rrn} was answered {deal.told}: it has one outcome")
    # the first may have been on its way, and then is the answer to the late repeat, too
    if "late repeat" in deal.steps and deal.outcome == "reversed" and any(approvals[1:]):
        raise Violation(f"rrn={deal.rrn} was answered {deal.told}, the last time after its reversal was accepted")


def _stood_in(simulation: "Simulation") -> None:
    """Of a card and day stand-in approved no more than its rule allows. A wall clock that jumps makes days."""
    (rule,) = simulation.config.stand_in
    days = 1 + 2 * sum("wall clock" in text for text in simulation.plan.texts)
    for card, amounts in simulation.issuer.stood_in.items():
        over = sum(amounts) > days * rule.card_amount_max or len(amounts) > days * rule.card_count_max
        if over or max(amounts) > rule.amount_max:
            raise Violation(f"card {card[-4:]} was given {amounts} by stand-in")
