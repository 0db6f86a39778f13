"""What became of the message that another one is about: a reversal's or a completion's original, by its identity."""

import enum
from typing import TypeVar

from msgspec.structs import replace

from messages.message import Reason, approved
from switch.core.records import Fate, Finished, Stage, Transaction
from switch.core.state import State, original_key

BLOCKED = b"\0reversed\0"  # begins the key of an outcome that stands for an original that has not come yet
HOLDERS_MAX = 16  # messages of one identity that are kept
ALIASES_MAX = 4  # identities of repeats that are kept, the latest ones


class Standing(enum.IntEnum):
    """How an original stands."""

    UNKNOWN = 1  # it never came, or is forgotten
    OPEN = 2  # it waits for its answer
    APPROVED = 3  # its target may hold it as approved
    DECLINED = 4  # its target holds nothing of it
    UNDONE = 5  # its reversal is queued already, or due
    BLOCKED = 6  # it never came, and its reversal did


Original = Transaction | Finished
T = TypeVar("T", Transaction, Finished)


def find(state: State, link: str, identity: bytes) -> tuple[Standing, Original | None, bytes]:
    """The newest message of the link with this identity, how it stands, and the key of its outcome (b"": it has none yet)."""
    holders = state.originals.get(original_key(link, identity), ()) if identity else ()
    newest: Original | None = None
    last = (False, -1, b"")
    for holder in holders:
        item: Original
        if isinstance(holder, int):
            item, rank = state.transactions[holder], (True, holder, b"")
        else:
            item = state.outcomes[holder]
            rank = (item.fate is not Fate.NOTHING, item.number, holder)  # what was refused here hides nothing
        if rank > last:
            newest, last = item, rank
    return _standing(newest, last[2]), newest, last[2]


def aliased(item: T, identity: bytes) -> T:
    """The item, which from now on is also found by the identity of a repeat: that may have a transmission time of its own."""
    own = item.summary.identity if isinstance(item, Transaction) else item.identity
    if not identity or identity == own or identity in item.aliases:
        return item
    return replace(item, aliases=(*item.aliases, identity)[-ALIASES_MAX:])


def crowded(state: State, link: str, identity: bytes) -> bool:
    """Whether so many messages have this identity that it is none. All that is done with one of them looks at each."""
    return bool(identity) and len(state.originals.get(original_key(link, identity), ())) >= HOLDERS_MAX


def named(state: State, link: str, identity: bytes) -> bytes:
    """The identity of a repeat, if what it repeats may be found by it, too."""
    return b"" if crowded(state, link, identity) else identity


def barred(state: State, link: str, identity: bytes) -> Reason | None:
    """Why a new request is refused: its reversal came before it, or so many have its identity that it is none."""
    holders = state.originals.get(original_key(link, identity), ()) if identity else ()
    if not holders:
        return None
    if find(state, link, identity)[0] is Standing.BLOCKED:
        return Reason.REVERSED
    return Reason.DUPLICATE if crowded(state, link, identity) else None


def undone_before(state: State, link: str, identity: bytes) -> bool:
    """Whether a reversal in full came before the message of that identity."""
    return blocks(*find(state, link, identity)[:2])


def blocks(standing: Standing, original: Original | None) -> bool:
    """Whether what was found is such a reversal; one in part leaves the rest to be reversed."""
    return standing is Standing.BLOCKED and original is not None and not original.approved


def _standing(item: Original | None, key: bytes) -> Standing:
    if item is None:
        return Standing.UNKNOWN
    if isinstance(item, Transaction) and item.open:
        return Standing.UNDONE if item.reversal else Standing.OPEN
    if isinstance(item, Finished) and key.partition(b"\0")[2].startswith(BLOCKED):
        return Standing.BLOCKED
    if item.fate is Fate.UNDONE or (isinstance(item, Transaction) and item.stage is Stage.UNDELIVERABLE):
        return Standing.UNDONE
    if approved(item.outcome) or item.fate is Fate.UNKNOWN:
        return Standing.APPROVED
    return Standing.DECLINED
