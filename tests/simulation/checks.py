"""The invariants: looked at whenever something happens, and at the end."""

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import money
from host import Host
from outside import BIN, DIALECT, PAN, PINBLOCK, TRACK
from tcp import CLOSE
from transfers import ACCOUNT, read
from world import Process, Violation

from switch.core.records import Role
from switch.core.sealed import sealed_in

if TYPE_CHECKING:
    from simulation import Simulation

SECRETS = [text.encode() for text in (PAN, TRACK, PINBLOCK, BIN, ACCOUNT)]
LOG_BEHIND = 40  # entries left in etcd at the end beside two snapshots' worth: truncation is some 16 behind the newest
SNAPSHOTS_MAX = 2
LOST = ("lost with its node", "node left", "node leaves")  # with a peer there to take them
ENDS = (  # why a session may end, beside those: somebody else has done it, or its link is gone
    "closed by remote", "ECONNRESET", "EPIPE", "ETIMEDOUT", "broken while nobody read it", "quarantined frame", "link removed",
    "no answer to echo", "no answer to sign_on",
)  # fmt: skip
CALM_S = 0.3  # so long both nodes must have been whole until sessions may not end any more
LOOSE_S = 3.0  # until the world has followed the last entries
BRAND_NEW_S = 0.02  # a connection whose node dies between accept and passing it on


