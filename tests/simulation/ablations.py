"""One safeguard removed at a time: a simulation that does not notice cannot be trusted where it says that all is well.

Each entry patches the product in memory, for as long as its context lasts; the product itself has no such switch. A seed
counts as a catch only if it holds with the safeguard in place. Where one of two safeguards is enough, the pair of them is what
has to be caught, and what breaks without both has to hold without either.

Most safeguards matter in one kind of mishap only. Seeds then draw their faults from those kinds, with more traffic and among
the same checks: with all kinds it takes many times as many seeds, and some need a mishap that is seldom drawn alone.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import faults
import grpc.aio
import msgspec
from msgspec.structs import replace
from simulation import simulate

from messages.message import Decision
from switch import succession
from switch.core import apply_outcomes, apply_sessions, fold, offer, proposals, wires
from switch.core.records import Stage, Status
from switch.core.state import State
from switch.mirror import append, batch, keys, mirror, replica, sealing, snapshot, watch
from switch.node import Node
from switch.sessions import connection, handover, kernel, polling, reading
from switch.sessions.handover_messages import Sockets
from switch.succession import Succession

Ablate = Callable[[], contextlib.AbstractContextManager[Any]]
# of a patch, never a catch
DEFECTS = ("AttributeError", "NameError", "TypeError", "UnboundLocalError", "ImportError", "the simulation failed")


class Focus(msgspec.Struct, frozen=True):
    """Which faults there are, with more traffic than a seed draws (0: as it draws). `alone`: one fault, one member of etcd."""

    makers: tuple[faults.Maker, ...]
    terminals: int = 4
    requests: int = 15  # of each
    alone: bool = False

    def plan(self, seed: int) -> faults.Plan:
        plan = faults.draw(random.Random(seed), self.makers)
        if self.terminals:
            plan.terminals, plan.requests, plan.snapshot_entries = self.terminals, self.requests, 12
        if self.alone:
            plan.members, plan.faults = 1, plan.faults[:1]
        return plan


class Ablation(msgspec.Struct, frozen=True):
    """One safeguard, or a pair of them, and how to remove it."""

    name: str
    protects: str
    seeds: int  # it has to be caught within so many
    apply: tuple[Ablate, ...]
    focus: Focus | None = None  # None: all faults, as the seed draws them
    pair: str = ""  # of which one is enough: the name of the entry that removes both


class Catch(msgspec.Struct, frozen=True):
    """The first seed that shows that a safeguard is missing."""

    seed: int
    seeds: int  # run until then
    broke: str


@cache
def catch(name: str) -> Catch | None:
    """Run seeds from 0 without the safeguard, until one breaks that holds with it. None: none did.

    Of a pair: that holds with either of the two.
    """
    ablation = ABLATIONS[name]
    for seed in range(ablation.seeds):
        broke = without(ablation, seed)
        if broke and not _run(ablation, seed) and not any(without(each, seed) for each in _members(name)):
            return Catch(seed, seed + 1, broke)
    return None


def _members(pair: str) -> list[Ablation]:
    return [each for each in ABLATIONS.values() if each.pair == pair]


def without(ablation: Ablation, seed: int) -> str:
    """What breaks in a seed without the safeguard."""
    with _all(*ablation.apply):
        broke = _run(ablation, seed)
    if defect := next((each for each in DEFECTS if each in broke), None):
        raise AssertionError(f"{ablation.name}, seed {seed}: the patch itself is at fault, {defect}: {broke}")
    return broke


def _run(ablation: Ablation, seed: int) -> str:
    """What breaks, without what it was wrapped in on its way out of the product."""
    text = simulate(seed, plan=ablation.focus.plan(seed) if ablation.focus else None).violation
    return text.rpartition("Violation: ")[2]


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    safeguard: str
    protects: str
    stated: int  # seeds within which it has to be caught
    seeds: int | None  # that were needed; None: it was not caught, or must not be
    broke: str
    good: bool


def row(name: str) -> Row:
    """The outcome of one entry."""
    ablation = ABLATIONS[name]
    caught = catch(ablation.pair or name)
    if caught is None:
        return Row(name, ablation.protects, ablation.seeds, None, "nothing: it is not caught", False)
    if not ablation.pair:
        return Row(name, ablation.protects, ablation.seeds, caught.seeds, caught.broke, True)
    others = " and ".join(each.name for each in _members(ablation.pair) if each is not ablation)
    told = f"nothing: {others or 'another one'} is enough where without both: {caught.broke}"
    return Row(name, ablation.protects, ablation.seeds, None, told, True)


def _replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """A patch that is made from what it replaces."""
    return mock.patch.object(target, name, make(getattr(target, name)))


def _rule(proposal: type, make: Callable[[fold.Rule], fold.Rule]) -> Any:
    return mock.patch.dict(fold.RULES, {proposal: make(fold.RULES[proposal])})


@contextlib.contextmanager
def _all(*ablations: Ablate) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for each in ablations:
            stack.enter_context(each())
        yield


# --- the log in etcd


def fence_guard() -> Any:
    """Appends without the compare of our own fence."""

    def make(request: Any) -> Any:
        def unguarded(self: Any, value: bytes, rival: Any) -> Any:
            made = request(self, value, rival)
            del made.compare[0]
            return made

        return unguarded

    return _replaced(batch.Batch, "_request", make)


def fence_sequence() -> Any:
    """The fence says who may append, and does not advance."""
    return mock.patch.object(keys.Fence, "encode", lambda self: f"{self.incarnation} 0 {self.token}".encode())


def rival_fence() -> Any:
    """The heir entry neither compares nor sets the fence of the dead."""
    return _replaced(
        batch.Batch, "_request", lambda request: lambda self, value, rival: request(self, value, None)
    )


def identical_bytes() -> Any:
    """Each further attempt of an append is sealed anew."""

    class Resealed(batch.Batch):
        attempts = 0

        @property
        def request(self) -> Any:
            self.attempts += 1
            if self.attempts > 1 and not self.empty:
                self.value = self.reseal()
                self.made = self._request(self.value, self.rival)
            return self.made

        @request.setter
        def request(self, made: Any) -> None:
            self.made = made

    def make(create: Any) -> Any:
        def resealable(self: Any, body: bytes, offers: Any, size: int, rival: Any = None) -> Any:
            with mock.patch.object(append, "Batch", Resealed):
                made = create(self, body, offers, size, rival)
            made.reseal = lambda: self._sealer.seal(made.key, body)
            return made

        return resealable

    return _replaced(append.Appender, "_batch", make)


def settling() -> Any:
    """What is of unknown fate is repeated for as long as it takes."""
    return mock.patch.object(batch.Batch, "settle", lambda self, empty: None)


def gap_detection() -> Any:
    """The watch is believed to show everything."""

    async def believing(self: Any, response: Any) -> None:
        if response is grpc.aio.EOF or response.canceled:
            raise watch._Broken("stream ended")
        if response.compact_revision:
            raise watch._Gap("compacted")
        self._client.check(response.header, 0)
        for event in response.events:
            kv, pending = event.kv, self._pending
            if kv.key != self._keys.head:
                self._pending = kv
            elif kv.version > self._replica.index and pending is not None and pending.mod_revision == kv.mod_revision:
                self._replica.take(kv.version, pending)

    return mock.patch.object(watch.Watcher, "_receive", believing)


def sealed() -> Any:
    """Entries and snapshots in clear."""
    return _all(
        lambda: mock.patch.object(sealing.Sealer, "seal", lambda self, path, plain: plain),
        lambda: mock.patch.object(sealing.Sealer, "open", lambda self, path, value: value),
    )


def snapshot_pointer() -> Any:
    """Who has written a snapshot moves the pointer to it, wherever it was."""

    def make_write(write: Any) -> Any:
        async def writing(self: Any, *given: Any) -> Any:
            self.blind = True
            try:
                return await write(self, *given)
            finally:
                self.blind = False

        return writing

    def make_survey(survey: Any) -> Any:
        async def blind(self: Any) -> Any:
            pointer, revision, present = await survey(self)
            return (None, 0, present) if self.blind else (pointer, revision, present)

        return blind

    def make_txn(txn: Any) -> Any:
        async def unguarded(self: Any, request: Any, *given: Any) -> Any:
            if self.blind and any(guard.key == self._keys.pointer for guard in request.compare):
                del request.compare[:]
            return await txn(self, request, *given)

        return unguarded

    kind = snapshot.Snapshots
    return _all(
        lambda: mock.patch.object(kind, "blind", False, create=True),
        lambda: _replaced(kind, "_write", make_write),
        lambda: _replaced(kind, "_survey", make_survey),
        lambda: _replaced(kind, "_txn", make_txn),
    )


def truncation_applied() -> Any:
    """The log is truncated up to the snapshot, whatever the peer has applied."""
    return _replaced(
        mirror.Mirror, "truncate", lambda truncate: lambda self, below: truncate(self, 1 << 62)
    )


def reload() -> Any:
    """Who finds the log truncated above what it has applied does not load the snapshot instead."""

    def make(read_on: Any) -> Any:
        async def without(self: Any, listing: Any) -> None:
            await read_on(self, replace(listing, pointer=b"") if self.index else listing)

        return without

    return _replaced(replica.Replica, "_read_on", make)


def truncation_snapshot() -> Any:
    """The log is truncated up to what is applied here, beyond the snapshot."""
    return _all(
        lambda: mock.patch.object(snapshot.Snapshots, "index", mock.AsyncMock(return_value=1 << 62)),
        lambda: _replaced(mirror.Mirror, "truncate", lambda truncate: lambda self, below: truncate(self, self.index)),
    )


def holding() -> Any:
    """Without etcd the node goes on as if nothing were."""
    return mock.patch.object(append.Appender, "supervise", lambda self, now: None)


# --- takeover


def kill_first() -> Any:
    """A suspect is believed to be dead."""
    return mock.patch.object(succession, "kill", mock.AsyncMock(return_value=True))


def mute_until_heir() -> Any:
    """Who has seen the end of a process acts for its sessions at once."""

    def make(gather: Any) -> Any:
        async def hasty(self: Any, dead: str) -> None:
            await gather(self, dead)
            state, held = self.engine.state, self._sessions.connections
            for session in list(state.sessions.values()):
                if state.acting(session.owner) == dead and session.id in held:
                    self._sessions._follow(held[session.id], session)

        return hasty

    return _replaced(Succession, "_gather", make)


def share_first() -> Any:
    """The peer gets a new session's socket some time after its entry."""

    def late(self: Any, opened: Any, then: Callable[[], None]) -> None:
        def share() -> None:
            if self._sessions.connections.get(opened.session) is opened:
                self.store.keep(opened.session, opened.fd)
                self.handover.send(Sockets((opened.open,)), [opened.fd])

        opened.shareable = True
        then()
        asyncio.get_running_loop().call_later(0.05, share)

    return mock.patch.object(Succession, "keep", late)


