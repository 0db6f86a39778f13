"""What tools/chaos found out: how long each fault silenced the switch, what the kills prove, and the table for people."""

import bisect
import collections
import itertools
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
from rich.console import Console
from rich.table import Table

from tools.chaos_declines import Decline, Standstill, declined_by_switch, unexcused
from tools.chaos_faults import FAULTS
from tools.demo import Report, Sample
from tools.kills import Kill, Spread
from tools.record import lives

_EVENT = re.compile(r" ((?:transaction|advice|answer)\.\w+)(.*?)(?: told_for=(\w+))?$")
TITLE = "longest time: until the pair was whole again, without any answer at all (silence), waiting for one answer (wait)"
COMPARED_EVERY_S = 60.0  # hashes, at least
COMPARED_EVERY_FAULTS = 5
DECLINES_SHOWN = 5
KILLS_MIN = 30  # the rule of three wants no fewer


class Happened(msgspec.Struct, kw_only=True):
    """A fault of the run. start_s: since traffic began. duration_s: until the pair was whole again.

    Between its start and the next fault's, silence_ms: the longest time without any answer at all; wait_ms: the longest
    wait for one answer (one node may fall silent while the other goes on answering).
    """

    name: str
    start_s: float
    duration_s: float
    detail: str
    start_epoch: float
    silence_ms: float = 0.0
    wait_ms: float = 0.0
    kills: list[Kill] = []


class Row(msgspec.Struct, frozen=True):
    """All faults of one name: the longest, the longest time without any answer at all, the longest wait for one answer."""

    name: str
    times: int
    kills: int
    longest_s: float
    silence_ms: float
    wait_ms: float
    takeover_ms: Spread | None


class ChaosReport(Report, kw_only=True):
    """What tools/chaos writes as JSON. takeover: of the kills that end a node at once, not of those that silence
    it: from the signal until the heir serves, as the heir tells.

    reversed, advices: of the terminals' requests. declined_by_switch: requests that neither issuer nor bank declined.
    events: what the nodes logged of transactions, answers and advices, by name.
    failure_bound_per_kill: see `failure_bound`; None when something was found.
    """

    seed: int
    members: int
    seconds: float
    reversed: int
    advices: int
    declined_by_switch: int
    events: dict[str, int]
    faults: list[Happened]
    by_fault: list[Row]
    takeover: Spread | None
    failure_bound_per_kill: float | None
    findings: list[str]

    @classmethod
    def judge(
        cls, directory: Path, happened: list[Happened], samples: list[Sample], findings: list[str], seed: int,
        members: int, seconds: float, timer_s: float | None,
    ) -> Self:  # fmt: skip
        """Audits the records. findings: what the run itself found against the switch.

        timer_s: of requests to hosts that answer in time; None: hosts that do not, so that the switch may decline.
        """
        starts = [each.start_epoch for each in happened]
        silences = worst_silences(answer_times(directory / "inject"), starts)
        waits = worst_waits(json.loads((directory / "inject.json").read_bytes()), starts)
        for fault, silence_s, wait_s in zip(happened, silences, waits, strict=True):
            fault.silence_ms, fault.wait_ms = round(silence_s * 1000, 1), round(wait_s * 1000, 1)
        declines = declined_by_switch(directory / "inject", (directory / "issuer", directory / "bank"))
        if timer_s is not None:
            findings = findings + unasked_declines(declines, happened, timer_s)
        findings = findings + blind(samples, seconds, len(happened))
        kills = [kill for fault in happened for kill in fault.kills]
        sudden = [kill.takeover_ms for fault in happened if FAULTS[fault.name].sudden for kill in fault.kills]
        report = cls.of(
            directory, kills, samples, not findings, seed=seed, members=members, seconds=seconds, faults=happened,
            by_fault=rows(happened), reversed=0, advices=0, declined_by_switch=len(declines), events=events(directory),
            takeover=Spread.of(sudden) if sudden else None, failure_bound_per_kill=None, findings=findings,
        )  # fmt: skip
        report.reversed, report.advices = report.verdict.reversed, report.verdict.advices
        if not report.sent or not report.approved:
            findings = [*findings, f"nothing is proven by {report.sent} requests, {report.approved} of them approved"]
            report.clean = False
        report.findings = findings + report.verdict.findings
        report.failure_bound_per_kill = failure_bound(len(kills)) if report.clean else None
        return report


def unasked_declines(declines: list[Decline], happened: Iterable[Happened], timer_s: float) -> list[str]:
    """A finding when there are some that no fault can have caused."""
    stood = [
        Standstill(fault.start_epoch, fault.start_epoch + fault.duration_s)
        for fault in happened if FAULTS[fault.name].holds
    ]  # fmt: skip
    found = unexcused(declines, stood, timer_s)
    some = ", ".join(f"{each.reference} by {each.code} after {each.waited_s:.2f} s" for each in found[:DECLINES_SHOWN])
    text = f"the switch declined {len(found)} request(s) by itself, and no fault can have made it: {some}"
    return [text] if found else []


def blind(samples: Iterable[Sample], seconds: float, faults: int) -> list[str]:
    """A finding when the nodes' hashes were compared so seldom that they may have differed unseen."""
    times = [0.0, *(each.seconds for each in samples if each.hashes_agree is not None), seconds]
    longest_s, compared = max(later - earlier for earlier, later in itertools.pairwise(times)), len(times) - 2
    if longest_s <= COMPARED_EVERY_S and compared * COMPARED_EVERY_FAULTS >= faults:
        return []
    return [f"hashes were compared {compared} times in {faults} faults, and not once for {longest_s:.0f} s"]


