"""Rules of advices: queued in the lane of their link, sent until acknowledged. And the STANs that we give."""

from msgspec.structs import replace

from switch.core.apply_journal import about, record_advice
from switch.core.fold import Fold, queued, rule
from switch.core.proposals import AdviceAnswer, AdviceSend, Timeout, Undo
from switch.core.records import Advice, Role


def record_stan(fold: Fold, link: str, stan: int) -> None:
    """The last STAN applied, for each link and node: where an allocation is resumed after a restart."""
    if stan:
        node = fold.state.incarnations[fold.by].node
        fold.state.put_stan(f"{link}/{node}", stan)


def fits(fold: Fold, link: str, p: Timeout | Undo) -> bool:
    """Whether the advice of the proposal, if it has one, can be told apart from all that is pending."""
    state = fold.state
    key = (link, p.match_key)
    return not p.advice or not (
        (p.match_key and (key in state.pending or key in state.advice_keys))
        or (p.stan and (link, p.stan) in state.stans_busy)
    )


def queue_advice(fold: Fold, link: str, p: Timeout | Undo) -> None:
    if not p.advice:
        return
    number = fold.state.meta.advice + 1
    fold.state.put_meta(None, replace(fold.state.meta, advice=number))
    record_stan(fold, link, p.stan)
    it = about(fold.state.transactions[p.transaction], undone=isinstance(p, Undo))
    fold.state.put_advice(number, Advice(number, link, p.advice, p.match_key, p.stan, about=it))
    fold.note("advice.queued", advice=number, link=link)


@rule(AdviceSend)
def advice_send(fold: Fold, p: AdviceSend) -> bool:
    """A copy goes out; never two copies outstanding on different sessions."""
    advice, session = fold.state.advices.get(p.advice), fold.state.sessions.get(p.session)
    if advice is None or session is None or not session.ready or session.link != advice.link or advice.tries != p.tries:
        return False
    link = fold.links[advice.link]
    patience = link.advice_retry_ms if p.tries < link.advice_tries_max else 10 * link.advice_retry_ms
    if p.tries == link.advice_tries_max:
        fold.note("advice.unanswered", advice=advice.id, link=link.name, tries=p.tries)
    deadline = fold.state.meta.clock_ms + patience
    fold.state.put_advice(advice.id, replace(advice, session=session.id, deadline_ms=deadline, tries=advice.tries + 1))
    fold.put(queued(session, p.frame, Role.ADVICE, advice.id))
    return True


@rule(AdviceAnswer)
def advice_answer(fold: Fold, p: AdviceAnswer) -> bool:
    session, advice = fold.taken(p), fold.state.advices.get(p.advice)
    if session is None or advice is None or advice.link != session.link:
        return False
    fold.put(session)
    record_advice(fold, advice)
    fold.state.put_advice(advice.id, None)
    fold.note("advice.acknowledged", advice=advice.id, link=advice.link)
    return True


def advice_delivered(fold: Fold, number: int) -> None:
    """The remote kernel has a whole copy: enough for an advice that no answer follows."""
    advice = fold.state.advices.get(number)
    if advice is not None and not advice.match_key:
        record_advice(fold, advice)
        fold.state.put_advice(number, None)
        fold.note("advice.acknowledged", advice=number, link=advice.link)


def advice_unsent(fold: Fold, number: int, session: str) -> None:
    """The session that carried a copy ended: another may carry the next one."""
    advice = fold.state.advices.get(number)
    if advice is not None and advice.session == session:
        fold.state.put_advice(number, replace(advice, session="", deadline_ms=0))
