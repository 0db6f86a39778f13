"""Rules of sessions: opening, connecting, acknowledged output, ending, network management, input of no other effect."""

from msgspec.structs import replace

from messages.message import NetworkFunction
from switch.core.apply_advices import advice_delivered, carrier_ended, record_stan
from switch.core.apply_outcomes import copy_settled
from switch.core.apply_payments import forward_ended
from switch.core.fold import Fold, queued, rule
from switch.core.proposals import (
    LATE_ANSWER,
    UNMATCHED_ANSWER,
    Absorb,
    Acked,
    Connected,
    End,
    NetworkAnswer,
    NetworkRequest,
    NetworkSend,
    Open,
    Piece,
)
from switch.core.records import NetworkWait, Role, Session


@rule(Open)
def open_(fold: Fold, p: Open) -> bool:
    """A session exists from here on; a slot holds one session, a listener at most `sessions_max`."""
    state, link = fold.state, fold.links.get(p.link)
    if p.session in state.sessions:
        return False
    fold.applied.touched[p.session] = None  # refused, both holders close it
    if link is None or state.acting(fold.by) != fold.by:
        return False
    if p.slot >= 0:
        if p.slot >= link.connections or (p.link, p.slot) in state.slots:
            return False
    elif len(state.links.get(p.link, ())) >= link.sessions_max:
        return False
    accepted = p.slot < 0
    owner = p.owner if p.owner in state.live() else fold.by
    fold.put(
        Session(
            id=p.session, link=p.link, owner=owner, slot=p.slot, cookie=p.cookie, remote=p.remote, local=p.local,
            connected=accepted, ready=accepted, heard_ms=state.meta.clock_ms,
        )
    )  # fmt: skip
    return True


@rule(Connected)
def connected(fold: Fold, p: Connected) -> bool:
    session = fold.state.sessions.get(p.session)
    if session is None or session.connected or fold.state.acting(session.owner) != fold.by:
        return False
    link = fold.links[session.link]
    ready = not (link.iso8583 is not None and link.iso8583.sign_on)
    fold.put(replace(session, connected=True, ready=ready, local=p.local, heard_ms=fold.state.meta.clock_ms))
    return True


@rule(Acked)
def acked(fold: Fold, p: Acked) -> bool:
    """Lazy and of many sessions: what is behind or gone is passed over, the rest counts."""
    for id_, offset in p.sessions:
        session = fold.state.sessions.get(id_)
        if session is not None and session.acked < offset <= session.output:
            _acknowledge(fold, session, offset)
    return True


def _acknowledge(fold: Fold, session: Session, offset: int) -> Session:
    """Record that the remote kernel has everything below `offset`; frames below it leave the outbox."""
    rest = 0
    for out in session.outbox:
        if out.end > offset:
            break
        rest += 1
        if out.role is Role.ANSWER:
            copy_settled(fold, out.ref, delivered=True)
        elif out.role is Role.ADVICE:
            advice_delivered(fold, out.ref)
    session = replace(session, acked=offset, outbox=session.outbox[rest:])
    fold.put(session)
    return session


@rule(End)
def end(fold: Fold, p: End) -> bool:
    session = fold.state.sessions.get(p.session)
    if session is None or fold.state.acting(session.owner) != fold.by:
        return False
    ended(fold, session, p.acked, p.reason, p.written)
    return True


def ended(fold: Fold, session: Session, offset: int, reason: str, written: int = -1) -> None:
    """The session is over with these final counters (-1: no socket was left to ask); that resolves its whole outbox.

    An answer of which a byte was acknowledged, or may have been, was possibly delivered: the terminal decides, by its
    repeat or its reversal.
    """
    if session.acked < offset <= session.output:
        session = _acknowledge(fold, session, offset)
    fold.state.put_session(session.id, None)
    fold.applied.touched[session.id] = None
    for out in session.outbox:
        if out.role is Role.ANSWER:
            copy_settled(fold, out.ref, delivered=offset < 0 or out.offset < session.acked)
        elif out.role is Role.FORWARD:
            forward_ended(fold, out, session, written)
    carrier_ended(fold, session)
    fold.note("session.ended", session=session.id, link=session.link, remote=session.remote, reason=reason,
              input=session.applied, output=session.output, acked=session.acked)  # fmt: skip


