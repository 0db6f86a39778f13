"""The items of the state: frozen records that `apply` replaces, never changes.

All are array-like msgpack in snapshots and hashes. `gc=False`: none is part of a reference cycle, and there are many.
Times are log time (`Meta.clock_ms`): milliseconds that have passed in the log, not any machine's clock.
"""

import enum

import msgspec

from messages.message import NetworkFunction, Outcome, Summary
from switch.core.sealed import Sealed

Dates = tuple[str, str]  # business dates (DE15; "" where a link keeps none) of source and target


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What all items of the state share: immutable, compact, silent about their content."""

    def __repr__(self) -> str:
        return type(self).__name__


class Status(enum.IntEnum):
    """The life of an incarnation."""

    JOINING = 1  # its join entry is applied; it catches up
    LIVE = 2
    LEFT = 3  # ended in order, its sessions ended before
    DEAD = 4  # fenced, its process seen to end
    LEAVING = 5  # acts for what it has, and is given nothing more


class Incarnation(Record, frozen=True):
    """One life of a node."""

    node: str
    number: int
    token: str
    boot_id: str
    pid: int
    start_time: int  # clock ticks since boot (proc(5) stat, field 22)
    status: Status
    applied: int = 0  # index it had applied when it last said so
    heir: str = ""  # id of the incarnation that acts for it
    joined: int = 0  # index of its join entry

    @property
    def id(self) -> str:
        return f"{self.node}{self.number}"


class Role(enum.IntEnum):
    """Why bytes stand in an outbox."""

    FORWARD = 1  # a request to a network
    ANSWER = 2
    NETWORK = 3  # network management and keep-alives
    ADVICE = 4


class Out(Record, frozen=True):
    """One frame in a session's outbox, at an absolute offset of its output stream."""

    offset: int
    data: bytes | Sealed
    role: Role
    ref: int = 0  # transaction (FORWARD, ANSWER) or advice (ADVICE)

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class NetworkWait(Record, frozen=True):
    """A network management request of ours that waits for its answer. Without a key: the session is signed off."""

    function: NetworkFunction
    match_key: bytes
    deadline_ms: int


class Session(Record, frozen=True):
    """One open TCP connection. Offsets count from the first byte of the connection."""

    id: str
    link: str
    owner: str  # incarnation id
    slot: int  # of an outbound link; -1: accepted
    cookie: str  # boot id and SO_COOKIE: the same in every duplicate of the socket
    remote: str
    local: str
    connected: bool
    ready: bool  # may carry requests: connected and, where the link wants it, signed on
    applied: int = 0  # input taken into the state
    output: int = 0  # output assigned
    acked: int = 0  # output the remote kernel acknowledged, as far as recorded
    outbox: tuple[Out, ...] = ()
    piece: bytes | tuple[bytes | Sealed, ...] = b""  # input of a frame that is not whole and left the kernel
    waiting: int = 0  # requests of this session that wait for an answer
    heard_ms: int = 0
    network: NetworkWait | None = None

    @property
    def accepted(self) -> bool:
        return self.slot < 0

    @property
    def held(self) -> int:
        """Bytes of `piece`."""
        return len(self.piece) if isinstance(self.piece, bytes) else sum(len(part) for part in self.piece)


class Stage(enum.IntEnum):
    """Where a transaction stands. The moves are in transitions.py."""

    SENT = 1  # forwarded; no outcome yet
    ANSWERED = 2  # its outcome is recorded and its answers wait to be acknowledged
    UNDELIVERABLE = 3  # approved, and no copy of the approval reached anyone: to be reversed
    FINISHED = 4  # only the outcome is kept
    UNSENT = 5  # no byte of it has left for a target: to be sent, or decided here


class Fate(enum.IntEnum):
    """What the target of a request holds of it."""

    DECIDED = 0  # what the outcome says
    NOTHING = 1  # it was decided here, and never sent
    UNDONE = 2  # its reversal is on its way or has arrived
    UNKNOWN = 3  # it may have been approved there, and nothing undoes it
    TOLD = 4  # of an advice: it is on its way or has arrived, and its sender is told so for ever


class Waiter(Record, frozen=True):
    """A request, or a repeat of it, that is owed an answer on its session."""

    session: str
    header: bytes
    original: bytes


