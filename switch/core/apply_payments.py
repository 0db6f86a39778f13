"""Rules of requests: accepted once, answered once; repeats, timeouts, what could not be sent, what reached nobody."""

from collections.abc import Sequence

from msgspec.structs import replace

from messages.message import Decision
from switch.core.apply_advices import fits, free, queue_advice, record_stan
from switch.core.apply_journal import (
    books,
    journal_full,
    record_answer,
    record_refusal,
    record_undone,
)
from switch.core.apply_outcomes import answers_all, decide, keep, moved
from switch.core.apply_stand_in import stand_in
from switch.core.fold import Fold, queued, rule
from switch.core.originals import aliased, barred, named
from switch.core.proposals import (
    Answer,
    Attach,
    Decide,
    Redeliver,
    Refuse,
    Reply,
    Request,
    Resend,
    Timeout,
    Undo,
)
from switch.core.records import Breaker, Counted, Fate, Finished, Out, Rate, Role, Session, Stage, Transaction, Waiter
from switch.core.state import SECOND_MS, outcome_key
from switch.core.transitions import Event


def host(session: Session) -> str:
    """The address of its remote, without the port."""
    return session.remote.rpartition(":")[0]


@rule(Request)
def request(fold: Fold, p: Request) -> bool:
    """Accepted once: its key is new, no reversal came before it, and its target, if it names a session, can carry it."""
    state = fold.state
    source = fold.taken(p)
    key = outcome_key(source.link, p.duplicate_key) if source else b""
    if (
        source is None
        or key in state.in_flight
        or key in state.outcomes
        or barred(state, source.link, p.summary.identity) is not None
        or (p.target_session and not _carries(fold, p))
        or p.target not in fold.links
        or len(state.transactions) >= fold.rules.limits.transactions_max
        or journal_full(fold)
    ):
        return False
    meta = state.meta
    number = meta.transaction + 1
    state.put_meta(None, replace(meta, transaction=number))
    record_stan(fold, p.target, p.stan)
    fold.applied.transactions.append(number)
    sent = bool(p.target_session)
    state.put_transaction(
        number,
        Transaction(
            id=number, owner=source.owner, link=source.link, remote=host(source), header=p.header,
            duplicate_key=p.duplicate_key, digest=p.digest, original=p.original, summary=p.summary,
            waiters=(Waiter(p.session, p.header, p.original),), route=p.route, target=p.target, target_session=p.target_session,
            stan=p.stan, match_key=p.match_key, reference=p.reference, date=p.date,
            deadline_ms=meta.clock_ms + p.timeout_ms, stage=Stage.SENT if sent else Stage.UNSENT,
            unsent=b"" if sent else p.frame, source_date=state.dates.get(source.link, ""),
        ),
    )  # fmt: skip
    fold.put(replace(source, waiting=source.waiting + 1))
    if sent:  # read again: source and target may be one session
        _count_rates(fold, p)
        fold.put(queued(state.sessions[p.target_session], p.frame, Role.FORWARD, number))
    return True


def _carries(fold: Fold, p: Request | Resend) -> bool:
    """Whether the session of the target can carry it: ready, with room, and nothing else pending under its key or STAN."""
    state = fold.state
    target, link = state.sessions.get(p.target_session), fold.links.get(p.target)
    breaker = state.breakers.get(p.target)
    return (
        target is not None
        and link is not None
        and target.ready
        and target.link == p.target
        and not (breaker is not None and breaker.open)
        and free(fold, p.target, p.match_key, p.stan)
        and state.has_room(link)
        and all(state.has_rate(key, limit) for key, limit in _rates(fold, p))
        and _route_room(fold, p.route)
    )


def _rates(fold: Fold, p: Request | Resend) -> Sequence[tuple[str, int]]:
    """What is limited of the link and the route: keys and requests a second."""
    route, link = fold.routes.get(p.route), fold.links[p.target]
    of_route = route.rate_max if route is not None else 0
    if not of_route and not link.rate_max:
        return ()
    limits = (f"link/{p.target}", link.rate_max), (f"route/{p.route}", of_route)
    return [(key, limit) for key, limit in limits if limit]


def _route_room(fold: Fold, name: str) -> bool:
    route = fold.routes.get(name)
    return route is None or not route.inflight_max or fold.state.routed.get(name, 0) < route.inflight_max


