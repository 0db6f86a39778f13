"""One safeguard removed at a time: a simulation that does not notice cannot be trusted where it says that all is well.

Each entry patches the product in memory, for as long as its context lasts; the product itself has no such switch. A seed
counts as a catch only if it holds with the safeguard in place.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
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
from switch.core import fold, offer, proposals, wires
from switch.core.records import Stage, Status
from switch.core.state import State
from switch.mirror import append, batch, keys, mirror, replica, sealing, snapshot, watch
from switch.node import Node
from switch.sessions import connection, handover, kernel, polling, reading
from switch.succession import Succession

Ablate = Callable[[], contextlib.AbstractContextManager[Any]]
DEFECTS = ("AttributeError", "NameError", "TypeError", "UnboundLocalError", "ImportError")  # of a patch, never a catch


class Ablation(msgspec.Struct, frozen=True):
    """One safeguard and how to remove it. What it protects stands in `apply`'s docstring, as what happens without it."""

    apply: Ablate
    seeds: int  # it has to be caught within so many; 0: no seed has caught it yet
    focus: tuple[faults.Maker, ...] = ()  # these faults alone

    @property
    def name(self) -> str:
        return str(getattr(self.apply, "__name__", ""))


class Catch(msgspec.Struct, frozen=True):
    """The first seed that shows that a safeguard is missing."""

    seed: int
    broke: str


def catch(ablation: Ablation, seeds: int) -> Catch | None:
    """Run seeds from 0 without the safeguard, until one breaks that holds with it. None: none did."""
    for seed in range(seeds):
        with ablation.apply():
            broke = simulate(seed, plan=_plan(ablation, seed)).violation
        if any(defect in broke for defect in DEFECTS):
            raise AssertionError(f"{ablation.name}: the patch is wrong: {broke}")
        if broke and not simulate(seed, plan=_plan(ablation, seed)).violation:
            return Catch(seed, broke)
    return None


def _plan(ablation: Ablation, seed: int) -> faults.Plan | None:
    return faults.draw(random.Random(seed), ablation.focus) if ablation.focus else None


def _replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """A patch that is made from what it replaces."""
    return mock.patch.object(target, name, make(getattr(target, name)))


def _rule(proposal: type, make: Callable[[fold.Rule], fold.Rule]) -> Any:
    return mock.patch.dict(fold.RULES, {proposal: make(fold.RULES[proposal])})


@contextlib.contextmanager
def _both(*ablations: Ablate) -> Iterator[None]:
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
    return _both(
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
    return _both(
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
    return _both(
        lambda: mock.patch.object(snapshot.Snapshots, "index", mock.AsyncMock(return_value=1 << 62)),
        lambda: _replaced(mirror.Mirror, "truncate", lambda truncate: lambda self, below: truncate(self, self.index)),
    )


def holding() -> Any:
    """Without etcd the node goes on as if nothing were."""
    return mock.patch.object(append.Appender, "supervise", lambda self, now: None)


# --- takeover


def kill_first() -> Any:
    """A suspect is believed to be dead."""
    return mock.patch("switch.succession.kill", mock.AsyncMock(return_value=True))


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
                self.handover.send(polling_sockets((opened.open,)), [opened.fd])

        from switch.sessions.handover_messages import Sockets as polling_sockets

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

    def make(move: Any) -> Any:
        def lenient(state_fold: Any, p: Any) -> bool:
            def live(self: State) -> list[str]:
                ids = (self.nodes[node] for node in sorted(self.nodes))
                return [id_ for id_ in ids if self.incarnations[id_].status in (Status.LIVE, Status.LEAVING)]

            with mock.patch.object(State, "live", live):
                return bool(move(state_fold, p))

        return lenient

    return _rule(proposals.Move, make)


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
    return mock.patch("switch.core.apply_payments._must_undo", lambda *given: False)


def delivered() -> Any:
    """An approval that was acknowledged counts as undelivered."""
    return _replaced(
        __import__("switch.core.apply_sessions", fromlist=["apply_sessions"]),
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


def owner_of_input() -> Any:
    """Input is accepted from whoever appends it."""

    def make(taken: Any) -> Any:
        def anybody(self: Any, proposal: Any) -> Any:
            session, by = self.state.sessions.get(proposal.session), self.by
            if session is not None:
                self.by = self.state.acting(session.owner)
            try:
                return taken(self, proposal)
            finally:
                self.by = by

        return anybody

    return _replaced(fold.Fold, "taken", make)


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


# --- the table


def stan() -> Any:
    """Both nodes give the same STANs, and whether one is free is not asked (either of the two alone protects)."""
    return _both(stan_parity, stan_applied)


ABLATIONS = [
    Ablation(fence_guard, 40),
    Ablation(fence_sequence, 40),
    Ablation(identical_bytes, 120),
    Ablation(gap_detection, 80),
    Ablation(sealed, 5),
    Ablation(truncation_snapshot, 200),
    Ablation(kill_first, 40),
    Ablation(mute_until_heir, 60),
    Ablation(share_first, 60, (faults.storm, faults.kill_in_a_turn)),
    Ablation(moving_mute, 200),
    Ablation(leaving, 100, (faults.restart,)),
    Ablation(kernel_counters, 40),
    Ablation(skip_applied, 80),
    Ablation(syn_counted, 100),
    Ablation(consume_after, 5),
    Ablation(write_after, 5),
    Ablation(until_acknowledged, 40, (faults.leave,)),
    Ablation(duplicates, 150),
    Ablation(stan, 20),
    Ablation(undeliverable, 30, (faults.leave,)),
    Ablation(delivered, 10),
    Ablation(late_answers, 60),
    Ablation(advice_acknowledged, 200),
    Ablation(first_of_two_ticks, 20),
    Ablation(quarantine, 120),
    # no seed has shown yet that these matter: another safeguard does the same, or a fault is missing
    Ablation(rival_fence, 0, (faults.kill_with_late_entries,)),
    Ablation(settling, 0),
    Ablation(snapshot_pointer, 0),
    Ablation(truncation_applied, 0),
    Ablation(reload, 0),
    Ablation(holding, 0),
    Ablation(drain_first, 0, (faults.storm, faults.kill_in_a_turn)),
    Ablation(gather_first, 0, (faults.kill_both,)),
    Ablation(leaving_rule, 0, (faults.restart,)),
    Ablation(duplicates_applied, 0),
    Ablation(first_decision, 0),
    Ablation(order_of_input, 0),
    Ablation(owner_of_input, 0),
]