def drain_first() -> Any:
    """What is still on the handover socket when the peer has died is not taken in."""

    def make(drain: Any) -> Any:
        def deaf(self: Any) -> None:
            peer = self._holder.engine.state.incarnations.get(self.peer)
            if peer is not None and not succession._runs(peer):
                self._down("its process has ended")
            drain(self)

        return deaf

    return _replaced(handover.Handover, "drain", make)


def gather_first() -> Any:
    """Who starts names itself heir before its peer has brought the sockets of its store."""
    return mock.patch.object(Succession, "_gather", mock.AsyncMock())


def moving_mute() -> Any:
    """A session is read and written on while its handover is proposed."""
    ignored = property(lambda self: False, lambda self, value: None)
    return mock.patch.object(connection.Connection, "moving", ignored, create=True)


def leaving() -> Any:
    """A node that leaves does not say so before it has given everything away."""

    def make(become: Any) -> Any:
        async def silent(self: Any, proposal: Any, status: Any, deadline: float) -> None:
            if not isinstance(proposal, proposals.Leaving):
                await become(self, proposal, status, deadline)

        return silent

    return _replaced(Node, "_become", make)


def leaving_rule() -> Any:
    """A session may be moved to an incarnation that is leaving."""

    def live(self: State) -> list[str]:
        ids = (self.nodes[node] for node in sorted(self.nodes))
        return [id_ for id_ in ids if self.incarnations[id_].status in (Status.LIVE, Status.LEAVING)]

    def make(move: Any) -> Any:
        def lenient(state_fold: Any, p: Any) -> bool:
            with mock.patch.object(State, "live", live):
                return bool(move(state_fold, p))

        return lenient

    return _rule(proposals.Move, make)


