"""Proposals: what a node asks the log to decide. An entry is a list of them; `apply` accepts or refuses each.

Array-like msgpack, tagged. `Input` proposals name (session, start, end): the bytes of the session's input stream that
they take, accepted only by the session's owner and only where `start` is what the state has applied of that session.
Durations, never points in time.
"""

from collections.abc import Sequence
from typing import Union

import msgspec

from messages.message import NetworkFunction, Outcome, Summary, Verdict
from switch.core.originals import Standing
from switch.core.records import Waiter
from switch.core.sealed import Sealed

VERSION = 3  # of entries: the newest that this software writes and applies. 2 has Leaving and Activate; 3 Sealed
OLDEST = 1  # that it still applies, so that the nodes of a pair can be upgraded one after the other
OWED_BYTES_MAX = 1_040_000  # of answers, and what stands beside them, in one proposal: an entry (1 MiB) holds it
Frames = tuple[tuple[str, bytes], ...]  # (session, answer)


class OwnAdvice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An advice that the switch itself makes: a reversal, or what tells of a stand-in. Without payload there is none."""

    payload: bytes = b""
    match_key: bytes = b""
    stan: int = 0
    reference: bytes = b""
    failed: bool = False  # it is due, and the dialect or framing of its receiver cannot hold it

    def __repr__(self) -> str:
        return type(self).__name__


class Proposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What all proposals share: compact and silent about their content."""

    def __repr__(self) -> str:
        return type(self).__name__


class Input(Proposal, frozen=True):
    """Takes input of a session."""

    session: str
    start: int
    end: int


NOTHING = OwnAdvice()


def fitting(frames: Frames, beside: int) -> Frames:
    """As many of the answers as an entry holds beside so many bytes; who gets none is answered when it asks again."""
    size, kept = beside, []
    for session, frame in frames:
        fits = size + len(frame) <= OWED_BYTES_MAX
        size += len(frame) if fits else 0
        kept.append((session, frame if fits else b""))
    return tuple(kept)


# --- input of sessions


class Request(Input, frozen=True, tag="request"):
    """A request to forward. Without a session of its target it is unsent: what becomes of it is decided next."""

    duplicate_key: bytes
    digest: bytes
    header: bytes
    original: bytes
    summary: Summary
    route: str
    target: str
    target_session: str
    stan: int
    match_key: bytes
    reference: bytes
    date: str
    frame: bytes | Sealed
    timeout_ms: int  # what is left of it


class Store(Input, frozen=True, tag="store"):
    """An advice: acknowledged to its sender, and kept for its target until delivered.

    `standing`: of its original, as the proposer saw it. A reversal replaces the outcome of its original by `refusal`.
    Without `payload` nothing is to be sent: its target holds nothing that it could undo.
    """

    duplicate_key: bytes
    digest: bytes
    original: bytes
    summary: Summary
    outcome: Outcome
    frame: bytes
    standing: Standing
    original_reference: bytes  # by which it names its original
    refusal: Outcome | None
    target: str
    payload: bytes
    match_key: bytes
    stan: int
    reference: bytes
    amount: int = 0  # minor units that it names, as its original's or its own


class Attach(Input, frozen=True, tag="attach"):
    """A repeat of a request in flight: it waits, or is answered by `frame` where this `outcome` is recorded already."""

    transaction: int
    waiter: Waiter
    outcome: Outcome | None
    frame: bytes
    identity: bytes = b""  # by which what refers to it may name the repeat


class Reply(Input, frozen=True, tag="reply"):
    """A repeat of a finished request: the recorded outcome with the repeat's own echo fields."""

    duplicate_key: bytes
    outcome: Outcome
    frame: bytes
    identity: bytes = b""  # as of an Attach


class Refuse(Input, frozen=True, tag="refuse"):
    """A request decided here, by record. Without `duplicate_key` the refusal is not kept for repeats."""

    duplicate_key: bytes
    digest: bytes
    original: bytes
    summary: Summary
    outcome: Outcome
    frame: bytes
    flaw: str = ""  # for the log: "DE41 missing"
    why: str = ""  # for the log
    reconciled: bool = False  # the answer to a reconciliation: it may be in balance


