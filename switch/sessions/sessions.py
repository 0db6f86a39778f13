"""Makes the world follow the state: consumes what is applied, writes what is queued, offers what waits, ends what has ended.

`follow` is the one place where effects happen, after any apply, by the same code whoever made the state (invariants 1 and 2).
All methods run on the event loop.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable

from messages.framing import FramingError
from messages.message import MessageError
from switch.core.engine import Engine
from switch.core.proposals import Acked, Proposal, Connected, End, Open, Piece
from switch.core.records import Session
from switch.core.tend import Subject
from switch.ops.logs import event
from switch.sessions import kernel
from switch.sessions.closing import Closing
from switch.sessions.connection import Connection

log = logging.getLogger("switch.sessions")
Submit = Callable[[Proposal, Subject], None]
SCRATCH_BYTES = 1 << 20
FRAMES_MAX = 256  # offered of one peek
ACKED_MAX = 500  # sessions in one proposal


class Sessions:
    """The connections this node holds."""

    def __init__(self, engine: Engine, submit: Submit, boot_id: str, now: Callable[[], float]) -> None:
        self.engine = engine
        self.connections: dict[str, Connection] = {}
        self.held = False
        self._submit = submit
        self._boot_id = boot_id
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._closing = Closing()
        self._next = 0
        self._crowded = False

    # --- opening

    def open(self, link: str, sock: socket.socket, slot: int, remote: str) -> str:
        """A socket was accepted (slot -1) or made for an outbound slot: it becomes a session when its entry is applied."""
        self._next += 1
        id_ = f"{self.engine.incarnation}.{self._next}"
        local = "" if slot >= 0 else _address(sock.getsockname())
        cookie = f"{self._boot_id}:{kernel.cookie(sock):x}"
        connection = Connection(Open(id_, link, slot, cookie, remote, local, ""), sock)
        self.connections[id_] = connection
        self._submit(connection.open, ("open", id_))
        return id_

    def offer_again(self, kind: str, id_: str) -> None:
        """An "open" or "connected" that never reached the log."""
        connection = self.connections.get(id_)
        if connection is None:
            return
        if kind == "open":
            self._submit(connection.open, ("open", id_))
        else:
            self._submit(Connected(id_, _address(connection.sock.getsockname())), ("connected", id_))

    def opened(self, id_: str, accepted: bool) -> None:
        connection = self.connections.get(id_)
        if connection is not None and not accepted:
            event(log, logging.WARNING, "session.refused", session=id_, link=connection.link)
            self._drop(connection)

    # --- following the state

    def follow(self, touched: Iterable[str]) -> None:
        for id_ in touched:
            connection = self.connections.get(id_)
            if connection is None:
                continue
            session = self.engine.state.sessions.get(id_)
            if session is None:
                if connection.pending or not connection.ending:
                    event(log, logging.DEBUG, "session.gone", session=id_)
                self._drop(connection)
            elif self.engine.state.acting(session.owner) == self.engine.incarnation:
                self._follow(connection, session)

    def _follow(self, connection: Connection, session: Session) -> None:
        if not session.connected:
            if not connection.started:
                self._connect(connection, session)
            return
        if connection.failure:
            self._end(connection, connection.failure)
            return
        try:
            if connection.consumed < session.applied:
                connection.consume(session.applied, self._scratch)
                connection.forget_seen()
            if connection.written < session.output:
                if connection.written == connection.acked:
                    connection.acked_ms = self._now()
                self._writer(connection, wanted=not connection.write(session))
            elif connection.written > session.output:
                self._fail(connection, "more was written than the state holds")
                return
        except OSError as error:
            self._fail(connection, _cause(error))
            return
        if not connection.pending and not connection.finished and not self.held:
            self._reader(connection, wanted=True)

    def _writable(self, connection: Connection) -> None:
        session = self.engine.state.sessions.get(connection.session)
        if session is not None:
            self._follow(connection, session)

    # --- connecting

    def _connect(self, connection: Connection, session: Session) -> None:
        connection.started = True
        host, _, port = session.remote.rpartition(":")
        try:
            connection.sock.connect((host, int(port)))
        except BlockingIOError:
            self._loop.add_writer(connection.fd, self._connected, connection)
            connection.writing = True
        except OSError as error:
            self._fail(connection, f"connect: {_cause(error)}")
        else:
            self._connected(connection)

    def _connected(self, connection: Connection) -> None:
        self._writer(connection, wanted=False)
        code = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(connection, f"connect: {_cause(OSError(code, ''))}")
            return
        local = _address(connection.sock.getsockname())
        self._submit(Connected(connection.session, local), ("connected", connection.session))

    # --- reading

    def _readable(self, connection: Connection) -> None:
        session = self.engine.state.sessions.get(connection.session)
        if session is None or connection.pending:
            self._reader(connection, wanted=False)
            return
        try:
            size = connection.peek(self._scratch)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(connection, _cause(error))
            return
        if not size:
            connection.finished = True
            connection.fin_ms = self._now()
            self._reader(connection, wanted=False)
            self._half_closed(connection, session)
            return
        now = self._now()
        connection.note_seen(connection.consumed + size, now)
        if self.held or self._crowded:
            self._reader(connection, wanted=False)
            return
        self._offer(connection, session, size, now)

    def _offer(self, connection: Connection, session: Session, size: int, now: float) -> None:
        """Offer the frames among the peeked bytes, in order."""
        wire = self.engine.wires[session.link]
        held = len(session.piece)
        data = session.piece + bytes(self._scratch[:size]) if held else self._scratch[:size]
        cuts = wire.framer.cut(data)
        start = session.applied
        for frame in cuts.frames[:FRAMES_MAX]:
            end = session.applied + frame.end - held
            try:
                proposal = self.engine.offer(session, start, end, frame, connection.age_ms(end, now))
            except MessageError as error:
                self._unparseable(connection, session, start, end, error)
                break
            self._submit(proposal, ("input", connection.session))
            connection.pending += 1
            start = end
        if connection.pending or connection.ending:
            self._reader(connection, wanted=False)
            if connection.low_water > 1:
                connection.want(1)
        elif cuts.error is not None:
            self._bad_frame(connection, session, cuts.error)
        elif connection.low_water > 1 and size < connection.low_water:
            # woken for less than we asked for: the queue is full, or a FIN follows
            self._submit(Piece(session.id, start, start + size, bytes(self._scratch[:size])), ("input", session.id))
            connection.pending += 1
            self._reader(connection, wanted=False)
            connection.want(1)
        else:
            connection.want(max(cuts.need - held, size + 1))

    def _unparseable(
        self, connection: Connection, session: Session, start: int, end: int, error: MessageError
    ) -> None:
        if connection.pending:
            return  # the good frames before it first; it is met again
        event(log, logging.WARNING, "input.unparseable", link=session.link, session=session.id, remote=session.remote,
              frame=start, error=error.reason, field=error.field or None, offset=error.offset)  # fmt: skip
        wire = self.engine.wires[session.link]
        if wire.link.unparseable == "close":
            self._end(connection, "unparseable message")
            return
        self._submit(self.engine.ignore(session, start, end), ("input", session.id))
        connection.pending += 1

    def _bad_frame(self, connection: Connection, session: Session, error: FramingError) -> None:
        event(log, logging.WARNING, "input.bad_frame", link=session.link, session=session.id, remote=session.remote,
              frame=session.applied, error=str(error))  # fmt: skip
        self._end(connection, "unreadable frame")

    def resolved(self, id_: str, accepted: bool) -> None:
        """One offer of the session's input was applied, refused or dropped. `follow` comes after."""
        connection = self.connections.get(id_)
        if connection is None:
            return
        connection.pending -= 1
        connection.lost = connection.lost or not accepted
        if connection.pending:
            return
        connection.losses = connection.losses + 1 if connection.lost else 0
        connection.lost = False
        session = self.engine.state.sessions.get(id_)
        if session is not None and connection.losses > self.engine.wires[session.link].link.offers_max:
            self._end(connection, "its input was refused too often")

    def undone(self, id_: str) -> None:
        """One offer of the session's input never reached the log: not its fault."""
        connection = self.connections.get(id_)
        if connection is not None:
            connection.pending -= 1

    # --- ending

    def _half_closed(self, connection: Connection, session: Session) -> None:
        """A FIN ends reading only: the session ends when it is owed nothing more, or after the link's patience."""
        limit = self.engine.wires[session.link].link.half_close_ms
        owed = session.waiting or connection.written < session.output or connection.acked < session.output
        if not owed or self._now() - connection.fin_ms > limit:
            self._end(connection, "closed by remote")

    def _fail(self, connection: Connection, reason: str) -> None:
        connection.failure = reason
        self._end(connection, reason)

    def _end(self, connection: Connection, reason: str) -> None:
        self._reader(connection, wanted=False)
        self._writer(connection, wanted=False)
        if connection.ending or self.held:
            connection.failure = connection.failure or reason
            return
        connection.ending = True
        connection.failure = connection.failure or reason
        acked = connection.counters().acked if connection.started or not connection.connecting else 0
        session = self.engine.state.sessions.get(connection.session)
        acked = min(acked, session.output) if session is not None else 0
        self._submit(End(connection.session, acked, reason), ("end", connection.session))

    def end_dropped(self, id_: str) -> None:
        connection = self.connections.get(id_)
        if connection is not None:
            connection.ending = False

    def end_all(self, reason: str) -> None:
        """Propose the end of every session this node holds (it leaves)."""
        for connection in list(self.connections.values()):
            self._end(connection, reason)

    def _drop(self, connection: Connection) -> None:
        """The session is over by record: close in order, without a reset."""
        self.connections.pop(connection.session, None)
        self._reader(connection, wanted=False)
        self._writer(connection, wanted=False)
        self._closing.close(connection.sock)

    # --- what has no event

    def poll(self) -> None:
        """Some ten times a second: acknowledged output, half-closed sessions, bounds, what a hold had put off."""
        now = self._now()
        acked: list[tuple[str, int]] = []
        for connection in list(self.connections.values()):
            session = self.engine.state.sessions.get(connection.session)
            if session is None or self.engine.state.acting(session.owner) != self.engine.incarnation:
                continue
            if connection.failure and not connection.ending:
                self._end(connection, connection.failure)
                continue
            if not session.connected or connection.ending:
                continue
            if self.held:
                connection.note_seen(connection.consumed + kernel.unread(connection.sock), now)
                continue
            if session.output > session.acked:
                self._poll_output(connection, session, acked, now)
            if connection.finished:
                self._half_closed(connection, session)
            elif not connection.pending and not connection.reading:
                self._reader(connection, wanted=True)
        for first in range(0, len(acked), ACKED_MAX):
            self._submit(Acked(tuple(acked[first : first + ACKED_MAX])), ("acked", 0))

    def _poll_output(
        self, connection: Connection, session: Session, acked: list[tuple[str, int]], now: float
    ) -> None:
        link = self.engine.wires[session.link].link
        offset = connection.written - kernel.unacknowledged(connection.sock)
        if offset > connection.acked:
            connection.acked, connection.acked_ms = offset, now
        if offset > session.acked:
            acked.append((session.id, offset))
        if session.output - offset > link.outbox_max_bytes:
            self._end(connection, "too much output is not acknowledged")
        elif offset < session.output and now - connection.acked_ms > link.outbox_age_max_ms:
            self._end(connection, "its output is not acknowledged")

    def hold(self, held: bool) -> None:
        """Without the log nothing is consumed or written; what waits goes on ageing. Afterwards everything is looked at anew."""
        self.held = held
        if not held:
            self.follow(list(self.connections))

    def crowd(self, crowded: bool) -> None:
        """Too much waits for the log: input stays in the kernel."""
        if self._crowded and not crowded:
            self._crowded = crowded
            self.follow(list(self.connections))
        self._crowded = crowded

    def close(self) -> None:
        """Close every socket (the process leaves)."""
        for connection in list(self.connections.values()):
            self._reader(connection, wanted=False)
            self._writer(connection, wanted=False)
            connection.sock.close()
        self.connections.clear()
        self._closing.finish()

    # --- interest in the event loop

    def _reader(self, connection: Connection, *, wanted: bool) -> None:
        if wanted != connection.reading:
            connection.reading = wanted
            if wanted:
                self._loop.add_reader(connection.fd, self._readable, connection)
            else:
                self._loop.remove_reader(connection.fd)

    def _writer(self, connection: Connection, *, wanted: bool) -> None:
        if wanted != connection.writing:
            connection.writing = wanted
            if wanted:
                self._loop.add_writer(connection.fd, self._writable, connection)
            else:
                self._loop.remove_writer(connection.fd)


def _address(name: tuple[str, int]) -> str:
    return f"{name[0]}:{name[1]}"


def _cause(error: OSError) -> str:
    """"ECONNRESET", or what we said ourselves."""
    return errno.errorcode.get(error.errno, str(error.errno)) if error.errno else str(error)
