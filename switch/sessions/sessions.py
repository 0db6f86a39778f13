"""Makes the world follow the state: takes sockets over, consumes what is applied, writes what is queued, ends what ended.

`follow` is the one place where effects happen: after any apply, after a takeover, a handover or a snapshot, by the same code
(invariants 1 to 3). Who acts for a session follows from the state; a socket of a session of the peer stands by here.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from switch.core.engine import Engine
from switch.core.proposals import Connected, End, Move, Open
from switch.core.records import Session
from switch.datakeys import DataKeys
from switch.ops.logs import event
from switch.points import reach
from switch.poison import Poison
from switch.sessions import kernel
from switch.sessions.closing import Closing
from switch.sessions.connection import Connection
from switch.sessions.reading import Reading, Submit

log = logging.getLogger("switch.sessions")
SCRATCH_BYTES = 1 << 20


class Keeper(Protocol):
    """Who else keeps the sockets: the peer, and the service manager."""

    def keep(self, connection: Connection, then: Callable[[], None]) -> None:
        """Share a new socket; `then` is called when it has left this process."""
        ...

    def forget(self, connection: Connection) -> None:
        """Its session is over for both nodes."""
        ...

    def release(self, connection: Connection) -> None:
        """This node holds it no longer."""
        ...


class Sessions:
    """The sockets this node holds: its own sessions' and, standing by, the peer's."""

    def __init__(
        self,
        engine: Engine,
        submit: Submit,
        keeper: Keeper,
        poison: Poison,
        keys: DataKeys,
        boot_id: str,
        now: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.connections: dict[str, Connection] = {}
        self.held = False
        self._submit = submit
        self._keeper = keeper
        self._keys = keys
        self._boot_id = boot_id
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._reading = Reading(engine, submit, self, self._scratch, poison, keys, now)
        self._closing = Closing()
        self._next = 0

    # --- sockets come

    def open(
        self, link: str, sock: socket.socket, slot: int, remote: str, owner: str = "", since: float | None = None
    ) -> Connection:
        """A socket was accepted (slot -1) or made for an outbound slot: a session when its entry is applied.

        It reaches the peer before that entry and before anything is read from it. `owner`: as in `Open`. `since`: when it may
        have come, if nothing has been accepted for a while.
        """
        self._next += 1
        id_ = f"{self.engine.incarnation}.{self._next}"
        local = "" if slot >= 0 else kernel.address(sock.getsockname())
        connection = Connection(Open(id_, link, slot, self._cookie(sock), remote, local, owner), sock)
        connection.since = since
        self.connections[id_] = connection
        self._keeper.keep(connection, lambda: self._submit(connection.open, ("open", id_)))
        return connection

    def _cookie(self, sock: socket.socket) -> str:
        return f"{self._boot_id}:{kernel.cookie(sock):x}"

    def stand_by(self, open_: Open, sock: socket.socket) -> None:
        """A socket of the peer's, or one that the service manager kept for us.

        One that we have opened ourselves comes back when the peer returns: of what is over here it still has a copy.
        """
        me, id_ = self.engine.incarnation, open_.session
        over = id_.partition(".")[0] == me and id_ not in self.engine.state.sessions
        if over or id_ in self.connections or open_.cookie not in ("", self._cookie(sock)):
            sock.close()
            return
        sock.setblocking(False)
        connection = self.connections[open_.session] = Connection(open_, sock)
        connection.shareable = True
        self.follow((open_.session,))

    def offer_again(self, kind: str, id_: str) -> None:
        """An "open" or "connected" that never reached the log."""
        connection = self.connections.get(id_)
        if connection is None:
            return
        if kind == "connected":
            self._connected(connection)
        elif id_ not in self.engine.state.sessions:  # a snapshot that was loaded meanwhile may have it
            self._submit(connection.open, ("open", id_))

    # --- following the state

    def follow(self, touched: Iterable[str], *, decided: bool = False) -> None:
        """The world follows the state. `decided`: an entry decided something about each of these sessions.

        A socket without a session is one whose entry is still to come, unless an entry has just refused it.
        """
        state, me = self.engine.state, self.engine.incarnation
        for id_ in touched:
            connection = self.connections.get(id_)
            if connection is None:
                continue
            session = state.sessions.get(id_)
            if session is None:
                if decided or connection.opened:
                    self._drop(connection)
                continue
            connection.opened = True
            if state.acting(session.owner) != me:
                self._stand_back(connection)
            elif not connection.moving:
                self._follow(connection, session)

    def _stand_back(self, connection: Connection) -> None:
        """The peer acts for this session: it is read and written there."""
        if connection.mine:
            self._reading.want(connection, False)
            self._writer(connection, wanted=False)
            connection.reset()
            connection.mine = connection.moving = False

    def _follow(self, connection: Connection, session: Session) -> None:
        if not connection.mine and not self._adopt(connection, session):
            return
        if connection.failure:
            self.end(connection, connection.failure)
            return
        if not session.connected:
            if not connection.started:
                self._connect(connection, session)
            return
        try:
            if connection.consumed < session.applied:
                connection.consume(session.applied, self._scratch)
            if connection.written < session.output:
                if connection.written == connection.acked:
                    connection.acked_ms = self._now()
                self._writer(connection, wanted=not connection.write(session, self._keys.open))
            elif connection.written > session.output:
                self._fail(connection, "more was written than the state holds")
                return
        except OSError as error:
            self.broke(connection, error)
            return
        self.listen_to(connection)

    def listen_to(self, connection: Connection) -> None:
        """Read on, unless an offer is pending, the stream has ended, or input is to stay in the kernel."""
        if not connection.pending and not connection.finished and not self._reading.paused:
            self._reading.want(connection, True)

    def _adopt(self, connection: Connection, session: Session) -> bool:
        """Take over a socket that this node held in reserve (or has just opened)."""
        reach("adopt.before")
        state = connection.adopt(session, self._now())
        reach("adopt.after")
        if session.connected:
            if state == kernel.CLOSE:
                connection.written = -1  # what the former owner wrote cannot be known any more
                self._fail(connection, "broken while nobody read it")
                return False
        elif state == kernel.ESTABLISHED:
            connection.started = True
            self._connected(connection)
        elif state == kernel.SYN_SENT:
            connection.started = connection.writing = True
            self._loop.add_writer(connection.fd, self._connected, connection)
        return True

    def _writable(self, connection: Connection) -> None:
        self._writer(connection, wanted=False)
        self.follow((connection.session,))

    # --- connecting

    def _connect(self, connection: Connection, session: Session) -> None:
        connection.started = True
        host, _, port = session.remote.rpartition(":")
        reach("connect.before")
        try:
            connection.sock.connect((host.strip("[]"), int(port)))
        except BlockingIOError:
            connection.writing = True
            self._loop.add_writer(connection.fd, self._connected, connection)
        except OSError as error:
            self._fail(connection, f"connect: {_cause(error)}")
        else:
            self._connected(connection)
        reach("connect.after")

    def _connected(self, connection: Connection) -> None:
        self._writer(connection, wanted=False)
        code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(connection, f"connect: {_cause(OSError(code, ''))}")
            return
        local = kernel.address(connection.sock.getsockname())
        self._submit(Connected(connection.session, local), ("connected", connection.session))

    # --- what became of offers

    def resolved(self, id_: str, accepted: bool) -> None:
        """One offer of the session's input was applied or refused. `follow` comes after."""
        connection = self.connections.get(id_)
        if connection is not None and connection.pending and not self._reading.resolved(connection, accepted):
            self.end(connection, "its input was refused too often")

    def undone(self, id_: str) -> None:
        """One offer of the session's input never reached the log: not its fault."""
        connection = self.connections.get(id_)
        if connection is not None and connection.pending:
            connection.pending -= 1

    # --- handover

    def move(self, ids: Iterable[str], to: str) -> None:
        """Propose that these sessions become the peer's, which holds their sockets. No effect on them until it is decided."""
        moved = []
        for id_ in ids:
            connection = self.connections.get(id_)
            if connection is not None and connection.mine and not connection.ending and not connection.moving:
                connection.moving = True
                self._reading.want(connection, False)
                self._writer(connection, wanted=False)
                moved.append(id_)
        if moved:
            reach("move.before")
            self._submit(Move(tuple(moved), to), ("move", tuple(moved)))

    def moved(self, ids: Iterable[str]) -> None:
        """A handover is decided (or never reached the log). `follow` comes after."""
        reach("move.after")
        state = self.engine.state
        for id_ in ids:
            connection, session = self.connections.get(id_), state.sessions.get(id_)
            if connection is None:
                continue
            connection.moving = False
            ours = session is not None and state.acting(session.owner) == self.engine.incarnation
            if ours and session is not None and not session.connected:
                connection.mine = False  # what became of its connect() meanwhile the kernel tells who adopts it

    # --- ending

    def half_closed(self, connection: Connection, session: Session) -> None:
        """A FIN ends reading only: the session ends when it is owed nothing more, or after the link's patience.

        With the read interest off, a RST that follows the FIN has no event: the kernel's state tells.
        """
        limit = self.engine.wires[session.link].link.half_close_ms
        owed = session.waiting or connection.written < session.output or connection.acked < session.output
        late = self._now() - connection.fin_ms > limit
        if not owed or late or self._counters(connection).state == kernel.CLOSE:
            self.end(connection, "closed by remote")

    def _counters(self, connection: Connection) -> kernel.Counters:
        return kernel.counters(connection.sock, connecting=connection.connecting)

    def broke(self, connection: Connection, error: OSError) -> None:
        self._fail(connection, _cause(error))

    def _fail(self, connection: Connection, reason: str) -> None:
        connection.failure = reason
        self.end(connection, reason)

    def end(self, connection: Connection, reason: str) -> None:
        """Propose the end of a session, with the kernel's last word on its output.

        What a connection that still lives was given may yet arrive: only a closed one has had its last acknowledgement.
        """
        self._reading.want(connection, False)
        self._writer(connection, wanted=False)
        connection.failure = connection.failure or reason
        session = self.engine.state.sessions.get(connection.session)
        if connection.ending or connection.moving or self.held or session is None:
            return
        connection.ending = True
        counters = self._counters(connection)
        reached = counters.acked if counters.state == kernel.CLOSE else counters.written
        reached = min(reached, session.output) if session.connected else 0
        written = connection.written if connection.mine else -1
        self._submit(End(connection.session, reached, reason, written), ("end", connection.session))

    def end_refused(self, id_: str) -> None:
        connection = self.connections.get(id_)
        if connection is not None:
            connection.ending = False

    def end_all(self, reason: str) -> None:
        """Propose the end of every session this node acts for (it leaves)."""
        for connection in list(self.connections.values()):
            if connection.mine:
                self.end(connection, reason)

    def _drop(self, connection: Connection) -> None:
        """The session is over by record: its owner closes in order, without a reset; who stood by just closes.

        What its entry was refused is closed by who opened it, unless that has left: whoever acts for it may have made a
        session of it.
        """
        self.connections.pop(connection.session, None)
        self._reading.want(connection, False)
        self._writer(connection, wanted=False)
        self._keeper.forget(connection)
        me = self.engine.incarnation
        opener = connection.open.session.partition(".")[0]
        if connection.mine or (opener == me and not connection.opened and not self.engine.state.over(me)):
            self._closing.close(connection.sock)
        else:
            connection.sock.close()

    def gone(self, ids: Iterable[str]) -> None:
        """The peer dropped these, or knows them under another name: we hold those no longer that the state does not have."""
        for id_ in ids:
            if id_ in self.connections and id_ not in self.engine.state.sessions:
                self._reading.want(self.connections[id_], False)
                self.release(self.connections[id_])

    def settle_orphans(self, peer: str) -> None:
        """Sockets that no applied entry knows, and none ever will: the incarnation that opened them is over.

        Who acts for it decides. `peer`: who has got all the sockets that we hold.
        """
        state = self.engine.state
        for id_, connection in list(self.connections.items()):
            opener = id_.partition(".")[0]
            if id_ in state.sessions or not state.over(opener):
                continue
            acting = state.acting(opener)
            if acting == self.engine.incarnation:
                self._settle_orphan(connection)
            elif acting and acting == peer:
                self.release(connection)

    def release(self, connection: Connection) -> None:
        """Hold a socket no longer that whoever acts for it knows under another name, or not at all."""
        self.connections.pop(connection.session)
        self._keeper.release(connection)
        connection.sock.close()

    def _settle_orphan(self, connection: Connection) -> None:
        """A brand-new accepted connection becomes a session of ours; anything else that the log does not know is closed.

        Both nodes may have had it from the service manager: it is opened once.
        """
        cookie = connection.open.cookie
        if any(other is not connection and other.open.cookie == cookie for other in self.connections.values()):
            self.release(connection)
            return
        counters = self._counters(connection)
        self.connections.pop(connection.session)
        self._keeper.forget(connection)
        untouched = counters.state in kernel.OPEN and not counters.consumed and not counters.written
        if connection.connecting or not untouched:
            event(log, logging.WARNING, "session.unknown", session=connection.session, link=connection.link)
            self._closing.close(connection.sock)
        else:
            again = self.open(connection.link, connection.sock, -1, connection.open.remote)
            again.since, again.looked, again.seen = connection.since, connection.looked, connection.seen

    # --- holding

    def hold(self, held: bool) -> None:
        """Without the log nothing is consumed or written; what waits goes on ageing. Afterwards all is looked at anew."""
        self.held = held
        self.pause(held)

    def pause(self, paused: bool) -> None:
        """Input stays in the kernel: too much waits for the log, or the switch holds."""
        was, self._reading.paused = self._reading.paused, paused or self.held
        if was and not self._reading.paused:
            self.follow(list(self.connections))

    def close(self) -> None:
        """Close every socket (the process leaves); those that the peer holds live on there."""
        for connection in list(self.connections.values()):
            self._reading.want(connection, False)
            self._writer(connection, wanted=False)
            connection.sock.close()
        self.connections.clear()
        self._closing.finish()

    def _writer(self, connection: Connection, *, wanted: bool) -> None:
        if wanted != connection.writing:
            connection.writing = wanted
            if wanted:
                self._loop.add_writer(connection.fd, self._writable, connection)
            else:
                self._loop.remove_writer(connection.fd)


def _cause(error: OSError) -> str:
    """ "ECONNRESET", or what we said ourselves."""
    return errno.errorcode.get(error.errno, str(error.errno)) if error.errno else str(error)
