"""The two nodes as a pair: who stands by for whom, who is suspect, who becomes heir, and how sessions move.

One path for death, hang and stop: suspect, kill by pidfd, take in what is still on the handover socket, append the heir
entry under both fences; the world follows when it is applied. Every step may be cut short by our own death: whoever comes
next starts from the beginning, and the log decides.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Protocol

import msgspec

from switch.config import Pair
from switch.core.engine import Engine
from switch.core.proposals import Heir, Open, Proposal, encode_entry
from switch.core.records import Incarnation, Status
from switch.core.tend import Subject
from switch.detector import Detector
from switch.mirror.mirror import Mirror
from switch.ops.logs import event
from switch.peer import Watch, boot_id, kill, start_time
from switch.points import reach
from switch.poison import Poison
from switch.sessions.activation import Store
from switch.sessions.connection import Connection
from switch.sessions.handover import FDS_MAX, Handover
from switch.sessions.handover_messages import VERSION, Gone, Hello, Listeners, Sockets, Synced
from switch.sessions.links import Links
from switch.sessions.sessions import Sessions

log = logging.getLogger("switch.pair")
TICK_MS = 50.0
END_S = 0.5  # for a process that has closed its end of the handover socket, before it is killed
UNMET_MS = 2_000.0  # how long a process that runs may have no handover socket, as one that ends; less than node.SYNC_S
BRING_S = 5.0  # how long sockets are waited for that somebody else may bring
STILL_MS = 3_000.0  # entries of a live peer are some 250 ms apart; an election stops ours as well, and then we hold
MOVE_MAX = 100  # sessions in one handover proposal
TAKEOVERS_KEPT = 1000


class Takeover(msgspec.Struct, frozen=True):
    """One takeover, as operators see it."""

    dead: str
    noticed_epoch_ms: float
    killed_ms: float  # after noticing: its process has ended
    serving_ms: float  # after noticing: the heir entry is applied and its sessions are followed
    sessions: int


class Host(Protocol):
    """What the node gives."""

    def now(self) -> float: ...

    def epoch_ms(self) -> float: ...

    def submit(self, proposal: Proposal, subject: Subject) -> None: ...


class Succession:
    """The pair, as one node sees it. It is whom the handover socket tells (Holder) and who keeps sockets (Keeper)."""

    def __init__(self, host: Host, engine: Engine, poison: Poison, directory: Path, pair: Pair) -> None:
        self.engine = engine
        self.takeovers: list[Takeover] = []
        self.synced = False  # the peer sent us every socket it holds
        self._unsure: set[str] = set()  # restored sockets of which no entry knew
        self._host = host
        self._pair = pair.name
        self._poison = poison
        node, self._other = engine.node, "b" if engine.node == "a" else "a"
        paths = [directory / f"{pair.name}-{name}.handover" for name in (node, self._other)]
        self.handover = Handover(paths[0], paths[1], self)
        self.store = Store(os.environ.get("NOTIFY_SOCKET"))
        self._detector = Detector(pair.peer_silence_ms * (2 if node == "b" else 1), TICK_MS)
        self._still_ms = STILL_MS * (2 if node == "b" else 1)
        self._applied, self._still_ticks = ("", 0), 0  # of the peer: what it said last, and since when
        self._unmet: float | None = None  # since when the peer that was here before us cannot be greeted
        self._crowded = False  # it listens, and others wait there before us, of which it has accepted none
        self._watch = Watch(lambda id_: self.suspect(id_, "its process has ended"))
        self._succeeding: dict[str, asyncio.Task[None]] = {}
        self._noticed: dict[str, tuple[float, float, float]] = {}  # dead: noticed (epoch, own clock), killed
        self._closed = False

    def serve(self, sessions: Sessions, links: Links, mirror: Mirror) -> None:
        """The rest of the node."""
        self._sessions, self._links, self._mirror = sessions, links, mirror

    # --- the pair in the log

    def peer(self) -> Incarnation | None:
        """The newest incarnation of the other node, if it is joining or live."""
        id_ = self.engine.state.nodes.get(self._other)
        peer = self.engine.state.incarnations[id_] if id_ else None
        return peer if peer is not None and not self.engine.state.over(peer.id) else None

    def joined(self) -> None:
        """Our join entry is applied: introduce ourselves to the peer that was here before us."""
        me = self._me()
        self.handover.introduce(Hello(VERSION, self._pair, me.id, me.token, self.engine.version))
        peer = self.peer()
        alive = peer is not None and _runs(peer)
        self.synced = peer is None
        if alive and peer is not None and peer.joined < me.joined:
            # one greets, the other waits for it: of two crossed connections each node would close the other's
            self._greet()
        self.changed()

    def _greet(self) -> None:
        """Where it does not listen, or its queue is full, this is tried again."""
        now, crowded = self._host.now(), self._crowded
        try:
            there, self._crowded = self.handover.connect(again=self._unmet is not None), False
        except BlockingIOError:
            there = self._crowded = True
        if not there:
            self._unmet = now if self._unmet is None else self._unmet
            return
        self._unmet = None
        if not (crowded and self._crowded):
            self._detector.begin(now)

    def _meet(self, peer: Incarnation) -> None:
        """Who was here before us answers our greeting as soon as its event loop turns.

        One that runs and cannot even be greeted serves, and we would end it without having its sockets. Raises OSError.
        """
        if self._unmet is None:
            if self._crowded:
                self._greet()
            if self._detector.tick(self._host.now()):
                self.suspect(peer.id, "does not answer")
        elif self._host.now() - self._unmet < UNMET_MS:
            self._greet()
        elif peer.id not in self._succeeding:
            raise OSError(
                errno.ENOTCONN,
                f"{peer.id} runs, and does not listen at {self.handover.peer_path}: was run_directory changed, or emptied? "
                "This node ends, and the other one serves on. Where systemd keeps its sockets, kill that one (not stop): "
                "it comes back with them, in the directory that both have then",
            )

    def changed(self) -> None:
        """Incarnations joined, live, left or died."""
        self.handover.consider()
        peer = self.peer()
        if peer is None:
            self._watch.stop()
        else:
            self._watch.follow(peer)
        for former in list(self.engine.state.incarnations.values()):
            if self.engine.state.over(former.id) or former.id in self._succeeding:
                continue
            if former.node == self._other:
                if peer is not None and former.id != peer.id:
                    self.suspect(former.id, "its successor has joined")  # before we had noticed its end
            elif former.id != self.engine.incarnation:
                self._spawn(former.id, self._succeed_own(former))
        if self.engine.incarnation:
            self._settle()

    def _part(self) -> None:
        """Of two that live and cannot share sockets one ends the other: what that opened meanwhile would end with it."""
        peer = self.peer()
        parted = not self.handover.up and peer is not None and peer.id == self.handover.peer
        self._links.pause(parted and self.handover.peer not in self._noticed, "parted")
        self._links.pause(self.handover.behind, "behind")

    def _settle(self) -> None:
        self._sessions.settle_orphans(self.handover.peer if self.handover.up else "")

    # --- suspect, kill, fence, heir

    def suspect(self, id_: str, reason: str, grace_s: float = 0.0) -> None:
        """Any hint that the peer is gone leads here."""
        me = self.engine.incarnation
        if self.engine.state.over(id_) or id_ in self._succeeding or self._closed or not me or self.engine.state.over(me):
            return
        event(log, logging.WARNING, "peer.suspect", incarnation=id_, reason=reason)
        self._spawn(id_, self._succeed(self.engine.state.incarnations[id_], grace_s))

    async def _succeed(self, dead: Incarnation, grace_s: float) -> None:
        noticed, at = self._host.epoch_ms(), self._host.now()
        if not await kill(dead, grace_s, spare=lambda: self.engine.state.over(dead.id)):
            return  # it has left in order, and owns nothing; its process takes its time to end
        self._noticed[dead.id] = (noticed, at, self._host.now() - at)
        if self.handover.peer == dead.id:
            self.handover.drain()  # descriptors in flight survive their sender
            self.handover.part()
        self._part()
        await self._gather(dead.id)
        if self.engine.state.over(self.engine.incarnation):
            return  # we have left meanwhile: who starts next is its heir
        reach("heir.before")
        taken = await self._mirror.take_fence_of(dead.node, dead.number, lambda: self._heir_entry(dead))
        reach("heir.after")
        if not taken and not self.engine.state.over(dead.id):
            # its next incarnation has taken its fence: nothing of it can be appended any more, the entry is enough
            self._host.submit(self._heir(dead), ("heir", dead.id))

    async def _succeed_own(self, former: Incarnation) -> None:
        """Our own predecessor: its fence is ours, its process was seen to end before we joined.

        A live peer holds its sockets and is the better heir; we are, when none comes forward.
        """
        await self._wait_while(lambda: not self.engine.state.over(former.id) and self._peer_is_heir())
        await self._gather(former.id)
        if not self.engine.state.over(former.id):
            self._host.submit(self._heir(former), ("heir", former.id))

    async def _gather(self, dead: str) -> None:
        """What we, who have just started, do not hold of its sessions may be in the fd store of a node about to come back."""
        await self._wait_while(
            lambda: not self.engine.state.over(dead) and not self.synced and self._joining() and self._lacking(dead)
        )

    def _joining(self) -> bool:
        return self._me().status is Status.JOINING

    def _me(self) -> Incarnation:
        return self.engine.state.incarnations[self.engine.incarnation]

    def _lacking(self, dead: str) -> bool:
        state, held = self.engine.state, self._sessions.connections
        return any(state.acting(each.owner) == dead and each.id not in held for each in state.sessions.values())

    def _peer_is_heir(self) -> bool:
        peer = self.peer()
        return peer is not None and peer.status is not Status.JOINING and _runs(peer)

    async def _wait_while(self, condition: Callable[[], bool]) -> None:
        deadline = self._host.now() + BRING_S * 1000
        while condition() and self._host.now() < deadline:
            await asyncio.sleep(TICK_MS / 5000)

    def _spawn(self, id_: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._succeeding[id_] = task
        task.add_done_callback(lambda done: self._done(id_, done))

    def _done(self, id_: str, task: "asyncio.Task[None]") -> None:
        self._succeeding.pop(id_, None)
        if not task.cancelled() and task.exception() is not None and not self._mirror.failed.done():
            # Fenced and the like end the node through mirror.failed; anything else is a defect and must not be silent
            context = {"message": "succession failed", "exception": task.exception()}
            asyncio.get_running_loop().call_exception_handler(context)

    def _heir_entry(self, dead: Incarnation) -> bytes:
        return encode_entry([self._heir(dead)], self.engine.state.meta.version)

    def _heir(self, dead: Incarnation) -> Heir:
        return Heir(dead.id, self._held(dead.id), self._poison.frame_of(dead.node, dead.pid))

    def _held(self, dead: str) -> tuple[str, ...]:
        """The sockets we hold of sessions that the incarnation acts for, or may, once what is on its way is applied.

        Those are sessions that no entry knows yet, whoever opened them (they may have been given to it), and those that
        we have proposed to move to it: such an entry may be in the log before the heir entry, and not yet seen.
        """
        state = self.engine.state
        return tuple(
            id_ for id_, connection in self._sessions.connections.items()
            if id_ not in state.sessions or connection.moving or state.acting(state.sessions[id_].owner) == dead
        )  # fmt: skip

    def heir_applied(self, dead: str, heir: str, sessions: int) -> None:
        """An heir entry was applied and the world has followed. If we are the heir, settle what no entry knows."""
        if heir != self.engine.incarnation:
            return
        epoch, at, killed = self._noticed.pop(dead, (self._host.epoch_ms(), self._host.now(), 0.0))
        passed = round(self._host.now() - at, 2)
        self.takeovers.append(Takeover(dead, epoch, round(killed, 2), passed, sessions))
        del self.takeovers[:-TAKEOVERS_KEPT]
        event(log, logging.WARNING, "takeover.done", dead=dead, sessions=sessions, ms=passed)

    # --- the handover socket tells (Holder)

    def known(self, hello: Hello, pid: int) -> bool | None:
        incarnation = self.engine.state.incarnations.get(hello.incarnation)
        if incarnation is None:
            return None
        return (incarnation.token, incarnation.pid, incarnation.boot_id) == (hello.token, pid, boot_id())

    def peer_up(self) -> None:
        """Everything we hold goes over: listeners, then sessions, then the word that this was all."""
        self._detector.begin(self._host.now())
        self.share_listeners()
        held = [each for each in self._sessions.connections.values() if each.shareable]
        for first in range(0, len(held), FDS_MAX):
            rows = held[first : first + FDS_MAX]
            self.handover.send(Sockets(tuple(each.open for each in rows)), [each.fd for each in rows])
        self.handover.send(Synced(), [])
        self._settle()

    def share_listeners(self) -> None:
        """The peer accepts from our listening sockets, too."""
        names = sorted(self._links.listening)
        for first in range(0, len(names), FDS_MAX):
            part = names[first : first + FDS_MAX]
            fds = [self._links.listening[name].fileno() for name in part]
            self.handover.send(Listeners(tuple(part)), fds)

    def peer_down(self, incarnation: str, reason: str) -> None:
        self._links.peer = ""
        self.synced = False
        self._part()
        if reason:
            # a process that closes its sockets is about to end; one that leaves in order shall do so
            # of two that live, when the socket alone is gone, a kills b: they must not kill each other
            self.suspect(incarnation, reason, grace_s=END_S * (2 if self.engine.node == "b" else 1))

    def received(self, opens: tuple[Open, ...], sockets: list[socket.socket]) -> None:
        for open_, sock in zip(opens, sockets, strict=True):
            self._sessions.stand_by(open_, sock)
            connection = self._sessions.connections.get(open_.session)
            if connection is not None and connection.sock is sock:
                self.store.keep(open_.session, sock.fileno())
            self._unsure.discard(open_.session)
        if any(self.engine.state.over(each.session.partition(".")[0]) for each in opens):
            self._settle()

    def restore(self, open_: Open, sock: socket.socket) -> None:
        """A socket that the service manager kept for us. What no entry knows may be over, or not opened yet."""
        self.store.restored(open_.session)
        self._sessions.stand_by(open_, sock)
        if open_.session not in self._sessions.connections:
            self.store.forget(open_.session)
        elif open_.session not in self.engine.state.sessions:
            self._unsure.add(open_.session)

    def received_gone(self, ids: tuple[str, ...]) -> None:
        self._sessions.gone(ids)

    def received_listeners(self, names: tuple[str, ...], sockets: list[socket.socket]) -> None:
        for name, sock in zip(names, sockets, strict=True):
            self._links.hold(name, sock)

    def peer_synced(self) -> None:
        """What the peer opened and holds no longer was over before we came back."""
        self.synced = True
        for id_ in [id_ for id_ in self._unsure if id_.partition(".")[0] == self.handover.peer]:
            self._unsure.discard(id_)
            if id_ in self._sessions.connections and id_ not in self.engine.state.sessions:
                self._sessions.release(self._sessions.connections[id_])

    def peer_beat(self) -> None:
        self._detector.beat(self._host.now())

    # --- keeping sockets (Keeper)

    def keep(self, connection: Connection, then: Callable[[], None]) -> None:
        def shared() -> None:
            reach("share.after")
            connection.shareable = True
            then()

        reach("share.before")
        self.store.keep(connection.session, connection.fd)
        self.handover.send(Sockets((connection.open,)), [connection.fd], shared)
        if self.handover.behind:  # else all that were accepted until the peer reads again would end with us
            self._links.pause(True, "behind")

    def forget(self, connection: Connection) -> None:
        self.store.forget(connection.session)
        self.handover.send(Gone((connection.session,)), [])

    def release(self, connection: Connection) -> None:
        self.store.forget(connection.session)

    # --- what has no event

    def tick(self) -> None:
        """Every TICK_MS: is the peer there, and may it be given sessions?"""
        self.handover.alive()
        self.handover.drain()
        self._part()
        peer = self.peer()
        if peer is None or not self.engine.incarnation:
            return
        if not self.handover.up or peer.id != self.handover.peer:
            if peer.joined < self._me().joined:
                self._meet(peer)
            return
        if self._detector.tick(self._host.now()):
            self.suspect(peer.id, "silent")
        elif self._stands_still(peer):
            self.suspect(peer.id, "its entries have stopped")
        self._links.peer = peer.id if self._ready(peer) else ""

    def _stands_still(self, peer: Incarnation) -> bool:
        """Whether its entries have stopped while ours go on: it is cut off from etcd, or lame, and its sessions wait."""
        seen, before = (peer.id, peer.applied), self._applied
        self._applied = seen
        moves = seen != before or self._mirror.held or peer.status is Status.JOINING
        self._still_ticks = 0 if moves else self._still_ticks + 1  # ticks, not time: a pause of ours is one tick
        return self._still_ticks * TICK_MS > self._still_ms

    def _ready(self, peer: Incarnation) -> bool:
        """Whether the peer can act for any of our sessions."""
        same = self.handover.up and self.handover.peer == peer.id and peer.id not in self._succeeding
        return same and peer.status is Status.LIVE and self.synced

    def balance(self) -> None:
        """A peer that has come back gets its share of the sessions, by handover: its slots of networks, half of the rest."""
        peer = self.peer()
        if peer is None or not self._ready(peer) or self.engine.state.meta.version == 1 < self.engine.version:
            return  # in version 1 it cannot say that it leaves: what it is given back would end with it
        state, me, live = self.engine.state, self.engine.incarnation, self.engine.state.live()
        move: list[str] = []
        for link, ids in state.links.items():
            owners = {id_: state.acting(state.sessions[id_].owner) for id_ in ids}
            mine = [id_ for id_, owner in owners.items() if owner == me]
            if self.engine.wires[link].link.outbound:
                move += [id_ for id_ in mine if live[state.sessions[id_].slot % len(live)] == peer.id]
                continue
            surplus = (len(mine) - sum(owner == peer.id for owner in owners.values())) // 2
            if surplus > max(1, len(owners) // 10):
                move += mine[:surplus]
        self._sessions.move(move[:MOVE_MAX], peer.id)

    def agreed_version(self) -> int:
        """The newest version of entries that both nodes apply; the active one while there is no live peer to agree with.

        Before the other node's first life, ours.
        """
        peer = self.peer()
        if self._other not in self.engine.state.nodes:
            return self.engine.version
        if peer is None or not self._ready(peer):
            return self.engine.state.meta.version
        return min(self.engine.version, self.handover.entries)

    def peer_comes(self) -> bool:
        """Whether there is a peer that may be able to take our sessions soon: it catches up, or greets us just now."""
        peer = self.peer()
        return peer is not None and peer.status is not Status.LEAVING and _runs(peer)

    def drain(self) -> bool:
        """Everything we act for goes to the peer (we are about to leave). False when nobody can take it."""
        peer = self.peer()
        if peer is None or not self._ready(peer):
            return False
        mine = [id_ for id_, each in self._sessions.connections.items() if each.mine and not each.moving]
        self._sessions.move(mine[:MOVE_MAX], peer.id)
        return True

    def close(self) -> None:
        self._closed = True
        self._watch.stop()
        for task in self._succeeding.values():
            task.cancel()
        self.handover.close()
        self.store.close()


def _runs(incarnation: Incarnation) -> bool:
    return incarnation.boot_id == boot_id() and start_time(incarnation.pid) == incarnation.start_time