def events(directory: Path) -> dict[str, int]:
    """How often the nodes' logs name each event of a transaction, an advice or an answer that came too late.

    What an heir has told for a node that had told it itself is counted once.
    """
    counted: collections.Counter[str] = collections.Counter()
    told: set[str] = set()
    again: list[re.Match[str]] = []
    for log in sorted(directory.glob("node-*.log")):
        with log.open(errors="replace") as lines:
            for found in filter(None, map(_EVENT.search, lines)):
                if found[3]:
                    again.append(found)
                else:
                    counted[found[1]] += 1
                    told.add(found[1] + found[2])
    counted.update(found[1] for found in again if found[1] + found[2] not in told)
    return dict(sorted(counted.items()))


def failure_bound(kills: int) -> float:
    """The rule of three: after n kills without a failure, the 95 % upper bound of the failure rate is 3/n."""
    return min(1.0, 3 / kills) if kills else 1.0


def rows(happened: Sequence[Happened]) -> list[Row]:
    """One row for each kind of fault that happened, in the order of the table of faults."""
    found = []
    for name in FAULTS:
        if same := [fault for fault in happened if fault.name == name]:
            takeovers = [kill.takeover_ms for fault in same for kill in fault.kills]
            worst = (max(getattr(fault, figure) for fault in same) for figure in ("duration_s", "silence_ms", "wait_ms"))
            found.append(Row(name, len(same), len(takeovers), *worst, Spread.of(takeovers) if takeovers else None))
    return found


class _Message(msgspec.Struct):
    """Of a tools.record.MessageLine what is needed here."""

    time: float
    direction: Literal["in", "out"]


def answer_times(folder: Path) -> list[float]:
    """When the injector heard answers, in order, epoch seconds."""
    decode = msgspec.json.Decoder(_Message).decode
    times = []
    for life in lives(folder):
        with (folder / f"messages-{life}.jsonl").open("rb") as lines:
            times += [seen.time for seen in map(decode, lines) if seen.direction == "in"]
    return times


def worst_silences(answers: Sequence[float], starts: Sequence[float]) -> list[float]:
    """For each fault, by its start, the longest time without an answer. Seconds."""
    return _longest(itertools.pairwise(answers), starts)


def worst_waits(result: dict[str, Any], starts: Sequence[float]) -> list[float]:
    """For each fault, by its start, the longest that an answer took. Seconds.

    A long run's result has one of every few answers: the slowest, so none of these is missing. A request that was given
    up waits until its reversal is answered.
    """
    begun = result["begun_epoch"]
    answers = ((begun + at_s, latency_ms / 1000) for at_s, latency_ms in result["answers"])
    return _longest(((at - latency_s, at) for at, latency_s in answers), starts)


def _longest(intervals: Iterable[tuple[float, float]], starts: Sequence[float]) -> list[float]:
    """The longest interval of each fault: one belongs to the fault between whose start and the next most of it lies."""
    longest = [0.0] * len(starts)
    ends = [*starts[1:], math.inf]
    for begin, end in intervals:
        places = range(max(bisect.bisect_right(starts, begin) - 1, 0), bisect.bisect_right(starts, end))
        if places:
            place = max(places, key=lambda at: min(end, ends[at]) - max(begin, starts[at]))
            longest[place] = max(longest[place], end - begin)
    return longest


def show(report: ChaosReport) -> None:
    """Figures and table on stdout."""
    for name in ("sent", "answered", "approved", "lost", "duplicated", "resets", "ledger_mismatch", "tps"):
        print(f"{name:16} {getattr(report, name)}")
    print(f"declined         {report.declined_by_switch} by the switch itself")
    if report.reversed or report.advices:
        print(f"reversed         {report.reversed} by terminals\nadvices          {report.advices} of terminals")
        print("events           " + "  ".join(f"{name} {number}" for name, number in report.events.items()))
    print("latency_ms       " + "  ".join(f"{name} {value:.1f}" for name, value in report.latency_ms.items()))
    print(f"silence_ms       {report.longest_gap_ms:.1f}, the longest time without any answer at all")
    print(f"wait_ms          {report.latency_ms['max']:.1f}, the longest wait for one answer")
    print(f"hashes           compared {report.hash_comparisons} times, differed {report.hash_mismatches} times")
    table = Table(title=TITLE, title_justify="left")
    for column in ("fault", "times", "kills", "longest s", "silence ms", "wait ms", "takeover p50", "max ms"):
        table.add_column(column, justify="left" if column == "fault" else "right", no_wrap=column == "fault")
    for row in report.by_fault:
        spread = row.takeover_ms
        figures = [f"{row.longest_s:.1f}", f"{row.silence_ms:.0f}", f"{row.wait_ms:.0f}"]
        figures += [f"{spread.p50:.0f}", f"{spread.max:.0f}"] if spread else ["", ""]
        table.add_row(row.name, str(row.times), str(row.kills or ""), *figures)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for finding in report.findings:
        print(f"finding: {finding}")
    print(sentence(report))


def sentence(report: ChaosReport) -> str:
    """What the run proves."""
    if report.failure_bound_per_kill is None:
        return f"THE RUN IS NOT CLEAN: {len(report.findings)} finding(s)"
    if report.kills < KILLS_MIN:
        return f"the run is clean; {report.kills} kills are too few to say how seldom one may fail"
    return (
        f"the run is clean: {report.kills} kills, none of which lost, doubled or cut anything. With 95 % confidence "
        f"fewer than {report.failure_bound_per_kill:.2%} of kills do (rule of three: 3/{report.kills})"
    )