def _count_rates(fold: Fold, p: Request | Resend) -> None:
    clock = fold.state.meta.clock_ms
    for key, _ in _rates(fold, p):
        seen = fold.state.rates.get(key)
        if seen is None or clock - seen.began_ms >= SECOND_MS:
            seen = Rate(clock, 0)
        fold.state.put_rate(key, Rate(seen.began_ms, seen.count + 1))


@rule(Resend)
def resend(fold: Fold, p: Resend) -> bool:
    state = fold.state
    transaction = state.transactions.get(p.transaction)
    if transaction is None or transaction.stage is not Stage.UNSENT or not _carries(fold, p):
        return False
    if transaction.reversal or transaction.followed:  # what follows it names it as it was sent before
        return False
    record_stan(fold, p.target, p.stan)
    _count_rates(fold, p)
    again = replace(
        transaction, route=p.route, target=p.target, target_session=p.target_session, stan=p.stan, match_key=p.match_key,
        reference=p.reference, date=p.date, unsent=b"",
    )  # fmt: skip
    moved(fold, again, Event.SENT)
    fold.applied.transactions.append(transaction.id)
    fold.put(queued(state.sessions[p.target_session], p.frame, Role.FORWARD, transaction.id))
    fold.note("transaction.resent", transaction=transaction.id, link=transaction.link, target=p.target)
    return True


def forward_ended(fold: Fold, out: Out, session: Session, written: int) -> None:
    """The session of a forward ended. It is unsent if none of its bytes was given to the kernel; else a byte may have left."""
    transaction = fold.state.transactions.get(out.ref)
    if transaction is None or transaction.stage is not Stage.SENT or transaction.target_session != session.id:
        return
    if 0 <= written <= out.offset:
        moved(fold, replace(transaction, unsent=out.data), Event.RETURNED)


@rule(Attach)
def attach(fold: Fold, p: Attach) -> bool:
    """A repeat of a request in flight waits with it, or is answered at once where the outcome is recorded already.

    A session waits once for a transaction: with its latest repeat, whose fields the answer echoes. Waiters whose session
    has ended make room.
    """
    state = fold.state
    session, transaction = fold.taken(p), state.transactions.get(p.transaction)
    if session is None or transaction is None or transaction.link != session.link:
        return False
    known = aliased(transaction, named(state, session.link, p.identity))
    if transaction.stage is Stage.ANSWERED:
        if not p.frame or p.outcome != transaction.outcome:
            return False
        state.put_transaction(transaction.id, replace(known, copies=transaction.copies + 1))
        fold.put(queued(session, p.frame, Role.ANSWER, transaction.id))
        return True
    others = tuple(w for w in transaction.waiters if w.session in state.sessions and w.session != session.id)
    more = not any(w.session == session.id for w in transaction.waiters)
    if p.frame or (more and len(others) >= fold.rules.limits.waiters_max):
        return False
    state.put_transaction(transaction.id, replace(known, waiters=(*others, p.waiter)))
    fold.put(replace(session, waiting=session.waiting + more))
    return True


@rule(Reply)
def reply(fold: Fold, p: Reply) -> bool:
    session = fold.taken(p)
    if session is None:
        return False
    finished = fold.state.outcomes.get(outcome_key(session.link, p.duplicate_key))
    if finished is None or finished.outcome != p.outcome:
        return False
    known = aliased(finished, named(fold.state, session.link, p.identity))
    if known is not finished:
        keep(fold, outcome_key(session.link, p.duplicate_key), known)
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
        number = fold.state.meta.transaction
        identity = named(fold.state, session.link, p.summary.identity)
        keep(fold, key, Finished(p.digest, p.outcome, 0, number, Fate.NOTHING, identity))
    record_refusal(fold, session.link, p)
    fold.put(queued(session, p.frame, Role.ANSWER))
    told = {"session": p.session, "link": session.link, "offset": p.start, "code": p.outcome.code}
    if p.flaw:
        fold.note("request.flawed", **told, flaw=p.flaw)
    else:
        fold.note("request.refused", **told, why=p.why or None)
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
        or p.reversed != bool(transaction.reversal)
        or not answers_all(fold, transaction, p.frames)
        or not fits(fold, transaction.target, p.undo)
    ):
        return False
    fold.put(session)
    if transaction.target in fold.state.breakers:
        fold.state.put_breaker(transaction.target, None)
    transaction = record_answer(fold, transaction, p)
    it = books(transaction, Counted.REVERSAL) if p.undo.payload else None
    undone = bool(queue_advice(fold, transaction.target, p.undo, _about(transaction), it) or transaction.reversal)
    fate = Fate.DECIDED if not p.untold else Fate.UNDONE if undone else Fate.UNKNOWN
    decide(fold, transaction, p.outcome, p.frames, fate)
    return True


