"""What is kept of transactions that are over: items of the journal, and totals; of the state like those of records.py."""

import enum

from messages.message import Outcome, Summary
from switch.core.records import Counted, Dates, Record


class JournalKind(enum.StrEnum):
    """What an item of the journal is about."""

    REQUEST = "request"  # finished: exactly one for each transaction, with its final outcome
    REFUSAL = "refusal"  # decided here and never forwarded
    ADVICE = "advice"  # acknowledged by its target
    DROPPED = "dropped"  # an advice that its target was never sent: it held nothing of the original
    SETTLED = "settled"  # an advice that its target never acknowledged, settled by an operator
    RECONCILIATION = "reconciliation"  # answered here, from the totals
    UNDONE = "undone"  # the approval that a later outcome replaced


class JournalItem(Record, frozen=True):
    """One row that a database does not hold yet, by its number in `State.journal`."""

    kind: JournalKind
    link: str  # source
    original: bytes  # its codec's record of the request
    outcome: Outcome | None
    target: str
    stan: int  # outbound
    transaction: int  # 0: none
    advice: int
    summary: Summary
    dates: Dates
    clock_ms: int


class Total(Record, frozen=True):
    """Count and amount (minor units) of one link, business date, profile, currency and kind."""

    link: str
    date: str
    profile: str
    currency: str
    counted: Counted
    opened: int  # index of the entry that began it: dates are dropped in this order
    count: int = 0
    amount: int = 0