def leaving_offered() -> Any:
    """Sessions are offered to a peer that is leaving."""

    def make(ready: Any) -> Any:
        def lenient(self: Any, peer: Any) -> bool:
            return bool(ready(self, replace(peer, status=Status.LIVE) if peer.status is Status.LEAVING else peer))

        return lenient

    return _replaced(Succession, "_ready", make)


# --- streams


def _adopting(change: Callable[[Any, Any], None]) -> Any:
    def make(adopt: Any) -> Any:
        def otherwise(self: Any, session: Any, now: float) -> int:
            state = adopt(self, session, now)
            change(self, session)
            return int(state)

        return otherwise

    return _replaced(connection.Connection, "adopt", make)


def kernel_counters() -> Any:
    """A session is resumed where the state, not the kernel, says."""

    def change(adopted: Any, session: Any) -> None:
        adopted.consumed, adopted.written, adopted.acked = session.applied, session.acked, session.acked

    return _adopting(change)


def skip_applied() -> Any:
    """What is applied is believed to be consumed."""

    def change(adopted: Any, session: Any) -> None:
        adopted.consumed = max(adopted.consumed, session.applied)

    return _adopting(change)


def syn_counted() -> Any:
    """The counters of a socket that connected are read as those of one that was accepted."""
    return _replaced(
        kernel, "counters", lambda counters: lambda sock, *, connecting: counters(sock, connecting=False)
    )