class Mishap:
    """A time in which sessions may end."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.over: float | None = None
        self.sessions: set[str] = set()  # that were there when it was over


class Checks:
    """What is watched in one run."""

    def __init__(self, simulation: "Simulation") -> None:
        self.entries = 0
        self.mishaps: list[Mishap] = []
        self.rules_refused = self.links_removed = False
        self._calm_since = 0.0
        self.patience_s = 0.0  # a request that is older is declined, not forwarded; 0: is not looked at
        self._in_flight: list[bytes] = []  # entries that were appended, and not known to both nodes, as etcd went away
        self._logged: deque[tuple[int, bytes, bytes]] = deque(maxlen=64)  # the last entries: index, key, value
        self._committed: list[float] = []  # when each entry of the log was
        self._clock: tuple[int, int] | None = None  # log time as first looked at: the entry that advanced it, and its value
        self._snapshot = 0  # what the pointer names
        self._simulation = simulation
        self._world = simulation.world
        self._excused: set[str] = set()  # remotes whose session may end: see where they are added
        self._poisoned: dict[tuple[str, int], int] = {}
        simulation.network.observe = self._touched
        simulation.network.turned_away = self._turned_away
        simulation.cluster.on_put.append(self._put)

    # --- as it happens

    def told(self, process: Process | None, level: int, name: str, fields: dict[str, Any]) -> None:
        """A log event."""
        world = self._world
        text = " ".join(f"{key}={value}" if key else str(value) for key, value in fields.items() if value is not None)
        if any(secret.decode() in text for secret in SECRETS):
            raise Violation(f"card data in the log: event {name}")
        if world.tracing:
            world.trace(process.name if process else "?", f"{name} {text}")
        if name in ("state.diverged", "handover.unreadable", "handover.unexpected", "store.failed", "node.defect", "key.gone"):
            raise Violation(f"{process.name if process else '?'}: {name} {text}")
        if name == "snapshot.failed" and not any("etcd" in each for each in self._simulation.plan.texts):
            raise Violation(f"{process.name if process else '?'}: {name} {text}")
        if level >= logging.CRITICAL:
            raise Violation(f"{process.name if process else '?'}: {name} {text}")
        if name == "outcomes.forgotten_early":
            raise Violation(f"{process.name if process else '?'}: {name} {text}")
        if name == "key.destroyed":
            self._unneeded(fields["key"])
        if name == "rules.refused":
            self.rules_refused = True
        if name == "session.ended":
            lost = fields["reason"] in LOST
            if lost and self._both_old():
                self._excused.add(fields["remote"])
            elif not fields["reason"].startswith("connect: "):
                allowed = ENDS + LOST * self._excusable(fields["session"])
                if fields["reason"] not in allowed:
                    raise Violation(f"session {fields['session']} was ended: {fields['reason']}")
            self.links_removed |= fields["reason"] == "link removed"

    def sessions_may_end(self) -> None:
        """Something has begun that no node survives with all sessions. Those of now may end, and those that begin until the
        pair is whole again; none that ended before, and none that begins later.
        """
        if not self.mishaps or self.mishaps[-1].over is not None:
            self.mishaps.append(Mishap(self._world.now))
            self._calm_since = self._world.now
            self._look()

    def _look(self) -> None:
        mishap, now = self.mishaps[-1], self._world.now
        if not self._simulation.calm:
            self._calm_since = now
        elif now - self._calm_since > CALM_S:
            mishap.over = now
            mishap.sessions = {id_ for unit in self._units() for id_ in unit.node.engine.state.sessions}
            return
        self._world.at(0.02, self._look)

    def _excusable(self, session: str) -> bool:
        """Whether a session that ends now was there in a mishap."""
        return any(each.over is None or session in each.sessions for each in self.mishaps)

    def excused_at(self, began: float, ended: float) -> bool:
        """Whether a session may have ended that began then, and did end then."""
        return any(each.since <= ended and (each.over is None or began <= each.over) for each in self.mishaps)

    def _both_old(self) -> bool:
        """Entries of version 1 have no Leaving: a node that leaves may be given back what it has just given away.

        That is a fault of the older software. The newer gives it nothing back.
        """
        return all(unit.node is None or unit.node.engine.version == 1 for unit in self._simulation.units.values())

    def _unneeded(self, key: str) -> None:
        """A data key is destroyed. Who joins may still be at entries of before, but acts only when it has caught up."""
        for unit in self._simulation.units.values():
            if unit.live and any(each.key.hex() == key for each in sealed_in(unit.node.engine.state)):
                raise Violation(f"data key {key} is destroyed, and something of {unit.name} is sealed with it")

    def _turned_away(self, remote: tuple[str, int]) -> None:
        """Its connection was not accepted: a heir that waits for etcd opens none. Then the heir was killed, too.

        (With switch.socket the service manager holds what listens, and such a connection waits there.)
        """
        if not any(unit.alive for unit in self._simulation.units.values()):
            self.excuse(remote)

    def excuse(self, remote: tuple[str, int]) -> None:
        """The session of who has this address may end."""
        self._excused.add("{}:{}".format(*remote))

    def died_of(self, session: str, start: int) -> None:
        """A frame has ended the process that parsed it."""
        deaths = self._poisoned[session, start] = self._poisoned.get((session, start), 0) + 1
        if deaths > 2:
            raise Violation(f"the frame at {start} of session {session} has ended {deaths} processes")

    def _put(self, key: bytes, value: bytes) -> None:
        if b"/log/" in key:
            self.entries += 1
            self._committed.append(self._world.now)
            self._logged.append((self.entries, key, value))
        if any(secret in value for secret in SECRETS):
            raise Violation(f"card data in etcd: {key.decode()}")
        if key == b"/switch/sim/snapshot":
            index = next(unit.node.mirror._snapshots.decode(value).index for unit in self._units())
            if index < self._snapshot:
                raise Violation(f"the snapshot's pointer went back from {self._snapshot} to {index}")
            self._snapshot = index

    def etcd_away(self, patience_s: float) -> None:
        """From now on what is older is not forwarded. That is no promise for entries whose append had begun.

        Their fate is told by the log when it is there again: what is in it is forwarded, however late that is.
        """
        self.patience_s = patience_s
        units = [unit for unit in self._units() if unit.alive]
        known = min((unit.node.engine.state.index for unit in units), default=0)
        for unit in units:
            appender = unit.node.mirror._appender
            sent = [(batch.key, batch.value) for batch in appender._unseen.values()]
            sent += [(key, value) for index, key, value in self._logged if index > known]
            self._in_flight += [appender._sealer.open(key, value) for key, value in sent]

    def _touched(self, kind: str, process: Process, end: Any, offset: int, size: int) -> None:
        """A session's socket is read or written: by nobody but its owner, and as the state says that it has applied."""
        cookie = f"{end.cookie:x}"
        for unit in self._simulation.units.values():
            node = unit.node
            if not unit.alive or node is None:
                continue
            if unit.process is process:
                self._by_record(kind, node, cookie, offset, size)
                continue
            for connection in node.sessions.connections.values():
                acts = connection.mine and not connection.moving and not connection.ending
                if acts and connection.open.cookie.endswith(f":{cookie}"):
                    raise Violation(
                        f"session {connection.session}: {process.name} {kind}s at {offset} while {unit.name} acts for it"
                    )

    def _by_record(self, kind: str, node: Any, cookie: str, offset: int, size: int) -> None:
        """Invariants 1 and 2: nothing is written or consumed that the node's own applied state does not say."""
        state, me = node.engine.state, node.engine.incarnation
        if self._clock is None and state.meta.clock_index:
            self._clock = (state.meta.clock_index, state.meta.clock_ms)
        # a socket from the fd store may be there under an older name, too, until the node has settled that: the log's counts
        held = [each for each in node.sessions.connections.values() if each.open.cookie.endswith(f":{cookie}")]
        connection = next((each for each in held if each.session in state.sessions), held[0] if held else None)
        if kind == "read" and (connection is None or not connection.mine):
            return  # of a session that is over (its socket may be back from the peer's store): discarded until the FIN
        what = f"session {connection.session if connection else '?'}: {node.node} {kind}s up to {offset + size}"
        session = state.sessions.get(connection.session) if connection else None
        if session is None:
            raise Violation(f"{what}, and no entry knows it")
        if state.acting(session.owner) != me:
            raise Violation(f"{what}, and by the log {state.acting(session.owner)} acts for it")
        limit = session.output if kind == "write" else session.applied
        if offset + size > limit:
            raise Violation(f"{what}, and what is applied ends at {limit}")
        if kind == "write" and not session.accepted:
            self._goes_out(what, node, session, offset, offset + size)

    def _goes_out(self, what: str, node: Any, session: Any, begin: int, end: int) -> None:
        """Bytes for the issuer or creditor agent: a reversal follows its original, and only when that is decided."""
        state = node.engine.state
        for out in session.outbox:
            if begin <= out.offset < end and out.role is Role.FORWARD:
                name, entry = self._known(session.link, node.keys.open(out.data)[2:])
                if entry is not None and entry.reversed:
                    raise Violation(f"{what}: {name} goes out, and its reversal has been there")
            elif out.offset < end and begin < out.end and out.role is Role.ADVICE and out.ref in state.advices:
                original = state.transactions.get(state.advices[out.ref].after)
                if original is not None and original.open:
                    raise Violation(f"{what}: advice {out.ref}, and transaction {original.id} before it is not decided")

    def _known(self, link: str, request: bytes) -> tuple[str, Any]:
        """What a request is called, and what its target knows of it."""
        if link in self._simulation.creditor.networks:
            id_ = read(request).id
            return id_, self._simulation.creditor.ledger.get(id_)
        rrn = DIALECT.decode(request).fields[37]
        return f"rrn={rrn}", self._simulation.issuer.ledger.get(rrn)

    # --- at the end

    def at_the_end(self) -> None:
        # what ended or began in this instant is in the log a moment later
        self._world.run(lambda: not self.loose(), self._world.now + LOOSE_S)
        if loose := self.loose():
            raise Violation(loose)
        self._time()
        money.check(self._simulation, self.patience_s, self._in_flight, self.excused_at)
        self._streams()
        self._states()
        for unit in self._units():
            if unit.node.engine.rules.limits.journal_waiting_max:
                self._simulation.database.check(unit.node.engine.state)

    def loose(self) -> str:
        """What is not at rest: a session whose socket is missing or has not followed the log, a frame, a node."""
        for unit in self._units():
            state, held = unit.node.engine.state, unit.node.sessions.connections
            for id_, session in state.sessions.items():
                socket = unit.process.fds.get(held[id_].fd) if id_ in held else None
                mine = state.acting(session.owner) == unit.node.engine.incarnation
                if socket is None or held[id_].mine != mine:
                    return f"session {id_} of {state.acting(session.owner)} does not have its socket in {unit.name}"
                done = (socket.consumed, socket.sent)
                if session.connected and socket.state != CLOSE and done != (session.applied, session.output):
                    log = (session.applied, session.output)
                    return f"session {id_}: {done} bytes are consumed and written, and by the log {log}"
            if left := sorted(held.keys() - state.sessions.keys()):
                return f"{unit.name} holds sockets of no session: {left}"
        simulation = self._simulation
        if any(each.remainder for each in (*simulation.clients, *simulation.hosts.values())):
            return "a stream holds a part of a frame, and nothing more comes"
        kept = len(self._simulation.cluster.store.select(b"/switch/sim/log/", b"/switch/sim/log0"))
        if kept > 2 * self._simulation.plan.snapshot_entries + LOG_BEHIND:
            return f"{kept} entries are left in etcd's log: it is not truncated"
        if stale := self._stale_snapshots():
            return stale
        indexes = {unit.node.engine.state.index for unit in self._units()}
        return f"the nodes have applied entries up to {indexes}" if len(indexes) > 1 else ""

    def _stale_snapshots(self) -> str:
        """Chunks that nobody will read. Of the one before the newest they may be there for a while, or of an abandoned one."""
        found = self._simulation.cluster.store.select(b"/switch/sim/snapshot/0", b"/switch/sim/snapshot/:")
        indexes = {kv.key.split(b"/")[4] for kv in found}
        return f"chunks of {len(indexes)} snapshots are left in etcd" if len(indexes) > SNAPSHOTS_MAX else ""

    def _time(self) -> None:
        """Log time never passes faster than time. It is measured from an entry to a later one, of which the first was made
        a little before it was committed: at most a heartbeat's time counts.
        """
        if self._clock is None:
            return
        index, clock_ms = self._clock
        for unit in self._units():
            meta = unit.node.engine.state.meta
            passed_ms = 1000 * (self._committed[meta.clock_index - 1] - self._committed[index - 1])
            if meta.clock_ms - clock_ms > passed_ms + unit.node.engine.rules.limits.heartbeat_ms:
                raise Violation(f"{meta.clock_ms - clock_ms} ms of log time passed in {passed_ms:.0f} ms")

    def _streams(self) -> None:
        simulation = self._simulation
        for party in (*simulation.clients, *simulation.hosts.values()):
            for address, connected, lost in party.lost_sessions:
                if lost - connected <= BRAND_NEW_S or address in self._excused or self.excused_at(connected, lost):
                    continue
                if isinstance(party, Host) and self.links_removed:
                    continue
                raise Violation(f"{party.name}: its connection of {connected:.3f} was ended at {lost:.3f}")

    def _states(self) -> None:
        found = [(unit.node.engine.state.index, unit.node.engine.state.hash()) for unit in self._units()]
        if len({index for index, _ in found}) == 1 and len({value for _, value in found}) > 1:
            raise Violation(f"the nodes' states differ at entry {found[0][0]}")

    def _units(self) -> list[Any]:
        return [unit for unit in self._simulation.units.values() if unit.node is not None]