class Answer(Input, frozen=True, tag="answer"):
    """The decision of a request in flight, with the answer to each of its waiters that is there."""

    transaction: int
    match_key: bytes
    outcome: Outcome
    frames: Frames
    reversed: bool  # by its terminal, as the proposer saw it: then an approval is not told
    untold: bool  # an approval that is not told: its terminal reversed it, or its source takes no part of it
    undo: OwnAdvice  # of the latter
    amount: int | None = None  # minor units, where the answer names them


class AdviceAnswer(Input, frozen=True, tag="acknowledge"):
    """An advice is answered by its network."""

    advice: int
    match_key: bytes
    verdict: Verdict
    code: str


class NetworkRequest(Input, frozen=True, tag="network"):
    """A peer's sign-on, sign-off or echo, answered."""

    function: NetworkFunction
    frame: bytes
    date: str  # the business date that begins with a CUTOVER


class NetworkAnswer(Input, frozen=True, tag="network-answer"):
    """The answer to our sign-on or echo."""

    match_key: bytes
    approved: bool


LATE_ANSWER = "late answer"  # how the reason of an Absorb begins
UNMATCHED_ANSWER = "unmatched answer"


class Absorb(Input, frozen=True, tag="absorb"):
    """Input that changes nothing else: keep-alives, late or unmatched answers, what the link is told to ignore."""

    reason: str
    frame: bytes = b""  # what it is answered with: a keep-alive, bytes that are no message, an advice that is refused


class Piece(Input, frozen=True, tag="piece"):
    """Part of a frame that the kernel's queue cannot hold whole."""

    data: bytes | Sealed


# --- life of sessions


class Open(Proposal, frozen=True, tag="open"):
    """A session exists: accepted, or about to connect in a slot of an outbound link.

    `owner`: the incarnation that is to have it, when not the appender: the peer, which holds its socket already.
    """

    session: str
    link: str
    slot: int
    cookie: str
    remote: str
    local: str
    owner: str


class Connected(Proposal, frozen=True, tag="connected"):
    session: str
    local: str


class End(Proposal, frozen=True, tag="end"):
    """A session is over. `acked`: output that the remote kernel has, or may yet get; -1: no socket was left to ask."""

    session: str
    acked: int
    reason: str
    written: int = -1  # output that the kernel was given; -1: unknown


class Acked(Proposal, frozen=True, tag="acked"):
    """Output acknowledged by remote kernels, of many sessions at once: (session, absolute offset)."""

    sessions: tuple[tuple[str, int], ...]


# --- what the state is due


class Local(Proposal, frozen=True):
    """A decision of the switch itself, with the answer to each waiter that is there, and the advice that belongs to it."""

    transaction: int
    outcome: Outcome
    frames: Frames
    advice: OwnAdvice


class Timeout(Local, frozen=True, tag="timeout"):
    """A request got no answer in time: the advice, if any, undoes it."""


class Undo(Local, frozen=True, tag="undo"):
    """The approval of an undeliverable transaction is replaced by a refusal, and its reversal queued."""


class Decide(Local, frozen=True, tag="decide"):
    """An unsent request is refused, or approved in its issuer's place: then the advice tells the issuer."""

    stand_in: str  # name of the rule
    account: bytes
    day: int


class Resend(Proposal, frozen=True, tag="resend"):
    """An unsent request goes out: a session of its link is there again, or one of the next target."""

    transaction: int
    route: str
    target: str
    target_session: str
    stan: int
    match_key: bytes
    reference: bytes
    date: str
    frame: bytes | Sealed


class Redeliver(Proposal, frozen=True, tag="redeliver"):
    """An approval that reached nobody is tried on another session of the same concentrator."""

    transaction: int
    session: str
    frame: bytes


class NetworkSend(Proposal, frozen=True, tag="network-send"):
    """A sign-on or echo of ours."""

    session: str
    function: NetworkFunction
    stan: int
    match_key: bytes
    frame: bytes


class AdviceSend(Proposal, frozen=True, tag="advice-send"):
    """A copy of an advice goes out on a session."""

    advice: int
    tries: int  # before this one
    session: str
    frame: bytes


