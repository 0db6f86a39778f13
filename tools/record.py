"""What the outside world writes down: raw bytes of every session, one JSON line per message, the life of each session.

A record folder holds, per life N of the process that wrote it (a restarted simulator adds a life):

    wire-N.rec        chunks of raw bytes in the order they came or went: CHUNK (session u32, direction u8, offset in
                      the stream u64, epoch seconds f64, length u32; little-endian), then the bytes
    messages-N.jsonl  MessageLine: for people and for plots; the auditor judges by the bytes alone
    sessions-N.jsonl  SessionOpened, SessionEnded, RunMark
    ledger.jsonl      simulators only, see tools/ledger.py

The wire file holds whole messages with test card data; the JSON lines hold none.
"""

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

CHUNK = struct.Struct("<IBQdI")
IN, OUT = 0, 1  # seen from whoever keeps the record
BUFFER_BYTES = 1 << 20


class SessionOpened(msgspec.Struct, tag="opened", tag_field="event", frozen=True):
    """How to read the bytes of a session. dialect: an ISO 8583 dialect's name; empty for ISO 20022."""

    session: int
    time: float
    local: str
    peer: str
    framing: str
    header: str
    dialect: str = ""


class SessionEnded(msgspec.Struct, tag="ended", tag_field="event", frozen=True):
    """How a session ended: "closed" by the keeper of the record, "eof" by the peer, or "reset" with its errno."""

    session: int
    time: float
    how: Literal["closed", "eof", "reset"]
    errno: int = 0


class RunMark(msgspec.Struct, tag="run", tag_field="event", frozen=True):
    """The injector has begun or ended its run: sessions may end after that."""

    time: float
    what: Literal["begun", "ended"]


class MessageLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. time: epoch seconds. key: (RRN, terminal) or (EndToEndId, UETR). amount: minor units."""

    time: float
    monotonic: float
    session: int
    direction: Literal["in", "out"]
    offset: int
    length: int
    type: str
    key: tuple[str, ...] = ()
    amount: int | None = None
    code: str = ""
    note: str = ""


SessionLine = SessionOpened | SessionEnded | RunMark


class Chunk(msgspec.Struct, frozen=True):
    """Bytes as they came from or went to a socket."""

    session: int
    direction: int
    offset: int
    time: float
    data: bytes


class SessionRecord:
    """The record of one session. All times are `time.monotonic()` seconds."""

    def __init__(self, recorder: "Recorder", session: int) -> None:
        self.session = session
        self.received = 0
        self.sent = 0
        self._recorder = recorder

    def on_received(self, data: bytes, now: float) -> None:
        self._recorder.chunk(self.session, IN, self.received, now, data)
        self.received += len(data)

    def on_sent(self, data: bytes, now: float) -> None:
        self._recorder.chunk(self.session, OUT, self.sent, now, data)
        self.sent += len(data)

    def on_message(
        self,
        direction: Literal["in", "out"],
        offset: int,
        length: int,
        now: float,
        type: str,
        key: tuple[str, ...] = (),
        amount: int | None = None,
        code: str = "",
        note: str = "",
    ) -> None:
        epoch = self._recorder.epoch(now)
        line = MessageLine(epoch, now, self.session, direction, offset, length, type, key, amount, code, note)
        self._recorder.message(line)

    def on_end(self, how: Literal["closed", "eof", "reset"], now: float, errno: int = 0) -> None:
        self._recorder.event(SessionEnded(self.session, self._recorder.epoch(now), how, errno))


class Recorder:
    """Writes one life of a record folder. What was written is in the files after `flush` or `close`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.life = max(lives(folder), default=0) + 1
        self._epoch = time.time() - time.monotonic()
        self._sessions = 0
        self._encode = msgspec.json.Encoder().encode
        self._wire = self._open(folder / f"wire-{self.life}.rec")
        self._messages = self._open(folder / f"messages-{self.life}.jsonl")
        self._events = self._open(folder / f"sessions-{self.life}.jsonl")

    @staticmethod
    def _open(path: Path) -> BinaryIO:
        return open(path, "xb", buffering=BUFFER_BYTES)

    def epoch(self, now: float) -> float:
        """Epoch seconds of a monotonic instant."""
        return self._epoch + now

    def open_session(
        self, now: float, local: str, peer: str, framing: str, header: str, dialect: str = ""
    ) -> SessionRecord:
        self._sessions += 1
        self.event(SessionOpened(self._sessions, self.epoch(now), local, peer, framing, header, dialect))
        return SessionRecord(self, self._sessions)

    def mark(self, what: Literal["begun", "ended"], now: float) -> None:
        self.event(RunMark(self.epoch(now), what))

    def chunk(self, session: int, direction: int, offset: int, now: float, data: bytes) -> None:
        self._wire.write(CHUNK.pack(session, direction, offset, self._epoch + now, len(data)) + data)

    def message(self, line: MessageLine) -> None:
        self._messages.write(self._encode(line) + b"\n")

    def event(self, line: SessionLine) -> None:
        self._events.write(self._encode(line) + b"\n")

    def flush(self) -> None:
        for file in (self._wire, self._messages, self._events):
            file.flush()

    def close(self) -> None:
        for file in (self._wire, self._messages, self._events):
            file.close()


def lives(folder: Path) -> list[int]:
    """The numbers of the lives that a folder holds, ascending."""
    found = (re.fullmatch(r"wire-(\d+)\.rec", path.name) for path in folder.glob("wire-*.rec"))
    return sorted(int(match[1]) for match in found if match)


def read_sessions(folder: Path, life: int) -> list[SessionLine]:
    """What happened to the sessions of a life; a half-written last line (a killed writer) is left out."""
    lines = (folder / f"sessions-{life}.jsonl").read_bytes().split(b"\n")[:-1]
    decode = msgspec.json.Decoder(SessionLine).decode
    return [decode(line) for line in lines]


def read_chunks(folder: Path, life: int) -> Iterator[Chunk]:
    """The chunks of a life in the order they were written; a half-written last one (a killed writer) is left out."""
    with open(folder / f"wire-{life}.rec", "rb", buffering=BUFFER_BYTES) as file:
        while len(head := file.read(CHUNK.size)) == CHUNK.size:
            session, direction, offset, when, length = CHUNK.unpack(head)
            data = file.read(length)
            if len(data) < length:
                return
            yield Chunk(session, direction, offset, when, data)
