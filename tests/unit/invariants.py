"""What must hold after each entry: of both nodes, of a copy loaded from a snapshot, of every session and request."""

from collections import Counter

from messages.message import Decision, Trait
from switch.core import snapshot
from switch.core.books import JournalKind
from switch.core.originals import Standing, find
from switch.core.proposals import (
    Acked,
    AdviceSend,
    Attach,
    End,
    Input,
    Redeliver,
    Refuse,
    Reply,
    Request,
    Resend,
    Store,
)
from switch.core.records import Counted, Fate, Role, Stage
from switch.core.state import State, outcome_key

UNDOING = (Counted.REVERSAL, Counted.CANCELLED)
INDEXES = (
    "pending", "in_flight", "stans_busy", "waiting", "undeliverable", "unsent", "links", "slots", "lanes", "parked",
    "advice_keys", "abouts", "stopped", "segments", "nodes",
)  # fmt: skip


class Seen:
    """What earlier entries showed: a request's outcome, what its terminal was told, how far each stream went."""

    def __init__(self) -> None:
        self.outcomes: dict[bytes, object] = {}
        self.told: dict[bytes, object] = {}  # an approval of which a byte was acknowledged
        self.offsets: dict[str, int] = {}
        self.journal: dict[int, object] = {}
        self.owed: dict[str, int] = {}  # requests taken from a session
        self.answers: dict[str, int] = {}
        self.approvals: dict[str, dict[int, bytes]] = {}  # session: offset of an approval's frame -> key
        self.advice = 0  # the last one
        self.undone: dict[tuple[bytes, str], int] = {}  # key of an outcome, and what it was sent as: the advice that undoes it
        self.copies: dict[int, tuple[str, int]] = {}  # advice: the session of its copy, and until when that is waited for
        self.left: dict[tuple[str, int], int] = {}  # session and offset of a forward: transaction


def check(pair, proposals, applied) -> None:
    state = pair.state
    if pair.index % 3 == 0:
        hashes = {engine.state.hash() for engine in pair.engines.values()}
        assert len(hashes) == 1, "the nodes' hashes differ"
    copy = _loaded(state)
    for name in INDEXES:
        for engine in pair.engines.values():
            assert _plain(getattr(engine.state, name)) == _plain(getattr(copy, name)), f"index {name}"
        assert _sets(state.originals) == _sets(copy.originals), "index originals"
    assert len(state.marks) <= 100
    _sessions(pair.seen, state)
    _journal(pair.seen, state)
    _requests(pair, proposals, applied.accepted)
    _advices(pair, proposals, applied.accepted)
    _unsent(pair.seen, state, proposals, applied.accepted)
    _stand_in(pair, state)
    _bounds(pair, state)


def _loaded(state: State) -> State:
    view = snapshot.View(state)
    segments = {name: encode() for name, encode in view.segments().items()}
    copy = snapshot.load(view.index, list(view.chunks()), segments)
    assert copy.hash() == state.hash()
    for name in snapshot.TABLES:
        assert getattr(copy, name) == getattr(state, name), name
    return copy


def _plain(index):
    """Without what is empty: whether a link ever had a session is no part of the state."""
    if not isinstance(index, dict):
        return index
    return {key: value for key, value in index.items() if value is None or value}


def _sets(originals):
    """Of those with one identity the newest counts, and not their order."""
    return {key: set(holders) for key, holders in originals.items()}


def _sessions(seen: Seen, state: State) -> None:
    for session in state.sessions.values():
        at = session.outbox[0].offset if session.outbox else session.output
        assert at <= session.acked or at == session.output, "a frame left the outbox too early"
        for out in session.outbox:
            assert out.offset == at, "a hole in the output"
            at = out.end
            if at > seen.offsets.get(session.id, 0):
                seen.offsets[session.id] = at
                seen.answers[session.id] = seen.answers.get(session.id, 0) + (out.role is Role.ANSWER)
        assert at == session.output and session.acked <= session.output
        waits = [t.id for t in state.transactions.values() for w in t.waiters if w.session == session.id]
        assert session.waiting == len(waits) == len(set(waits)), "requests that wait are miscounted"


