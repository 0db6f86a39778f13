"""The rule of advices from outside: acknowledged and kept in one entry, with what a reversal does to its original."""

from msgspec.structs import replace

from messages.message import Outcome, Trait
from switch.core.apply_advices import free, queue_advice
from switch.core.apply_outcomes import keep
from switch.core.fold import Fold, queued, rule
from switch.core.originals import BLOCKED, Original, Standing, find
from switch.core.proposals import OwnAdvice, Store
from switch.core.records import Fate, Finished, Role, Stage, Transaction
from switch.core.state import original_key, outcome_key


@rule(Store)
def store(fold: Fold, p: Store) -> bool:
    """Accepted once, in its order after its original; what the proposer saw of that must still hold."""
    state = fold.state
    session = fold.taken(p)
    key = outcome_key(session.link, p.duplicate_key) if session else b""
    if session is None or key in state.in_flight or key in state.outcomes:
        return False
    standing, original, found = find(state, session.link, p.summary.refers)
    if standing is not p.standing:
        return False
    if p.payload and (
        p.target not in fold.links
        or not state.lane_room(fold.links[p.target])
        or not free(fold, p.target, p.match_key, p.stan)
    ):
        return False
    if isinstance(original, Transaction):
        about = outcome_key(original.link, original.duplicate_key)
    else:
        about = found or original_key(session.link, p.summary.refers or p.duplicate_key)
    after = original.id if isinstance(original, Transaction) and standing is Standing.OPEN else 0
    own = OwnAdvice(p.payload, p.match_key, p.stan, p.reference)
    number = queue_advice(fold, p.target, own, about, after)
    keep(fold, key, Finished(p.digest, p.outcome, 0, state.meta.transaction, Fate.DECIDED, p.summary.identity, p.target,
                             p.reference))  # fmt: skip
    if p.refusal is not None and p.summary.is_(Trait.REVERSAL) and not p.summary.is_(Trait.PARTIAL):
        _reverse(fold, session.link, p, p.refusal, number, (standing, original, found))
    fold.put(queued(session, p.frame, Role.ANSWER))
    fold.note("advice.stored", session=p.session, link=session.link, target=p.target, advice=number or None,
              original=standing.name.lower())  # fmt: skip
    return True


def _reverse(
    fold: Fold, link: str, p: Store, refusal: Outcome, number: int, of: tuple[Standing, Original | None, bytes]
) -> None:
    """The original is refused from here on: its repeats, or itself if it is still to come."""
    standing, original, found = of
    state = fold.state
    if standing is Standing.UNKNOWN and p.summary.refers:
        blocked = outcome_key(link, BLOCKED + p.summary.refers)
        last = state.meta.transaction
        keep(fold, blocked, Finished(b"", refusal, 0, last, Fate.UNDONE, p.summary.refers, p.target))
    elif isinstance(original, Transaction) and standing is Standing.OPEN:
        state.put_transaction(original.id, replace(original, reversal=number or -1))
    elif isinstance(original, Transaction) and standing is Standing.APPROVED:
        state.put_transaction(original.id, replace(original, outcome=refusal, fate=Fate.UNDONE))
    elif isinstance(original, Transaction) and original.stage is Stage.UNDELIVERABLE:
        # the switch's own reversal undoes it, so the approval must not be tried anywhere any more
        state.put_transaction(original.id, replace(original, redelivered=True))
    elif isinstance(original, Finished) and standing is Standing.APPROVED:
        keep(fold, found, replace(original, outcome=refusal, fate=Fate.UNDONE))
