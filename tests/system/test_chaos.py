"""tools/chaos on real processes: each fault at least once, and what it must not overlook."""

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import cast

import msgspec
import pytest
from rich.console import Console
from rich.progress import Progress

from tools import chaos_faults
from tools.chaos import Chaos, Plan
from tools.chaos_faults import FAULTS, Done, Step, chosen, order, small_disk
from tools.chaos_report import ChaosReport, events, failure_bound, sentence, worst_silences, worst_waits
from tools.demo import Hashes
from tools.ledger import FILE as LEDGER
from tools.pair import Switch

ROOT = Path(__file__).parents[2]
LIGHT = ("--terminals", "20", "--rate", "60")
# that what befalls one message of a hundred is seen also on a fast machine, where the kills take less time
ENOUGH = ("--terminals", "40", "--rate", "150")


def chaos(directory: Path, *options: str) -> ChaosReport:
    """A clean run's report. Its folder is kept."""
    command = [sys.executable, "-m", "tools.chaos", "--directory", str(directory), *LIGHT, *options]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the run is clean" in done.stdout
    return msgspec.json.decode((directory / "chaos.json").read_bytes(), type=ChaosReport)


# --- the order


def test_the_seed_decides_the_order() -> None:
    each_round = chosen(1)
    first, again, other = (list(itertools.islice(order(seed, each_round), 100)) for seed in (1, 1, 2))
    assert first == again
    assert [step.fault for step in first] != [step.fault for step in other]


@pytest.mark.parametrize("members", [1, 3])
def test_every_round_has_every_fault_that_fits_the_members(members: int) -> None:
    each_round = chosen(members)
    assert each_round.keys() == {name for name, each in FAULTS.items() if members in each.members and not each.asked}
    length = sum(each_round.values())
    steps = list(itertools.islice(order(7, each_round), 3 * length))
    for begin in range(0, 3 * length, length):
        assert Counter(step.fault for step in steps[begin : begin + length]) == each_round
    assert {step.node for step in steps} == {"a", "b"}


def test_faults_are_chosen_by_name_and_a_strange_name_is_refused() -> None:
    assert set(chosen(1, ["kill", "pause"], both=True)) == {"kill", "pause", "kill-both"}
    with pytest.raises(ValueError, match="no fault 'leader-kill'"):
        chosen(1, ["leader-kill"])
    with pytest.raises(ValueError, match="1 or 3 members"):
        chosen(2)


def test_a_run_that_waits_for_kills_must_have_faults_that_kill() -> None:
    with pytest.raises(ValueError, match="would never end"):
        Plan(seed=1, members=1, kills=3, only=("pause", "etcd-kill")).each_round()


def test_a_plan_that_cannot_be_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.chaos", "--members", "2", "--directory", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2 and "1 or 3 members" in done.stderr
    assert not (tmp_path / "run").exists()


# --- figures


def test_the_rule_of_three() -> None:
    assert failure_bound(1000) == 0.003
    assert failure_bound(3) == failure_bound(2) == failure_bound(0) == 1.0


def test_what_an_heir_tells_is_counted_where_the_dead_had_not_told_it(tmp_path: Path) -> None:
    line = "2026-11-23T07:13:27.556 {} INFO {}\n"
    stored, settled = "advice.stored advice=7 link=issuer", "advice.settled advice=7"
    (tmp_path / "node-a.log").write_text(line.format("a", stored) + line.format("a", "node.live incarnation=a1"))
    told_for = [line.format("b", f"{text} told_for=a1") for text in (stored, settled)]
    (tmp_path / "node-b.log").write_text("".join(told_for) + line.format("b", stored.replace("7", "8")))
    assert events(tmp_path) == {"advice.settled": 1, "advice.stored": 2}


def test_a_silence_belongs_to_the_fault_in_whose_time_most_of_it_lies() -> None:
    assert worst_silences([1.0, 2.0, 2.5, 6.0, 6.5, 8.0], [2.25, 6.25]) == [3.5, 1.5]
    assert worst_silences([1.0, 4.0, 10.0], [3.5, 4.5, 20.0]) == [3.0, 6.0, 0.0]
    assert worst_silences([1.0, 2.0], [3.0]) == [0.0]  # before the first
    assert worst_silences([], [1.0]) == [0.0]


