"""What an injector counts and times: totals, latency percentiles, series over time, the longest silence."""

import asyncio
import time
from array import array

import msgspec

ANSWERS_MAX = 100_000  # points of a result


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p99: float
    p999: float
    max: float


class Second(msgspec.Struct, frozen=True):
    """One second of a run. Latencies in milliseconds, of the answers that came in it."""

    second: int
    sent: int
    answered: int
    p50: float
    p99: float
    max: float


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """When an answer came, in seconds since the run began, and how long it took."""

    at_s: float
    latency_ms: float


class Progress(msgspec.Struct, frozen=True):
    """The run so far. rate: answers in the last second. p50, p99: milliseconds, of the last second."""

    seconds: float
    sent: int
    answered: int
    approved: int
    outstanding: int
    rate: int
    p50: float
    p99: float


class Result(msgspec.Struct, frozen=True):
    """A whole run. sent: requests, repeats not counted. lost: requests without any answer.

    skipped: arrivals at which every terminal was waiting. unexpected: answers that nobody waited for.
    reversals: sent by terminals, after silence or since nothing was dispensed. advices: of sales without asking.
    repeats_lost: repeats without an answer though their request had one, or was sent on another session.
    longest_gap_ms: the longest time without any answer while at least one was outstanding. answers: every answer in
    order; of a run with more than ANSWERS_MAX, the slowest of every few.
    """

    sent: int
    answered: int
    approved: int
    declined: int
    lost: int
    skipped: int
    repeats: int
    unexpected: int
    closes: int
    resets: int
    seconds: float
    latency_ms: Percentiles
    longest_gap_ms: float
    per_second: list[Second]
    begun_epoch: float
    answers: list[Answer]
    reversals: int = 0
    advices: int = 0
    repeats_lost: int = 0


class Tally:
    """Counts one run. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.sent = self.answered = self.approved = 0
        self.settled = asyncio.Event()  # nothing is outstanding
        self.settled.set()
        self.skipped = self.repeats = self.unexpected = self.closes = self.resets = 0
        self.reversals = self.advices = 0
        self.owed = 0  # answers to repeats of what was answered already, or on another session
        self._begun = self._last_answer = self._ended = self._begun_epoch = 0.0
        self._longest_gap = 0.0
        self._sent_at = array("d")
        self._answered_at = array("d")
        self._latency_ms = array("d")
        self._shown = 0

    @property
    def outstanding(self) -> int:
        return self.sent - self.answered

    def begin(self, now: float) -> None:
        self._begun = self._ended = now
        self._begun_epoch = time.time() - (time.monotonic() - now)

    def on_sent(self, now: float) -> None:
        if self.sent == self.answered:
            self._last_answer = now  # silence counts from here: before, there was nothing to answer
            self.settled.clear()
        self.sent += 1
        self._sent_at.append(now)

    def on_answer(self, since: float, now: float, approved: bool) -> None:
        self.answered += 1
        self.approved += approved
        self._longest_gap = max(self._longest_gap, now - self._last_answer)
        self._last_answer = self._ended = now
        self._answered_at.append(now)
        self._settle()
        self._latency_ms.append((now - since) * 1000)

    def on_owed(self) -> None:
        """A repeat was sent that no answer on its way can be for."""
        self.owed += 1
        self.settled.clear()

    def on_repaid(self) -> None:
        self.owed -= 1
        self._settle()

    def _settle(self) -> None:
        if self.sent == self.answered and not self.owed:
            self.settled.set()

    def progress(self, now: float) -> Progress:
        fresh = sorted(self._latency_ms[self._shown :])
        self._shown = len(self._latency_ms)
        return Progress(
            now - self._begun,
            self.sent,
            self.answered,
            self.approved,
            self.outstanding,
            len(fresh),
            quantile(fresh, 0.5),
            quantile(fresh, 0.99),
        )

    def result(self, now: float) -> Result:
        if self.outstanding:
            self._longest_gap = max(self._longest_gap, now - self._last_answer)
        ordered = sorted(self._latency_ms)
        return Result(
            self.sent,
            self.answered,
            self.approved,
            self.answered - self.approved,
            self.outstanding,
            self.skipped,
            self.repeats,
            self.unexpected,
            self.closes,
            self.resets,
            self._ended - self._begun,
            Percentiles(*(quantile(ordered, part) for part in (0.5, 0.99, 0.999, 1.0))),
            self._longest_gap * 1000,
            self._series(),
            self._begun_epoch,
            self._answers(),
            self.reversals,
            self.advices,
            self.owed,
        )

    def _answers(self) -> list[Answer]:
        few = -(-len(self._latency_ms) // ANSWERS_MAX) or 1
        answers = []
        for first in range(0, len(self._latency_ms), few):
            slowest = max(range(first, min(first + few, len(self._latency_ms))), key=self._latency_ms.__getitem__)
            at_s = self._answered_at[slowest] - self._begun
            answers.append(Answer(round(at_s, 4), round(self._latency_ms[slowest], 3)))
        return answers

    def _series(self) -> list[Second]:
        sent: dict[int, int] = {}
        for moment in self._sent_at:
            second = int(moment - self._begun)
            sent[second] = sent.get(second, 0) + 1
        latencies: dict[int, list[float]] = {}
        for moment, latency in zip(self._answered_at, self._latency_ms, strict=True):
            latencies.setdefault(int(moment - self._begun), []).append(latency)
        series = []
        for second in range(max([*sent, *latencies], default=-1) + 1):
            ordered = sorted(latencies.get(second, ()))
            parts = (quantile(ordered, part) for part in (0.5, 0.99, 1.0))
            series.append(Second(second, sent.get(second, 0), len(ordered), *parts))
        return series


def quantile(ordered: list[float], part: float) -> float:
    """The nearest-rank quantile of ascending values; 0.0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
