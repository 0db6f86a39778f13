"""The replicated state: items by key, indexes derived from them, staging with undo, and the hash.

Only `apply` writes, through the `put_*` methods: each replaces one item, keeps the derived indexes in step, and notes
how to undo it until `commit`. Nothing here depends on the order in which a dictionary came to be.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Any

import msgspec

from switch.core.books import JournalItem, Total
from switch.core.records import (
    Advice,
    Breaker,
    CardUse,
    Finished,
    Incarnation,
    Meta,
    Rate,
    Session,
    Stage,
    Status,
    Transaction,
)
from switch.core.rules import Link

_encode = msgspec.msgpack.Encoder().encode
_MASK = (1 << 64) - 1
_LARGE = 1024  # bytes
SECOND_MS = 1_000
_OVER = (Status.LEFT, Status.DEAD)


def outcome_key(link: str, duplicate_key: bytes) -> bytes:
    """The key of an outcome or a request in flight: its source link and the link's duplicate key."""
    return _prefix(link) + duplicate_key


def original_key(link: str, identity: bytes) -> bytes:
    """The key under which what refers to a message finds it: its source link and the identity of the message."""
    return _prefix(link) + identity


@lru_cache(maxsize=1024)
def _prefix(link: str) -> bytes:
    return link.encode() + b"\0"


