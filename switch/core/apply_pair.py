"""Rules of the pair: joining, living, leaving, heirs, heartbeats and log time, configuration, snapshots."""

import msgspec
from msgspec.structs import replace

from switch.core.apply_outcomes import close_segment
from switch.core.apply_sessions import ended
from switch.core.fold import Fold, rule
from switch.core.proposals import Activate, Configure, Heir, Join, Leave, Leaving, Live, Move, Snapshot, Tick
from switch.core.records import Incarnation, Status
from switch.core.rules import Rules, RulesError, check
from switch.core.state import State

MARKS_MAX = 100


@rule(Join)
def join(fold: Fold, p: Join) -> bool:
    """A new incarnation of a node. The one before it is fenced by the append itself; an entry names its heir."""
    state = fold.state
    new = Incarnation(p.node, p.number, p.token, p.boot_id, p.pid, p.start_time, Status.JOINING, applied=fold.index,
                      joined=fold.index)
    if new.id in state.incarnations:
        return False
    if not state.meta.cluster:
        state.put_meta(None, replace(state.meta, cluster=p.cluster, origin=p.token))
    state.put_incarnation(new.id, new)
    _prune(fold)
    fold.applied.pair = True
    fold.note("node.joined", node=p.node, incarnation=new.id, pid=p.pid)
    return True


def _prune(fold: Fold) -> None:
    """Past incarnations that nothing refers to are dropped; a node has a few at the most."""
    state = fold.state
    used = set()
    reached = {session.owner for session in state.sessions.values()}
    reached.update(transaction.owner for transaction in state.transactions.values())
    reached.update(state.nodes.values())
    while reached:  # heirs of heirs
        used |= reached
        reached = {state.incarnations[id_].heir for id_ in reached if id_ in state.incarnations} - used
    for id_ in sorted(set(state.incarnations) - used):
        if state.over(id_):
            state.put_incarnation(id_, None)


def _mine(fold: Fold) -> Incarnation:
    return fold.state.incarnations[fold.by]


@rule(Live)
def live(fold: Fold, p: Live) -> bool:
    again = fold.state.meta.version > 1 and _mine(fold).status is not Status.JOINING
    return not again and _become(fold, Status.LIVE, "node.live")


@rule(Activate)
def activate(fold: Fold, p: Activate) -> bool:
    """Only ever upwards. Who cannot apply it (it was replaced by older software meanwhile) leaves."""
    state = fold.state
    if p.version <= state.meta.version:
        return False
    state.put_meta(None, replace(state.meta, version=p.version))
    fold.applied.pair = True
    fold.note("entries.version", version=p.version)
    return True


@rule(Leaving)
def leaving(fold: Fold, p: Leaving) -> bool:
    return _mine(fold).status is Status.LIVE and _become(fold, Status.LEAVING, "node.leaving")


@rule(Leave)
def leave(fold: Fold, p: Leave) -> bool:
    """In order, after its sessions: what is left of it falls to the lead."""
    for id_ in sorted(id_ for id_, s in fold.state.sessions.items() if fold.state.acting(s.owner) == fold.by):
        ended(fold, fold.state.sessions[id_], -1, "node left")
    return _become(fold, Status.LEFT, "node.left")


def _become(fold: Fold, status: Status, event: str) -> bool:
    fold.state.put_incarnation(fold.by, replace(_mine(fold), status=status))
    fold.applied.pair = True
    fold.note(event, incarnation=fold.by)
    return True


