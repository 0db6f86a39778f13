"""From readable sockets to offers: peek, cut frames, offer them in order. Nothing is taken out of the kernel here."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from messages.framing import FramingError
from messages.message import MessageError
from switch.core.engine import Engine
from switch.core.proposals import Piece, Proposal
from switch.core.records import Session
from switch.core.sealed import KeyGone
from switch.core.tend import Subject
from switch.datakeys import DataKeys
from switch.mirror.errors import ProposalTooLarge
from switch.ops.logs import event
from switch.points import reach
from switch.poison import Poison
from switch.sessions.connection import Connection

log = logging.getLogger("switch.sessions")
Submit = Callable[[Proposal, Subject], None]
FRAMES_MAX = 256  # offered of one peek
PIECE_MAX = 262_144
QUARANTINED = 2  # owners that died at a frame


class Enders(Protocol):
    """Whom reading tells what it finds out about a session."""

    def broke(self, connection: Connection, error: OSError) -> None: ...

    def half_closed(self, connection: Connection, session: Session) -> None: ...

    def end(self, connection: Connection, reason: str) -> None: ...


class Reading:
    """Reads for all connections of a node. `paused`: input stays in the kernel (a hold, or too much waits for the log)."""

    def __init__(
        self,
        engine: Engine,
        submit: Submit,
        enders: Enders,
        scratch: memoryview,
        poison: Poison,
        keys: DataKeys,
        now: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.paused = False
        self._submit = submit
        self._enders = enders
        self._scratch = scratch
        self._poison = poison
        self._keys = keys
        self._now = now
        self._loop = asyncio.get_running_loop()

    def want(self, connection: Connection, wanted: bool) -> None:
        """Turn the read interest on or off: while an offer is pending epoll would spin."""
        if wanted != connection.reading:
            connection.reading = wanted
            if wanted:
                self._loop.add_reader(connection.fd, self._readable, connection)
            else:
                self._loop.remove_reader(connection.fd)

    def _readable(self, connection: Connection) -> None:
        session = self.engine.state.sessions.get(connection.session)
        if session is None or connection.pending or not connection.mine or connection.moving:
            self.want(connection, False)
            return
        try:
            size = connection.peek(self._scratch[: self.engine.wires[session.link].link.peek_max_bytes])
        except BlockingIOError:
            return
        except OSError as error:
            self._enders.broke(connection, error)
            return
        now = self._now()
        if not size:
            connection.finished = True
            connection.fin_ms = now
            self.want(connection, False)
            self._enders.half_closed(connection, session)
            return
        connection.note_seen(connection.consumed + size, now)
        if self.paused:
            self.want(connection, False)
            return
        self._offer(connection, session, size, now)

    def _offer(self, connection: Connection, session: Session, size: int, now: float) -> None:
        """Offer the frames among the peeked bytes, in order."""
        held = session.held
        try:
            data = self._keys.piece(session) + bytes(self._scratch[:size]) if held else self._scratch[:size]
        except KeyGone as error:
            self._enders.broke(connection, error)
            return
        cuts = self.engine.wires[session.link].framer.cut(data)
        start, utc = session.applied, time.time()
        answered: set[bytes] = set()
        for frame in cuts.frames[:FRAMES_MAX]:
            end = session.applied + frame.end - held
            mark = self._poison.frame(session.id, start, frame.payload)
            if self.engine.state.marks.get(mark, 0) >= QUARANTINED:
                self._quarantined(connection, session, start)
                break
            reach("offer.before")
            try:
                proposal = self.engine.offer(session, start, end, frame, connection.age_ms(end, now), utc, answered)
            except MessageError as error:
                if self._unparseable(connection, session, start, error):
                    break
                proposal = self.engine.unreadable(session, start, end, frame, error, utc)
            try:
                self._propose(connection, proposal)
            except ProposalTooLarge as error:
                self._too_large(connection, session, start, error)
                break
            reach("offer.after")
            start = end
        self._poison.clear()
        if connection.pending or connection.ending:
            self.want(connection, False)
            connection.want(1)
        elif cuts.error is not None:
            self._bad_frame(connection, session, cuts.error)
        elif connection.low_water > 1 and size < connection.low_water:
            # woken for less than we asked for: the queue is full, or a FIN follows
            size = min(size, PIECE_MAX)
            self._propose(connection, Piece(session.id, start, start + size, bytes(self._scratch[:size])))
            self.want(connection, False)
            connection.want(1)
        else:
            connection.want(max(cuts.need - held, size + 1))

    def _propose(self, connection: Connection, proposal: Proposal) -> None:
        self._submit(proposal, ("input", connection.session))
        connection.pending += 1

    def _unparseable(self, connection: Connection, session: Session, start: int, error: MessageError) -> bool:
        """Whether it ends the offers of this peek: the session is to be closed; else the link passes the message over."""
        close = self.engine.wires[session.link].link.unparseable == "close"
        if close and connection.pending:
            return True  # the good frames before it first; it is met again
        event(log, logging.WARNING, "input.unparseable", link=session.link, session=session.id, remote=session.remote,
              frame=start, error=error.reason, field=error.field or None, offset=error.offset)  # fmt: skip
        if close:
            self._enders.end(connection, "unparseable message")
        return close

    def _quarantined(self, connection: Connection, session: Session, start: int) -> None:
        if connection.pending:
            return  # as above
        event(log, logging.ERROR, "input.quarantined", link=session.link, session=session.id, remote=session.remote,
              frame=start, do="two owners died at this frame: keep its bytes from the sender, and report it")  # fmt: skip
        self._enders.end(connection, "quarantined frame")

    def _too_large(self, connection: Connection, session: Session, start: int, error: ProposalTooLarge) -> None:
        if connection.pending:
            return  # as above
        event(log, logging.WARNING, "input.too_large", link=session.link, session=session.id, remote=session.remote,
              frame=start, error=str(error))  # fmt: skip
        self._enders.end(connection, "message larger than an entry may be")

    def _bad_frame(self, connection: Connection, session: Session, error: FramingError) -> None:
        event(log, logging.WARNING, "input.bad_frame", link=session.link, session=session.id, remote=session.remote,
              frame=session.applied, error=error.reason, offset=error.offset)  # fmt: skip
        self._enders.end(connection, "unreadable frame")

    def resolved(self, connection: Connection, accepted: bool) -> bool:
        """One offer of the session's input was applied or refused. False when its next frame was refused too often in a row.

        Frames of one peek are offered in the state before the first of them: of an answer and its copy the second is
        refused, and offered anew as what it is by then. That is no reason to give up: the input has moved on.
        """
        connection.pending -= 1
        connection.advanced = connection.advanced or accepted
        if connection.pending:
            return True
        connection.losses = 0 if connection.advanced else connection.losses + 1
        connection.advanced = False
        session = self.engine.state.sessions.get(connection.session)
        return session is None or connection.losses <= self.engine.wires[session.link].link.offers_max
