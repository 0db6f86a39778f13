"""Rules of outcomes: decided once, told to all who wait, undone when they reached nobody, kept for repeats, forgotten."""

from sys import intern

from msgspec.structs import replace

from messages.message import Outcome, Trait, approved
from switch.core.apply_advices import drop_advice
from switch.core.apply_journal import record_finished
from switch.core.fold import Fold, queued, rule
from switch.core.proposals import Forget, Frames
from switch.core.records import Fate, Finished, Role, Stage, Transaction
from switch.core.state import outcome_key
from switch.core.transitions import Event, move

AHEAD_MS = 1_000  # who proposes to forget may be ahead
ROW_BYTES = 116  # of an outcome in a snapshot, beside its key, content, identities, reference, profile and about, at the most


def answers_all(fold: Fold, transaction: Transaction, frames: Frames) -> bool:
    """Whether each waiter that is there has a frame: repeats may have come since the frames were made."""
    named = [id_ for id_, _ in frames]
    return all(
        waiter.session in named or waiter.session not in fold.state.sessions for waiter in transaction.waiters
    )


def decide(fold: Fold, transaction: Transaction, outcome: Outcome, frames: Frames, fate: Fate) -> None:
    """Record the outcome and queue an answer to each waiter whose session is there.

    A reversal by its terminal that came before is dropped where the target turned out to hold nothing.
    """
    copies = 0
    answers = dict(frames)
    for waiter in transaction.waiters:
        session = fold.state.sessions.get(waiter.session)
        if session is None:
            continue
        frame = answers[waiter.session]
        copies += bool(frame)
        fold.put(queued(replace(session, waiting=session.waiting - 1), frame, Role.ANSWER, transaction.id))
    decided = replace(
        transaction, outcome=outcome, fate=fate, copies=copies, delivered=False, waiters=(), unsent=b""
    )
    if transaction.reversal and (fate is Fate.NOTHING or (fate is Fate.DECIDED and not approved(outcome))):
        drop_advice(fold, transaction.reversal)
    if copies:
        event = Event.QUEUED
    elif _must_undo(fold, decided):
        event = Event.LOST
    else:
        event = Event.NOBODY
    moved(fold, decided, event)


def copy_settled(fold: Fold, number: int, *, delivered: bool) -> None:
    """A copy of an answer was acknowledged (`delivered`), or its session ended before a byte of it was."""
    transaction = fold.state.transactions.get(number)
    if transaction is None or transaction.stage is not Stage.ANSWERED:
        return
    assert transaction.outcome is not None and transaction.copies > 0
    transaction = replace(transaction, copies=transaction.copies - 1, delivered=transaction.delivered or delivered)
    if transaction.copies:
        fold.state.put_transaction(number, transaction)
    elif not transaction.delivered and _must_undo(fold, transaction):
        moved(fold, transaction, Event.LOST)
    else:
        moved(fold, transaction, Event.SETTLED)


def _must_undo(fold: Fold, transaction: Transaction) -> bool:
    link = fold.links.get(transaction.link)
    money = transaction.summary.is_(Trait.MONEY)
    wanted = link is not None and link.reverses and money and not transaction.completed
    return approved(transaction.outcome) and wanted


def moved(fold: Fold, transaction: Transaction, event: Event) -> None:
    """Take the transaction along the table; a finished one leaves only its outcome."""
    stage = move(transaction.stage, event)
    if stage is not Stage.FINISHED:
        fold.state.put_transaction(transaction.id, replace(transaction, stage=stage))
        return
    assert transaction.outcome is not None
    record_finished(fold, transaction)
    fold.state.put_transaction(transaction.id, None)
    key = outcome_key(transaction.link, transaction.duplicate_key)
    keep(
        fold, key,
        Finished(
            transaction.digest, transaction.outcome, 0, transaction.id, transaction.fate, transaction.summary.identity,
            transaction.target, transaction.reference, transaction.date, transaction.approved,
            profile=intern(transaction.summary.profile), aliases=transaction.aliases,
        ),
    )  # fmt: skip


def keep(fold: Fold, key: bytes, item: Finished) -> None:
    """Keep an outcome for repeats, in the open segment; a full segment is closed: it is to be one value in etcd."""
    state, limits = fold.state, fold.rules.limits
    told = len(item.identity) + len(item.reference) + len(item.profile) + len(item.about)
    told += sum(map(len, item.aliases)) + 2 * len(item.aliases)
    size = len(key) + len(item.outcome.content) + told + ROW_BYTES
    if state.meta.segment_size and state.meta.segment_bytes + size > limits.segment_bytes:
        close_segment(fold)
    meta = state.meta
    state.put_outcome(key, replace(item, segment=meta.segment))
    started = meta.segment_ms if meta.segment_size else meta.clock_ms
    meta = replace(
        meta, segment_size=meta.segment_size + 1, segment_bytes=meta.segment_bytes + size, segment_ms=started
    )
    state.put_meta(None, meta)
    if meta.segment_size >= limits.segment_outcomes:
        close_segment(fold)


def close_segment(fold: Fold) -> None:
    """The open segment becomes immutable, but for outcomes that move on to the open one when they are replaced."""
    meta = fold.state.meta
    fold.state.put_closed(meta.segment, meta.clock_ms)
    meta = replace(meta, segment=meta.segment + 1, segment_size=0, segment_bytes=0, segment_ms=meta.clock_ms)
    fold.state.put_meta(None, meta)


@rule(Forget)
def forget(fold: Fold, p: Forget) -> bool:
    state = fold.state
    if p.segment != state.meta.oldest or p.segment not in state.closed:
        return False
    early = fold.rules.limits.replay_window_ms - (state.meta.clock_ms - state.closed[p.segment])
    if early > AHEAD_MS:
        fold.note("outcomes.forgotten_early", outcomes=len(state.outcomes), early_ms=early)
    for key in sorted(state.segments.get(p.segment, ())):
        if key in state.abouts:  # an advice that waits is about it, and another may follow
            keep(fold, key, state.outcomes[key])
        else:
            state.put_outcome(key, None)
    state.put_closed(p.segment, None)
    state.put_meta(None, replace(state.meta, oldest=p.segment + 1))
    return True
