"""What goes into the books, in the same apply that decides it: items of the journal, numbered without gaps, and totals.

The rules of payments and advices call one function here where something becomes final. An item stays in the state, and
so in etcd, until the lead's writer says that a database has it (`Journaled`).

    record_answer     the target has decided a request
    record_finished   a transaction's outcome is final
    record_refusal    a request was decided here and never forwarded
    record_undone     an approval is about to be replaced
    record_advice     the target has acknowledged an advice
"""

from msgspec.structs import replace

from messages.message import Decision, Kind, Outcome
from switch.core.apply_totals import count, counted
from switch.core.books import JournalItem, JournalKind
from switch.core.fold import Fold, rule
from switch.core.proposals import Answer, Journaled, Refuse
from switch.core.records import About, Advice, Counted, Dates, Transaction


def journal_full(fold: Fold) -> bool:
    """Whether so much waits for a database that no further request may be accepted."""
    return 0 < fold.rules.limits.journal_waiting_max <= len(fold.state.journal)


def dates(fold: Fold, source: str, target: str = "") -> Dates:
    """The business dates of a request that is accepted now."""
    return fold.state.dates.get(source, ""), fold.state.dates.get(target, "")


def record_answer(fold: Fold, transaction: Transaction, p: Answer) -> Transaction:
    """Counts for the target. The transaction with the amount that was approved, if the answer names less of it."""
    summary = transaction.summary
    if p.amount is not None and p.amount < summary.amount and p.outcome.decision is Decision.APPROVED:
        summary = replace(summary, amount=p.amount)
    what = counted(transaction.kind, summary, p.outcome)
    count(fold, transaction.target, transaction.dates[1], what, summary)
    return replace(transaction, summary=summary)


def record_finished(fold: Fold, transaction: Transaction) -> None:
    """Counts for the source."""
    assert transaction.outcome is not None
    advice = transaction.kind is Kind.ADVICE
    _keep(fold, _item(fold, JournalKind.ADVICE if advice else JournalKind.REQUEST, transaction))
    what = counted(transaction.kind, transaction.summary, transaction.outcome)
    count(fold, transaction.link, transaction.dates[0], what, transaction.summary)


def record_refusal(fold: Fold, link: str, p: Refuse) -> None:
    """One that is not kept for repeats is not kept for the journal either when that is full: it was not accepted."""
    if p.duplicate_key or not journal_full(fold):
        stamped = dates(fold, link)
        now = fold.state.meta.clock_ms
        kind = JournalKind.RECONCILIATION if p.reconciled else JournalKind.REFUSAL
        item = JournalItem(kind, link, p.original, p.outcome, "", 0, 0, 0, p.summary, stamped, now)
        _keep(fold, item)
    if not p.reconciled:
        count(fold, link, fold.state.dates.get(link, ""), Counted.DECLINED, p.summary)


def record_undone(fold: Fold, transaction: Transaction, *, told: bool) -> None:
    """The transaction still has the approval that is to be replaced. `told`: its source had counted it as approved."""
    _keep(fold, _item(fold, JournalKind.UNDONE, transaction))
    if told:
        count(fold, transaction.link, transaction.dates[0], Counted.REVERSAL, transaction.summary)


def about(transaction: Transaction, *, undone: bool) -> About:
    """What a reversal of ours is about; it counts as a reversal at its target only if that had approved."""
    counts = Counted.REVERSAL if undone else Counted.CANCELLED
    return About(transaction.link, transaction.original, transaction.id, transaction.summary, transaction.dates, counts)


def record_advice(fold: Fold, advice: Advice, outcome: Outcome | None = None) -> None:
    """Counts for the target. `outcome`: of its answer, where there is one."""
    it = advice.about
    if it is None:
        return
    now = fold.state.meta.clock_ms
    item = JournalItem(JournalKind.ADVICE, it.link, it.original, outcome, advice.link, advice.stan, it.transaction, advice.id,
                       it.summary, it.dates, now)  # fmt: skip
    _keep(fold, item)
    count(fold, advice.link, it.dates[1], it.counted, it.summary)


def _item(fold: Fold, kind: JournalKind, transaction: Transaction) -> JournalItem:
    return JournalItem(
        kind, transaction.link, transaction.original, transaction.outcome, transaction.target, transaction.stan,
        transaction.id, 0, transaction.summary, transaction.dates, fold.state.meta.clock_ms,
    )  # fmt: skip


def _keep(fold: Fold, item: JournalItem) -> None:
    """Give it the next number. The one that reaches the bound says so."""
    limit = fold.rules.limits.journal_waiting_max
    if not limit:
        return
    state = fold.state
    number = state.meta.journal + 1
    state.put_meta(None, replace(state.meta, journal=number))
    state.put_journal(number, item)
    if len(state.journal) == limit:
        fold.note("journal.full", waiting=limit, do="requests are declined until the database takes rows again")


@rule(Journaled)
def journaled(fold: Fold, p: Journaled) -> bool:
    """Who wrote them may be another than who says so: what is in a database is there."""
    state = fold.state
    first, last = state.meta.journaled + 1, min(p.upto, state.meta.journal)
    if last < first:
        return False
    was_full = journal_full(fold)
    for number in range(first, last + 1):
        state.put_journal(number, None)
    state.put_meta(None, replace(state.meta, journaled=last))
    if was_full and not journal_full(fold):
        fold.note("journal.taken", waiting=len(state.journal))
    return True