@rule(Heir)
def heir(fold: Fold, p: Heir) -> bool:
    """The appender saw the end of `dead`'s process. What it holds no socket of ends here."""
    state = fold.state
    dead = state.incarnations.get(p.dead)
    gone = state.meta.version > 1 and state.over(fold.by)
    if dead is None or state.over(p.dead) or gone or p.dead == fold.by:
        return False
    held = set(p.held)
    theirs = sorted(id_ for id_, session in state.sessions.items() if state.acting(session.owner) == p.dead)
    state.put_incarnation(p.dead, replace(dead, status=Status.DEAD, heir=fold.by))
    for id_ in sorted(id_ for id_, item in state.incarnations.items() if item.heir == p.dead):
        # whom the dead one acted for: so that who acts is found in one step, however many takeovers there were
        state.put_incarnation(id_, replace(state.incarnations[id_], heir=fold.by))
    if p.poison:
        state.put_mark(p.poison, state.marks.get(p.poison, 0) + 1)
        seldom = sorted(state.marks, key=lambda mark: (mark == p.poison, state.marks[mark], mark))
        for mark in seldom[:-MARKS_MAX]:
            state.put_mark(mark, None)
    for id_ in theirs:
        if id_ in held:
            fold.applied.touched[id_] = None
        else:
            ended(fold, state.sessions[id_], -1, "lost with its node")
    fold.applied.pair = True
    fold.note("node.heir", dead=p.dead, heir=fold.by, held=len(held), sessions=len(theirs))
    return True


@rule(Move)
def move(fold: Fold, p: Move) -> bool:
    """Sessions that the appender still has go to the other node, if that lives; the rest of the list is passed over."""
    if p.to not in fold.state.live():
        for id_ in p.sessions:
            fold.applied.touched[id_] = None
        return False
    for id_ in p.sessions:
        session = fold.state.sessions.get(id_)
        if session is not None and fold.state.acting(session.owner) == fold.by:
            fold.put(replace(session, owner=p.to))
        fold.applied.touched[id_] = None
    fold.note("session.moved", to=p.to, sessions=len(p.sessions))
    return True


@rule(Tick)
def tick(fold: Fold, p: Tick) -> bool:
    """Log time advances by the first of two ticks that name the same predecessor, so no stretch of time counts twice.

    One tick advances it by two heartbeats at the most: without etcd, timers stand still.
    """
    state, limits = fold.state, fold.rules.limits
    state.put_incarnation(fold.by, replace(_mine(fold), applied=p.applied))
    fold.applied.ticks.append((p.hash_index, p.hash))
    meta = state.meta
    if p.clock_index == meta.clock_index:
        elapsed = min(max(p.elapsed_ms, 0), 2 * limits.heartbeat_ms)
        state.put_meta(None, replace(meta, clock_ms=meta.clock_ms + elapsed, clock_index=fold.index))
        if meta.segment_size and state.meta.clock_ms - meta.segment_ms > limits.replay_window_ms // 10:
            close_segment(fold)
    return True


def still_needed(state: State, before: Rules, rules: Rules) -> list[str]:
    """The links that new rules leave out, or give another rail, though a transaction or an advice still needs them."""
    needed = {advice.link for advice in state.advices.values()}
    for transaction in state.transactions.values():
        needed.update((transaction.link, transaction.target))
    return sorted(needed.intersection(_gone(before, rules)))


def _gone(before: Rules, rules: Rules) -> list[str]:
    rails = {link.name: link.rail for link in rules.links}
    return [link.name for link in before.links if rails.get(link.name) != link.rail]


@rule(Configure)
def configure(fold: Fold, p: Configure) -> bool:
    """A link may go, and then its sessions end, unless a transaction or an advice still needs it."""
    state = fold.state
    try:
        rules = Rules.decode(p.rules)
        check(rules)
    except (msgspec.MsgspecError, RulesError) as error:
        fold.note("rules.refused", by=fold.by, error=type(error).__name__)
        return False
    if needed := still_needed(state, fold.rules, rules):
        fold.note("rules.refused", by=fold.by, error=f"still needed: {', '.join(needed)}")
        return False
    gone = _gone(fold.rules, rules)
    for id_ in sorted(id_ for id_, session in state.sessions.items() if session.link in gone):
        ended(fold, state.sessions[id_], -1, "link removed")
    state.put_meta(None, replace(state.meta, rules=p.rules))
    fold.configure()
    fold.applied.pair = True
    fold.note("rules.active", by=fold.by, bytes=len(p.rules))
    return True


@rule(Snapshot)
def snapshot(fold: Fold, p: Snapshot) -> bool:
    if p.index <= fold.state.meta.snapshot:
        return False
    fold.state.put_meta(None, replace(fold.state.meta, snapshot=p.index, log_bytes=0))
    return True
