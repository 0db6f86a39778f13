"""The engine of one node: entries in, state and effects out; inputs in, proposals out. No I/O, no clock.

    apply(entry)          fold an entry into the state; the effects are the difference between state and world
    offer(frame)          the proposal for a piece of input
    tend(now)             the proposals that the state itself is due: timeouts, sign-on, advices, forgetting
    heartbeat(now)        the proposal by which log time passes

`now` is the caller's monotonic clock in milliseconds; `utc` is wall-clock time in seconds, for messages that carry one.
"""

import heapq
from collections.abc import Callable, Iterator

from messages.framing import Frame
from messages.message import MessageError

# these enter their rules into the table of fold.py
from switch.core import apply_pair, apply_payments, apply_sessions, apply_store
from switch.core.fold import Applied, Fold, Note
from switch.core.offer import Offers
from switch.core.proposals import VERSION, Input, Tick, decode_entry
from switch.core.records import Session, Stage
from switch.core.rules import Rules
from switch.core.sealed import Sealed, plain
from switch.core.state import State
from switch.core.targets import Targets
from switch.core.tend import Due, Subject, Tending
from switch.core.wires import Wire, wires

HASHES_KEPT = 64
LATE_KEPT = 10_000  # requests that timed out, so that a late answer is known as one
RULE_FILES = (apply_pair, apply_payments, apply_sessions, apply_store)  # they enter their rules into the table


