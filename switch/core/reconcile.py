"""Our side of a reconciliation: the totals of one link and business date as credits, debits, transfers and inquiries."""

from collections.abc import Iterable

import msgspec

from messages.message import Reconciliation
from switch.core.books import Total
from switch.core.records import Counted
from switch.core.rules import Reconciling
from switch.core.state import State

MMDD = 4
_REVERSALS = {
    "credits": "credit_reversals", "debits": "debit_reversals", "transfers": "transfer_reversals",
    "inquiries": "", "authorizations": "",
}  # fmt: skip
_AMOUNTS = {
    "credits": "credit_amount", "credit_reversals": "credit_reversal_amount",
    "debits": "debit_amount", "debit_reversals": "debit_reversal_amount",
}  # fmt: skip


def figures(state: State, link: str, given: Reconciling, date: str, currency: str) -> Reconciliation:
    """Of this date ("": the link's present one, as of a link that keeps none) and currency ("": all)."""
    present = state.dates.get(link, "")
    date = date if present and date else present
    day = date[-MMDD:]  # 1993 and 2003 write the year before it
    totals = (total for total in state.totals.values() if total.link == link and total.date[-MMDD:] == day)
    return summed((total for total in totals if currency in ("", total.currency)), given)


def summed(totals: Iterable[Total], given: Reconciling) -> Reconciliation:
    """Declines move nothing, nor do reversals of what was never approved."""
    found = dict.fromkeys(Reconciliation.__struct_fields__, 0)
    for total in totals:
        figure = _figure(total, given)
        if figure:
            found[figure] += total.count
            if figure in _AMOUNTS:
                found[_AMOUNTS[figure]] += total.amount
    return msgspec.convert(found, Reconciliation)


def _figure(total: Total, given: Reconciling) -> str:
    side = next((name for name in ("credits", "transfers", "inquiries", "authorizations")
                 if total.profile in getattr(given, name)), "debits")  # fmt: skip
    if total.counted in (Counted.APPROVED, Counted.ADVICE):
        return side
    return _REVERSALS[side] if total.counted is Counted.REVERSAL else ""
