"""Takeovers in number: node after node is killed, with many sessions open, in silence and under traffic.

Each case is a pair of its own: terminals connect and stay, nodes are killed in turn and started again at once, and the
auditor judges the whole in the end.
"""

import json
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tools.audit import audit
from tools.demo import inject
from tools.kills import Kill, Killer, Spread, duplex
from tools.pair import Process, Switch
from tools.picture import Picture, draw

POLL_S = 0.25
DAY_S = 86_400.0
WAIT_S = 60.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the kills with so many sessions and so much traffic.

    noticed, takeover: after the kill. wait: per kill, the longest that a terminal waited for an answer which came
    between this kill and the next; with the gap only under traffic. gap_ms: the longest time without any answer.
    """

    sessions: int
    rate: float
    kills: int
    noticed_ms: Spread
    takeover_ms: Spread
    wait_ms: Spread | None
    gap_ms: float | None
    sessions_taken: float  # per kill, median
    rss_mb: dict[str, float]  # of a node: median, max
    answered: int
    resets: int
    findings: int
    failures: list[str]
    each: list[Kill]


def measure(
    sessions: int, rate: float, kills: int, every_s: float, picture: Path | None, say: Callable[[list[Kill]], None]
) -> Case:
    """One case. `say` is told the kills so far, often. Raises RuntimeError when there is no traffic to begin with."""
    directory = Path(tempfile.mkdtemp(prefix="switch-bench-"))
    rss: list[float] = []
    try:
        with Switch(directory) as switch:
            options = {"seconds": DAY_S, "rate": rate, "terminals": sessions, "traffic": "cards"}
            traffic = inject(switch, directory, options, subprocess.DEVNULL)
            try:
                switch.wait_for(lambda: _ready(switch, traffic, sessions), f"{sessions} sessions", WAIT_S)
                killer = _kill(switch, traffic, kills, every_s, rss, say)
                traffic.send_signal(signal.SIGTERM)
                traffic.wait(WAIT_S)
            finally:
                traffic.kill()
                traffic.wait()
            codes = switch.stop_nodes()
        result = json.loads((directory / "inject.json").read_bytes())
        failures = killer.failures + [f"{name} ended with {code}" for name, code in codes.items() if code]
        verdict = audit([directory / "inject"], directory / "issuer", directory / "bank")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if picture is not None and rate:
        draw(picture, Picture.of(result, killer.kills, f"{sessions} sessions, {rate:g} requests a second"))
    each = killer.kills
    return Case(
        sessions=sessions, rate=rate, kills=len(each), noticed_ms=Spread.of([kill.noticed_ms for kill in each]),
        takeover_ms=Spread.of([kill.takeover_ms for kill in each]),
        wait_ms=Spread.of(longest_waits(result, each)) if rate else None,
        gap_ms=round(result["longest_gap_ms"], 1) if rate else None,
        sessions_taken=statistics.median([kill.sessions for kill in each] or [0]),
        rss_mb={"median": round(statistics.median(rss or [0]), 1), "max": round(max(rss, default=0.0), 1)},
        answered=result["answered"], resets=result["resets"] + result["closes"], findings=len(verdict.findings),
        failures=failures, each=each,
    )  # fmt: skip


def _ready(switch: Switch, traffic: "subprocess.Popen[bytes]", sessions: int) -> bool:
    if traffic.poll() is not None:
        raise RuntimeError(f"the injector ended with {traffic.returncode}")
    return duplex(switch) and switch.ask("a")["sessions"] >= sessions


def _kill(
    switch: Switch, traffic: "subprocess.Popen[bytes]", kills: int, every_s: float, rss: list[float],
    say: Callable[[list[Kill]], None],
) -> Killer:  # fmt: skip
    killer = Killer(switch, "both-in-turn", every_s)
    try:
        while len(killer.kills) < kills and not killer.failures and traffic.poll() is None:
            rss += [size for size in map(_rss_mb, switch.nodes.values()) if size]
            say(killer.kills)
            time.sleep(POLL_S)
    finally:
        killer.stop()
    say(killer.kills)
    return killer


def _rss_mb(node: Process) -> float:
    """0 of a node that is being started again."""
    try:
        return node.rss_bytes() / 1e6
    except (OSError, IndexError):
        return 0.0


def longest_waits(result: dict[str, Any], kills: list[Kill]) -> list[float]:
    """For each kill, the slowest answer that came after it and before the next, of a request from before its takeover."""
    begun_ms = result["begun_epoch"] * 1000
    waits = []
    for place, kill in enumerate(kills):
        begins = kill.epoch_ms - begun_ms
        ends = kills[place + 1].epoch_ms - begun_ms if place + 1 < len(kills) else float("inf")
        served = begins + kill.takeover_ms
        during = [
            latency for at_s, latency in result["answers"]
            if begins <= at_s * 1000 < ends and at_s * 1000 - latency <= served
        ]  # fmt: skip
        waits.append(max(during, default=0.0))
    return waits