class Engine:
    """One node's engine. `node` is "a" or "b"; `incarnation` is "" until it has joined.

    `version`: the newest version of entries that it applies. `opened`: what is sealed in the state, opened; raises KeyGone.
    """

    def __init__(self, node: str, version: int = VERSION, opened: Callable[[bytes | Sealed], bytes] = plain) -> None:
        self.node = node
        self.opened = opened
        self.version = version
        self.incarnation = ""
        self.state = State()
        self.wires: dict[str, Wire] = {}
        self.diverged = False
        self._fold = Fold(self.state)
        self._offers: Offers | None = None
        self._tending: Tending | None = None
        self._deadlines: list[tuple[int, int]] = []  # (log time, transaction), of those not proposed to time out yet
        self._clock_at = 0.0  # our clock when log time last passed
        self._hashes: dict[int, str] = {}
        self._late: dict[tuple[str, bytes], None] = {}

    # --- state

    def load(self, state: State, now: float) -> None:
        """Take over a state from a snapshot."""
        self.state = state
        self._fold = Fold(state)
        self._fold.configure()
        self._clock_at = now
        self._hashes.clear()
        self._rewire()

    def become(self, incarnation: str) -> None:
        """This engine acts as the incarnation (it has joined)."""
        self.incarnation = incarnation
        self._rewire()

    def _rewire(self) -> None:
        self._fold.configure()
        rules = self._fold.rules
        self.wires = wires(rules, self.wires)
        targets = Targets(self.state, self.wires, rules, self.node, self.incarnation)
        self._offers = Offers(self.state, self.wires, rules, self.node, targets, self._late)
        self._tending = Tending(self.state, self.wires, rules, self.node, self.incarnation, targets, self.opened)
        self._wind()

    def _wind(self) -> None:
        """Set the timers of all transactions: who acts for them may have changed."""
        items = self.state.transactions.values()
        self._deadlines = [(item.deadline_ms, item.id) for item in items if item.stage is Stage.SENT]
        heapq.heapify(self._deadlines)

    def apply(self, by: str, index: int, body: bytes, now: float) -> Applied:
        """Fold one entry in. Raises EntryError or ApplyError: then the pair must stop."""
        before = self.state.meta
        applied = self._fold.apply(by, index, len(body), decode_entry(body, self.version))
        state = self.state
        for number in applied.transactions:
            self._set_timer(number)
        if state.meta.clock_index != before.clock_index:
            self._advance(state.meta.clock_ms - before.clock_ms, now)
        if state.meta.rules is not before.rules and state.meta.rules != before.rules:
            self._rewire()
        elif applied.pair:
            self._wind()
        for found in applied.late:
            self._late[found] = None
            if len(self._late) > LATE_KEPT:
                del self._late[next(iter(self._late))]
        if applied.ticks:
            self._compare(by, index, applied)
        return applied

    def _advance(self, passed_ms: int, now: float) -> None:
        """Log time has advanced: to when the heartbeat was made. What passed until it was applied is still to be counted.

        But not the time of a hold (of which a heartbeat counts no more than it may), nor of a log that is read again, nor
        before the first one.
        """
        beat_ms = self._fold.rules.limits.heartbeat_ms
        exact = self._clock_at and passed_ms < 2 * beat_ms
        self._clock_at = min(max(self._clock_at + passed_ms, now - beat_ms), now) if exact else now

    def _compare(self, by: str, index: int, applied: Applied) -> None:
        """At each heartbeat entry both nodes hash their state; the next heartbeat tells the other."""
        for at, theirs in applied.ticks:
            mine = self._hashes.get(at)
            if mine is not None and mine != theirs:
                self.diverged = True
                applied.notes.append(Note("state.diverged", {"index": at, "mine": mine, "theirs": theirs, "by": by}))
        self._hashes[index] = self.state.hash()
        while len(self._hashes) > HASHES_KEPT:
            del self._hashes[next(iter(self._hashes))]

    @property
    def last_hash(self) -> tuple[int, str]:
        """Index and hash of the state at the last heartbeat entry."""
        return next(reversed(self._hashes.items())) if self._hashes else (0, "")

    @property
    def hashes(self) -> dict[int, str]:
        """The hash of the state at each of the last heartbeat entries, by index."""
        return dict(self._hashes)

    # --- proposals

    def offer(
        self, session: Session, start: int, end: int, frame: Frame, age_ms: int, utc: float, answered: set[bytes] | None = None
    ) -> Input:
        """The proposal for a frame that takes input [start, end) and waited `age_ms`.

        `answered`: what the frames before it answer, which were offered but not decided yet; this one is added to it.
        Raises MessageError for bytes that are no message of the session's link.
        """
        assert self._offers is not None
        return self._offers.frame(session, start, end, frame, age_ms, utc, set() if answered is None else answered)

    def unreadable(self, session: Session, start: int, end: int, frame: Frame, error: MessageError, utc: float) -> Input:
        """The proposal for a frame that is no message of a link that keeps its sessions then."""
        assert self._offers is not None
        return self._offers.unreadable(session, start, end, frame, error, utc)

    def clock(self, now: float) -> int:
        """Log time, estimated beyond the last heartbeat, by two at the most: without the log, timers stand still."""
        passed = min(now - self._clock_at, 2.0 * self._fold.rules.limits.heartbeat_ms)
        return self.state.meta.clock_ms + int(max(passed, 0.0))

    def heartbeat(self, now: float) -> Tick:
        index, hashed = self.last_hash
        meta = self.state.meta
        return Tick(meta.clock_index, int(now - self._clock_at), self.state.index, index, hashed)

    def tend(self, now: float, utc: float) -> Iterator[Due]:
        """What is due now: (subject, proposal). A subject is not due again until `resolved`."""
        if self._tending is None or not self.incarnation:
            return
        clock = self.clock(now)
        yield from self._tending.all(self._expired(clock), clock, utc)

    def _expired(self, clock: int) -> Iterator[int]:
        """Transactions whose timer has run out, each once: a refused proposal sets it again, and so does a new heir."""
        while self._deadlines and self._deadlines[0][0] <= clock:
            deadline, number = heapq.heappop(self._deadlines)
            transaction = self.state.transactions.get(number)
            if transaction is not None and transaction.stage is Stage.SENT and transaction.deadline_ms == deadline:
                yield number

    def _set_timer(self, number: int) -> None:
        transaction = self.state.transactions.get(number)
        if transaction is not None and transaction.stage is Stage.SENT:
            heapq.heappush(self._deadlines, (transaction.deadline_ms, number))

    def resolved(self, subject: Subject) -> None:
        """The proposal for this subject was applied, refused or dropped."""
        if self._tending is None:
            return
        self._tending.outstanding.discard(subject)
        kind, number = subject
        if kind == "transaction" and isinstance(number, int):
            self._set_timer(number)

    @property
    def rules(self) -> Rules:
        return self._fold.rules
