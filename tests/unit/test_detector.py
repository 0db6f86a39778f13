"""When a silent peer is suspect, and when it is not: the machine paused, our own loop was late, it has just come."""

from hypothesis import given
from hypothesis import strategies as st

from switch.detector import LATE, TICKS_ON_TIME, Detector

SILENCE_MS, TICK_MS = 1000.0, 50.0
LATE_MS = (LATE + 1) * TICK_MS


def begun(now: float = 0.0) -> Detector:
    detector = Detector(SILENCE_MS, TICK_MS)
    detector.begin(now)
    return detector


def suspected(detector: Detector, now: float, until: float, beat_every: float = 0.0) -> float | None:
    """Tick on time from `now` to `until`, with beats; when the peer was suspect first."""
    beaten = now
    while now < until:
        now += TICK_MS
        while beat_every and beaten + beat_every <= now:
            beaten += beat_every
            detector.beat(beaten)
        if detector.tick(now):
            return now
    return None


def test_a_peer_that_beats_is_never_suspect() -> None:
    assert suspected(begun(), 0, 60_000, beat_every=TICK_MS) is None
    assert suspected(begun(), 0, 60_000, beat_every=SILENCE_MS - TICK_MS) is None


def test_a_silent_peer_is_suspect_after_the_silence_and_not_before() -> None:
    assert suspected(begun(), 0, 5_000) == SILENCE_MS + TICK_MS


def test_a_peer_that_falls_silent_is_suspect_the_silence_after_its_last_beat() -> None:
    detector = begun()
    assert suspected(detector, 0, 3_000, beat_every=100) is None
    assert suspected(detector, 3_000, 9_000) == 3_000 + SILENCE_MS + TICK_MS


def test_it_stays_suspect_until_it_is_heard() -> None:
    detector = begun()
    now = suspected(detector, 0, 5_000)
    assert now is not None
    assert detector.tick(now + TICK_MS)
    detector.beat(now + TICK_MS)
    assert not detector.tick(now + 2 * TICK_MS)


def test_a_peer_is_not_blamed_for_silence_before_it_came() -> None:
    detector = Detector(SILENCE_MS, TICK_MS)
    detector.begin(100_000)
    assert suspected(detector, 100_000, 100_000 + SILENCE_MS) is None


def test_a_pause_of_the_whole_machine_is_not_the_peers_silence() -> None:
    detector = begun()
    assert suspected(detector, 0, 1_000, beat_every=50) is None
    woken = 61_000.0
    assert not detector.tick(woken)
    # the peer beats again as soon as it runs, and is given half of its time for that
    assert suspected(detector, woken, woken + SILENCE_MS / 2) is None


def test_the_time_that_remains_after_a_pause_is_enough_for_a_peer_that_lives() -> None:
    detector = begun()
    for pause in range(1, 20):
        woken = pause * 10_000.0
        assert not detector.tick(woken)
        detector.beat(woken + SILENCE_MS / 3)
        assert suspected(detector, woken + SILENCE_MS / 3, woken + SILENCE_MS) is None


def test_a_peer_that_did_not_survive_the_pause_is_suspect_afterwards() -> None:
    detector = begun()
    assert not detector.tick(60_000)
    assert suspected(detector, 60_000, 70_000) == 60_000 + SILENCE_MS / 2 + TICK_MS


def test_a_loop_that_is_always_late_suspects_nobody() -> None:
    detector = begun()
    assert not any(detector.tick(step * LATE_MS) for step in range(1, 500))


def test_silence_counts_only_after_several_ticks_came_on_time() -> None:
    detector = Detector(TICK_MS, TICK_MS)  # a silence that is over at once
    detector.begin(0)
    verdicts = [detector.tick(step * TICK_MS) for step in range(1, TICKS_ON_TIME + 3)]
    assert verdicts == [False] * TICKS_ON_TIME + [True, True]


def test_of_two_that_hear_nothing_of_each_other_a_decides_first() -> None:
    a, b = Detector(SILENCE_MS, TICK_MS), Detector(2 * SILENCE_MS, TICK_MS)  # as succession.py makes them
    a.begin(0)
    b.begin(0)
    first, second = suspected(a, 0, 9_000), suspected(b, 0, 9_000)
    assert first is not None and second is not None and second - first == SILENCE_MS


@given(
    steps=st.lists(st.tuples(st.floats(1, 5_000), st.booleans()), max_size=200),
    silence=st.floats(200, 5_000),
)
def test_whatever_the_pauses_nobody_is_suspect_who_was_heard_within_half_the_silence(
    steps: list[tuple[float, bool]], silence: float
) -> None:
    detector = Detector(silence, TICK_MS)
    detector.begin(0)
    now = heard = 0.0
    for passed, beat in steps:
        now += passed
        if beat:
            detector.beat(now)
            heard = now
        if detector.tick(now):
            assert now - heard > silence / 2
            assert passed <= LATE * TICK_MS
