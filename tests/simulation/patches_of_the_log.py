"""Patches that remove safeguards of the log in etcd and of takeover."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import grpc.aio
from msgspec.structs import replace
from patching import all_of, replaced, rule

from switch import succession
from switch.core import proposals
from switch.core.records import Status
from switch.core.state import State
from switch.mirror import append, batch, keys, mirror, replica, sealing, snapshot, watch
from switch.node import Node
from switch.sessions import connection, handover
from switch.sessions.handover_messages import Sockets
from switch.succession import Succession

# --- the log in etcd


def fence_guard() -> Any:
    """Appends without the compare of our own fence."""

    def make(request: Any) -> Any:
        def unguarded(self: Any, value: bytes, rival: Any) -> Any:
            made = request(self, value, rival)
            del made.compare[0]
            return made

        return unguarded

    return replaced(batch.Batch, "_request", make)


def fence_sequence() -> Any:
    """The fence says who may append, and does not advance."""
    return mock.patch.object(keys.Fence, "encode", lambda self: f"{self.incarnation} 0 {self.token}".encode())


def rival_fence() -> Any:
    """The heir entry neither compares nor sets the fence of the dead."""
    return replaced(
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

    return replaced(append.Appender, "_batch", make)


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
    return all_of(
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
    return all_of(
        lambda: mock.patch.object(kind, "blind", False, create=True),
        lambda: replaced(kind, "_write", make_write),
        lambda: replaced(kind, "_survey", make_survey),
        lambda: replaced(kind, "_txn", make_txn),
    )


def truncation_applied() -> Any:
    """The log is truncated up to the snapshot, whatever the peer has applied."""
    return replaced(
        mirror.Mirror, "truncate", lambda truncate: lambda self, below: truncate(self, 1 << 62)
    )


def reload() -> Any:
    """Who finds the log truncated above what it has applied does not load the snapshot instead."""

    def make(read_on: Any) -> Any:
        async def without(self: Any, listing: Any) -> None:
            await read_on(self, replace(listing, pointer=b"") if self.index else listing)

        return without

    return replaced(replica.Replica, "_read_on", make)


def truncation_snapshot() -> Any:
    """The log is truncated up to what is applied here, beyond the snapshot."""
    return all_of(
        lambda: mock.patch.object(snapshot.Snapshots, "index", mock.AsyncMock(return_value=1 << 62)),
        lambda: replaced(mirror.Mirror, "truncate", lambda truncate: lambda self, below: truncate(self, self.index)),
    )


def holding() -> Any:
    """Without etcd the node goes on as if nothing were."""
    return mock.patch.object(append.Appender, "supervise", lambda self, now: None)


# --- takeover


def snapshots_deleted() -> Any:
    """Chunks of older snapshots stay."""
    return mock.patch.object(snapshot.Snapshots, "delete_old", mock.AsyncMock())


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

    return replaced(Succession, "_gather", make)


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

    return replaced(handover.Handover, "drain", make)


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

    return replaced(Node, "_become", make)


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

    return rule(proposals.Move, make)


def leaving_offered() -> Any:
    """Sessions are offered to a peer that is leaving."""

    def make(ready: Any) -> Any:
        def lenient(self: Any, peer: Any) -> bool:
            return bool(ready(self, replace(peer, status=Status.LIVE) if peer.status is Status.LEAVING else peer))

        return lenient

    return replaced(Succession, "_ready", make)


def ages_of_standby() -> Any:
    """While the switch holds, only who acts for a session notes since when its input has waited."""
    return mock.patch.object(connection.Connection, "stand_by", lambda self, applied, now: None)


# --- operators


def rules_kept() -> Any:
    """Rules whose entry was not written while the switch held are given up."""
    return _given_up("configure")


def word_kept() -> Any:
    """An operator's word on a parked advice, the same."""
    return _given_up("settle")


def _given_up(kind: str) -> Any:
    def make(offer_again: Any) -> Any:
        def forgetful(self: Any) -> None:
            self._reopen = [subject for subject in self._reopen if subject[0] != kind]
            offer_again(self)

        return forgetful

    return replaced(Node, "_offer_again", make)