class Park(Proposal, frozen=True, tag="park"):
    """An advice that is not to be tried any more waits for an operator."""

    advice: int
    reason: str


class Settle(Proposal, frozen=True, tag="settle"):
    """An operator's word on a parked advice: tried again, or settled by other means and let go."""

    advice: int
    retry: bool


class Forget(Proposal, frozen=True, tag="forget"):
    """The oldest segment of outcomes has left the replay window."""

    segment: int


class Journaled(Proposal, frozen=True, tag="journaled"):
    """All items of the journal up to this number are in a database."""

    upto: int


# --- the pair


class Join(Proposal, frozen=True, tag="join"):
    node: str
    number: int
    token: str
    boot_id: str
    pid: int
    start_time: int
    cluster: str


class Live(Proposal, frozen=True, tag="live"):
    """The joined incarnation has caught up."""


class Activate(Proposal, frozen=True, tag="activate"):
    """From now on entries are of this version. Who proposes it knows that both nodes apply it, and writes it so."""

    version: int


class Leaving(Proposal, frozen=True, tag="leaving"):
    """The incarnation is about to leave: nobody gives it sessions any more, and it can give its own away."""


class Leave(Proposal, frozen=True, tag="leave"):
    """The incarnation ends in order; its sessions have ended."""


class Heir(Proposal, frozen=True, tag="heir"):
    """Who saw the process of `dead` end acts for it, and holds the sockets of these sessions; its others end."""

    dead: str
    held: tuple[str, ...]
    poison: str = ""  # the frame at which it died, if it was at one (poison.py)


class Move(Proposal, frozen=True, tag="move"):
    """Handover: these sessions of the appender, whose sockets the other node holds, are the other's from here on."""

    sessions: tuple[str, ...]
    to: str


class Tick(Proposal, frozen=True, tag="tick"):
    """A heartbeat: log time passes, the node says what it has applied, and its state's hash at an index."""

    clock_index: int
    elapsed_ms: int
    applied: int
    hash_index: int
    hash: str


class Configure(Proposal, frozen=True, tag="configure"):
    rules: bytes


class Snapshot(Proposal, frozen=True, tag="snapshot"):
    """A snapshot of the state at this index stands in etcd."""

    index: int


AnyProposal = Union[  # noqa: UP007 - msgspec wants one flat union
    Request, Store, Attach, Reply, Refuse, Answer, AdviceAnswer, NetworkRequest, NetworkAnswer, Absorb, Piece,
    Open, Connected, End, Acked,
    Timeout, Undo, Decide, Resend, Redeliver, NetworkSend, AdviceSend, Park, Settle, Forget, Journaled,
    Join, Live, Activate, Leaving, Leave, Heir, Move, Tick, Configure, Snapshot,
]  # fmt: skip

_decoder = msgspec.msgpack.Decoder(tuple[int, list[AnyProposal]])
_decode_version = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw]).decode  # what a newer version holds may be unknown
_encoder = msgspec.msgpack.Encoder()


class EntryError(Exception):
    """An entry this version cannot apply."""


class TooNew(EntryError):
    """The pair has gone on to entries that this software does not apply: start the newer software."""


def encode(proposal: Proposal) -> bytes:
    """One proposal as the msgpack value that stands in an entry."""
    return _encoder.encode(proposal)


def encode_entry(proposals: Sequence[Proposal], version: int = VERSION) -> bytes:
    """A whole entry's body: msgpack [version, [proposal, ...]]."""
    return _encoder.encode((version, proposals))


def decode_entry(body: bytes, newest: int = VERSION) -> list[AnyProposal]:
    """The proposals of an entry's body. Raises EntryError."""
    try:
        check_version(_decode_version(body)[0], newest)
        proposals = _decoder.decode(body)[1]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # msgspec lets the latter two through
        # the library's text may quote what it could not read
        raise EntryError(f"an entry cannot be read by version {newest} ({type(error).__name__})") from None
    return proposals


def check_version(version: int, newest: int = VERSION) -> None:
    """Raises TooNew or EntryError for a version that this software does not apply."""
    if not OLDEST <= version <= newest:
        error = TooNew if version > newest else EntryError
        raise error(f"entries of version {version}; this software applies versions {OLDEST} to {newest}: start the newer one")
