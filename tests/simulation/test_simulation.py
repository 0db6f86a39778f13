"""Some hundred seeds of the simulation; more with tools/simulate. And what makes a seed worth something: it replays exactly."""

import functools
import os
import random
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import faults
import faults_of_nodes as nodes
import faults_of_others as others
import pytest
from ablation_table import Focus
from plan import Fault, Maker, Plan
from simulation import Simulation, simulate
from units import Unit
from world import Killed, Process

from switch.core import fold
from switch.core.fold import Applied
from switch.core.proposals import Absorb, Forget, NetworkRequest, Park, Piece, Redeliver, Resend, Settle, Undo
from switch.points import POINTS

SEEDS = int(os.environ.get("SWITCH_SIMULATION_SEEDS", "250"))
PART = 50
# entries that so few seeds may do without; of the last there is none: no issuer signs off
SELDOM = {Absorb, Forget, Park, Piece, Redeliver, Resend, Settle, Undo, NetworkRequest}
HERE = Path(__file__).parent
TRACE = "import sys; from simulation import simulate; print('\\n'.join(simulate(int(sys.argv[1]), tracing=True).lines))"


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_every_invariant_holds_whatever_fails(first: int) -> None:
    decided: set[type] = set()
    with mock.patch.dict(fold.RULES, {kind: _noting(decided, kind, rule) for kind, rule in fold.RULES.items()}):
        results = [simulate(seed) for seed in range(first, first + PART)]
    failed = [f"{each.violation} (tools/simulate --seed {each.seed} --trace)" for each in results if each.violation]
    assert not failed
    # else nothing was tried
    assert sum(each.kills for each in results) >= PART // 2
    assert sum(each.requests for each in results) >= 5 * PART
    assert {point for each in results for point in each.points} == set(POINTS)
    assert fold.RULES.keys() - decided <= SELDOM


