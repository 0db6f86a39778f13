"""The items of the state: frozen records that `apply` replaces, never changes.

All are array-like msgpack in snapshots and hashes. `gc=False`: none is part of a reference cycle, and there are many.
Times are log time (`Meta.clock_ms`): milliseconds that have passed in the log, not any machine's clock.
"""

import enum

import msgspec

from messages.message import Kind, NetworkFunction, Outcome, Summary

Dates = tuple[str, str]  # business dates ("MMDD", or "" where a link keeps none) of source and target


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
    data: bytes
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
    piece: bytes = b""  # input of a frame that is not whole and left the kernel
    waiting: int = 0  # requests of this session that wait for an answer
    heard_ms: int = 0
    network: NetworkWait | None = None

    @property
    def accepted(self) -> bool:
        return self.slot < 0


class Stage(enum.IntEnum):
    """Where a transaction stands. The moves are in transitions.py."""

    SENT = 1  # forwarded; no outcome yet
    ANSWERED = 2  # its outcome is recorded and its answers wait to be acknowledged
    UNDELIVERABLE = 3  # approved, and no copy of the approval reached anyone: to be reversed
    FINISHED = 4  # only the outcome is kept


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
    kind: Kind
    duplicate_key: bytes
    digest: bytes
    original: bytes  # of the first request: what a reversal is made from
    waiters: tuple[Waiter, ...]
    target: str  # link
    target_session: str
    stan: int
    match_key: bytes
    deadline_ms: int
    stage: Stage = Stage.SENT
    outcome: Outcome | None = None
    copies: int = 0  # answers in outboxes that are not yet acknowledged or given up
    delivered: bool = False  # a byte of an answer was acknowledged
    summary: Summary = Summary()
    dates: Dates = ("", "")  # when it was accepted


class Finished(Record, frozen=True):
    """The outcome kept for repeats."""

    digest: bytes
    outcome: Outcome
    segment: int


class Counted(enum.StrEnum):
    """What a total counts. A link that asks counts what it was told, one that is asked what it answered."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSAL = "reversal"  # of an approval
    CANCELLED = "cancelled"  # reversal of a request that was never answered: it may undo something, or nothing
    ADVICE = "advice"


class About(Record, frozen=True):
    """What an advice is about, for journal and totals: the request or advice that it came from."""

    link: str
    original: bytes
    transaction: int
    summary: Summary
    dates: Dates
    counted: Counted  # as what its target counts it


class Advice(Record, frozen=True):
    """A message that must be delivered, in the store-and-forward lane of its link."""

    id: int
    link: str
    payload: bytes
    match_key: bytes  # b"": needs no answer, delivered when acknowledged by the remote kernel
    stan: int = 0
    session: str = ""  # where a copy is outstanding
    deadline_ms: int = 0
    tries: int = 0
    about: About | None = None


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
    journal: int = 0  # last number given
    journaled: int = 0  # last number that is in a database: those after it are in the state
    origin: str = ""  # of this log: two logs of one pair (etcd was lost) number their journals alike