_ABSORBED = {LATE_ANSWER: "answer.late", UNMATCHED_ANSWER: "answer.unmatched"}  # these are counted on their own


@rule(Absorb)
def absorb(fold: Fold, p: Absorb) -> bool:
    session = fold.taken(p)
    if session is None:
        return False
    fold.put(queued(session, p.frame, Role.NETWORK))
    if p.reason:
        name = next((name for text, name in _ABSORBED.items() if p.reason.startswith(text)), "input.absorbed")
        fold.note(name, session=p.session, link=session.link, offset=p.start, reason=p.reason)
    return True


@rule(Piece)
def piece(fold: Fold, p: Piece) -> bool:
    """Bytes of a frame that is not whole move from the kernel's queue into the state, as far as a frame may be long."""
    before = fold.state.sessions.get(p.session)
    session = fold.taken(p)
    if session is None or before is None:
        return False
    if before.held + len(p.data) > 2 * fold.links[session.link].frame_max_bytes + 64:
        return False
    if isinstance(before.piece, bytes) and isinstance(p.data, bytes):
        fold.put(replace(session, piece=before.piece + p.data))
    else:
        parts = before.piece if isinstance(before.piece, tuple) else (before.piece,)
        fold.put(replace(session, piece=(*filter(None, parts), p.data)))
    return True


@rule(NetworkRequest)
def network_request(fold: Fold, p: NetworkRequest) -> bool:
    """A peer that signs off gets no requests until it signs on; a session that we opened is opened anew in a while."""
    session = fold.taken(p)
    if session is None:
        return False
    wait = session.network
    if p.function is NetworkFunction.CUTOVER:
        if p.date:
            fold.state.put_date(session.link, p.date)
            fold.note("link.cutover", session=session.id, link=session.link, date=p.date)
        else:
            fold.note("link.cutover_without_date", session=session.id, link=session.link, offset=p.start)
    if p.function is NetworkFunction.SIGN_OFF:
        session = replace(session, ready=False, network=None if session.accepted else _pause(fold, session, p.function))
        fold.note("link.signed_off", session=session.id, link=session.link)
    elif p.function is NetworkFunction.SIGN_ON and (session.accepted or _paused(wait)):
        session = replace(session, ready=True, network=None)
    fold.put(queued(session, p.frame, Role.NETWORK))
    return True


def _pause(fold: Fold, session: Session, function: NetworkFunction) -> NetworkWait:
    """Waits for no answer: at its end the session ends, and connecting anew has its own back-off."""
    deadline = fold.state.meta.clock_ms + fold.links[session.link].network_timeout_ms
    return NetworkWait(function, b"", deadline)


def _paused(wait: NetworkWait | None) -> bool:
    return wait is not None and not wait.match_key


@rule(NetworkSend)
def network_send(fold: Fold, p: NetworkSend) -> bool:
    """A sign-on or echo of ours goes out: one at a time on a session."""
    session = fold.state.sessions.get(p.session)
    if session is None or not session.connected or session.network or fold.state.acting(session.owner) != fold.by:
        return False
    link = fold.links[session.link]
    record_stan(fold, session.link, p.stan)
    wait = NetworkWait(p.function, p.match_key, fold.state.meta.clock_ms + link.network_timeout_ms)
    fold.put(queued(replace(session, network=wait), p.frame, Role.NETWORK))
    return True


@rule(NetworkAnswer)
def network_answer(fold: Fold, p: NetworkAnswer) -> bool:
    session = fold.taken(p)
    if session is None or session.network is None or session.network.match_key != p.match_key:
        return False
    function = session.network.function
    breaker = fold.state.breakers.get(session.link)
    if breaker is not None and p.approved:
        fold.state.put_breaker(session.link, None)
        fold.note("link.breaker_closed", session=session.id, link=session.link)
    elif breaker is not None:
        due = fold.state.meta.clock_ms + fold.links[session.link].network_timeout_ms
        fold.state.put_breaker(session.link, replace(breaker, due_ms=due))
    if function is not NetworkFunction.SIGN_ON:
        session = replace(session, network=None)
    elif p.approved:
        session = replace(session, network=None, ready=True)
        fold.note("link.signed_on", session=session.id, link=session.link)
    else:
        session = replace(session, network=_pause(fold, session, function), ready=False)
        fold.note("link.sign_on_refused", session=session.id, link=session.link)
    fold.put(session)
    return True