def consume_after() -> Any:
    """Input is taken out of the kernel when it is offered."""

    def make(propose: Any) -> Any:
        def greedy(self: Any, read: Any, proposal: Any) -> None:
            propose(self, read, proposal)
            read.consume(proposal.end, memoryview(bytearray(65_536)))

        return greedy

    return _replaced(reading.Reading, "_propose", make)


def write_after() -> Any:
    """An answer is written when it is proposed."""

    def make(submit: Any) -> Any:
        def hasty(self: Any, proposal: Any, subject: Any) -> None:
            submit(self, proposal, subject)
            for id_, frame in proposal.frames if isinstance(proposal, proposals.Answer) else ():
                to, session = self.sessions.connections.get(id_), self.engine.state.sessions.get(id_)
                if to is not None and to.mine and session is not None and to.written == session.output:
                    with contextlib.suppress(OSError):
                        to.written += to.sock.send(frame)

        return hasty

    return _replaced(Node, "submit", make)


def until_acknowledged() -> Any:
    """Output leaves the state when the kernel has it, not when the remote one has."""
    deaf = SimpleNamespace(unread=kernel.unread, unacknowledged=lambda sock: 0)
    return mock.patch.object(polling, "kernel", deaf)


# --- payments


def duplicates() -> Any:
    """A repeat is a request like any other."""

    def make(request: Any) -> Any:
        def forgetful(self: Any, place: Any, header: bytes, message: Any, age_ms: int) -> Any:
            key = message.duplicate_key + f"{place.session.id}@{place.start}".encode()
            return request(self, place, header, replace(message, duplicate_key=key), age_ms)

        return forgetful

    return _replaced(offer.Offers, "_request", make)


class _Blind(dict[Any, Any]):
    """Says of nothing that it is there; `get` finds it all the same."""

    def __contains__(self, key: object) -> bool:
        return False