def _journal(seen: Seen, state: State) -> None:
    meta = state.meta
    assert sorted(state.journal) == list(range(meta.journaled + 1, meta.journal + 1)), "a gap in the journal"
    for number, item in state.journal.items():
        assert seen.journal.setdefault(number, item) == item, "an item of the journal has changed"
    finished = [item.transaction for item in seen.journal.values() if item.kind is JournalKind.REQUEST]
    assert len(finished) == len(set(finished)), "a transaction is in the journal twice"
    open_ = {item.id for item in state.transactions.values() if not item.booked}
    assert not {*finished} & open_, "in the journal before its end"
    told = [item.advice for item in seen.journal.values() if item.advice and item.kind is not JournalKind.UNDONE]
    assert len(told) == len(set(told)), "an advice is in the journal twice"
    assert not {*told} & {*state.advices}, "in the journal before its target has it"


def check_totals(seen: Seen, state: State) -> None:
    """The totals say what the rows say. Only where neither was ever full, and no link is both asked and asking."""
    rows, counted = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for total in state.totals.values():
        counted[total.link, "reversal" if total.counted in UNDOING else total.counted.value] += total.count
    for item in seen.journal.values():
        approved = item.outcome is not None and item.outcome.decision is Decision.APPROVED
        if item.kind in (JournalKind.REQUEST, JournalKind.REFUSAL):
            rows[item.link, "approved" if approved else "declined"] += 1
    for link in {link for link, _ in rows}:
        for what in ("approved", "declined"):
            assert counted[link, what] == rows[link, what], f"{link}: rows and totals of {what} differ"


def _requests(pair, proposals, accepted) -> None:
    seen, state = pair.seen, pair.state
    for proposal, holds in zip(proposals, accepted, strict=True):
        if holds and isinstance(proposal, Request | Store | Attach | Reply | Refuse | Redeliver):
            seen.owed[proposal.session] = seen.owed.get(proposal.session, 0) + 1
        if holds and isinstance(proposal, Store) and proposal.summary.is_(Trait.REVERSAL):
            _reversed(seen, state, proposal)
        if holds and isinstance(proposal, Input) and proposal.session in state.sessions:
            assert state.sessions[proposal.session].applied >= proposal.end
        if holds and isinstance(proposal, End):
            _told(seen, proposal.session, proposal.acked)
        if isinstance(proposal, Acked):
            for id_, offset in proposal.sessions:
                _told(seen, id_, offset)
    for id_, answers in seen.answers.items():
        assert answers <= seen.owed.get(id_, 0), "more answers than requests"
    now = {key: item.outcome for key, item in state.outcomes.items()}
    for item in state.transactions.values():
        key = outcome_key(item.link, item.duplicate_key)
        assert key not in now, "in flight and finished"
        if not item.open:
            now[key] = item.outcome
        assert (item.stage is Stage.ANSWERED) == (item.copies > 0), "answered without answers"
    for key, outcome in now.items():
        before = seen.outcomes.get(key)
        if before is not None and before != outcome:
            assert before.decision is Decision.APPROVED and outcome.decision is Decision.DECLINED, "two outcomes"
            assert key not in seen.told, "an approval that was told is undone"
    seen.outcomes = now
    for key in [key for key in seen.told if key not in now]:
        del seen.told[key]  # forgotten: who sends it again asks anew
    for item in state.transactions.values():
        for session in state.sessions.values() if item.outcome is not None else ():
            for out in session.outbox:
                if out.role is Role.ANSWER and out.ref == item.id and item.outcome.decision is Decision.APPROVED:
                    key = outcome_key(item.link, item.duplicate_key)
                    seen.approvals.setdefault(session.id, {})[out.offset] = key


