"""Rules of payments: requests, repeats, answers, timeouts, undeliverable approvals, and outcomes kept for repeats."""

from msgspec.structs import replace

from messages.message import Decision, Kind, Outcome
from switch.core.apply_advices import fits, queue_advice, record_stan
from switch.core.apply_journal import (
    dates,
    journal_full,
    record_answer,
    record_finished,
    record_refusal,
    record_undone,
)
from switch.core.fold import Fold, queued, rule
from switch.core.proposals import (
    Answer,
    Attach,
    Expire,
    Forget,
    Frames,
    Refuse,
    Reply,
    Request,
    Timeout,
    Undo,
)
from switch.core.records import Finished, Role, Stage, Transaction, Waiter
from switch.core.state import outcome_key
from switch.core.transitions import Event, move

ROW_BYTES = 64  # of an outcome in a snapshot, beside its key and content, at the most


@rule(Request)
def request(fold: Fold, p: Request) -> bool:
    """Accepted once: its key is new, its match key and STAN are free, its target can carry it and has room."""
    state = fold.state
    source, target = fold.taken(p), state.sessions.get(p.target_session)
    key = outcome_key(source.link, p.duplicate_key) if source else b""
    if (
        source is None
        or target is None
        or not target.ready
        or target.link != p.target
        or key in state.in_flight
        or key in state.outcomes
        or (p.target, p.match_key) in state.pending
        or (p.target, p.match_key) in state.advice_keys
        or (p.stan and (p.target, p.stan) in state.stans_busy)
        or not state.has_room(fold.links[p.target])
        or len(state.transactions) >= fold.rules.limits.transactions_max
        or (p.kind is Kind.REQUEST and journal_full(fold))
    ):
        return False
    meta = state.meta
    number = meta.transaction + 1
    state.put_meta(None, replace(meta, transaction=number))
    record_stan(fold, p.target, p.stan)
    fold.applied.transactions.append(number)
    state.put_transaction(
        number,
        Transaction(
            id=number, owner=source.owner, link=source.link, kind=p.kind, duplicate_key=p.duplicate_key,
            digest=p.digest, original=p.original, waiters=(Waiter(p.session, p.header, p.original),), target=p.target,
            target_session=p.target_session, stan=p.stan, match_key=p.match_key,
            deadline_ms=meta.clock_ms + p.timeout_ms, summary=p.summary, dates=dates(fold, source.link, p.target),
        ),
    )  # fmt: skip
    fold.put(replace(source, waiting=source.waiting + 1))
    # read again: source and target may be one session
    fold.put(queued(state.sessions[p.target_session], p.frame, Role.FORWARD, number))
    return True


@rule(Attach)
def attach(fold: Fold, p: Attach) -> bool:
    """A repeat of a request in flight waits with it, or is answered at once where the outcome is recorded already.

    A session waits once for a transaction. Waiters whose session has ended make room.
    """
    state = fold.state
    session, transaction = fold.taken(p), state.transactions.get(p.transaction)
    if session is None or transaction is None or transaction.link != session.link:
        return False
    if transaction.stage is Stage.ANSWERED:
        if not p.frame or p.outcome != transaction.outcome:
            return False
        state.put_transaction(transaction.id, replace(transaction, copies=transaction.copies + 1))
        fold.put(queued(session, p.frame, Role.ANSWER, transaction.id))
        return True
    waiters = tuple(waiter for waiter in transaction.waiters if waiter.session in state.sessions)
    if p.frame or len(waiters) >= fold.rules.limits.waiters_max or any(w.session == session.id for w in waiters):
        return False
    state.put_transaction(transaction.id, replace(transaction, waiters=(*waiters, p.waiter)))
    fold.put(replace(session, waiting=session.waiting + 1))
    return True


@rule(Reply)
def reply(fold: Fold, p: Reply) -> bool:
    session = fold.taken(p)
    if session is None:
        return False
    finished = fold.state.outcomes.get(outcome_key(session.link, p.duplicate_key))
    if finished is None or finished.outcome != p.outcome:
        return False
    fold.put(queued(session, p.frame, Role.ANSWER))
    fold.note("request.repeated", session=p.session, link=session.link)
    return True


