"""Throughput, latency and CPU of the pair with mirroring and without it, in turns on the same cores.

Everything runs on these cores: nodes, etcd, injector, simulators. Throughput and CPU are of the time between the first
and the last full second of a run, so that connecting and closing do not count.
"""

import asyncio
import operator
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import uvloop

from switch.mirror.client import Client
from switch.mirror.requests import holds, put, transaction
from switch.mirror.settings import EtcdSettings
from tools.audit import audit
from tools.demo import inject
from tools.pair import Switch

Side = Literal["mirrored", "unmirrored"]
PROGRAMS: dict[Side, str] = {"mirrored": "switch", "unmirrored": "tools.unmirrored"}
PROGRESS = re.compile(rb"\s*([\d.]+) s  sent \d+  answered (\d+) ")
TICKS = os.sysconf("SC_CLK_TCK")
ENTRY_BYTES = 1024
APPENDS = 500


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is run. rate: requests a second for latency. saturation: requests a second that no pair can answer."""

    seconds: float
    rounds: int
    rate: float
    saturation: float
    terminals: int
    warm_up_s: float


class Phase(msgspec.Struct, frozen=True):
    """One run of the injector. cpu_us: CPU time of each process, and of all, per answer."""

    tps: float
    latency_ms: dict[str, float]
    cpu_us: dict[str, float]
    append_p50_ms: float
    lost: int


class Round(msgspec.Struct, frozen=True):
    """One side once. findings: of the auditor over all its runs."""

    latency: Phase
    cards: Phase
    mixed: Phase
    findings: int


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """All rounds in order, and what they come to: medians over rounds, of ratios and differences within each."""

    mirrored: list[Round]
    unmirrored: list[Round]
    append_alone_ms: dict[str, float]
    ratio: dict[str, float]  # throughput with mirroring, in parts of that without
    added_p50_ms: float
    three_appends_ms: float  # by the nodes' own append_p50
    three_appends_alone_ms: float


class _Mark(msgspec.Struct, frozen=True):
    at: float
    answered: int
    cpu_s: dict[str, float]


def measure(load: Load, say: Callable[[str], None]) -> Throughput:
    """Both sides in each round, the first side alternating."""
    rounds: dict[Side, list[Round]] = {"mirrored": [], "unmirrored": []}
    alone: list[float] = []
    for number in range(load.rounds):
        sides: tuple[Side, ...] = ("mirrored", "unmirrored")
        for side in sides if number % 2 == 0 else reversed(sides):
            say(f"round {number + 1} of {load.rounds}, {side}")
            rounds[side].append(_round(load, side, alone))
    return _compare(rounds, sorted(alone))


def _round(load: Load, side: Side, alone: list[float]) -> Round:
    directory = Path(tempfile.mkdtemp(prefix="switch-bench-"))
    try:
        with Switch(directory, program=PROGRAMS[side]) as switch:
            saturated = {"seconds": load.seconds, "rate": load.saturation, "terminals": load.terminals}
            moderate = {**saturated, "rate": load.rate}
            folders = [directory / name for name in ("warm-up", "latency", "cards", "mixed")]
            if load.warm_up_s:
                run(switch, folders[0], {**moderate, "seconds": load.warm_up_s}, "mixed")
            phases = (
                run(switch, folders[1], moderate, "cards"),
                run(switch, folders[2], saturated, "cards"),
                run(switch, folders[3], saturated, "mixed"),
            )
            switch.stop_nodes()
            if side == "mirrored":
                alone += uvloop.run(append_alone(switch.etcd.endpoints[0]))
        records = [folder / "inject" for folder in folders if folder.exists()]
        verdict = audit(records, directory / "issuer", directory / "bank")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return Round(*phases, len(verdict.findings))


def run(switch: Switch, folder: Path, options: dict[str, Any], traffic: str) -> Phase:
    """One run of the injector, at least three seconds long for a throughput. Raises RuntimeError when it fails."""
    child = inject(switch, folder, {**options, "traffic": traffic, "banks": 8, "pipeline": 32}, subprocess.PIPE)
    marks: list[_Mark] = []
    appends: list[float] = []
    try:
        for seconds in _progress(child, switch, marks):
            if seconds >= options["seconds"] - 1.5 and not appends:
                appends = [switch.ask(node)["mirror"]["append_p50_ms"] for node in "ab"]
    finally:
        if child.poll() is None:
            child.terminate()
        child.wait()
    report = folder / "inject.json"
    if not report.exists():
        raise RuntimeError(f"the injector failed with {child.returncode}: see its messages above")
    result = msgspec.json.decode(report.read_bytes())
    whole = [mark for mark in marks if mark.at - marks[0].at <= options["seconds"] - 1]
    first, last = whole[0], whole[-1] if len(whole) > 1 else marks[-1]  # the next ones were late, on a busy machine
    answers = last.answered - first.answered
    passed = last.at - first.at
    cpu_us = {name: round((last.cpu_s[name] - first.cpu_s[name]) / max(answers, 1) * 1e6) for name in first.cpu_s}
    cpu_us["all"] = sum(cpu_us.values())
    tps = round(answers / passed, 1) if passed else 0.0
    return Phase(tps, result["latency_ms"], cpu_us, statistics.median(appends or [0.0]), result["lost"])


def _progress(child: "subprocess.Popen[bytes]", switch: Switch, marks: list[_Mark]) -> Iterator[float]:
    """The seconds that have passed, each time the injector tells; marks what was used until then."""
    assert child.stderr is not None
    processes = [*switch.nodes.values(), *switch.simulators.values()]
    pids = {each.name: each.pid for each in processes} | {"etcd": switch.etcd.pid(), "injector": child.pid}
    for line in child.stderr:
        found = PROGRESS.match(line)
        if found is None:
            print(line.decode(errors="replace"), end="")
            continue
        marks.append(_Mark(time.monotonic(), int(found[2]), {name: cpu_s(pid) for name, pid in pids.items()}))
        yield float(found[1])


def cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5) stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def append_alone(endpoint: str) -> list[float]:
    """Milliseconds of each of a row of appends to an otherwise idle etcd: guarded like the mirror's, of 1 KiB."""
    client = Client(EtcdSettings(endpoints=(endpoint,)))
    value = os.urandom(ENTRY_BYTES)
    taken = []
    try:
        for number in range(APPENDS):
            fence, before = b"%d" % number, b"%d" % (number - 1)
            writes = [put(b"bench/fence", fence), put(b"bench/head", b""), put(b"bench/log/" + fence, value)]
            request = transaction(writes, [holds(b"bench/fence", before)] if number else ())
            began = time.perf_counter()
            response = await client.endpoint.kv.Txn(request)
            taken.append((time.perf_counter() - began) * 1000)
            if not response.succeeded:
                raise RuntimeError("etcd refused an append that nobody competes with")
            await asyncio.sleep(0)
    finally:
        await client.close()
    return taken


