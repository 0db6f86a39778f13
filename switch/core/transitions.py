"""The life of a transaction, as a table: everything that may move one stands here.

    SENT --queued--> ANSWERED --settled--> FINISHED
    SENT --nobody--> FINISHED                          decided, and nobody is left to tell
    SENT --lost--> UNDELIVERABLE                       approved, and nobody is left to tell: to be reversed
    SENT --returned--> UNSENT                          its session ended before a byte of it was written
    UNSENT --sent--> SENT                              again, to the same link or another
    UNSENT --queued--> ANSWERED                        decided here: refused, or approved in its issuer's place
    UNSENT --nobody--> FINISHED
    UNSENT --lost--> UNDELIVERABLE
    ANSWERED --lost--> UNDELIVERABLE                   no copy of the approval reached anyone
    UNDELIVERABLE --queued--> ANSWERED                 undone; the refusal goes to those who repeated meanwhile
    UNDELIVERABLE --nobody--> FINISHED
    UNDELIVERABLE --redelivered--> ANSWERED            its approval goes to another session of its concentrator

A transaction has one outcome: only `lost` and what follows it replaces one, and only an approval that no remote
acknowledged a byte of (invariant 5).
"""

import enum

from switch.core.records import Stage


class Event(enum.IntEnum):
    """What happens to a transaction."""

    QUEUED = 1  # an outcome is recorded and at least one answer stands in an outbox
    NOBODY = 2  # an outcome is recorded and no session of the request is left
    LOST = 3  # an approval reached nobody and must be reversed
    SETTLED = 4  # no answer is outstanding any more: acknowledged, completed, or given up without need of a reversal
    RETURNED = 5  # its forward ended with its session, unwritten
    SENT = 6  # it is forwarded again
    REDELIVERED = 7  # its approval is queued on another session


TABLE: dict[tuple[Stage, Event], Stage] = {
    (Stage.SENT, Event.QUEUED): Stage.ANSWERED,
    (Stage.SENT, Event.NOBODY): Stage.FINISHED,
    (Stage.SENT, Event.LOST): Stage.UNDELIVERABLE,
    (Stage.SENT, Event.RETURNED): Stage.UNSENT,
    (Stage.UNSENT, Event.SENT): Stage.SENT,
    (Stage.UNSENT, Event.QUEUED): Stage.ANSWERED,
    (Stage.UNSENT, Event.NOBODY): Stage.FINISHED,
    (Stage.UNSENT, Event.LOST): Stage.UNDELIVERABLE,
    (Stage.ANSWERED, Event.SETTLED): Stage.FINISHED,
    (Stage.ANSWERED, Event.LOST): Stage.UNDELIVERABLE,
    (Stage.UNDELIVERABLE, Event.QUEUED): Stage.ANSWERED,
    (Stage.UNDELIVERABLE, Event.NOBODY): Stage.FINISHED,
    (Stage.UNDELIVERABLE, Event.REDELIVERED): Stage.ANSWERED,
    (Stage.UNDELIVERABLE, Event.SETTLED): Stage.FINISHED,
}


def move(stage: Stage, event: Event) -> Stage:
    """The stage after `event`. A pair that is not in the table is a defect of `apply`: KeyError."""
    return TABLE[stage, event]