class State:
    """Items and indexes. Read by everyone, written by `apply`."""

    def __init__(self) -> None:
        self.index = 0
        self.meta = Meta()
        self.incarnations: dict[str, Incarnation] = {}
        self.sessions: dict[str, Session] = {}
        self.transactions: dict[int, Transaction] = {}
        self.advices: dict[int, Advice] = {}
        self.outcomes: dict[bytes, Finished] = {}
        self.stans: dict[str, int] = {}  # "link/node": last applied
        self.closed: dict[int, int] = {}  # segment: log time at which it was closed
        self.marks: dict[str, int] = {}  # frame at which owners died: how many
        self.dates: dict[str, str] = {}  # link: its business date, DE15 of its last cutover
        self.breakers: dict[str, Breaker] = {}  # link: of those with a timeout since their last answer
        self.paces: dict[str, int] = {}  # link with a paced lane: log time before which nothing more of it is sent
        self.rates: dict[str, Rate] = {}  # "link/name" or "route/name"
        self.cards: dict[bytes, CardUse] = {}  # account key: what stand-in approved for it
        self.journal: dict[int, JournalItem] = {}  # what no database holds yet: meta.journaled < number <= meta.journal
        self.totals: dict[str, Total] = {}
        # derived
        self.pending: dict[tuple[str, bytes], int] = {}  # (target, match key): transaction without outcome
        self.in_flight: dict[bytes, int] = {}  # outcome key: transaction
        self.stans_busy: set[tuple[str, int]] = set()  # (link, STAN) of requests without outcome, and of advices
        self.waiting: dict[str, int] = {}  # target: transactions without outcome
        self.routed: dict[str, int] = {}  # route: the same
        self.undeliverable: dict[int, None] = {}
        self.unsent: dict[int, None] = {}
        self.originals: dict[bytes, tuple[int | bytes, ...]] = {}  # original key: transactions, keys of outcomes
        self.links: dict[str, dict[str, None]] = {}  # link: its sessions
        self.slots: dict[tuple[str, int], str] = {}
        self.lanes: dict[str, dict[int, None]] = {}  # link: its advices that are not parked
        self.parked: dict[str, dict[int, None]] = {}  # link: those that are
        self.abouts: dict[bytes, int] = {}  # what advices are about: how many
        self.stopped: dict[bytes, int] = {}  # the same of those that are parked: nothing passes them
        self.advice_keys: dict[tuple[str, bytes], int] = {}
        self.segments: dict[int, dict[bytes, None]] = {}
        self.nodes: dict[str, str] = {}  # node: its newest incarnation
        # staging and hash
        self._undo: list[tuple[Callable[[Any, Any], None], Any, Any]] = []
        self._changed: dict[tuple[str, Any], Any] = {}  # item at the last hash
        self._digests: dict[tuple[str, Any], int] = {}  # at the last hash, of items that change
        self._sum = 0

    # --- writing

    def _note(self, table: str, put: Callable[[Any, Any], None], key: Any, old: Any) -> None:
        self._undo.append((put, key, old))
        self._changed.setdefault((table, key), old)

    def put_meta(self, _: None, new: Meta) -> None:
        self._note("meta", self.put_meta, None, self.meta)
        self.meta = new

    def put_incarnation(self, key: str, new: Incarnation | None) -> None:
        self._note("incarnations", self.put_incarnation, key, self.incarnations.get(key))
        _set(self.incarnations, key, new)
        self.nodes = {}
        for item in sorted(self.incarnations.values(), key=lambda item: item.number):
            self.nodes[item.node] = item.id

    def put_session(self, key: str, new: Session | None) -> None:
        old = self.sessions.get(key)
        self._note("sessions", self.put_session, key, old)
        if new is None:
            if old is not None:
                del self.sessions[key]
                of_link = self.links[old.link]
                of_link.pop(key, None)
                if not of_link:  # the link itself may be gone
                    del self.links[old.link]
                if old.slot >= 0:
                    self.slots.pop((old.link, old.slot), None)
            return
        self.sessions[key] = new
        if old is None:
            self.links.setdefault(new.link, {})[key] = None
            if new.slot >= 0:
                self.slots[new.link, new.slot] = key

    def put_transaction(self, key: int, new: Transaction | None) -> None:
        old = self.transactions.get(key)
        self._note("transactions", self.put_transaction, key, old)
        _set(self.transactions, key, new)
        if old is None and new is not None:
            self.in_flight[outcome_key(new.link, new.duplicate_key)] = key
            self._rename(_prefix(new.link), key, (), (new.summary.identity, *new.aliases))
        elif new is None and old is not None:
            self.in_flight.pop(outcome_key(old.link, old.duplicate_key), None)
            self._rename(_prefix(old.link), key, (old.summary.identity, *old.aliases), ())
        elif old is not None and new is not None and old.aliases != new.aliases:
            self._rename(_prefix(new.link), key, old.aliases, new.aliases)
        before, stage = None if old is None else old.stage, None if new is None else new.stage
        if before is stage:
            return
        was, now = before is Stage.SENT, stage is Stage.SENT
        if was != now:
            item = new if now else old
            assert item is not None
            if now:
                self.pending[item.target, item.match_key] = key
            else:
                self.pending.pop((item.target, item.match_key), None)
            self._busy(item.target, item.stan, busy=now)
            change = 1 if now else -1
            self.waiting[item.target] = self.waiting.get(item.target, 0) + change
            self.routed[item.route] = self.routed.get(item.route, 0) + change
        if before is Stage.UNDELIVERABLE:
            self.undeliverable.pop(key, None)
        elif before is Stage.UNSENT:
            self.unsent.pop(key, None)
        if stage is Stage.UNDELIVERABLE:
            self.undeliverable[key] = None
        elif stage is Stage.UNSENT:
            self.unsent[key] = None

    def put_advice(self, key: int, new: Advice | None) -> None:
        old = self.advices.get(key)
        self._note("advices", self.put_advice, key, old)
        _set(self.advices, key, new)
        was, now = self._lane(old), self._lane(new)
        if was is not now:
            if was is not None:
                was.pop(key, None)
            if now is not None:
                now[key] = None
            if old is not None and new is not None and not new.parked:  # it was parked: back into its place
                self.lanes[new.link] = dict.fromkeys(sorted(self.lanes[new.link]))
            about = (new or old).about  # type: ignore[union-attr]
            _count(self.abouts, about, (new is not None) - (old is not None))
            _count(self.stopped, about, _parked(new) - _parked(old))
        if old is None and new is not None:
            self._busy(new.link, new.stan, busy=True)
        elif new is None and old is not None:
            self._busy(old.link, old.stan, busy=False)
        if _tried(new) and new is not None:
            self.advice_keys[new.link, new.match_key] = key
        elif _tried(old) and old is not None:
            self.advice_keys.pop((old.link, old.match_key), None)

    def _lane(self, advice: Advice | None) -> dict[int, None] | None:
        if advice is None:
            return None
        return (self.parked if advice.parked else self.lanes).setdefault(advice.link, {})

    def _rename(self, link: bytes, holder: int | bytes, before: tuple[bytes, ...], now: tuple[bytes, ...]) -> None:
        """The identities by which a message is found were those, and are these."""
        for identity in before:
            if identity and identity not in now:
                holders = self.originals[link + identity]
                if len(holders) == 1:
                    del self.originals[link + identity]
                else:
                    self.originals[link + identity] = tuple(each for each in holders if each != holder)
        for identity in now:
            if identity and identity not in before:
                known = self.originals.get(link + identity)
                self.originals[link + identity] = (holder,) if known is None else (*known, holder)

    def _busy(self, link: str, stan: int, *, busy: bool) -> None:
        if busy and stan:
            self.stans_busy.add((link, stan))
        else:
            self.stans_busy.discard((link, stan))

    def put_outcome(self, key: bytes, new: Finished | None) -> None:
        old = self.outcomes.get(key)
        self._note("outcomes", self.put_outcome, key, old)
        _set(self.outcomes, key, new)
        before = () if old is None else (old.identity, *old.aliases)
        now = () if new is None else (new.identity, *new.aliases)
        self._rename(key.partition(b"\0")[0] + b"\0", key, before, now)
        if old is not None:
            keys = self.segments[old.segment]
            keys.pop(key, None)
            if not keys:
                del self.segments[old.segment]
        if new is not None:
            self.segments.setdefault(new.segment, {})[key] = None

    def put_stan(self, key: str, new: int | None) -> None:
        self._note("stans", self.put_stan, key, self.stans.get(key))
        _set(self.stans, key, new)

    def put_closed(self, key: int, new: int | None) -> None:
        self._note("closed", self.put_closed, key, self.closed.get(key))
        _set(self.closed, key, new)

    def put_mark(self, key: str, new: int | None) -> None:
        self._note("marks", self.put_mark, key, self.marks.get(key))
        _set(self.marks, key, new)

    def put_journal(self, key: int, new: JournalItem | None) -> None:
        self._note("journal", self.put_journal, key, self.journal.get(key))
        _set(self.journal, key, new)

    def put_total(self, key: str, new: Total | None) -> None:
        self._note("totals", self.put_total, key, self.totals.get(key))
        _set(self.totals, key, new)

    def put_date(self, key: str, new: str | None) -> None:
        self._note("dates", self.put_date, key, self.dates.get(key))
        _set(self.dates, key, new)

    def put_breaker(self, key: str, new: Breaker | None) -> None:
        self._note("breakers", self.put_breaker, key, self.breakers.get(key))
        _set(self.breakers, key, new)

    def put_pace(self, key: str, new: int | None) -> None:
        self._note("paces", self.put_pace, key, self.paces.get(key))
        _set(self.paces, key, new)

    def put_rate(self, key: str, new: Rate | None) -> None:
        self._note("rates", self.put_rate, key, self.rates.get(key))
        _set(self.rates, key, new)

    def put_card(self, key: bytes, new: CardUse | None) -> None:
        self._note("cards", self.put_card, key, self.cards.get(key))
        _set(self.cards, key, new)

    def commit(self) -> None:
        """What was written since the last commit stays."""
        self._undo.clear()

    def roll_back(self) -> None:
        """What was written since the last commit never was."""
        undo, self._undo = self._undo, []
        for put, key, old in reversed(undo):
            put(key, old)
        self._undo.clear()

    # --- reading

    def lead(self) -> str:
        """The incarnation that does what belongs to no other: the first live one, else one that is leaving, else ""."""
        for status in (Status.LIVE, Status.LEAVING):
            for node in sorted(self.nodes):
                if self.incarnations[self.nodes[node]].status is status:
                    return self.nodes[node]
        return ""

    def over(self, incarnation: str) -> bool:
        """Whether the incarnation can append nothing any more: every entry of its own is applied."""
        item = self.incarnations.get(incarnation)
        return item is None or item.status in _OVER

    def acting(self, incarnation: str) -> str:
        """Who acts for an incarnation: itself, its heir, or, when it left or is unknown, the lead."""
        seen = self.incarnations.get(incarnation)
        while seen is not None:
            if seen.status not in _OVER:
                return seen.id
            if not seen.heir:
                break
            seen = self.incarnations.get(seen.heir)
        return self.lead()

    def has_room(self, link: Link) -> bool:
        """Whether a request more may be forwarded to the link: each may become an advice that its lane has to keep."""
        lane, parked = len(self.lanes.get(link.name, ())), len(self.parked.get(link.name, ()))
        return self.waiting.get(link.name, 0) < link.inflight_max and lane < link.lane_max and parked < link.parked_max

    def has_rate(self, key: str, limit: int) -> bool:
        """Whether a limit of so many a second lets one more through in this second of log time. 0: no limit."""
        seen = self.rates.get(key) if limit else None
        return seen is None or self.meta.clock_ms - seen.began_ms >= SECOND_MS or seen.count < limit

    def lane_room(self, link: Link) -> bool:
        """Whether an advice more from outside may be kept for the link: these are never refused, so there is more room."""
        return len(self.lanes.get(link.name, ())) < 2 * link.lane_max

    def parked_room(self, link: Link) -> bool:
        """Whether so few wait for an operator that one more from outside may be taken, which may have to wait, too."""
        return len(self.parked.get(link.name, ())) < 2 * link.parked_max

    def live(self) -> list[str]:
        """The live incarnations, by node."""
        ids = (self.nodes[node] for node in sorted(self.nodes))
        return [id_ for id_ in ids if self.incarnations[id_].status is Status.LIVE]

    def hash(self) -> str:
        """A hash of all items, equal on both nodes at equal indexes: the sum of the items' hashes, 16 hex digits.

        Costs time for what changed since the last call only.
        """
        tables = {
            "meta": {None: self.meta}, "incarnations": self.incarnations, "sessions": self.sessions,
            "transactions": self.transactions, "advices": self.advices, "outcomes": self.outcomes,
            "stans": self.stans, "closed": self.closed, "marks": self.marks, "dates": self.dates,
            "breakers": self.breakers, "paces": self.paces, "rates": self.rates,
            "cards": self.cards, "journal": self.journal, "totals": self.totals,
        }  # fmt: skip
        digests = self._digests
        for place, old in self._changed.items():
            table, key = place
            new = tables[table].get(key)  # type: ignore[attr-defined]
            if new is old:
                continue
            known = digests.pop(place, None)
            self._sum -= _digest(table, key, old) if known is None else known
            digest = _digest(table, key, new)
            self._sum += digest
            if new is not None and table != "outcomes":
                digests[place] = digest
        self._sum &= _MASK
        self._changed.clear()
        return f"{self._sum:016x}"


def _set(items: dict[Any, Any], key: Any, new: Any) -> None:
    if new is None:
        items.pop(key, None)
    else:
        items[key] = new


def _count(counts: dict[bytes, int], key: bytes, change: int) -> None:
    if key and change:
        _set(counts, key, counts.get(key, 0) + change or None)


def _parked(advice: Advice | None) -> bool:
    return advice is not None and bool(advice.parked)


def _tried(advice: Advice | None) -> bool:
    """Whether a copy of it has gone out that may yet be answered."""
    return advice is not None and bool(advice.match_key) and (advice.tries > 0 or advice.sent)


def _digest(table: str, key: Any, item: Any) -> int:
    """64 bits. Processors help with SHA-256: twice as fast for a session with a long outbox, slower for a small item."""
    if item is None:
        return 0
    data = _encode((table, key, item))
    digest = blake2b(data, digest_size=8).digest() if len(data) < _LARGE else sha256(data).digest()[:8]
    return int.from_bytes(digest, "big")
