"""A simulated host on a port: books all that came in one turn of the event loop with one fsync, then answers.

What is decided is the issuer's or the bank's (an `Application`); whether and when the answer leaves, `Faults` deals.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from messages.framing import Framer
from tools.faults import Fate, Faults
from tools.ledger import Ledger
from tools.record import Recorder, SessionRecord

FLUSH_S = 0.1
CLOSING_S = 5.0
MAXIMUM_BYTES = 1 << 20


class Line(msgspec.Struct, frozen=True):
    """What the record says of one message."""

    type: str
    key: tuple[str, ...] = ()
    amount: int | None = None
    code: str = ""
    note: str = ""


class Heard(msgspec.Struct, frozen=True):
    """One message, booked. answer: None when it wants none. wrong: builds an answer that must match nothing."""

    line: Line
    answer: bytes | None = None
    answer_line: Line | None = None
    wrong: Callable[[], bytes] | None = None  # None: misbehaviour leaves this message alone


class Application(Protocol):
    """The mind of a host. Books on the ledger; never raises for what a payload holds."""

    def receive(self, payload: bytes) -> Heard: ...


PUNCTUAL = Fate(0.0, 1, False)


class Host:
    """Listens, records, answers. One per process; `dialect` only tells the record how the bytes are to be read."""

    def __init__(
        self,
        application: Application,
        ledger: Ledger,
        recorder: Recorder,
        faults: Faults,
        framing: str,
        header: str,
        dialect: str,
    ) -> None:
        self.framer = Framer.of(framing, header, MAXIMUM_BYTES)
        self.recorder = recorder
        self.header = header
        self.dialect = dialect
        self._application = application
        self._ledger = ledger
        self._faults = faults
        self._turn: list[tuple[Session, bytes, Heard]] = []
        self._sessions: set[Session] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None
        self._flusher: asyncio.TimerHandle | None = None

    async def listen(self, address: str, port: int) -> int:
        """Take sessions; returns the port (an unused one for port 0)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Session(self), address, port, backlog=1024)
        self._flush()
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for session in list(self._sessions):
            session.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), CLOSING_S)
        if self._flusher:
            self._flusher.cancel()
        self._ledger.close()
        self.recorder.close()

    def joined(self, session: "Session") -> None:
        self._sessions.add(session)
        self._empty.clear()

    def left(self, session: "Session") -> None:
        self._sessions.discard(session)
        if not self._sessions:
            self._empty.set()

    def receive(self, session: "Session", offset: int, length: int, header: bytes, payload: bytes, now: float) -> None:
        heard = self._application.receive(payload)
        line = heard.line
        session.record.on_message("in", offset, length, now, line.type, line.key, line.amount, line.code, line.note)
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._turn.append((session, header, heard))

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        self._ledger.sync()
        loop = asyncio.get_running_loop()
        for session, header, heard in turn:
            if heard.answer is None:
                continue
            fate = self._faults.deal() if heard.wrong else PUNCTUAL
            if fate.wait_s:
                loop.call_later(fate.wait_s, self._answer, session, header, heard, fate)
            else:
                self._answer(session, header, heard, fate)

    def _answer(self, session: "Session", header: bytes, heard: Heard, fate: Fate) -> None:
        if heard.answer is None or heard.answer_line is None:
            return
        if fate.wrong and heard.wrong:
            session.send(header, heard.wrong(), Line(heard.answer_line.type, note="wrong on purpose"))
        for _ in range(fate.copies):
            session.send(header, heard.answer, heard.answer_line)

    def _flush(self) -> None:
        self.recorder.flush()
        self._flusher = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)


class Session(asyncio.Protocol):
    """One connection to the host."""

    record: SessionRecord

    def __init__(self, host: Host) -> None:
        self._host = host
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._end: tuple[str, int] = ("eof", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        local, peer = ("{}:{}".format(*transport.get_extra_info(name)) for name in ("sockname", "peername"))
        host = self._host
        self.record = host.recorder.open_session(
            time.monotonic(), local, peer, host.framer.name, host.header, host.dialect
        )
        host.joined(self)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        begin = self.record.received - len(self._buffer)
        self.record.on_received(data, now)
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer)
        cuts = self._host.framer.cut(data)
        done = 0
        for frame in cuts.frames:
            if frame.payload:
                self._host.receive(self, begin + frame.start, frame.end - frame.start, frame.header, frame.payload, now)
            done = frame.end
        self._buffer = bytearray(data[done:])
        if cuts.error:
            self.close()  # the auditor finds the bytes that made no frame

    def send(self, header: bytes, payload: bytes, line: Line) -> None:
        if not self._transport or self._transport.is_closing():
            return
        framer = self._host.framer
        data = framer.frame(payload, framer.answer_header(header))
        now = time.monotonic()
        offset = self.record.sent
        self._transport.write(data)
        self.record.on_sent(data, now)
        self.record.on_message("out", offset, len(data), now, line.type, line.key, line.amount, line.code, line.note)

    def close(self) -> None:
        self._end = ("closed", 0)
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        how, errno = ("reset", getattr(exc, "errno", 0) or 0) if exc else self._end
        self.record.on_end(how, time.monotonic(), errno)
        self._host.left(self)