def test_a_wait_belongs_to_the_fault_in_whose_time_most_of_it_lies() -> None:
    result = {"begun_epoch": 100.0, "answers": [[1.0, 900.0], [3.0, 20.0], [8.25, 2000.0], [8.5, 125.0]]}
    assert worst_waits(result, [102.0, 108.0]) == [2.0, 0.125]


class Telling:
    """A switch that tells hashes."""

    def __init__(self, a: tuple[int, str], b: tuple[int, str]) -> None:
        self.told = {"a": a, "b": b}

    def ask(self, node: str) -> dict[str, tuple[int, str]]:
        return {"hash": self.told[node]}


def test_hashes_are_compared_with_the_other_nodes_only_and_a_difference_is_seen() -> None:
    hashes = Hashes()

    def compare(a: tuple[int, str], b: tuple[int, str]) -> bool | None:
        return hashes.compare(cast(Switch, Telling(a, b)))

    assert compare((0, ""), (0, "")) is None
    assert compare((5, "x"), (6, "y")) is None
    assert compare((5, "x"), (6, "y")) is None  # the same once more is no agreement
    assert compare((6, "y"), (7, "z")) is True
    assert compare((7, "other"), (8, "v")) is False  # b has told of 7 before


# --- real runs


def assert_whole(report: ChaosReport, faults: dict[str, int]) -> None:
    assert Counter(fault.name for fault in report.faults) == faults
    assert report.clean and report.findings == []
    assert report.answered == report.sent > 0
    assert report.hash_comparisons > 0 and report.hash_mismatches == 0
    assert all(len(fault.kills) == 1 for fault in report.faults if fault.name in ("kill", "hang", "kill-without-etcd"))
    assert report.kills == sum(len(fault.kills) for fault in report.faults) == len(report.takeover_ms)
    assert report.takeover is not None and report.takeover.p50 > 0
    assert report.failure_bound_per_kill == failure_bound(report.kills)
    assert all(fault.duration_s > 0 and fault.wait_ms > 0 for fault in report.faults)
    holds = [fault for fault in report.faults if fault.name == "etcd-full"]
    assert holds and all(fault.silence_ms > 100 for fault in holds)  # nothing is answered while etcd refuses to write


@pytest.mark.timeout(300)
def test_one_round_of_every_fault_and_what_its_records_say_when_they_are_bent(tmp_path: Path) -> None:
    directory, each_round = tmp_path / "run", chosen(1)
    report = chaos(directory, "--keep", "--faults", str(sum(each_round.values())), "--seed", "1")
    assert_whole(report, each_round)
    lines = [json.loads(line) for line in (directory / "faults.jsonl").read_bytes().splitlines()]
    assert [line["name"] for line in lines] == [
        step.fault for step, _ in zip(order(1, each_round), lines, strict=False)
    ]

    def judge(*findings: str) -> ChaosReport:
        return ChaosReport.judge(directory, report.faults, report.samples, list(findings), 1, 1, report.seconds, 8.0)

    assert judge().clean
    found = judge("b did not come back")
    assert not found.clean and found.findings == ["b did not come back"] and found.failure_bound_per_kill is None
    assert "NOT CLEAN" in sentence(found)
    ledger = directory / "issuer" / LEDGER
    ledger.write_bytes(ledger.read_bytes() + ledger.read_bytes().splitlines(keepends=True)[0])
    bent = judge()
    assert not bent.clean and bent.duplicated == 1 and bent.failure_bound_per_kill is None


def test_etcd_has_no_room_left_on_its_disk(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "probe"):
            pass
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be mounted here")
    report = chaos(tmp_path / "run", "--faults", "1", "--only", "disk-full", "--keep")
    assert report.faults[0].silence_ms > 100
    data = tmp_path / "run" / "etcd"
    assert "no space left on device" in (data / "m0.log").read_text() and not (data / "m0").is_mount()


