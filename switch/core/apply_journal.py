"""What goes into the books, in the same apply that decides it: items of the journal, numbered without gaps, and totals.

The rules of payments and advices call one function here where something becomes final. An item stays in the state, and
so in etcd, until the lead's writer says that a database has it (`Journaled`).

    record_answer     the target has decided a request
    record_finished   a transaction's outcome is final
    record_refusal    a request was decided here and never forwarded
    record_undone     an approval is about to be replaced, since it reached nobody
    record_kept       an advice from outside is accepted
    record_reversed   an approval is about to be replaced or made less, by such an advice
    record_advice     the target has acknowledged an advice
    record_dropped    it never gets that advice: it holds nothing of the original
    record_settled    an operator lets that advice go
"""

from msgspec.structs import replace

from messages.message import Decision, Outcome, Trait, Verdict, approved
from switch.core.apply_totals import count, decided
from switch.core.books import JournalItem, JournalKind
from switch.core.fold import Fold, rule
from switch.core.originals import Original, Standing
from switch.core.proposals import AdviceAnswer, Answer, Journaled, Refuse, Store
from switch.core.records import Advice, Books, Counted, Transaction


def journal_full(fold: Fold) -> bool:
    """Whether so much waits for a database that no further request may be accepted."""
    return 0 < fold.rules.limits.journal_waiting_max <= len(fold.state.journal)


# --- requests


def record_answer(fold: Fold, transaction: Transaction, p: Answer) -> Transaction:
    """Counts for the target. The transaction with the amount that it approved; its terminal's reversal undoes as much."""
    summary, taken = transaction.summary, p.untold or approved(p.outcome)
    amount = summary.amount
    if taken:
        amount = min(amount, p.amount) if p.amount is not None else amount
        transaction = replace(transaction, approved=amount)
    what = Counted.APPROVED if taken else Counted.DECLINED
    count(fold, transaction.target, transaction.date, what, summary, amount)
    advice = fold.state.advices.get(transaction.reversal) if taken else None
    if advice is not None and advice.books is not None:
        about = replace(advice.books.summary, amount=amount)
        told = replace(advice.books, summary=about, counted=Counted.REVERSAL)
        fold.state.put_advice(advice.id, replace(advice, books=told))
    return transaction


def record_finished(fold: Fold, transaction: Transaction) -> None:
    """Counts for the source, once."""
    if transaction.booked:
        return
    if fold.rules.limits.journal_waiting_max:
        _keep(fold, _item(fold, JournalKind.REQUEST, transaction))
    what = decided(transaction.outcome)
    amount = transaction.approved if what is Counted.APPROVED else transaction.summary.amount
    count(fold, transaction.link, transaction.source_date, what, transaction.summary, amount)


def record_refusal(fold: Fold, link: str, p: Refuse) -> None:
    """One that is not kept for repeats is not kept for the journal either when that is full: it was not accepted."""
    date = fold.state.dates.get(link, "")
    if p.duplicate_key or not journal_full(fold):
        now = fold.state.meta.clock_ms
        kind = JournalKind.RECONCILIATION if p.reconciled else JournalKind.REFUSAL
        _keep(fold, JournalItem(kind, link, p.original, p.outcome, "", 0, 0, 0, p.summary, (date, ""), now))
    if not p.reconciled:
        count(fold, link, date, Counted.DECLINED, p.summary, p.summary.amount)


def record_undone(fold: Fold, transaction: Transaction) -> None:
    """The transaction still has the approval that is to be replaced. Its source has not counted that, unless it is booked."""
    _keep(fold, _item(fold, JournalKind.UNDONE, transaction))
    if transaction.booked:
        count(fold, transaction.link, transaction.source_date, Counted.REVERSAL, transaction.summary, transaction.approved)


def books(transaction: Transaction, counted: Counted) -> Books:
    """Of an advice of ours. A reversal counts as one at its target only if that had approved, and as much as it had."""
    summary = transaction.summary
    if counted is not Counted.CANCELLED:
        summary = replace(summary, amount=transaction.approved)
    return Books(transaction.link, transaction.original, transaction.id, summary, transaction.dates, counted)


# --- advices


def record_kept(fold: Fold, link: str, p: Store, standing: Standing, original: Original | None) -> Books:
    """Counts for the source, under its present business date; the books of the advice for its target.

    A reversal moves what was approved, on the side of its original. What is not known here may have been
    approved before outcomes were forgotten.
    """
    state, summary, source, target = fold.state, p.summary, Counted.ADVICE, Counted.ADVICE
    dates = (state.dates.get(link, ""), state.dates.get(p.target, ""))
    if summary.is_(Trait.REVERSAL):
        told, held = _held(p, standing, original)
        source = Counted.REVERSAL if told else Counted.CANCELLED
        target = Counted.REVERSAL if held else Counted.CANCELLED
        amount = _reversed(p, standing, original, held=held)
        summary = replace(summary, profile=_profile(original) or summary.profile, amount=amount)
    about = Books(link, p.original, _transaction(standing, original), summary, dates, target)
    count(fold, link, dates[0], source, summary, summary.amount)
    if not p.payload:
        _keep(fold, _advice_item(fold, JournalKind.DROPPED, about, p.outcome))
    return about


