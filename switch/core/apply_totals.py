"""Totals: what each link answered or was told, counted in the same apply that decides it, by business date.

A link that is asked (source) counts the final outcome that it was told; a link that answers (target) counts what it
answered, so a request without an answer is in no total of its target, and neither is the reversal that follows it.
"""

from msgspec.structs import replace

from messages.facts import NUMBER_MAX
from messages.message import Decision, Kind, Outcome, Summary, Trait
from switch.core.books import Counted, Total
from switch.core.fold import Fold
from switch.core.state import State


def counted(kind: Kind, summary: Summary, outcome: Outcome) -> Counted:
    """As what a decided message counts."""
    if kind is Kind.ADVICE:
        return advice_counted(summary)
    return Counted.APPROVED if outcome.decision is Decision.APPROVED else Counted.DECLINED


def advice_counted(summary: Summary) -> Counted:
    return Counted.REVERSAL if summary.is_(Trait.REVERSAL) else Counted.ADVICE


def count(fold: Fold, link: str, date: str, what: Counted, summary: Summary) -> None:
    """One more for the link. A date that was dropped already, or never kept, counts as the link's present one."""
    state, limits = fold.state, fold.rules.limits
    if not limits.totals_dates_max:
        return
    key = _key(link, date, summary.profile, summary.currency, what)
    if key not in state.totals:
        date = _date(fold, link, date)
        key = _key(link, date, summary.profile, summary.currency, what)
    old, amount = state.totals.get(key), summary.amount
    if old is None:
        profile, currency = summary.profile, summary.currency
        if len(state.totals) >= limits.totals_max:
            profile, currency, amount = "", "", 0
            key = _key(link, date, profile, currency, what)
        old = state.totals.get(key) or Total(link, date, profile, currency, what, fold.index)
    state.put_total(key, replace(old, count=old.count + 1, amount=min(old.amount + amount, NUMBER_MAX)))


def _key(link: str, date: str, profile: str, currency: str, what: Counted) -> str:
    return f"{link}|{date}|{profile}|{currency}|{what}"


def _date(fold: Fold, link: str, date: str) -> str:
    """The date to count under: the given one if the link has or may get it. The oldest makes room for the present one."""
    state = fold.state
    present = state.dates.get(link, "")
    opened = _opened(state, link)
    if date not in opened:
        date = present
    while date not in opened and len(opened) >= fold.rules.limits.totals_dates_max:
        oldest = min(opened, key=lambda each: (opened[each], each))
        for key in [key for key, total in state.totals.items() if total.link == link and total.date == oldest]:
            state.put_total(key, None)
        fold.note("totals.dropped", link=link, date=oldest)
        del opened[oldest]
    return date


def _opened(state: State, link: str) -> dict[str, int]:
    """The dates of the link that have totals, and the index at which each began."""
    opened: dict[str, int] = {}
    for total in state.totals.values():
        if total.link == link:
            opened[total.date] = min(opened.get(total.date, total.opened), total.opened)
    return opened