@pytest.mark.timeout(300)
def test_three_members_of_etcd_die_and_hang_with_the_nodes(tmp_path: Path) -> None:
    names = ("kill", "etcd-full", "leader-kill", "follower-kill", "member-pause")
    each_round = chosen(3, names)
    report = chaos(
        tmp_path / "run", "--members", "3", "--faults", str(sum(each_round.values())), "--only", ",".join(names),
        "--seed", "2", "--keep",
    )  # fmt: skip
    assert_whole(report, each_round)


@pytest.mark.timeout(300)
def test_an_issuer_that_loses_delays_and_repeats_and_terminals_agree_in_the_end(tmp_path: Path) -> None:
    report = chaos(
        tmp_path / "run", "--keep", "--issuer", "unreliable", "--kills", "4", "--only", "kill,kill-rejoining", "--seed", "3",
        "--traffic", "cards", *ENOUGH,
    )  # fmt: skip
    assert report.kills >= 4 and report.lost == report.duplicated == report.ledger_mismatch == 0
    assert report.reversed > 0 and report.advices > 0
    # what a killed node had appended, and may not have told, its heir tells
    assert report.events["advice.stored"] >= report.reversed + report.advices and report.events["transaction.timeout"] > 0
    assert report.events["advice.refused"] > 0 and report.events["answer.unmatched"] > 0


def test_a_node_that_ends_without_being_meant_to_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def treacherous(switch: Switch, step: Step) -> Done:
        switch.nodes[step.node].signal(signal.SIGKILL)
        switch.nodes[step.node].respawn()
        return Done("says that nothing ended")

    monkeypatch.setitem(chaos_faults.FAULTS, "pause", chaos_faults.Fault(treacherous, 1))
    plan = Plan(seed=1, members=1, faults=2, only=("pause",), terminals=10, rate=40)
    with Progress(console=Console(quiet=True)) as progress:
        report = Chaos(tmp_path / "run", plan, progress).run()
    assert not report.clean and len(report.faults) == 1  # it stops at the first
    assert report.verdict.clean, report.verdict.findings
    assert "should be still" in report.findings[0]


def test_a_failed_run_keeps_its_folder_and_says_how_to_go_on(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "tools.chaos",
        "--directory",
        str(directory),
        *LIGHT,
        "--faults",
        "50",
        "--only",
        "pause",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        line = next(line for line in run.stderr if "pause" in line)
        assert "whole after" in line
        injector = next(
            pid for pid in children(run.pid) if b"tools.inject" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(injector, signal.SIGKILL)
        told = run.stderr.read()
    assert run.returncode == 1 and "Traceback" not in told
    assert "the injector has ended with -9: see inject.log" in told
    assert f"everything is kept in {directory}" in told and "--only pause" in told
    assert (directory / "faults.jsonl").exists() and (directory / "node-a.log").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_that_it_started_outlives_it(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "tools.chaos", "--directory", str(tmp_path / "run"), *LIGHT, "--only", "kill"]
    command = ["env", "--default-signal=HUP", *command]  # becomes it: under nohup it is meant to stay
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        assert any("whole after" in line for line in run.stderr)  # a node was started anew, too
        started = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(run.pid)}
        for each in (b"--node\0a", b"--node\0b", b"issuer", b"bank", b"tools.inject", b"etcd"):
            assert any(each in line for line in started.values())
        ends = select.poll()
        for pid in started:
            ends.register(os.pidfd_open(pid), select.POLLIN)
        run.send_signal(how)
        run.wait(60)
        left = len(started)
        while left and (ended := ends.poll(20_000)):
            left -= len(ended)
            for pidfd, _ in ended:
                ends.unregister(pidfd)
                os.close(pidfd)
        assert left == 0
        assert run.returncode == (-how if how is signal.SIGKILL else 128 + how)


def children(pid: int) -> list[int]:
    return [
        int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()
    ]