def _held(p: Store, standing: Standing, original: Original | None) -> tuple[bool, bool]:
    """Whether the source was told an approval of what it reverses, and whether the target gave one."""
    if standing is Standing.APPROVED and original is not None:
        told = approved(original.outcome)
        return told, told or original.approved > 0
    waits = standing is Standing.OPEN and p.summary.is_(Trait.PARTIAL)  # what it leaves may be approved; else it is refused
    likely = waits or (standing in (Standing.UNKNOWN, Standing.BLOCKED) and bool(p.payload))
    return likely, likely


def _profile(original: Original | None) -> str:
    if original is None:
        return ""
    return original.summary.profile if isinstance(original, Transaction) else original.profile


def _reversed(p: Store, standing: Standing, original: Original | None, *, held: bool) -> int:
    """The amount that a reversal takes back: of what was approved if that is known.

    One in part of what is not known takes what its DE4 has more than DE95; of 1993 and 2003 DE4 is what it leaves, so none.
    """
    known = held and standing is Standing.APPROVED and original is not None
    if p.summary.is_(Trait.PARTIAL):
        whole = original.approved if known and original is not None else p.amount
        return max(whole - p.summary.amount, 0)
    return original.approved if known and original is not None else p.summary.amount


def _transaction(standing: Standing, original: Original | None) -> int:
    """The number of what it is about, 0 where that is no transaction of ours."""
    if isinstance(original, Transaction):
        return original.id
    if original is None or standing is Standing.BLOCKED or original.advice or not original.target:
        return 0
    return original.number


def record_reversed(fold: Fold, link: str, p: Store, original: Original) -> Original:
    """The original still has the approval that is to be replaced, or made less; one without has nothing in the books.

    If it is not finished its approval enters the books first: as far as they go it is, whether its answer arrived or not.
    """
    if not approved(original.outcome):
        return original
    if isinstance(original, Transaction) and not original.booked:
        record_finished(fold, original)
        original = replace(original, booked=True)
    if p.summary.is_(Trait.PARTIAL):
        return original
    if isinstance(original, Transaction):
        _keep(fold, _item(fold, JournalKind.UNDONE, original))
    else:  # its request is forgotten: the row says of the message what the reversal does
        dates = (fold.state.dates.get(link, ""), original.date)
        about = replace(p.summary, profile=original.profile or p.summary.profile, amount=original.approved)
        number = _transaction(Standing.APPROVED, original)
        item = JournalItem(JournalKind.UNDONE, link, p.original, original.outcome, original.target, 0, number,
                           original.advice, about, dates, fold.state.meta.clock_ms)  # fmt: skip
        _keep(fold, item)
    return original


def record_advice(fold: Fold, advice: Advice, p: AdviceAnswer | None = None) -> None:
    """Counts for the target, as what it says it did: one that knows no original has moved nothing."""
    it = advice.books
    if it is None:
        return
    outcome, what = None, it.counted
    if p is not None:
        done = p.verdict is Verdict.DONE
        outcome = Outcome(Decision.APPROVED if done else Decision.DECLINED, p.code, b"")
        if not done:
            what = Counted.DECLINED if what is Counted.ADVICE else Counted.CANCELLED
    _keep(fold, _advice_item(fold, JournalKind.ADVICE, it, outcome, advice))
    count(fold, advice.link, it.dates[1], what, it.summary, it.summary.amount)


def record_dropped(fold: Fold, advice: Advice) -> None:
    if advice.books is not None:
        _keep(fold, _advice_item(fold, JournalKind.DROPPED, advice.books, None, advice))


def record_settled(fold: Fold, advice: Advice) -> None:
    """In no total of its target, which never took it. The row says why it had been parked."""
    if advice.books is not None:
        why = Outcome(Decision.DECLINED, advice.parked, b"")
        _keep(fold, _advice_item(fold, JournalKind.SETTLED, advice.books, why, advice))


# --- items


def _item(fold: Fold, kind: JournalKind, transaction: Transaction) -> JournalItem:
    return JournalItem(
        kind, transaction.link, transaction.original, transaction.outcome, transaction.target, transaction.stan,
        transaction.id, 0, transaction.summary, transaction.dates, fold.state.meta.clock_ms,
    )  # fmt: skip


def _advice_item(
    fold: Fold, kind: JournalKind, it: Books, outcome: Outcome | None, advice: Advice | None = None
) -> JournalItem:
    link, stan, number = (advice.link, advice.stan, advice.id) if advice is not None else ("", 0, 0)
    return JournalItem(
        kind, it.link, it.original, outcome, link, stan, it.transaction, number, it.summary, it.dates,
        fold.state.meta.clock_ms,
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