@rule(Refuse)
def refuse(fold: Fold, p: Refuse) -> bool:
    session = fold.taken(p)
    if session is None:
        return False
    if p.duplicate_key:
        key = outcome_key(session.link, p.duplicate_key)
        if key in fold.state.in_flight or key in fold.state.outcomes:
            return False
        _keep(fold, key, p.digest, p.outcome)
    record_refusal(fold, session.link, p)
    fold.put(queued(session, p.frame, Role.ANSWER))
    fold.note("request.refused", session=p.session, link=session.link, offset=p.start, code=p.outcome.code,
              why=p.why or None)  # fmt: skip
    return True


@rule(Answer)
def answer(fold: Fold, p: Answer) -> bool:
    """The first decision of a request wins; each waiter that is there gets its frame."""
    session, transaction = fold.taken(p), fold.state.transactions.get(p.transaction)
    if (
        session is None
        or transaction is None
        or transaction.stage is not Stage.SENT
        or transaction.target != session.link
        or transaction.match_key != p.match_key
        or not _answers_all(fold, transaction, p.frames)
    ):
        return False
    fold.put(session)
    transaction = record_answer(fold, transaction, p)
    _decide(fold, transaction, p.outcome, p.frames)
    return True


@rule(Timeout)
def timeout(fold: Fold, p: Timeout) -> bool:
    """No answer in time. A local answer is the outcome; an interim one (of transfers) tells the waiters once."""
    transaction = _overdue(fold, p.transaction)
    if transaction is None or not _answers_all(fold, transaction, p.frames) or not fits(fold, transaction.target, p):
        return False
    fold.note("transaction.timeout", transaction=p.transaction, link=transaction.link, target=transaction.target,
              session=transaction.target_session)  # fmt: skip
    queue_advice(fold, transaction.target, p)
    if p.outcome.decision is Decision.INTERIM and transaction.outcome is None:
        link = fold.links[transaction.target]
        for id_, frame in p.frames:
            session = fold.state.sessions.get(id_)
            if session is not None:
                fold.put(queued(session, frame, Role.NETWORK))
        deadline = fold.state.meta.clock_ms + 10 * link.timeout_ms
        fold.state.put_transaction(transaction.id, replace(transaction, outcome=p.outcome, deadline_ms=deadline))
        fold.applied.transactions.append(transaction.id)
        return True
    _decide(fold, transaction, p.outcome, p.frames)
    return True


@rule(Expire)
def expire(fold: Fold, p: Expire) -> bool:
    """An advice from a terminal got no answer: nothing is decided, and its sender's repeat is forwarded anew."""
    transaction = _overdue(fold, p.transaction)
    if transaction is None or transaction.kind is Kind.REQUEST:
        return False
    for waiter in transaction.waiters:
        session = fold.state.sessions.get(waiter.session)
        if session is not None:
            fold.put(replace(session, waiting=session.waiting - 1))
    fold.state.put_transaction(transaction.id, None)
    fold.note("transaction.expired", transaction=transaction.id, link=transaction.link, target=transaction.target)
    return True


def _overdue(fold: Fold, number: int) -> Transaction | None:
    """The transaction if it has no outcome in its time. Its proposer's clock may be two heartbeats ahead."""
    transaction = fold.state.transactions.get(number)
    if transaction is None or transaction.stage is not Stage.SENT:
        return None
    latest = fold.state.meta.clock_ms + 2 * fold.rules.limits.heartbeat_ms
    return transaction if transaction.deadline_ms <= latest else None


@rule(Undo)
def undo(fold: Fold, p: Undo) -> bool:
    """The reversal replaces the recorded approval in the same apply."""
    transaction = fold.state.transactions.get(p.transaction)
    if transaction is None or transaction.stage is not Stage.UNDELIVERABLE:
        return False
    if not _answers_all(fold, transaction, p.frames) or not fits(fold, transaction.target, p):
        return False
    queue_advice(fold, transaction.target, p)
    fold.note("transaction.undone", transaction=p.transaction, link=transaction.link, target=transaction.target,
              reversed=bool(p.advice))  # fmt: skip
    record_undone(fold, transaction, told=False)
    _decide(fold, transaction, p.outcome, p.frames)
    return True