@pytest.mark.parametrize(
    ("maker", "world", "seldom"),
    [
        (others.cramp, {}, {Piece}),
        (others.advices_unheard, {"tries": 2}, {Park, Settle}),
        (others.hang_up, {"mall": True}, {Undo, Redeliver}),
        (others.issuer_stuck, {}, {Resend}),
        (nodes.kill, {"forgets": True}, {Forget}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_seldom_drawn_is_decided_where_it_is_aimed_at(maker: Maker, world: dict[str, Any], seldom: set[type]) -> None:
    decided: set[type] = set()
    with mock.patch.dict(fold.RULES, {kind: _noting(decided, kind, rule) for kind, rule in fold.RULES.items()}):
        for seed in range(30):
            result = simulate(seed, plan=Focus((maker,), world=world).plan(seed))
            assert not result.violation
            if seldom <= decided:
                return
    raise AssertionError(f"never decided: {seldom - decided}")


def _noting(decided: set[type], kind: type, rule: fold.Rule) -> fold.Rule:
    """The rule; an entry that it accepts is noted."""

    def noting(state: Any, proposal: Any) -> bool:
        accepted = rule(state, proposal)
        if accepted:
            decided.add(kind)
        return accepted

    return noting


@pytest.mark.parametrize("seed", [3, 7, 20_001])
def test_a_seed_is_one_history(seed: int) -> None:
    """In this process, again, and in others that hash otherwise."""
    lines = simulate(seed, tracing=True).lines
    assert len(lines) > 50
    assert simulate(seed, tracing=True).lines == lines
    for hashing in "12":
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        environment["PYTHONPATH"] = os.pathsep.join((str(HERE.parents[1]), str(HERE)))
        command = [sys.executable, "-c", TRACE, str(seed)]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert found.stdout.splitlines() == lines


def test_who_runs_seeds_leaves_nothing_behind_when_it_is_killed() -> None:
    tool = [sys.executable, str(HERE.parents[1] / "tools" / "simulate.py"), "--minutes", "5", "--jobs", "2"]
    with subprocess.Popen(tool, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the first figures: its workers are at work
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ends = [os.pidfd_open(int(child)) for child in children]
        process.kill()
    assert len(children) >= 2
    for end in ends:  # readable when it has ended, reaped or not (pidfd_open(2))
        assert select.select([end], [], [], 20)[0], "a worker goes on"
        os.close(end)


def _kind(fault: Fault) -> str:
    """Its text without what differs from one to the next."""
    return re.sub(r"-?\d[\d.]*|\b[ab]\b", "#", fault.text)


def test_every_kind_of_fault_is_drawn() -> None:
    """A fault that no seed has would be one that is never tried."""
    drawn = {_kind(fault) for seed in range(3_000) for _, fault in faults.draw(random.Random(seed)).faults}
    makers = [*(maker for _, maker in faults.KINDS), *faults.OF_TRANSFERS, others.reload, others.advices_unheard]
    made = {_kind(maker(random.Random(seed))) for maker in makers for seed in range(300)}
    assert drawn >= made and len(made) > 50


@pytest.mark.parametrize("seed", range(8))
def test_who_comes_back_before_the_survivor_reads_the_log_again_leaves_it_alive(seed: int) -> None:
    """Found by seed 4159: etcd was away, the survivor's watch was not back, and so its beats had not begun."""

    def etcd_ends(simulation: Simulation) -> None:
        simulation.cluster.restart_member(0, 0.4)

    def slow_watch(simulation: Simulation) -> None:
        for stream in simulation.cluster.streams:
            if stream.process.name == "b":
                stream.lagging_until = simulation.world.now + 2.0

    plan = Plan(faults=[(0.0, Fault("kill a", lambda it: it.kill("a", "alone")))])
    plan.faults += [(0.1, Fault("etcd ends", etcd_ends)), (1.2, Fault("b reads late", slow_watch, 2.0))]
    result = Simulation(seed, plan=plan).run()
    assert not result.violation and result.kills == 1


@pytest.mark.parametrize("seed", range(4))
def test_who_comes_back_to_a_peer_that_stands_still_replaces_it(seed: int) -> None:
    """Found by seed 3: a was stopped, b killed; b greeted a, which held b's address, and could never serve."""
    stopped = Fault("stop a", lambda it: it.units["a"].process.stop(), 3.0)
    plan = Plan(store=True, faults=[(0.0, stopped), (0.2, Fault("kill b", lambda it: it.kill("b", "too")))])
    simulation = Simulation(seed, plan=plan)
    simulation.checks.sessions_may_end()  # two at once
    result = simulation.run()
    assert not result.violation and result.kills == 2 and simulation.units["a"].lives == 2


@pytest.mark.parametrize("seed", range(8))
def test_of_two_that_cannot_share_sockets_neither_opens_sessions_that_would_end_with_it(seed: int) -> None:
    """Found by seeds 1915 and 7955: until a ended b, b accepted, and a never had those sockets."""
    random_ = random.Random(seed)
    plan = Plan(faults=[(0.0, nodes.cut_handover(random_)), (0.1, others.storm(random_))])
    result = Simulation(seed, plan=plan).run()
    assert not result.violation and result.kills == 1


@pytest.mark.parametrize("seed", range(12))
def test_older_software_that_leaves_is_given_nothing_back(seed: int) -> None:
    """Found by seeds 1434 and 6612: with entries of version 1 the newer node took who was leaving for one with no share."""
    plan = Plan(old=True, faults=[(0.0, nodes.upgrade(random.Random(seed)))])
    result = Simulation(seed, plan=plan, tracing=True).run()
    lines = [line.split(maxsplit=2) for line in result.lines]
    older = [(number, who) for number, (_, who, text) in enumerate(lines) if text == "is upgraded"]
    begin, leaves = older[-1]
    end = next(number for number, (_, who, text) in enumerate(lines) if number > begin and "node.left" in text)
    moved = [text for _, who, text in lines[begin:end] if text.startswith("session.moved") and who != leaves]
    assert not result.violation and len(older) == 2 and not moved


@pytest.mark.parametrize("seed", [3, 19, 28, 30])
def test_a_run_has_not_settled_while_nodes_leave(seed: int) -> None:
    """Found by seed 4503: two of the older software leave, once etcd is back, and give each other their sessions meanwhile.

    With seed 30 the end of one, by the entry that its peer leaves, came before that had written its last output.
    """
    away = Fault("etcd: no quorum", lambda it: it.cluster.quorum_loss(1.3), 1.5)
    plan = Plan(old=True, faults=[(0.0, away), (0.02, nodes.upgrade(random.Random(seed)))])
    assert not Simulation(seed, plan=plan).run().violation


@pytest.mark.parametrize("seed", [0, 5, 7, 9])
def test_who_leaves_does_not_listen_again(seed: int) -> None:
    """Found by seed 1332: rules became active while a left; it took its addresses again, and b's, which could not start."""

    def leaves(simulation: Simulation) -> None:
        simulation.world.trace("a", "asked to stop")
        simulation.units["a"].stop()

    slow = Fault("etcd: a pause", lambda it: it.cluster.leader_change(0.3))
    reload = others.reload(random.Random(seed))
    assert reload.text.startswith("b ")
    plan = Plan(faults=[(0.0, slow), (0.1, Fault("a leaves", leaves, 1.0)), (0.2, reload)])
    result = Simulation(seed, plan=plan, tracing=True).run()
    lines = [line.split(maxsplit=2) for line in result.lines]
    begin = next(number for number, (_, who, text) in enumerate(lines) if text == "asked to stop")
    end = next(number for number, (_, who, text) in enumerate(lines) if who == "a" and text == "exits")
    heard = [text.split()[0] for _, who, text in lines[begin:end] if who == "a"]
    assert not result.violation and "rules.active" in [text.split()[0] for _, _, text in lines[begin:end]]
    assert "link.listening" not in heard and "link.not_listening" not in heard


@pytest.mark.parametrize("after_s", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_what_a_node_died_before_it_told_is_told_by_its_heir(seed: int, after_s: float) -> None:
    """A request times out. Who appended that dies before a line of it is written, or when its peer knows that it was."""
    told: list[tuple[str, str]] = []  # who said it, and for whom
    died: list[str] = []

    def listen(process: Process, level: int, name: str, fields: dict[str, Any]) -> None:
        if name == "transaction.timeout":
            told.append((process.name, fields.get("told_for", "")))
        tell(process, level, name, fields)

    def watch(simulation: Simulation) -> None:
        for unit in simulation.units.values():
            unit.node._say = functools.partial(say, unit, unit.node._say)

    def say(unit: Unit, usual: Callable[[int, str, Applied], None], index: int, by: str, applied: Applied) -> None:
        mine = by == unit.node.engine.incarnation and "transaction.timeout" in [note.event for note in applied.notes]
        if mine and not died:
            died.append(by)
            if not after_s:
                unit.process.kill()
                raise Killed
            simulation.world.at(after_s, unit.process.kill)
        usual(index, by, applied)

    simulation = Simulation(seed, plan=Plan(terminals=1, requests=1, faults=[(0.0, Fault("watch", watch, 3.0))]))
    simulation.issuer.loss = 1.0
    tell, simulation.checks.told = simulation.checks.told, listen
    result = simulation.run()
    assert not result.violation and result.kills == 1
    dead, heir = died[0][0], "b" if died[0][0] == "a" else "a"
    assert told == ([(dead, "")] if after_s else [(heir, died[0])])