class _BlindSet(set[Any]):
    def __contains__(self, key: object) -> bool:
        return False


def _blind(*names: str) -> Any:
    def make(init: Any) -> Any:
        def begin(self: State) -> None:
            init(self)
            for name in names:
                setattr(self, name, _Blind() if isinstance(getattr(self, name), dict) else _BlindSet())

        return begin

    return _replaced(State, "__init__", make)


def duplicates_applied() -> Any:
    """Whether a request is a repeat is decided where it is read, and not in the order of the log."""
    return _blind("in_flight", "outcomes")


def stan_parity() -> Any:
    """Both nodes give the same STANs."""
    return _replaced(wires.Wire, "stan", lambda stan: lambda self, state, node: stan(self, state, "a"))


def stan_applied() -> Any:
    """Whether a STAN or match key is free is not asked."""
    return _blind("pending", "stans_busy")


def undeliverable() -> Any:
    """An approval that reached nobody stands."""
    return mock.patch.object(apply_outcomes, "_must_undo", lambda *given: False)


def delivered() -> Any:
    """An approval that was acknowledged counts as undelivered."""
    return _replaced(
        apply_sessions,
        "copy_settled",
        lambda settled: lambda state_fold, number, *, delivered: settled(state_fold, number, delivered=False),
    )


def late_answers() -> Any:
    """After its timeout a request still takes its answer."""

    def make(timeout: Any) -> Any:
        def patient(state_fold: Any, p: Any) -> bool:
            return bool(timeout(state_fold, replace(p, outcome=replace(p.outcome, decision=Decision.INTERIM))))

        return patient

    return _rule(proposals.Timeout, make)


def first_decision() -> Any:
    """A second answer decides anew."""

    def make(answer: Any) -> Any:
        def again(state_fold: Any, p: Any) -> bool:
            decided = state_fold.state.transactions.get(p.transaction)
            if decided is not None and decided.stage is Stage.ANSWERED:
                state_fold.state.put_transaction(decided.id, replace(decided, stage=Stage.SENT))
            return bool(answer(state_fold, p))

        return again

    return _rule(proposals.Answer, make)


def advice_acknowledged() -> Any:
    """An advice is done with when it is sent."""

    def make(send: Any) -> Any:
        def careless(state_fold: Any, p: Any) -> bool:
            sent = bool(send(state_fold, p))
            if sent:
                state_fold.state.put_advice(p.advice, None)
            return sent

        return careless

    return _rule(proposals.AdviceSend, make)


def first_of_two_ticks() -> Any:
    """Every tick advances log time."""
    return _rule(
        proposals.Tick,
        lambda tick: lambda state_fold, p: tick(state_fold, replace(p, clock_index=state_fold.state.meta.clock_index)),
    )


def order_of_input() -> Any:
    """Input is accepted wherever it begins."""

    def make(taken: Any) -> Any:
        def anywhere(self: Any, proposal: Any) -> Any:
            session = self.state.sessions.get(proposal.session)
            return taken(self, replace(proposal, start=session.applied) if session is not None else proposal)

        return anywhere

    return _replaced(fold.Fold, "taken", make)


def one_offer() -> Any:
    """Input is offered again while its offer waits for the log."""

    def make(offering: Any) -> Any:
        def again(self: Any, read: Any, *given: Any) -> None:
            offering(self, read, *given)
            if read.pending:
                read.pending = 0
                self.want(read, True)

        return again

    return _replaced(reading.Reading, "_offer", make)


def over_entries() -> Any:
    """What an incarnation that is over has appended counts as its heir's."""

    def make(apply: Any) -> Any:
        def lenient(self: Any, by: str, *given: Any) -> Any:
            known = by in self.state.incarnations and self.state.over(by)
            return apply(self, (known and self.state.acting(by)) or by, *given)

        return lenient

    return _replaced(fold.Fold, "apply", make)


def quarantine() -> Any:
    """A frame that ends who parses it is parsed again by the next one."""
    return mock.patch.object(reading, "QUARANTINED", 1 << 30)