def _about(transaction: Transaction) -> bytes:
    return outcome_key(transaction.link, transaction.duplicate_key)


@rule(Timeout)
def timeout(fold: Fold, p: Timeout) -> bool:
    """No answer in time. A local answer is the outcome; an interim one (of transfers) tells the waiters once.

    Where its terminal has reversed it meanwhile, that reversal undoes it.
    """
    transaction = _overdue(fold, p.transaction)
    if transaction is None or not answers_all(fold, transaction, p.frames) or not fits(fold, transaction.target, p.advice):
        return False
    if (transaction.reversal or transaction.completed) and p.advice.payload:
        return False
    fold.note("transaction.timeout", transaction=p.transaction, link=transaction.link, target=transaction.target,
              session=transaction.target_session)  # fmt: skip
    fold.applied.late.append((transaction.target, transaction.match_key))
    _count_timeout(fold, transaction.target)
    it = books(transaction, Counted.CANCELLED)
    reversal = queue_advice(fold, transaction.target, p.advice, _about(transaction), it, unsure=True)
    undone = bool(reversal or transaction.reversal)
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
    decide(fold, transaction, p.outcome, p.frames, Fate.UNDONE if undone else Fate.UNKNOWN)
    return True


def _count_timeout(fold: Fold, target: str) -> None:
    """So many in a row, and the link gets no more requests until an echo of ours is answered."""
    limit = fold.links[target].breaker_timeouts
    if limit:
        seen = fold.state.breakers.get(target, Breaker(0))
        opened = seen.timeouts + 1 >= limit
        fold.state.put_breaker(target, Breaker(seen.timeouts + 1, opened))
        if opened and not seen.open:
            fold.note("link.breaker_open", link=target, timeouts=seen.timeouts + 1)


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
    if not answers_all(fold, transaction, p.frames) or not fits(fold, transaction.target, p.advice):
        return False
    undone = queue_advice(fold, transaction.target, p.advice, _about(transaction), books(transaction, Counted.REVERSAL))
    record_undone(fold, transaction)
    fold.note("transaction.undone", transaction=p.transaction, link=transaction.link, target=transaction.target,
              reversed=bool(undone))  # fmt: skip
    decide(fold, transaction, p.outcome, p.frames, Fate.UNDONE if undone else Fate.UNKNOWN)
    return True


@rule(Redeliver)
def redeliver(fold: Fold, p: Redeliver) -> bool:
    transaction, session = fold.state.transactions.get(p.transaction), fold.state.sessions.get(p.session)
    if (
        transaction is None
        or session is None
        or transaction.stage is not Stage.UNDELIVERABLE
        or transaction.redelivered
        or any(waiter.session in fold.state.sessions for waiter in transaction.waiters)
        or (session.link, host(session)) != (transaction.link, transaction.remote)
    ):
        return False
    moved(fold, replace(transaction, copies=1, redelivered=True), Event.REDELIVERED)
    fold.put(queued(session, p.frame, Role.ANSWER, transaction.id))
    fold.note("transaction.redelivered", transaction=p.transaction, link=transaction.link, session=session.id)
    return True


@rule(Decide)
def decide_unsent(fold: Fold, p: Decide) -> bool:
    """No target can have it: refused, or approved by stand-in, whose advice then names it at its target."""
    state = fold.state
    transaction = state.transactions.get(p.transaction)
    if transaction is None or transaction.stage is not Stage.UNSENT or not answers_all(fold, transaction, p.frames):
        return False
    approved = p.outcome.decision is Decision.APPROVED
    if approved and (transaction.reversal or not fits(fold, transaction.target, p.advice)):
        return False
    if approved and not stand_in(fold, transaction, p):
        return False
    if approved:
        date = state.dates.get(transaction.target, "")
        transaction = replace(transaction, approved=transaction.summary.amount, date=date)
    queue_advice(fold, transaction.target, p.advice, _about(transaction), books(transaction, Counted.ADVICE))
    fold.note("transaction.decided", transaction=p.transaction, link=transaction.link, target=transaction.target,
              code=p.outcome.code, stand_in=p.stand_in or None)  # fmt: skip
    named = replace(transaction, reference=p.advice.reference, stan=p.advice.stan)
    decide(fold, named, p.outcome, p.frames, Fate.DECIDED if approved else Fate.NOTHING)
    return True