def _advices(pair, proposals, accepted) -> None:
    """In order for each original, after its decision, as many as the window allows; an original is undone once."""
    state, seen = pair.state, pair.seen
    for proposal, holds in zip(proposals, accepted, strict=True):
        advice = state.advices.get(proposal.advice) if holds and isinstance(proposal, AdviceSend) else None
        original = state.transactions.get(advice.after) if advice is not None else None
        assert original is None or not original.open, "a reversal goes out before its original is decided"
        if advice is not None and advice.id in seen.copies:
            session, deadline = seen.copies[advice.id]
            ahead = 2 * pair.engines[next(iter(pair.engines))].rules.limits.heartbeat_ms  # may be its proposer's clock
            assert session not in state.sessions or deadline <= state.meta.clock_ms + ahead, "two copies are outstanding"
    seen.copies = {each.id: (each.session, each.deadline_ms) for each in state.advices.values() if each.session}
    for link, lane in state.lanes.items():
        out = [state.advices[number] for number in lane if state.advices[number].session]
        abouts = [advice.about for advice in out if advice.about]
        assert len(abouts) == len(set(abouts)), "two advices about one original are outstanding"
        for advice in out:
            assert state.sessions[advice.session].link == link
    known = state.outcomes.keys() | state.in_flight.keys()
    seen.undone = {named: number for named, number in seen.undone.items() if named[0] in known}
    for number in range(seen.advice + 1, state.meta.advice + 1):
        advice = state.advices.get(number)
        if advice is not None and advice.payload[1:2] == b"4" and advice.about:
            wire = pair.engines[next(iter(pair.engines))].wires[advice.link]
            fields = wire.codec.dialect.decode(advice.payload).fields
            if 95 in fields or fields.get(24) == "401":
                continue  # of a part
            named = (advice.about, fields.get(90) or fields.get(56, ""))
            assert named not in seen.undone, "an original is undone twice"
            seen.undone[named] = number
    seen.advice = state.meta.advice
    for item in state.transactions.values():
        if item.reversal and not item.open and item.outcome is not None and item.stage is not Stage.UNDELIVERABLE:
            assert item.outcome.decision is not Decision.APPROVED, "approved after its terminal has reversed it"
    requests = [item for key, item in state.outcomes.items() if key.partition(b"\0")[2][1:2] == b"0"]  # class, function
    for item in (*state.transactions.values(), *requests):
        if item.fate is Fate.UNDONE and item.outcome is not None:
            assert item.outcome.decision is not Decision.APPROVED, "what is undone is approved"


def _unsent(seen: Seen, state: State, proposals, accepted) -> None:
    """A request of which a byte may have left goes nowhere else."""
    written = {p.session: p.written for p in proposals if isinstance(p, End)}
    for proposal, holds in zip(proposals, accepted, strict=True):
        if holds and isinstance(proposal, End):
            for (session, offset), number in list(seen.left.items()):
                if session == proposal.session:
                    del seen.left[session, offset]
                    item = state.transactions.get(number)
                    if item is not None and item.stage is Stage.UNSENT:
                        assert 0 <= written[session] <= offset, "unsent, and a byte of it may have left"
        if holds and isinstance(proposal, Resend):
            assert not any(number == proposal.transaction for number in seen.left.values()), "it stands in two outboxes"
    for session in state.sessions.values():
        for out in session.outbox:
            if out.role is Role.FORWARD:
                seen.left[session.id, out.offset] = out.ref
    for place in [place for place in seen.left if place[0] not in state.sessions]:
        del seen.left[place]


def _stand_in(pair, state: State) -> None:
    rules = pair.engines[next(iter(pair.engines))].rules
    for use in state.cards.values():
        for rule in rules.stand_ins:
            assert use.count <= rule.card_count_max and use.amount <= rule.card_amount_max, "more than stand-in may approve"


def _reversed(seen: Seen, state: State, reversal: Store) -> None:
    """Its terminal took it back: what it was told holds no more."""
    link = reversal.session.rpartition(".")[0]  # it may have ended in the same entry
    items = [(outcome_key(t.link, t.duplicate_key), (t.summary.identity, *t.aliases)) for t in state.transactions.values()]
    items += [(key, (item.identity, *item.aliases)) for key, item in state.outcomes.items()]
    for key, identities in items:
        if reversal.summary.refers in identities and key.startswith(outcome_key(link, b"")):
            seen.told.pop(key, None)
    standing, original, _ = find(state, link, reversal.summary.refers)
    if standing is Standing.APPROVED and original.outcome is not None and not reversal.summary.is_(Trait.PARTIAL):
        assert original.outcome.decision is not Decision.APPROVED, "what its terminal has reversed stays approved"


def _told(seen: Seen, id_: str, acked: int) -> None:
    waiting = seen.approvals.get(id_, {})
    for offset in [offset for offset in waiting if offset < acked]:
        seen.told[waiting.pop(offset)] = True


def _bounds(pair, state: State) -> None:
    rules = pair.engines[next(iter(pair.engines))].rules
    assert {session.link for session in state.sessions.values()} <= {link.name for link in rules.links}
    for link in rules.links:
        assert state.waiting.get(link.name, 0) <= link.inflight_max
    assert len(state.transactions) <= rules.limits.transactions_max
    stans = [(t.target, t.stan) for t in state.transactions.values() if t.stage is Stage.SENT and t.stan]
    stans += [(advice.link, advice.stan) for advice in state.advices.values() if advice.stan]
    assert len(stans) == len(set(stans)), "a STAN is pending twice"
    for item in state.transactions.values():
        assert len(item.waiters) <= rules.limits.waiters_max
