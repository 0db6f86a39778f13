"""Rules of advices: kept in the lane of their link, sent until acknowledged, parked. And the STANs that we give."""

from zlib import crc32

from msgspec.structs import replace

from messages.message import Verdict
from switch.core.apply_journal import record_advice, record_dropped, record_settled
from switch.core.fold import Fold, queued, rule
from switch.core.proposals import AdviceAnswer, AdviceSend, OwnAdvice, Park, Settle
from switch.core.records import Advice, Books, Role, Session
from switch.core.rules import Link

DOUBLED_MAX = 16  # times that a wait is doubled


def record_stan(fold: Fold, link: str, stan: int) -> None:
    """The last STAN applied, for each link and node: where an allocation is resumed after a restart."""
    if stan:
        node = fold.state.incarnations[fold.by].node
        fold.state.put_stan(f"{link}/{node}", stan)


def free(fold: Fold, link: str, match_key: bytes, stan: int) -> bool:
    """Whether what goes out under this key and STAN can be told apart from all that is pending on the link."""
    state = fold.state
    key = (link, match_key)
    taken = match_key and (key in state.pending or key in state.advice_keys)
    return not taken and not (stan and (link, stan) in state.stans_busy)


def fits(fold: Fold, link: str, advice: OwnAdvice) -> bool:
    """Whether its STAN is free. Its match key may be another advice's: they go out one after the other."""
    return not (advice.stan and (link, advice.stan) in fold.state.stans_busy)


def queue_advice(
    fold: Fold,
    link: str,
    advice: OwnAdvice,
    about: bytes,
    books: Books | None = None,
    after: int = 0,
    *,
    unsure: bool = False,
) -> int:
    """Keep an advice for the link; its number, or 0 where there is none. For the arguments see `Advice`."""
    if advice.failed:
        fold.note("advice.impossible", link=link, do="undo it by other means: the link's dialect or framing cannot hold it")
    if not advice.payload:
        return 0
    number = fold.state.meta.advice + 1
    fold.state.put_meta(None, replace(fold.state.meta, advice=number))
    record_stan(fold, link, advice.stan)
    clock = fold.state.meta.clock_ms
    new = Advice(number, link, advice.payload, advice.match_key, advice.stan, about, after, clock, unsure=unsure, books=books)
    fold.state.put_advice(number, new)
    fold.note("advice.queued", advice=number, link=link)
    return number


def _wait_ms(link: Link, advice: Advice) -> int:
    """Doubled with each try, up to a bound, and spread by a fifth so that lanes do not beat in time."""
    wait = min(link.advice_retry_ms << min(advice.tries, DOUBLED_MAX), link.advice_retry_max_ms)
    wait = max(wait, link.advice_retry_ms)
    return wait - crc32(b"%d/%d" % (advice.id, advice.tries)) % (wait // 5 + 1)


@rule(AdviceSend)
def advice_send(fold: Fold, p: AdviceSend) -> bool:
    """A copy goes out; never two copies outstanding on different sessions."""
    state = fold.state
    advice, session = state.advices.get(p.advice), state.sessions.get(p.session)
    if advice is None or session is None or not session.ready or session.link != advice.link or advice.tries != p.tries:
        return False
    key = (advice.link, advice.match_key)
    if advice.parked or key in state.pending or state.advice_keys.get(key, advice.id) != advice.id:
        return False
    link, clock = fold.links[advice.link], state.meta.clock_ms
    if link.advice_rate_max:
        state.put_pace(link.name, max(state.paces.get(link.name, 0), clock) + 1000 // link.advice_rate_max)
    deadline = clock + _wait_ms(link, advice)
    state.put_advice(advice.id, replace(advice, session=session.id, deadline_ms=deadline, tries=advice.tries + 1))
    fold.put(queued(session, p.frame, Role.ADVICE, advice.id))
    return True


@rule(AdviceAnswer)
def advice_answer(fold: Fold, p: AdviceAnswer) -> bool:
    session, advice = fold.taken(p), fold.state.advices.get(p.advice)
    if session is None or advice is None or advice.link != session.link or advice.match_key != p.match_key:
        return False
    fold.put(session)
    link = fold.links[advice.link]
    unknown = p.verdict is Verdict.NOT_FOUND
    lost = not advice.unsure or link.advice_not_found == "park"  # what it is about was known there, or should have been
    if p.verdict is Verdict.RETRY or (unknown and advice.tries < link.advice_not_found_tries):
        due = fold.state.meta.clock_ms + _wait_ms(link, advice)
        fold.state.put_advice(advice.id, replace(advice, session="", deadline_ms=0, due_ms=due))
        fold.note("advice.refused", advice=advice.id, link=advice.link, code=p.code, tries=advice.tries)
    elif p.verdict is Verdict.REFUSED or (unknown and lost):
        _park(fold, advice, p.code)
    else:
        record_advice(fold, advice, p)
        fold.state.put_advice(advice.id, None)
        fold.note("advice.acknowledged", advice=advice.id, link=advice.link)
    return True


@rule(Park)
def park(fold: Fold, p: Park) -> bool:
    advice = fold.state.advices.get(p.advice)
    if advice is None or advice.parked or advice.deadline_ms > fold.state.meta.clock_ms + _ahead(fold):
        return False
    _park(fold, advice, p.reason)
    return True


def _ahead(fold: Fold) -> int:
    """Its proposer's clock may be so far ahead."""
    return 2 * fold.rules.limits.heartbeat_ms


def _park(fold: Fold, advice: Advice, reason: str) -> None:
    fold.state.put_advice(advice.id, replace(advice, parked=reason, session="", deadline_ms=0))
    fold.note("advice.parked", advice=advice.id, link=advice.link, reason=reason, tries=advice.tries)


@rule(Settle)
def settle(fold: Fold, p: Settle) -> bool:
    advice = fold.state.advices.get(p.advice)
    if advice is None or not advice.parked:
        return False
    if not p.retry:
        record_settled(fold, advice)
    clock, sent = fold.state.meta.clock_ms, advice.sent or advice.tries > 0
    again = replace(advice, parked="", tries=0, sent=sent, due_ms=0, queued_ms=clock)
    fold.state.put_advice(advice.id, again if p.retry else None)
    fold.note("advice.retried" if p.retry else "advice.settled", advice=advice.id, link=advice.link, by=fold.by)
    return True


def drop_advice(fold: Fold, number: int) -> None:
    """It is not needed any more, and no copy of it ever went out."""
    advice = fold.state.advices.get(number)
    if advice is not None and not advice.tries and not advice.sent:
        record_dropped(fold, advice)
        fold.state.put_advice(number, None)
        fold.note("advice.dropped", advice=number, link=advice.link)


def advice_delivered(fold: Fold, number: int) -> None:
    """The remote kernel has a whole copy: enough for an advice that no answer follows."""
    advice = fold.state.advices.get(number)
    if advice is not None and not advice.match_key:
        record_advice(fold, advice)
        fold.state.put_advice(number, None)
        fold.note("advice.acknowledged", advice=number, link=advice.link)


def carrier_ended(fold: Fold, session: Session) -> None:
    """No answer comes on it any more, not to what its remote has acknowledged either: another may carry the next copy."""
    lane = fold.state.lanes.get(session.link, {})
    for number in [number for number in lane if fold.state.advices[number].session == session.id]:
        fold.state.put_advice(number, replace(fold.state.advices[number], session="", deadline_ms=0))
