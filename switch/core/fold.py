"""Folds entries into the state: dispatches each proposal to its rule, stages what it writes, commits or undoes it.

The rules themselves stand in apply_pair.py (incarnations, heartbeats, configuration), apply_sessions.py (sessions and
their streams), apply_payments.py (requests, answers, outcomes) and apply_advices.py. A rule first checks everything,
then writes; it returns whether the proposal holds. One that no longer holds changes nothing.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from switch.core.proposals import AnyProposal, Input
from switch.core.records import Out, Role, Session
from switch.core.rules import Link, Route, Rules
from switch.core.sealed import Sealed
from switch.core.state import State


class ApplyError(Exception):
    """An entry that cannot be applied: the pair stops rather than diverge. Names index, position, proposal; no data."""


class Note(msgspec.Struct, frozen=True):
    """Something that operators want to know, decided by the log: an event name and fields without card data."""

    event: str
    fields: dict[str, Any]


class Applied(msgspec.Struct):
    """What an entry did. `touched`: sessions whose world has to follow. `accepted`: per proposal."""

    accepted: list[bool]
    touched: dict[str, None]
    notes: list[Note]
    transactions: list[int]  # those with a new deadline
    pair: bool  # an incarnation joined, lives, left or died, or the rules changed
    ticks: list[tuple[int, str]]  # (index, hash) that heartbeats reported
    late: list[tuple[str, bytes]]  # (target, match key) of requests that got no answer in time


Rule = Callable[["Fold", Any], bool]
RULES: dict[type, Rule] = {}


def rule(proposal: type) -> Callable[[Rule], Rule]:
    """Enter a function into the table of rules."""

    def enter(function: Rule) -> Rule:
        RULES[proposal] = function
        return function

    return enter


class Fold:
    """The state with what rules need while one entry is folded in."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.rules = Rules(links=[])
        self.links: dict[str, Link] = {}
        self.routes: dict[str, Route] = {}
        self.by = ""  # the incarnation that appended the entry
        self.index = 0
        self.applied = Applied([], {}, [], [], False, [], [])

    def apply(self, by: str, index: int, size_bytes: int, proposals: list[AnyProposal]) -> Applied:
        """Fold one entry in. Raises ApplyError, with nothing of that proposal and those after it applied."""
        self.by, self.index = by, index
        self.applied = applied = Applied([], {}, [], [], False, [], [])
        state = self.state
        for position, proposal in enumerate(proposals):
            try:
                holds = RULES[type(proposal)](self, proposal)
            except Exception as error:
                state.roll_back()
                text = f"entry {index} of {by}, proposal {position} ({proposal!r}): {type(error).__name__}"
                raise ApplyError(text) from error
            applied.accepted.append(holds)
            if holds:
                state.commit()
            else:
                state.roll_back()
        meta = state.meta
        state.put_meta(None, msgspec.structs.replace(meta, log_bytes=meta.log_bytes + size_bytes))
        state.commit()
        state.index = index
        return applied

    # --- what several rules need

    def configure(self) -> None:
        """Take the rules that the state holds."""
        self.rules = Rules.decode(self.state.meta.rules) if self.state.meta.rules else Rules(links=[])
        self.links = {link.name: link for link in self.rules.links}
        self.routes = {route.name: route for route in self.rules.routes}

    def note(self, event: str, **fields: Any) -> None:
        self.applied.notes.append(Note(event, fields))

    def taken(self, proposal: Input) -> Session | None:
        """The session as it is after taking this input, or None if the appender may not take it."""
        session = self.state.sessions.get(proposal.session)
        if session is None or session.applied != proposal.start or self.state.acting(session.owner) != self.by:
            return None
        return msgspec.structs.replace(session, applied=proposal.end, piece=b"", heard_ms=self.state.meta.clock_ms)

    def put(self, session: Session) -> None:
        self.state.put_session(session.id, session)
        self.applied.touched[session.id] = None


def queued(session: Session, data: bytes | Sealed, role: Role, ref: int = 0) -> Session:
    """The session with a frame more in its outbox; without data as it is."""
    if not data:
        return session
    out = Out(session.output, data, role, ref)
    return msgspec.structs.replace(session, output=out.end, outbox=(*session.outbox, out))