def _compare(rounds: dict[Side, list[Round]], alone: list[float]) -> Throughput:
    mirrored, unmirrored = rounds["mirrored"], rounds["unmirrored"]
    p50 = statistics.median(alone)
    before, after = (figures(side, "latency.latency_ms.p50") for side in (unmirrored, mirrored))
    return Throughput(
        mirrored=mirrored,
        unmirrored=unmirrored,
        append_alone_ms={"p50": round(p50, 3), "p99": round(alone[int(len(alone) * 0.99)], 3)},
        ratio={name: round(ratio(mirrored, unmirrored, f"{name}.tps"), 3) for name in ("cards", "mixed")},
        added_p50_ms=round(statistics.median(map(operator.sub, after, before)), 3),
        three_appends_ms=round(3 * statistics.median(figures(mirrored, "latency.append_p50_ms")), 3),
        three_appends_alone_ms=round(3 * p50, 3),
    )


def ratio(mirrored: list[Round], unmirrored: list[Round], path: str) -> float:
    """The median of the ratios within each round, since a machine's noise changes from one to the next; 0.0 of zeros."""
    pairs = zip(figures(mirrored, path), figures(unmirrored, path), strict=True)
    return statistics.median([over / under if under else 0.0 for over, under in pairs])


def figures(rounds: list[Round], path: str) -> list[float]:
    """One figure of each round, by its path ("latency.latency_ms.p50")."""

    def follow(value: Any) -> float:
        for name in path.split("."):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        return float(value)

    return list(map(follow, rounds))
