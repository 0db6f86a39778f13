"""Frames come out of a stream whole, in order and once, whatever pieces it arrives in: read as the session layer reads.

The kernel wakes a session when its queue holds as many bytes as were asked for (SO_RCVLOWAT). Bytes stay in the queue until
their frame is taken; of a frame that the queue cannot hold whole they move into the session's piece (reading.py).
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from messages.framing import FRAMINGS, Framer, FramingError

MAXIMUM = 40
HEADERS = {"none": 0, "tpdu": 5, "fixed:3": 3}
# what no sender of a framing may write: a length in letters, a nibble that is no digit, bytes that must be zero
UNREADABLE = {
    "4-ascii": b"00x3",
    "6-ascii": b"-00003",
    "8-ascii": b"0000 003",
    "2-byte-bcd": b"\x0a\x00",
    "4-hex": b"0x1F",
    "2-byte-be-vap": b"\x00\x03\x00\x01",
    "2-byte-be-inclusive": b"\x00\x01",
}


class Streams(RuleBasedStateMachine):
    @initialize(name=st.sampled_from(list(FRAMINGS)), header=st.sampled_from(list(HEADERS)))
    def begin(self, name: str, header: str) -> None:
        self.framer = Framer.of(name, header, MAXIMUM)
        self.stream = b""
        self.sent: list[tuple[int, int, bytes, bytes]] = []  # start, end, header, payload
        self.bad: int | None = None  # where the stream cannot be followed any more
        self.got = 0
        self.error: FramingError | None = None
        self.arrived = 0  # bytes of the stream
        self.applied = 0
        self.piece = b""
        self.low_water = 1

    def _send(self, data: bytes, header: bytes, payload: bytes) -> None:
        self.sent.append((len(self.stream), len(self.stream) + len(data), header, payload))
        self.stream += data

    @precondition(lambda self: self.bad is None)
    @rule(payload=st.binary(max_size=MAXIMUM), own=st.binary(min_size=5, max_size=5))
    def the_sender_writes_a_frame(self, payload: bytes, own: bytes) -> None:
        length = self.framer.header_length
        payload, header = payload[: MAXIMUM - length], own[:length]
        self._send(self.framer.frame(payload, header), header, payload)

    @precondition(lambda self: self.bad is None)
    @rule()
    def the_sender_writes_a_keepalive(self) -> None:
        self._send(self.framer.keepalive, b"", b"")

    @precondition(lambda self: self.bad is None and len(self.sent) > 2)
    @rule(what=st.sampled_from(["long", "short", "unreadable"]), rest=st.binary(max_size=60))
    def the_sender_falls_out_of_step(self, what: str, rest: bytes) -> None:
        framing = self.framer.framing
        bad = UNREADABLE.get(framing.name)
        if what == "short" and self.framer.header_length > 1:
            bad = framing.write(self.framer.header_length - 1)
        if what == "long" or bad is None:
            bad = framing.write(MAXIMUM + 1)
        self.bad = len(self.stream)
        self.stream += bad + rest

    @rule(count=st.integers(1, 60))
    def bytes_arrive(self, count: int) -> None:
        self.arrived = min(self.arrived + count, len(self.stream))
        self._read()

    @precondition(lambda self: self.low_water > 1 and self.arrived > self.applied and self.error is None)
    @rule(count=st.integers(1, 60))
    def the_kernels_queue_is_full(self, count: int) -> None:
        """Some of it moves into the piece, as one entry of the log."""
        end = min(self.applied + count, self.arrived)
        self.piece += self.stream[self.applied : end]
        self.applied = end
        self.low_water = 1
        self._read()

    def _read(self) -> None:
        while self.error is None and self.arrived - self.applied >= self.low_water:
            queue, held = self.stream[self.applied : self.arrived], len(self.piece)
            cuts = self.framer.cut(memoryview(self.piece + queue))
            base = self.applied - held
            for frame in cuts.frames:
                start, end, header, payload = self.sent[self.got]
                assert (base + frame.start, base + frame.end) == (start, end), "a frame at another place"
                assert (frame.header, frame.payload) == (header, payload)
                self.got += 1
            if cuts.frames:
                self.applied, self.piece, self.low_water = base + cuts.frames[-1].end, b"", 1
            elif cuts.error is not None:
                assert cuts.error.offset is not None and base + cuts.error.offset == self.bad
                self.error = cuts.error
            else:
                self.low_water = max(cuts.need - held, len(queue) + 1)
                self._waits_for_what_is_missing(base + cuts.need)

    def _waits_for_what_is_missing(self, until: int) -> None:
        """Not for a byte more than the frame has, or its prefix while that is not whole."""
        start, *ends = self.sent[self.got][:2] if self.got < len(self.sent) else (self.bad,)
        assert start is not None, "it waits for a frame that nobody sent"
        end = ends[0] if ends else start + self.framer.framing.prefix
        held = len(self.piece) + self.arrived - self.applied
        assert until == (end if held >= self.framer.framing.prefix else start + self.framer.framing.prefix)

    def teardown(self) -> None:
        """All that was sent arrives in the end, and nothing is waited for."""
        if not hasattr(self, "framer"):
            return
        self.arrived = len(self.stream)
        self._read()
        assert self.got == len(self.sent), "a frame never came out"
        assert (self.error is None) == (self.bad is None), "a stream that cannot be followed is waited for"
        if self.bad is None:
            assert self.applied == len(self.stream) and not self.piece


TestStreams = Streams.TestCase
TestStreams.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
