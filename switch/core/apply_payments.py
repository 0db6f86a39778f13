"""Rules of payments: requests, repeats, answers, timeouts, undeliverable approvals, advices, and outcomes kept for repeats."""

from msgspec.structs import replace

from messages.message import Decision, Kind, Outcome
from switch.core.fold import Fold, queued, rule
from switch.core.proposals import (
    AdviceAnswer,
    AdviceSend,
    Answer,
    Attach,
    Expire,
    Forget,
    Refuse,
    Reply,
    Request,
    Timeout,
    Undo,
)
from switch.core.records import Advice, Finished, Role, Stage, Transaction, Waiter
from switch.core.state import outcome_key
from switch.core.transitions import Event, move


@rule(Request)
def request(fold: Fold, p: Request) -> bool:
    """Accepted once: its key is new, its match key is free, its target can carry it and has room."""
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
        or state.waiting.get(p.target, 0) >= fold.links[p.target].inflight_max
        or len(state.transactions) >= fold.rules.limits.transactions_max
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
            target_session=p.target_session, stan=p.stan, match_key=p.match_key, deadline_ms=meta.clock_ms + p.timeout_ms,
        ),
    )  # fmt: skip
    fold.put(replace(source, waiting=source.waiting + 1))
    # read again: source and target may be one session
    fold.put(queued(state.sessions[p.target_session], p.frame, Role.FORWARD, number))
    return True


@rule(Attach)
def attach(fold: Fold, p: Attach) -> bool:
    """A repeat of a request in flight waits with it, or is answered at once where the outcome is recorded already."""
    state = fold.state
    session, transaction = fold.taken(p), state.transactions.get(p.transaction)
    if session is None or transaction is None or transaction.link != session.link:
        return False
    if transaction.stage is Stage.ANSWERED:
        if not p.frame:
            return False
        state.put_transaction(transaction.id, replace(transaction, copies=transaction.copies + 1))
        fold.put(queued(session, p.frame, Role.ANSWER, transaction.id))
        return True
    if p.frame or len(transaction.waiters) >= fold.rules.limits.waiters_max:
        return False
    state.put_transaction(transaction.id, replace(transaction, waiters=(*transaction.waiters, p.waiter)))
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
    fold.put(queued(session, p.frame, Role.ANSWER))
    fold.note("request.refused", session=p.session, link=session.link, offset=p.start, code=p.outcome.code)
    return True


@rule(Answer)
def answer(fold: Fold, p: Answer) -> bool:
    """The first decision of a request wins; one frame for each waiter, made from the present waiters."""
    session, transaction = fold.taken(p), fold.state.transactions.get(p.transaction)
    if (
        session is None
        or transaction is None
        or transaction.stage is not Stage.SENT
        or transaction.target != session.link
        or transaction.match_key != p.match_key
        or len(transaction.waiters) != len(p.frames)
    ):
        return False
    fold.put(session)
    _decide(fold, transaction, p.outcome, p.frames)
    return True


@rule(Timeout)
def timeout(fold: Fold, p: Timeout) -> bool:
    """No answer in time. A local answer is the outcome; an interim one (transfers, by profile) only tells the waiters once."""
    transaction = fold.state.transactions.get(p.transaction)
    if transaction is None or transaction.stage is not Stage.SENT or len(transaction.waiters) != len(p.frames):
        return False
    if transaction.deadline_ms > fold.state.meta.clock_ms + 2 * fold.rules.limits.heartbeat_ms:
        return False
    fold.note("transaction.timeout", transaction=p.transaction, link=transaction.link, target=transaction.target,
              session=transaction.target_session)  # fmt: skip
    _queue_advice(fold, transaction.target, p)
    if p.outcome.decision is Decision.INTERIM and transaction.outcome is None:
        link = fold.links[transaction.target]
        for waiter, frame in zip(transaction.waiters, p.frames, strict=True):
            session = fold.state.sessions.get(waiter.session)
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
    transaction = fold.state.transactions.get(p.transaction)
    if transaction is None or transaction.stage is not Stage.SENT or transaction.kind is Kind.REQUEST:
        return False
    for waiter in transaction.waiters:
        session = fold.state.sessions.get(waiter.session)
        if session is not None:
            fold.put(replace(session, waiting=session.waiting - 1))
    fold.state.put_transaction(transaction.id, None)
    fold.note("transaction.expired", transaction=transaction.id, link=transaction.link, target=transaction.target)
    return True


