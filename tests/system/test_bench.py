"""The bench in a very short form: it runs to its end and tells all figures. How good they are is no test's matter."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from messages.iso8583 import shipped_dialects
from tools.bench import Report
from tools.hotspots import summarize
from tools.kills import Kill
from tools.takeovers import longest_waits
from tools.throughput import Phase

ROOT = Path(__file__).parents[2]
PROCESSES = {"node-a", "node-b", "issuer", "bank", "etcd", "injector", "all"}
PNG = b"\x89PNG\r\n\x1a\n"


def bench(directory: Path, *options: str) -> Report:
    """Its report, which has every field: those of the parts have no defaults."""
    file = directory / "bench.json"
    command = [sys.executable, "-m", "tools.bench", "--json", str(file), *options]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return msgspec.json.decode(file.read_bytes(), type=Report)


@pytest.mark.timeout(400)
def test_tells_what_mirroring_and_messages_cost_and_where_the_time_goes(tmp_path: Path) -> None:
    options = ("--seconds", "3", "--rounds", "1", "--warm-up", "0", "--codec-rounds", "1", "--terminals", "20")
    report = bench(tmp_path, *options, "--saturation", "1000", "--rate", "50")

    throughput = report.throughput
    assert throughput is not None
    for side in (throughput.mirrored, throughput.unmirrored):
        assert len(side) == 1
        for phase in (side[0].latency, side[0].cards, side[0].mixed):
            assert_whole(phase)
    assert throughput.mirrored[0].latency.append_p50_ms > 0
    assert throughput.unmirrored[0].latency.append_p50_ms == 0, "a node without mirroring has appended"
    assert set(throughput.ratio) == {"cards", "mixed"}
    assert throughput.three_appends_alone_ms > 0

    costs = {cost.name: cost for cost in report.codecs}
    assert {f"{name} decode" for name in shipped_dialects()} <= set(costs)
    assert {"cards: decode the request", "cards: answer", "pacs.008 decode"} <= set(costs)
    assert all(0 < cost.best_us <= cost.median_us for cost in costs.values())
    assert all(cost.beside in costs for cost in costs.values() if cost.beside)

    assert report.hotspots is not None
    assert report.hotspots.skipped or {"offer", "apply"} <= {group.name for group in report.hotspots.groups}


def assert_whole(phase: Phase) -> None:
    assert phase.tps > 0 and phase.lost == 0
    assert set(phase.latency_ms) == {"p50", "p99", "p999", "max"}
    assert set(phase.cpu_us) == PROCESSES and phase.cpu_us["node-a"] > 0


@pytest.mark.timeout(400)
def test_kills_nodes_idle_and_busy_and_draws_it(tmp_path: Path) -> None:
    picture = tmp_path / "kills.png"
    options = ("--takeover", "--sessions", "20", "--kills", "2", "--kill-every", "0.5", "--busy-rate", "50")
    report = bench(tmp_path, *options, "--picture", str(picture))

    idle, busy = report.takeovers
    for case in (idle, busy):
        assert case.kills >= 2 and [kill.node for kill in case.each[:2]] == ["a", "b"]
        assert case.takeover_ms.max >= case.noticed_ms.p50 > 0
        assert case.rss_mb["max"] > 0
        assert case.resets == case.findings == 0
    assert idle.answered == 0 and idle.wait_ms is None and idle.gap_ms is None
    assert busy.answered > 0 and busy.wait_ms is not None and busy.gap_ms is not None
    assert picture.read_bytes().startswith(PNG)


def test_a_sample_belongs_to_the_group_of_its_innermost_frame() -> None:
    outer = "run (typer/main.py:1);Replica.take (switch/mirror/replica.py:9);Engine.apply (switch/core/engine.py:5)"
    found = summarize([f"{outer} 3", f"{outer};Engine._compare (switch/core/engine.py:8);sum (lib.py:2) 1"], 0.5)
    groups = {group.name: (group.own, group.inclusive) for group in found.groups}
    assert groups == {"apply": (0.75, 1.0), "mirror": (0.0, 1.0), "hash": (0.25, 0.25)}


def test_the_longest_wait_of_a_kill_is_of_a_request_that_its_takeover_delayed() -> None:
    kills = [Kill("a", 1_000_000, 10, 100, 5), Kill("b", 1_005_000, 10, 100, 5)]
    answers = [[0.5, 400.0], [1.2, 250.0], [1.3, 150.0], [4.0, 2000.0], [6.2, 90.0], [6.05, 40.0]]
    assert longest_waits({"begun_epoch": 999.0, "answers": answers}, kills) == [250.0, 40.0]