class Transaction(Record, frozen=True):
    """One request and what follows from it until its outcome is final."""

    id: int
    owner: str  # incarnation id: who acts for its timers
    link: str  # source
    remote: str  # address of the source, without its port: one concentrator has several sessions
    header: bytes  # of the first request
    duplicate_key: bytes
    digest: bytes
    original: bytes  # of the first request: what answers and a reversal are made from
    summary: Summary
    waiters: tuple[Waiter, ...]
    route: str
    target: str  # link
    target_session: str
    stan: int
    match_key: bytes
    reference: bytes  # what names it at its target
    date: str  # business date of its target
    deadline_ms: int
    stage: Stage = Stage.SENT
    outcome: Outcome | None = None
    fate: Fate = Fate.DECIDED
    copies: int = 0  # answers in outboxes that are not yet acknowledged or given up
    delivered: bool = False  # a byte of an answer was acknowledged
    redelivered: bool = False  # its answer was tried on another session of its concentrator, or must not be
    reversal: int = 0  # the advice by which its terminal reversed it before it was decided
    followed: bool = False  # an advice that names it as it was sent waits for its decision
    unsent: bytes | Sealed = b""  # UNSENT: the frame, in the format of its target; without a STAN, of its source
    source_date: str = ""  # business date of its source when it came
    approved: int = 0  # minor units that its target, or stand-in, has approved
    booked: bool = False  # its approval is in the books already: it was reversed before its answer was acknowledged
    completed: bool = False  # its terminal has completed it before its answer came: it is not ours to undo
    aliases: tuple[bytes, ...] = ()  # identities of its repeats, where they are others

    @property
    def dates(self) -> Dates:
        return self.source_date, self.date

    @property
    def open(self) -> bool:
        return self.stage in (Stage.SENT, Stage.UNSENT)


class Finished(Record, frozen=True):
    """The outcome kept for repeats, and for what refers to its message."""

    digest: bytes
    outcome: Outcome
    segment: int
    number: int = 0  # transaction, or the last one when it came
    fate: Fate = Fate.DECIDED
    identity: bytes = b""
    target: str = ""
    reference: bytes = b""
    date: str = ""
    approved: int = 0  # as of a transaction; of an advice what it tells; less what a reversal has taken of it
    advice: int = 0  # that it was kept as: then `number` is of another
    profile: str = ""
    about: bytes = b""  # of an advice: what those about the same original are ordered by
    aliases: tuple[bytes, ...] = ()  # as of a transaction


class Counted(enum.StrEnum):
    """What a total counts. A link that asks counts what it was told, one that is asked what it answered."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSAL = "reversal"  # of an approval
    CANCELLED = "cancelled"  # reversal of what its link never approved, or was never told approved: it moves nothing
    ADVICE = "advice"


class Books(Record, frozen=True):
    """What journal and totals need of an advice until its target acknowledges it: the message that it came from."""

    link: str
    original: bytes
    transaction: int  # that it reverses or tells of; 0: none
    summary: Summary  # with the amount that it moves
    dates: Dates
    counted: Counted  # as what its target counts it


class Advice(Record, frozen=True):
    """A message that must be delivered, in the store-and-forward lane of its link."""

    id: int
    link: str
    payload: bytes
    match_key: bytes  # b"": needs no answer, delivered when acknowledged by the remote kernel
    stan: int = 0
    about: bytes = b""  # of advices about the same original, one follows the other
    after: int = 0  # the transaction that is to be decided first
    queued_ms: int = 0
    session: str = ""  # where a copy is outstanding
    deadline_ms: int = 0  # of that copy
    due_ms: int = 0  # not sent before
    tries: int = 0
    unsure: bool = False  # its receiver may never have had what it is about
    parked: str = ""  # why it waits for an operator: a response code, "unanswered" or "expired"
    sent: bool = False  # copies went out before an operator had it tried again: the next one is a repeat, too
    books: Books | None = None


class Breaker(Record, frozen=True):
    """Of a link whose requests time out one after the other: open, it gets none until an echo is answered."""

    timeouts: int
    open: bool = False
    due_ms: int = 0  # no echo before: the last one was refused


class Rate(Record, frozen=True):
    """How many requests a link or route with a limit was given in one second of log time."""

    began_ms: int
    count: int


class CardUse(Record, frozen=True):
    """What stand-in has approved for a card on a day."""

    day: int  # since 1970-01-01, UTC
    count: int = 0
    amount: int = 0  # minor units


class Meta(Record, frozen=True):
    """What the state holds once."""

    version: int = 1  # of the entries that are appended now
    rules: bytes = b""
    cluster: str = ""  # etcd's cluster id at the first join
    clock_ms: int = 0
    clock_index: int = 0  # entry that last advanced the clock
    transaction: int = 0  # last id given
    advice: int = 0
    segment: int = 1  # outcomes now go into this one
    segment_size: int = 0  # outcomes in it
    segment_bytes: int = 0
    segment_ms: int = 0  # log time of its first outcome
    oldest: int = 1  # oldest segment kept
    snapshot: int = 0  # index of the last snapshot
    log_bytes: int = 0  # of entries since then
    stand_in_day: int = 0  # the newest in the table of cards
    journal: int = 0  # last number given
    journaled: int = 0  # last number that is in a database: those after it are in the state
    origin: str = ""  # of this log: two logs of one pair (etcd was lost) number their journals alike
