"""When is a silent peer suspect? A pure object that is told the time; it knows no clock, socket or process.

A pause of the whole machine must not make both nodes kill each other: silence counts only after several of our own ticks
came on time, and `b` waits twice as long as `a`.
"""

TICKS_ON_TIME = 5
LATE = 3.0  # a tick that comes after so many intervals was late


class Detector:
    """Told of each beat of the peer and of each own tick (every `interval_ms`); says when the peer is suspect."""

    def __init__(self, silence_ms: float, interval_ms: float) -> None:
        self._silence_ms = silence_ms
        self._interval_ms = interval_ms
        self._heard = 0.0
        self._ticked = 0.0
        self._on_time = 0

    def begin(self, now: float) -> None:
        """The peer is there."""
        self._heard = self._ticked = now
        self._on_time = 0

    def beat(self, now: float) -> None:
        self._heard = now

    def tick(self, now: float) -> bool:
        """Whether the peer is suspect. Call it after everything the peer sent was read."""
        late = now - self._ticked > LATE * self._interval_ms
        self._ticked = now
        if late:
            self._on_time = 0
            self._heard = max(self._heard, now - self._silence_ms / 2)  # it may have been paused with us
            return False
        self._on_time += 1
        return self._on_time > TICKS_ON_TIME and now - self._heard > self._silence_ms
