"""What has no event: output that remote kernels acknowledge, half-closed sessions, bounds, input that ages in a hold."""

from collections.abc import Callable

from switch.core.proposals import Acked
from switch.core.records import Session
from switch.sessions import kernel
from switch.sessions.connection import Connection
from switch.sessions.reading import Submit
from switch.sessions.sessions import Sessions

ACKED_MAX = 500  # sessions in one proposal


class Polling:
    """Looks at all connections of this node some ten times a second."""

    def __init__(self, sessions: Sessions, submit: Submit, now: Callable[[], float]) -> None:
        self._sessions = sessions
        self._engine = sessions.engine
        self._submit = submit
        self._now = now

    def poll(self) -> None:
        now, sessions = self._now(), self._engine.state.sessions
        acked: list[tuple[str, int]] = []
        for connection in list(self._sessions.connections.values()):
            session = sessions.get(connection.session)
            if not connection.mine:
                # its owner may die before it has told how long its input has waited; and its entry may still be on its way
                if self._sessions.held:
                    connection.stand_by(session.applied if session is not None else 0, now)
            elif session is not None and not connection.moving and not connection.ending:
                self._look(connection, session, acked, now)
        for first in range(0, len(acked), ACKED_MAX):
            self._submit(Acked(tuple(acked[first : first + ACKED_MAX])), ("acked", 0))

    def _look(self, connection: Connection, session: Session, acked: list[tuple[str, int]], now: float) -> None:
        if connection.failure:
            self._sessions.end(connection, connection.failure)
        elif self._sessions.held:
            connection.note_seen(connection.consumed + kernel.unread(connection.sock), now)
        elif session.connected:
            if session.output > session.acked:
                self._output(connection, session, acked, now)
            if connection.finished:
                self._sessions.half_closed(connection, session)
            else:
                self._sessions.listen_to(connection)

    def _output(self, connection: Connection, session: Session, acked: list[tuple[str, int]], now: float) -> None:
        """Acknowledged output is recorded; what is not for too long, or too much, ends the session."""
        link = self._engine.wires[session.link].link
        offset = connection.written - kernel.unacknowledged(connection.sock)
        if offset > connection.acked:
            connection.acked, connection.acked_ms = offset, now
        if offset > session.acked:
            acked.append((session.id, offset))
        if session.output - offset > link.outbox_max_bytes:
            self._sessions.end(connection, "too much output is not acknowledged")
        elif offset < session.output and now - connection.acked_ms > link.outbox_age_max_ms:
            self._sessions.end(connection, "its output is not acknowledged")
