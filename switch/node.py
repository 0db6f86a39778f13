"""One node at work: the follower of the log. Wires engine, mirror and sessions together and decides nothing itself."""

import asyncio
import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

from switch.config import Config, ConfigError, load_again
from switch.core import snapshot
from switch.core.apply_pair import still_needed
from switch.core.engine import Engine
from switch.core.fold import Applied, Note
from switch.core.proposals import (
    Activate,
    Configure,
    Join,
    Leave,
    Leaving,
    Live,
    Open,
    Proposal,
    Settle,
    Snapshot,
    TooNew,
    check_version,
    encode,
    encode_entry,
)
from switch.core.records import Incarnation, Status
from switch.core.tend import Subject
from switch.datakeys import DataKeys
from switch.journal.writer import Writer
from switch.mirror.entry import Entry
from switch.mirror.errors import ProposalTooLarge
from switch.mirror.mirror import Mirror
from switch.mirror.sealing import Sealer
from switch.ops.logs import event
from switch.ops.metrics import Metrics
from switch.peer import boot_id, kill, start_time
from switch.points import reach
from switch.poison import Poison
from switch.replay import differs
from switch.sessions import kernel
from switch.sessions.activation import accepted_by, given, listeners, stored
from switch.sessions.links import Links
from switch.sessions.polling import Polling
from switch.sessions.sessions import Sessions
from switch.succession import TICK_MS, Succession
from switch.witness import Witness

log = logging.getLogger("switch.node")
POLL_MS = 100
LEAVE_S = 5.0  # how long a node that leaves waits for what it has asked for
PEER_S = 3.0  # of those, how long a peer that is about to be ready is waited for
DRAIN_S = 30.0  # how long sessions may go to the peer, as long as some do; less than the unit's TimeoutStopSec
SYNC_S = 3.0  # how long a joiner waits for the peer's sockets
NETWORKS_S = 2.0  # how long a node waits for its networks before it listens
SHARE_AGAIN_S = 2.0
SETTLE_MS = 250.0  # after a hold or takeover: answers that wait in the kernel go before timeouts
LOUD = {"state.diverged": logging.CRITICAL, "node.heir": logging.WARNING, "transaction.timeout": logging.WARNING,
        "transaction.undone": logging.WARNING, "link.sign_on_refused": logging.WARNING,
        "journal.full": logging.WARNING}  # fmt: skip
UNTOLD_MAX = 10_000  # entries with events that the peer has appended and not applied yet, by what it said last
QUIET = {"request.repeated", "request.refused", "advice.queued", "advice.acknowledged"}


class Diverged(Exception):
    """This node's state is not what the log says."""