@rule(Undo)
def undo(fold: Fold, p: Undo) -> bool:
    """The reversal replaces the recorded approval in the same apply."""
    transaction = fold.state.transactions.get(p.transaction)
    if transaction is None or transaction.stage is not Stage.UNDELIVERABLE or len(transaction.waiters) != len(p.frames):
        return False
    _queue_advice(fold, transaction.target, p)
    fold.note("transaction.undone", transaction=p.transaction, link=transaction.link, target=transaction.target)
    _decide(fold, transaction, p.outcome, p.frames)
    return True


def _decide(fold: Fold, transaction: Transaction, outcome: Outcome, frames: tuple[bytes, ...]) -> None:
    """Record the outcome and queue an answer to each waiter whose session is there."""
    copies = 0
    for waiter, frame in zip(transaction.waiters, frames, strict=True):
        session = fold.state.sessions.get(waiter.session)
        if session is None:
            continue
        session = replace(session, waiting=session.waiting - 1)
        if frame:
            session = queued(session, frame, Role.ANSWER, transaction.id)
            copies += 1
        fold.put(session)
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
    fold.state.put_transaction(transaction.id, None)
    key = outcome_key(transaction.link, transaction.duplicate_key)
    _keep(fold, key, transaction.digest, transaction.outcome)


def _keep(fold: Fold, key: bytes, digest: bytes, outcome: Outcome) -> None:
    """Keep an outcome for repeats, in the open segment; a full segment is closed."""
    meta = fold.state.meta
    fold.state.put_outcome(key, Finished(digest, outcome, meta.segment))
    started = meta.segment_ms if meta.segment_size else meta.clock_ms
    fold.state.put_meta(None, replace(meta, segment_size=meta.segment_size + 1, segment_ms=started))
    if meta.segment_size + 1 >= fold.rules.limits.segment_outcomes:
        close_segment(fold)


def close_segment(fold: Fold) -> None:
    """The open segment becomes immutable."""
    meta = fold.state.meta
    fold.state.put_closed(meta.segment, meta.clock_ms)
    fold.state.put_meta(None, replace(meta, segment=meta.segment + 1, segment_size=0, segment_ms=meta.clock_ms))


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


def record_stan(fold: Fold, link: str, stan: int) -> None:
    """The highest STAN applied, for each link and node: where an allocation is resumed after a restart."""
    node = fold.state.incarnations[fold.by].node
    fold.state.put_stan(f"{link}/{node}", stan)


def _queue_advice(fold: Fold, link: str, p: Timeout | Undo) -> None:
    if not p.advice:
        return
    number = fold.state.meta.advice + 1
    fold.state.put_meta(None, replace(fold.state.meta, advice=number))
    record_stan(fold, link, p.stan)
    fold.state.put_advice(number, Advice(number, link, p.advice, p.match_key))
    fold.note("advice.queued", advice=number, link=link)


@rule(AdviceSend)
def advice_send(fold: Fold, p: AdviceSend) -> bool:
    """A copy goes out; never two copies outstanding on different sessions."""
    advice, session = fold.state.advices.get(p.advice), fold.state.sessions.get(p.session)
    if advice is None or session is None or not session.ready or session.link != advice.link or advice.tries != p.tries:
        return False
    deadline = fold.state.meta.clock_ms + fold.links[advice.link].advice_retry_ms
    fold.state.put_advice(
        advice.id, replace(advice, session=session.id, deadline_ms=deadline, tries=advice.tries + 1)
    )
    fold.put(queued(session, p.frame, Role.ADVICE, advice.id))
    return True


@rule(AdviceAnswer)
def advice_answer(fold: Fold, p: AdviceAnswer) -> bool:
    session, advice = fold.taken(p), fold.state.advices.get(p.advice)
    if session is None or advice is None or advice.link != session.link:
        return False
    fold.put(session)
    fold.state.put_advice(advice.id, None)
    fold.note("advice.acknowledged", advice=advice.id, link=advice.link)
    return True


def advice_delivered(fold: Fold, number: int) -> None:
    """The remote kernel has a whole copy: enough for an advice that no answer follows."""
    advice = fold.state.advices.get(number)
    if advice is not None and not advice.match_key:
        fold.state.put_advice(number, None)
        fold.note("advice.acknowledged", advice=number, link=advice.link)


def advice_unsent(fold: Fold, number: int, session: str) -> None:
    """The session that carried a copy ended: another may carry the next one."""
    advice = fold.state.advices.get(number)
    if advice is not None and advice.session == session:
        fold.state.put_advice(number, replace(advice, session="", deadline_ms=0))
