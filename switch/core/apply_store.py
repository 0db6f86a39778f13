"""The rule of advices from outside: acknowledged and kept in one entry, with what a reversal does to its original."""

from sys import intern

from msgspec.structs import replace

from messages.message import Outcome, Trait, approved
from switch.core.apply_advices import fits, queue_advice
from switch.core.apply_journal import record_kept, record_reversed
from switch.core.apply_outcomes import keep, moved
from switch.core.fold import Fold, queued, rule
from switch.core.originals import BLOCKED, Original, Standing, crowded, find, undone_before
from switch.core.proposals import OwnAdvice, Store
from switch.core.records import Fate, Finished, Role, Stage, Transaction
from switch.core.state import original_key, outcome_key
from switch.core.transitions import Event


@rule(Store)
def store(fold: Fold, p: Store) -> bool:
    """Accepted once, in its order after its original; what the proposer saw of that must still hold.

    One whose reversal came before it goes nowhere.
    """
    state = fold.state
    session = fold.taken(p)
    key = outcome_key(session.link, p.duplicate_key) if session else b""
    if session is None or key in state.in_flight or key in state.outcomes:
        return False
    standing, original, found = find(state, session.link, p.summary.refers)
    if standing is not p.standing or crowded(state, session.link, p.summary.identity):
        return False
    blocked = undone_before(state, session.link, p.summary.identity)
    own = OwnAdvice(p.payload, p.match_key, p.stan, p.reference)
    if p.payload and (
        blocked
        or p.target not in fold.links
        or not state.lane_room(fold.links[p.target])
        or not fits(fold, p.target, own)
    ):
        return False
    if original is not None and p.payload and p.original_reference != original.reference:
        return False
    if isinstance(original, Transaction):
        about = outcome_key(original.link, original.duplicate_key)
    elif original is not None:
        about = original.about or found
    else:
        about = original_key(session.link, p.summary.refers or p.duplicate_key)
    after = original.id if isinstance(original, Transaction) and standing is Standing.OPEN else 0
    unsure = standing in (Standing.UNKNOWN, Standing.OPEN, Standing.BLOCKED)
    unsure = unsure or (original is not None and original.fate is Fate.UNKNOWN)
    kept = record_kept(fold, session.link, p, standing, original)
    number = queue_advice(fold, p.target, own, about, kept, after, unsure=unsure)
    told = 0 if p.summary.is_(Trait.REVERSAL) else kept.summary.amount
    fate = Fate.UNDONE if blocked else Fate.TOLD
    keep(fold, key, Finished(p.digest, p.outcome, 0, state.meta.transaction, fate, p.summary.identity, p.target,
                             p.reference, approved=told, advice=number, profile=intern(p.summary.profile),
                             about=about))  # fmt: skip
    if p.refusal is not None and p.summary.is_(Trait.REVERSAL):
        _reverse(fold, session.link, p, p.refusal, number, (standing, original, found))
    fold.put(queued(session, p.frame, Role.ANSWER))
    if isinstance(original, Transaction) and original.id in state.transactions:
        _followed(fold, state.transactions[original.id], p)
    fold.note("advice.stored", session=p.session, link=session.link, target=p.target, advice=number or None,
              original=standing.name.lower())  # fmt: skip
    return True


def _followed(fold: Fold, original: Transaction, p: Store) -> None:
    """What the advice says of an original that is not finished. Who completes it knows its approval: nobody undoes it then."""
    completed = p.summary.is_(Trait.MONEY) and not p.summary.is_(Trait.REVERSAL)
    if original.open:
        changed = replace(original, followed=True, completed=original.completed or completed)
        fold.state.put_transaction(original.id, changed)
    elif original.stage is Stage.UNDELIVERABLE and completed and not original.reversal:
        for waiter in original.waiters:  # it is finished: their next repeat is answered at once
            session = fold.state.sessions.get(waiter.session)
            if session is not None:
                fold.put(replace(session, waiting=session.waiting - 1))
        moved(fold, replace(original, delivered=True, waiters=()), Event.SETTLED)
    elif original.stage is Stage.UNDELIVERABLE:  # it is told to nobody any more
        reversal = -1 if p.summary.is_(Trait.REVERSAL) else original.reversal
        fold.state.put_transaction(original.id, replace(original, redelivered=True, reversal=reversal))
    elif completed:
        fold.state.put_transaction(original.id, replace(original, delivered=True))


def _reverse(
    fold: Fold, link: str, p: Store, refusal: Outcome, number: int, of: tuple[Standing, Original | None, bytes]
) -> None:
    """The original is refused from here on: its repeats, or itself if it is still to come. Of some a part is left.

    An advice is not refused: it was taken. What was declined already keeps its outcome.
    """
    standing, original, found = of
    state, partial = fold.state, p.summary.is_(Trait.PARTIAL)
    if standing is Standing.APPROVED and original is not None:
        original = record_reversed(fold, link, p, original)
        if partial:
            changed = replace(original, approved=min(original.approved, p.summary.amount))
        else:
            told = original.fate is Fate.TOLD or not approved(original.outcome)
            outcome = original.outcome if told else refusal
            changed = replace(original, approved=0, outcome=outcome, fate=Fate.UNDONE)
        if isinstance(changed, Transaction):
            state.put_transaction(changed.id, changed)
        else:
            keep(fold, found, changed)
    elif standing in (Standing.UNKNOWN, Standing.BLOCKED) and p.summary.refers:
        blocked = outcome_key(link, BLOCKED + p.summary.refers)
        last, rest = state.meta.transaction, p.summary.amount if partial else 0
        keep(fold, blocked, Finished(b"", refusal, 0, last, Fate.UNDONE, p.summary.refers, p.target, approved=rest,
                                     about=original_key(link, p.summary.refers)))  # fmt: skip
    elif isinstance(original, Transaction) and standing is Standing.OPEN and not partial:
        state.put_transaction(original.id, replace(original, reversal=number or -1))