def parted() -> Any:
    """A node opens sessions that it cannot share with a peer that may be about to end it."""
    return mock.patch.object(Succession, "_part", lambda self: None)


# --- the table


def _etcd(text: str) -> faults.Maker:
    return next(maker for maker in faults.ETCD if maker(random.Random(0)).text == f"etcd: {text}")


def _lagging(dice: random.Random) -> faults.Fault:
    """The watch of one node shows nothing for a while: the other one is ahead of it."""
    name, seconds = dice.choice("ab"), 0.2 + 0.6 * dice.random()
    return faults.Fault(f"etcd: the watch of {name} lags", lambda simulation: simulation.cluster.watch_lag(seconds, name=name))


def _issuer(kind: str) -> faults.Maker:
    return lambda dice: faults.issuer(dice, kind)


def _at(*points: str) -> faults.Maker:
    return lambda dice: faults.kill_at_a_point(dice, *points)


def _late_opens(dice: random.Random) -> faults.Fault:
    """A node dies while terminals come back, what it last sent to etcd late."""
    again, late = faults.storm(dice), faults.kill_with_late_entries(dice)

    def strike(simulation: Any) -> None:
        again.strike(simulation)
        simulation.world.at(0.1, lambda: late.strike(simulation))

    return faults.Fault(f"{again.text}, {late.text}", strike, 0.5)


LATE = Focus((_etcd("requests are late"),))
LATE_DEATH = Focus((_late_opens,), terminals=16, requests=3, alone=True)
AWAY = Focus((faults.etcd_away,), terminals=0, alone=True)
CUT_OFF = Focus((faults.cut_off,))
RESTART = Focus((faults.restart,))
SLOW = Focus((_etcd("slow"),))
KILLS = Focus((faults.kill,))
QUIET = Focus((faults.kill,), terminals=0)

