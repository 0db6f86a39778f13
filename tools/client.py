"""A connection of the injector to the switch: records every byte, cuts frames, tells its user of them."""

import asyncio
import time
from typing import Literal, Protocol, cast

import msgspec

from messages.framing import Framer
from tools.record import Recorder, SessionRecord

End = Literal["closed", "eof", "reset"]


class Wiring(msgspec.Struct, frozen=True):
    """How the sessions of one kind talk. dialect: empty for ISO 20022."""

    framer: Framer
    header: str
    dialect: str
    recorder: Recorder


class User(Protocol):
    """Who sits at a connection: a terminal or a bank."""

    def on_connected(self, connection: "Connection") -> None: ...

    def on_frame(self, payload: bytes, offset: int, length: int, now: float) -> None: ...

    def on_end(self, how: End) -> None: ...


class Connection(asyncio.Protocol):
    """One TCP connection."""

    record: SessionRecord

    def __init__(self, wiring: Wiring, user: User) -> None:
        self._wiring = wiring
        self._user = user
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._end: End = "eof"
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        wiring = self._wiring
        local, peer = ("{}:{}".format(*transport.get_extra_info(name)) for name in ("sockname", "peername"))
        self.record = wiring.recorder.open_session(
            time.monotonic(), local, peer, wiring.framer.name, wiring.header, wiring.dialect
        )
        self._user.on_connected(self)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        record = self.record
        begin = record.received - len(self._rest)
        record.on_received(data, now)
        data = self._rest + data if self._rest else data
        cuts = self._wiring.framer.cut(data)
        done = 0
        for frame in cuts.frames:
            done = frame.end
            if frame.payload:  # without one it is a keep-alive
                self._user.on_frame(frame.payload, begin + frame.start, frame.end - frame.start, now)
        self._rest = data[done:]
        if cuts.error:
            self.close()  # the auditor finds the bytes that made no frame

    def send(self, frame: bytes, now: float) -> int:
        """Send a whole frame; returns its offset in the stream."""
        assert self._transport
        offset = self.record.sent
        self._transport.write(frame)
        self.record.on_sent(frame, now)
        return offset

    def close(self) -> None:
        self._end = "closed"
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        how: End = "reset" if exc else self._end
        self.record.on_end(how, time.monotonic(), getattr(exc, "errno", 0) or 0)
        self.ended.set()
        self._user.on_end(how)