class Node:
    """The daemon's heart. `run` returns when asked to stop; an error that ends this incarnation is raised."""

    def __init__(self, config: Config, node: str, path: Path, mirror: type[Mirror] = Mirror) -> None:
        self.config = config
        self._path = path
        self.node = node
        self.metrics = Metrics(node)
        self.engine = Engine(node)
        self._loop = asyncio.get_running_loop()
        self._boot_id = boot_id()
        directory = Path(config.pair.run_directory)
        self.poison = Poison(directory / f"{config.pair.name}.poison", node, os.getpid())
        self.keys = DataKeys(directory / f"{config.pair.name}.data-keys", node, config.pair.data_key_minutes)
        self.witness = Witness(directory / f"{config.pair.name}.witness", node)
        self.engine.opened = self.keys.open
        self.succession = Succession(self, self.engine, self.poison, directory, config.pair)
        self.sessions = Sessions(self.engine, self.submit, self.succession, self.poison, self.keys, self._boot_id, self.now)
        self.polling = Polling(self.sessions, self.submit, self.now)
        self._given = given(dict(os.environ), os.getpid())
        self._listeners = listeners(self._given, config.link)
        self.links = Links(self.sessions, node, self._listeners, self.now)
        self.mirror = mirror(config.etcd, config.pair.name, node, Sealer(config.pair.key_file), self)
        self.succession.serve(self.sessions, self.links, self.mirror)
        self.journal = Writer(lambda: self.config, node, self.engine, self.mirror, self.submit, self.metrics)
        self._ticking = self._activating = False
        self._tend_soon = False
        self._snapshotting: asyncio.Task[None] | None = None
        self._verifying: asyncio.Task[bool] | None = None  # the nodes' hashes differed
        self._tend_after = 0.0  # input that waits goes before timers (after a hold or a takeover)
        self._leaving = False
        self._untold: deque[tuple[int, str, list[Note]]] = deque(maxlen=UNTOLD_MAX)  # by index and who: of others, see _say
        self._reopen: list[Subject] = []
        self._stop = asyncio.Event()

    def now(self) -> float:
        return self._loop.time() * 1000

    def epoch_ms(self) -> float:
        return time.time() * 1000

    def submit(self, proposal: Proposal, subject: Subject) -> None:
        """Raises ProposalTooLarge: what an entry cannot hold is its maker's affair."""
        try:
            body = encode(self.keys.sealed(proposal, self.mirror.entry_version))
        except OverflowError:
            raise ProposalTooLarge(f"a number in a {type(proposal).__name__} is beyond 64 bits") from None
        self.mirror.submit(body, subject)

    def stop(self) -> None:
        """Ask `run` to leave in order."""
        self._stop.set()

    def reload(self) -> None:
        """Read the configuration file again; its rules become active on both nodes by an entry. Raises ConfigError."""
        config = load_again(self._path)
        needed = still_needed(self.engine.state, self.engine.rules, config.rules)
        if needed:
            raise ConfigError(f"links that requests or advices still need are gone: {', '.join(needed)}; drain them first")
        self.submit(Configure(config.rules.encode()), ("configure", 0))
        self.config = config

    def _read_with_peer(self) -> None:
        """The peer has read the file again: what stands there beside the rules (the journal) is to be the same here."""
        try:
            config = load_again(self._path)
        except ConfigError as error:
            event(log, logging.WARNING, "rules.differ", error=str(error), do="what is active came from the peer's file")
            return
        if config.rules.encode() == self.engine.state.meta.rules:
            self.config = config
        else:
            event(log, logging.WARNING, "rules.differ", do="what is active came from the peer's file: give both nodes one")

    def settle(self, word: Settle) -> None:
        """An operator's word on a parked advice."""
        self.submit(word, ("settle", word))

    @property
    def me(self) -> Incarnation:
        return self.engine.state.incarnations[self.engine.incarnation]

    # --- life

    async def run(self, ready: Any) -> None:
        """Join, serve until stopped, leave. `ready()` is called when the node serves."""
        self.poison.begin(self.node)  # before the log is read: each entry leaves its mark in the same place
        last = self.witness.last()
        await self.mirror.start()
        self.witness.check(last, self.engine.state.meta.origin, self.mirror.index)
        for before in list(self.engine.state.incarnations.values()):
            if before.node == self.node and not self.engine.state.over(before.id):
                await kill(before)
        self.succession.handover.listen()
        number = await self.mirror.join(self._join)
        reach("join.after")
        self.engine.become(f"{self.node}{number}")
        self.keys.begin(number)
        self._restore()
        self.succession.joined()
        if not self.engine.state.meta.rules or not self.engine.state.lead():
            self.submit(Configure(self.config.rules.encode()), ("configure", 0))
        elif self.engine.state.meta.rules != self.config.rules.encode():
            event(log, logging.WARNING, "rules.differ", do="the active rules stay; make them the file's with: switchctl reload")
        poll = asyncio.create_task(self._poll())
        tick = asyncio.create_task(self._tick())
        for task in (poll, tick):
            task.add_done_callback(lambda _: self._stop.set())  # what it raises ends the start, too
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await self._live(stopped)
            self._activate()
            await self._networks(stopped)
            if not self._stop.is_set():
                self.links.listen()
                self.succession.share_listeners()
                ready()
                event(log, logging.INFO, "node.serving", incarnation=self.engine.incarnation, index=self.mirror.index)
            await asyncio.wait((self.mirror.failed, poll, tick, stopped), return_when=asyncio.FIRST_COMPLETED)
            for over in (self.mirror.failed, poll, tick):
                if over.done():
                    over.result()
            await self._leave()
        finally:
            poll.cancel()
            tick.cancel()
            stopped.cancel()

    def _restore(self) -> None:
        """Sockets of sessions that the service manager kept while no process of this node ran."""
        kept = 0
        for id_, sock in self._given:
            if not stored(id_):
                continue
            kept += 1
            session = self.engine.state.sessions.get(id_)
            if session is not None:
                open_ = Open(id_, session.link, session.slot, session.cookie, session.remote, "", "")
            else:
                link = accepted_by(sock, self.config.link, self._listeners)
                cookie = f"{self._boot_id}:{kernel.cookie(sock):x}"
                open_ = Open(id_, link, -1 if link else 0, cookie, kernel.remote(sock), "", "")
            self.succession.restore(open_, sock)
        self._given.clear()
        if kept:
            known = sum(id_ in self.engine.state.sessions for id_ in self.sessions.connections)
            event(log, logging.WARNING, "store.restored", sockets=kept, sessions=known)

    async def _live(self, stopped: asyncio.Task[Any]) -> None:
        """Caught up with the log and, where there is a peer, with its sockets: say so and wait until that is applied."""
        patience = self.now() + SYNC_S * 1000
        while not self.succession.synced and self.succession.peer() is not None and self.now() < patience:
            if stopped.done() or self.mirror.failed.done():
                return
            await asyncio.sleep(POLL_MS / 20_000)
        reach("live.before")
        self.submit(Live(), ("live", 0))
        while self.me.status is not Status.LIVE and not stopped.done() and not self.mirror.failed.done():
            await asyncio.sleep(POLL_MS / 20_000)

    async def _networks(self, stopped: asyncio.Task[Any]) -> None:
        """Who connects at once shall not be declined because our own connections were still signing on."""
        patience = self.now() + NETWORKS_S * 1000
        outbound = [name for name, wire in self.engine.wires.items() if wire.link.outbound]
        while self.now() < patience and not stopped.done() and not self.mirror.failed.done():
            state = self.engine.state  # a snapshot that is loaded meanwhile replaces it
            if all(any(state.sessions[id_].ready for id_ in state.links.get(name, ())) for name in outbound):
                return
            await asyncio.sleep(POLL_MS / 20_000)

    def _join(self, number: int, token: str) -> bytes:
        pid = os.getpid()
        started = start_time(pid)
        assert started is not None
        cluster = str(self.mirror.health()["cluster_id"])
        join = Join(self.node, number, token, self._boot_id, pid, started, cluster)
        return encode_entry([join], self.engine.state.meta.version)

    async def _leave(self) -> None:
        """Hand the sessions to the peer, or end them in order where there is none; say so, and go."""
        self._leaving = True
        self.links.close()
        reach("leave.before")
        deadline = self.now() + LEAVE_S * 1000
        patience = self.now() + PEER_S * 1000
        if self.engine.state.meta.version > 1 and self.me.status is Status.LIVE:
            await self._become(Leaving(), Status.LEAVING, deadline)
        last, left = self.now() + DRAIN_S * 1000, self._acting()
        while left and self.now() < min(deadline, last) and not self.mirror.failed.done():
            if not self.succession.drain() and not (self.succession.peer_comes() and self.now() < patience):
                self.sessions.end_all("node leaves")
            await asyncio.sleep(POLL_MS / 5000)
            before, left = left, self._acting()
            if left < before:  # thousands take their time
                deadline = self.now() + LEAVE_S * 1000
        await self._become(Leave(), Status.LEFT, deadline)
        await self.mirror.leave()

    async def _become(self, proposal: Leaving | Leave, status: Status, deadline: float) -> None:
        self.submit(proposal, ("leave", status))
        while self.me.status is not status and self.now() < deadline and not self.mirror.failed.done():
            await asyncio.sleep(POLL_MS / 5000)

    def _acting(self) -> int:
        """For how many sessions."""
        state, me = self.engine.state, self.engine.incarnation
        return sum(state.acting(session.owner) == me for session in state.sessions.values())

    async def close(self) -> None:
        self.succession.close()
        self.sessions.close()
        await self.mirror.close()

    # --- the log's follower

    def load(self, index: int, chunks: list[bytes], segments: dict[str, bytes]) -> None:
        self.engine.load(snapshot.load(index, chunks, segments), self.now())
        check_version(self.engine.state.meta.version, self.engine.version)
        self._write_as_active()
        self.sessions.follow(list(self.sessions.connections))

    def apply(self, entry: Entry) -> None:
        by = f"{entry.node}{entry.incarnation}"
        self.poison.entry(entry.index)
        reach("apply.before")
        try:
            applied = self.engine.apply(by, entry.index, entry.body, self.now())
        except TooNew:
            self.poison.clear()  # no fault of the entry
            raise
        if applied.pair:
            self._write_as_active()
        self.metrics.entry(len(entry.body), len(applied.accepted))
        touched = applied.touched
        for subject, accepted in zip(entry.offers or (), applied.accepted, strict=False):
            if not accepted:
                self.metrics.refused.inc()
            self._resolved(subject, accepted, touched)
        self.poison.clear()
        if self.engine.incarnation:  # a log that is only being read may be one that ends too early
            self.witness.saw(self.engine.state.meta.origin, entry.index)
        reach("apply.after")
        self.sessions.follow(touched, decided=True)
        self._say(entry.index, by, applied)
        if applied.pair and self.engine.incarnation:
            self._pair_changed(applied)
        self._soon()

    def _write_as_active(self) -> None:
        self.mirror.entry_version = max(self.mirror.entry_version, self.engine.state.meta.version)

    def _activate(self) -> None:
        """The lead lets entries become newer when both nodes apply them; the first such entry says so."""
        version = self.succession.agreed_version()
        if self._activating or version <= self.engine.state.meta.version:
            return
        if self.engine.state.lead() == self.engine.incarnation:
            self._activating = True
            self.mirror.entry_version = version
            self.submit(Activate(version), ("activate", version))

    def _pair_changed(self, applied: Applied) -> None:
        self.metrics.simplex.set(len(self.engine.state.live()) < 2)
        for note in applied.notes:
            if note.event == "node.heir":
                self._tend_after = self.now() + SETTLE_MS
                self.succession.heir_applied(note.fields["dead"], note.fields["heir"], note.fields["sessions"])
            elif note.event == "rules.active" and note.fields["by"] != self.engine.incarnation:
                self._loop.call_soon(self._read_with_peer)
            if note.event == "rules.active" and self.links.configured():
                # the peer takes sockets of links that it knows: again when it has applied this entry, too
                self.succession.share_listeners()
                self._loop.call_later(SHARE_AGAIN_S, self.succession.share_listeners)
        self.succession.changed()

    def _resolved(self, subject: Subject, accepted: bool, touched: dict[str, None]) -> None:
        kind, key = subject
        if kind == "input":
            assert isinstance(key, str)
            self.sessions.resolved(key, accepted)
            touched[key] = None
        elif kind == "tick":
            self._ticking = False
        elif kind == "activate":
            self._activating = False
        elif kind == "journaled":
            self.journal.resolved()
        elif kind == "end" and not accepted:
            self.sessions.end_refused(str(key))
        elif kind == "move":
            assert isinstance(key, tuple)
            self.sessions.moved(key)
            touched.update(dict.fromkeys(key))
        else:
            self.engine.resolved(subject)

    def dropped(self, offers: list[Any]) -> None:
        """What never reached the log is offered anew: at once where it follows from the state, else kept until then."""
        touched: dict[str, None] = {}
        for subject in offers:
            if subject[0] == "input":
                self.sessions.undone(subject[1])
                touched[subject[1]] = None
            elif subject[0] in ("open", "connected", "configure", "settle", "live", "leave", "heir"):
                self._reopen.append(subject)
            else:
                self._resolved(subject, False, touched)
        self.sessions.follow(touched)

    def holding(self, held: bool) -> None:
        event(log, logging.WARNING, "switch.held" if held else "switch.resumed", index=self.mirror.index)
        self.metrics.held.set(held)
        self.sessions.hold(held)
        if self.engine.incarnation and self.me.status is Status.LIVE and not self._leaving:
            self.links.pause(held)
        if not held:
            self._tend_after = self.now() + SETTLE_MS
            self._soon()

    def _offer_again(self) -> None:
        again, self._reopen = self._reopen, []
        for kind, key in again:
            if kind in ("open", "connected"):
                self.sessions.offer_again(kind, str(key))
            elif kind == "configure":
                self.submit(Configure(self.config.rules.encode()), (kind, key))
            elif kind == "settle":
                assert isinstance(key, Settle)
                self.settle(key)
            elif kind == "heir":
                self.succession.changed()
            elif kind == "live":
                self.submit(Live(), (kind, key))
            else:
                self.submit(Leave() if key == Status.LEFT else Leaving(), (kind, key))

    def _say(self, index: int, by: str, applied: Applied) -> None:
        """Each event once: by the node that appended the entry, or its heir; loud ones about the pair by both."""
        mine = by == self.engine.incarnation
        for note in applied.notes:
            self.metrics.note(note.event, mine=mine)
            if mine or (self.engine.incarnation and note.event in ("node.heir", "state.diverged")):
                self._log(note)
            if note.event == "node.heir" and note.fields["heir"] == self.engine.incarnation:
                self._say_for(note.fields["dead"])
        if not mine and applied.notes:
            self._untold.append((index, by, applied.notes))
        while self._untold and self._told(*self._untold[0][:2]):
            self._untold.popleft()

    def _told(self, index: int, by: str) -> bool:
        """Whether who appended this entry has said that it has applied it, or has no need of an heir any more."""
        its = self.engine.state.incarnations.get(by)
        return its is None or index <= its.applied or self.engine.state.over(by)

    def _say_for(self, dead: str) -> None:
        """What a node appended and may have died before it told: twice rather than never."""
        for _, by, notes in self._untold:
            for note in notes if by == dead else ():
                self._log(note, told_for=dead)
        self._untold = deque((each for each in self._untold if each[1] != dead), UNTOLD_MAX)

    def _log(self, note: Note, **more: str) -> None:
        level = LOUD.get(note.event, logging.DEBUG if note.event in QUIET else logging.INFO)
        event(log, level, note.event, **note.fields, **more)

    # --- what has no event

    async def _poll(self) -> None:
        """Heartbeats, acknowledgements, reconnects, snapshots."""
        beat = 0.0
        while True:
            if not self.mirror.held:
                self._offer_again()
                heartbeat_ms = self.engine.rules.limits.heartbeat_ms
                if not self._ticking and self.now() - beat >= heartbeat_ms - POLL_MS / 2:
                    beat = self.now()
                    self._ticking = True
                    self.submit(self.engine.heartbeat(beat), ("tick", 0))
                if self.me.status is Status.LIVE and not self._leaving:
                    self.links.connect()
                    if self.links.bind_again():
                        self.succession.share_listeners()
                    self._snapshot()
                    self.succession.balance()
                    self._activate()
                self._tend()
            self.polling.poll()
            self.sessions.pause(self.mirror.backlog_bytes > self.config.pair.backlog_max_bytes)
            self.keys.tend(self.engine.state, self.engine.incarnation)
            self.metrics.sample(self.engine, self.mirror, self.sessions, self.keys)
            if self.engine.diverged and self._verifying is None:
                self._verifying = asyncio.create_task(differs(self.config, self.engine))
            if self._verifying is not None and self._verifying.done():
                if self._verifying.result():
                    raise Diverged("this node's state is not what the log says: it leaves, the peer goes on")
                event(log, logging.WARNING, "state.confirmed", do="the peer is expected to leave")
                self.engine.diverged, self._verifying = False, None
            await asyncio.sleep(POLL_MS / 1000)

    async def _tick(self) -> None:
        """What watches the peer, and is watched by it."""
        while True:
            self.succession.tick()
            await asyncio.sleep(TICK_MS / 1000)

    def _soon(self) -> None:
        if not self._tend_soon:
            self._tend_soon = True
            self._loop.call_soon(self._tend)

    def _tend(self) -> None:
        self._tend_soon = False
        if self.mirror.held or not self.engine.incarnation or self.now() < self._tend_after:
            return
        if self.me.status not in (Status.LIVE, Status.LEAVING):
            return
        for subject, proposal in self.engine.tend(self.now(), time.time()):
            self.submit(proposal, subject)

    def _snapshot(self) -> None:
        meta, limits = self.engine.state.meta, self.engine.rules.limits
        if self._snapshotting is not None or self.engine.state.lead() != self.engine.incarnation:
            return
        if self.mirror.index - meta.snapshot >= limits.snapshot_entries or meta.log_bytes >= limits.snapshot_log_bytes:
            self._snapshotting = asyncio.create_task(self._write_snapshot())
            self._snapshotting.add_done_callback(self._snapshot_done)

    async def _write_snapshot(self) -> None:
        view = snapshot.View(self.engine.state)
        began = self.now()
        reach("snapshot.before")
        if await self.mirror.write_snapshot(view.index, view.chunks(), view.segments()):
            reach("snapshot.after")
            self.submit(Snapshot(view.index), ("snapshot", view.index))
            applied = [
                item.applied for item in self.engine.state.incarnations.values()
                if not self.engine.state.over(item.id)
            ]  # fmt: skip
            await self.mirror.truncate(min([view.index, *applied]))
            event(log, logging.INFO, "snapshot.written", index=view.index, ms=int(self.now() - began))

    def _snapshot_done(self, task: asyncio.Task[None]) -> None:
        self._snapshotting = None
        if not task.cancelled() and task.exception() is not None:
            event(log, logging.WARNING, "snapshot.failed", error=type(task.exception()).__name__)