_TABLE = (
    # the log in etcd
    Ablation("fence guard", "each entry is in the log once, and none of who was fenced", 20, (fence_guard,), LATE),
    Ablation("fence sequence", "a late copy of an append is not applied again", 20, (fence_sequence,), LATE),
    Ablation("identical bytes on retry", "a node knows its own entry when it sees it", 60, (identical_bytes,),
             Focus((_etcd("requests are late"), _etcd("watches lag")))),
    Ablation("settling by an empty entry", "after an outage nothing is forwarded that is too old", 60, (settling,), AWAY),
    Ablation("holding", "what waits for etcd is offered anew, with its age", 60, (holding,), AWAY),
    Ablation("gap detection", "no entry is passed over", 20, (gap_detection,), Focus((_etcd("a watch loses an event"),))),
    Ablation("sealing", "no card data in clear outside of the process", 20, (sealed,)),
    Ablation("snapshot pointer guard", "the newest snapshot stays the newest", 60, (snapshot_pointer,), LATE),
    Ablation("truncation below the snapshot", "snapshot and log together hold everything", 60, (truncation_snapshot,),
             Focus((faults.restart, faults.kill))),
    Ablation("truncation below what all have applied", "who lags reads on", 0, (truncation_applied,), CUT_OFF,
             pair="truncation and reload"),
    Ablation("reload of the snapshot", "who lags behind the log goes on from the snapshot", 0, (reload,), CUT_OFF,
             pair="truncation and reload"),
    Ablation("truncation and reload", "both", 80, (truncation_applied, reload), CUT_OFF),
    # takeover
    Ablation("kill before adopt", "a former owner never writes again", 20, (kill_first,), Focus((faults.stop,))),
    Ablation("fence of the dead", "no entry of it after its heir's", 0, (rival_fence,), LATE_DEATH,
             pair="entries of the dead"),
    Ablation("rules ask who acts", "an entry of who is over changes nothing", 0, (over_entries,), LATE_DEATH,
             pair="entries of the dead"),
    Ablation("entries of the dead", "both", 80, (rival_fence, over_entries), LATE_DEATH),
    Ablation("mute until heir", "nobody acts whom the log does not know as heir", 20, (mute_until_heir,),
             Focus((_at("write.before", "consume.before", "apply.after"),))),
    Ablation("socket before entry", "every session of the log survives its node", 60, (share_first,),
             Focus((faults.storm, faults.kill_in_a_turn))),
    Ablation("no session while parted", "as before, where both live and one ends the other", 20, (parted,),
             Focus((faults.cut_handover, faults.storm))),
    Ablation("drain before heir", "descriptors under way survive their sender", 80, (drain_first,),
             Focus((_at("share.after"), faults.storm))),
    Ablation("gather before heir", "sockets of the peer's store are waited for", 60, (gather_first,),
             Focus((faults.kill_in_turn,))),
    Ablation("mute while moving", "a session that is handed over has one owner", 80, (moving_mute,),
             Focus((faults.restart, _lagging))),
    Ablation("leaving, by record", "a node that leaves is not given back what it gave", 80, (leaving,), RESTART),
    Ablation("no move to who leaves", "as before, where both cross", 0, (leaving_rule,), RESTART,
             pair="sessions for who leaves"),
    Ablation("nothing is offered to who leaves", "as before", 0, (leaving_offered,), RESTART,
             pair="sessions for who leaves"),
    Ablation("sessions for who leaves", "both", 140, (leaving_rule, leaving_offered), RESTART),
    Ablation("quarantine", "a frame ends two processes at the most", 20, (quarantine,), Focus((faults.poison,))),
    # streams
    Ablation("the kernel counts", "a stream goes on at the exact byte", 20, (kernel_counters,), KILLS),
    Ablation("SYN is no output", "as before, where we connected", 20, (syn_counted,), KILLS),
    Ablation("skip of applied input", "input is taken once", 20, (skip_applied,), Focus((_at("consume.before"),))),
    Ablation("consume after apply", "input that no entry has stays in the kernel", 20, (consume_after,)),
    Ablation("write after apply", "nothing is told that the log does not know", 20, (write_after,)),
    Ablation("outbox until acknowledged", "what did not arrive is known not to have", 60, (until_acknowledged,),
             Focus((faults.leave,))),
    Ablation("input in order", "no input is taken twice or left out", 0, (order_of_input,), QUIET, pair="input once"),
    Ablation("one offer at a time", "as before; and duplicates in the log's order", 0, (one_offer, duplicates_applied), QUIET,
             pair="input once"),
    Ablation("input once", "both", 20, (order_of_input, one_offer, duplicates_applied), QUIET),
    # payments
    Ablation("duplicates", "nothing is forwarded twice", 20, (duplicates,), Focus((faults.storm,))),
    Ablation("duplicates in the log's order", "as before, where both nodes read one of them", 60, (duplicates_applied,),
             Focus((faults.storm, _etcd("requests are late")))),
    Ablation("STANs by node", "both nodes never give the same", 0, (stan_parity,), SLOW, pair="STANs"),
    Ablation("STANs in the log's order", "one that is pending is not used", 0, (stan_applied,), SLOW, pair="STANs"),
    Ablation("STANs", "both", 20, (stan_parity, stan_applied), SLOW),
    Ablation("undeliverable is undone", "an approval that nobody got does not stand", 20, (undeliverable,),
             Focus((faults.leave,))),
    Ablation("delivered is not undone", "an approval that was got stands", 20, (delivered,)),
    Ablation("late answers are absorbed", "a declined request is not approved afterwards", 20, (late_answers,),
             Focus((_issuer("late"),))),
    Ablation("first decision", "a second answer decides nothing", 60, (first_decision,),
             Focus((_issuer("twice"), _etcd("slow")))),
    Ablation("advices until acknowledged", "a reversal arrives", 20, (advice_acknowledged,),
             Focus((faults.reversals_unheard,))),
    Ablation("log time by the first of two ticks", "no stretch of time counts twice", 60, (first_of_two_ticks,),
             Focus((_etcd("requests are lost"), _etcd("requests are late")))),
)  # fmt: skip

ABLATIONS = {each.name: each for each in _TABLE}
