"""Totals: what each link answered or was told, counted in the same apply that decides it, by business date.

A link that is asked (source) counts the final outcome that it was told; a link that answers (target) counts what it
answered, so a request without an answer is in no total of its target, and neither is the reversal that follows it.
"""

from functools import lru_cache

from msgspec.structs import replace

from messages.facts import NUMBER_MAX
from messages.message import Outcome, Summary, approved
from switch.core.books import Total
from switch.core.fold import Fold
from switch.core.records import Counted
from switch.core.state import State


def decided(outcome: Outcome | None) -> Counted:
    """As what a decided request counts."""
    return Counted.APPROVED if approved(outcome) else Counted.DECLINED


def count(fold: Fold, link: str, date: str, what: Counted, summary: Summary, amount: int) -> None:
    """One more for the link. What comes late for a date that was dropped counts under the link's present one."""
    state, limits = fold.state, fold.rules.limits
    if not limits.totals_dates_max:
        return
    opened = fold.index
    key = _key(link, date, summary.profile, summary.currency, what)
    if key not in state.totals:
        date, opened = _date(fold, link, date)
        key = _key(link, date, summary.profile, summary.currency, what)
    old = state.totals.get(key)
    if old is None:
        profile, currency = summary.profile, summary.currency
        if len(state.totals) >= limits.totals_max:
            profile, currency, amount = "", "", 0
            key = _key(link, date, profile, currency, what)
        old = state.totals.get(key) or Total(link, date, profile, currency, what, opened)
    state.put_total(key, replace(old, count=old.count + 1, amount=min(old.amount + amount, NUMBER_MAX)))


@lru_cache(maxsize=4096)  # formatting costs more than the rest of counting
def _key(link: str, date: str, profile: str, currency: str, what: Counted) -> str:
    return f"{link}|{date}|{profile}|{currency}|{what}"


def _date(fold: Fold, link: str, date: str) -> tuple[str, int]:
    """The date to count under, and its place in the order of dates. The oldest makes room for the present one only."""
    state, most = fold.state, fold.rules.limits.totals_dates_max
    present = state.dates.get(link, "")
    opened = _opened(state, link)
    if date in opened:
        return date, opened[date]
    if date != present and len(opened) < most:
        return date, opened.get(
            present, fold.index
        ) - 1  # accepted before a cutover, and the first to count for its date
    if present in opened:
        return present, opened[present]
    while len(opened) >= most:
        oldest = min(opened, key=lambda each: (opened[each], each))
        for key in [key for key, total in state.totals.items() if total.link == link and total.date == oldest]:
            state.put_total(key, None)
        fold.note("totals.dropped", link=link, date=oldest)
        del opened[oldest]
    return present, fold.index


def _opened(state: State, link: str) -> dict[str, int]:
    """The dates of the link that have totals, and the index at which each began."""
    opened: dict[str, int] = {}
    for total in state.totals.values():
        if total.link == link:
            opened[total.date] = min(opened.get(total.date, total.opened), total.opened)
    return opened