def _answers_all(fold: Fold, transaction: Transaction, frames: Frames) -> bool:
    """Whether each waiter that is there has a frame: repeats may have come since the frames were made."""
    named = [id_ for id_, _ in frames]
    return all(
        waiter.session in named or waiter.session not in fold.state.sessions for waiter in transaction.waiters
    )


def _decide(fold: Fold, transaction: Transaction, outcome: Outcome, frames: Frames) -> None:
    """Record the outcome and queue an answer to each waiter whose session is there."""
    copies = 0
    answers = dict(frames)
    for waiter in transaction.waiters:
        session = fold.state.sessions.get(waiter.session)
        if session is None:
            continue
        frame = answers[waiter.session]
        copies += bool(frame)
        fold.put(queued(replace(session, waiting=session.waiting - 1), frame, Role.ANSWER, transaction.id))
    if copies:
        event = Event.QUEUED
    elif _must_undo(fold, transaction, outcome):
        event = Event.LOST
    else:
        event = Event.NOBODY
    _moved(fold, replace(transaction, outcome=outcome, copies=copies, delivered=False, waiters=()), event)


def copy_settled(fold: Fold, number: int, *, delivered: bool) -> None:
    """A copy of an answer was acknowledged (`delivered`), or its session ended before a byte of it was."""
    transaction = fold.state.transactions.get(number)
    if transaction is None or transaction.stage is not Stage.ANSWERED:
        return
    assert transaction.outcome is not None and transaction.copies > 0
    transaction = replace(transaction, copies=transaction.copies - 1, delivered=transaction.delivered or delivered)
    if transaction.copies:
        fold.state.put_transaction(number, transaction)
    elif not transaction.delivered and _must_undo(fold, transaction, transaction.outcome):
        _moved(fold, transaction, Event.LOST)
    else:
        _moved(fold, transaction, Event.SETTLED)


def _must_undo(fold: Fold, transaction: Transaction, outcome: Outcome | None) -> bool:
    link = fold.links.get(transaction.link)
    approved = outcome is not None and outcome.decision is Decision.APPROVED
    return approved and link is not None and link.reverses and transaction.kind is Kind.REQUEST


def _moved(fold: Fold, transaction: Transaction, event: Event) -> None:
    """Take the transaction along the table; a finished one leaves only its outcome."""
    stage = move(transaction.stage, event)
    if stage is not Stage.FINISHED:
        fold.state.put_transaction(transaction.id, replace(transaction, stage=stage))
        return
    assert transaction.outcome is not None
    record_finished(fold, transaction)
    fold.state.put_transaction(transaction.id, None)
    key = outcome_key(transaction.link, transaction.duplicate_key)
    _keep(fold, key, transaction.digest, transaction.outcome)


def _keep(fold: Fold, key: bytes, digest: bytes, outcome: Outcome) -> None:
    """Keep an outcome for repeats, in the open segment; a full segment is closed: it is to be one value in etcd."""
    state, limits = fold.state, fold.rules.limits
    size = len(key) + len(outcome.content) + ROW_BYTES
    if state.meta.segment_size and state.meta.segment_bytes + size > limits.segment_bytes:
        close_segment(fold)
    meta = state.meta
    state.put_outcome(key, Finished(digest, outcome, meta.segment))
    started = meta.segment_ms if meta.segment_size else meta.clock_ms
    meta = replace(
        meta, segment_size=meta.segment_size + 1, segment_bytes=meta.segment_bytes + size, segment_ms=started
    )
    state.put_meta(None, meta)
    if meta.segment_size >= limits.segment_outcomes:
        close_segment(fold)


def close_segment(fold: Fold) -> None:
    """The open segment becomes immutable."""
    meta = fold.state.meta
    fold.state.put_closed(meta.segment, meta.clock_ms)
    meta = replace(meta, segment=meta.segment + 1, segment_size=0, segment_bytes=0, segment_ms=meta.clock_ms)
    fold.state.put_meta(None, meta)


@rule(Forget)
def forget(fold: Fold, p: Forget) -> bool:
    state = fold.state
    if p.segment != state.meta.oldest or p.segment not in state.closed:
        return False
    for key in list(state.segments.get(p.segment, ())):
        state.put_outcome(key, None)
    state.put_closed(p.segment, None)
    state.put_meta(None, replace(state.meta, oldest=p.segment + 1))
    return True
