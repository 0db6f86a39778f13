"""What may go wrong in a run, drawn from the seed before it begins, so that it can be told and replayed."""

import random
from collections.abc import Callable, Sequence
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any

import msgspec
from seqpacket import CONNECTED, UnixEnd
from terminals import Habits

from switch import points
from switch.core.proposals import VERSION

if TYPE_CHECKING:
    from simulation import Simulation

SYSTEM_CALLS = 400  # a node makes so many in a few hundred milliseconds
POINTS = [point for point in points.POINTS if point != "join.after"]  # that comes too early for this


class Fault(msgspec.Struct):
    """One of a plan. `text` says what it does, `strike` does it, and the world heals `lasts_s` later at the earliest."""

    text: str
    strike: Callable[["Simulation"], None]
    lasts_s: float = 0.25


class Plan(msgspec.Struct):
    """The whole of a seed: how much traffic, and what goes wrong when (from 0 to 1: in the time there is for faults)."""

    terminals: int = 4
    requests: int = 4
    members: int = 1
    store: bool = False
    snapshot_entries: int = 40  # a snapshot at every so many
    old: bool = False  # the pair begins with the software before this one
    alt: bool = False  # a second network leads to the issuer
    mall: bool = False  # all terminals but the first are of a concentrator: it takes no part, and answers for any of them
    window: int = 1  # of advices
    partial: float = 0.0  # how often the issuer approves a part
    habits: Habits = Habits()
    faults: list[tuple[float, Fault]] = []

    @property
    def texts(self) -> list[str]:
        return [f"{when:.3f} {fault.text}" for when, fault in self.faults]


Maker = Callable[[random.Random], Fault]


def _node(dice: random.Random) -> str:
    return dice.choice("ab")


def _duration(dice: random.Random, typical: float) -> float:
    return typical * (0.2 + dice.expovariate(1.0))


# --- nodes


def kill(dice: random.Random) -> Fault:
    name = _node(dice)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.kill(name, "at an instant of its own")

    return Fault(f"kill {name}", strike)


def kill_in_a_turn(dice: random.Random) -> Fault:
    """Between any two system calls: half a write, half an adoption."""
    name, calls = _node(dice), dice.randrange(1, SYSTEM_CALLS)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.doom(name, calls)

    return Fault(f"kill {name} {calls} system calls later", strike)


def kill_at_a_point(dice: random.Random, *points: str) -> Fault:
    """Where the code says that something is about to happen, or has just happened (switch/points.py)."""
    name, point, count = _node(dice), dice.choice(points or POINTS), dice.choice((1, 1, 2, 3, 8))

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.doom(name, count, point)

    return Fault(f"kill {name} at {point}, the {count}. time", strike)


def kill_returning(dice: random.Random) -> Fault:
    """It is killed, and again while it comes back."""
    name, after = _node(dice), 0.3 + dice.random() * 0.6

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.busy_until = simulation.world.now + after
        simulation.kill(name, "to be killed again when it comes back")
        simulation.world.at(after, lambda: simulation.kill(name, "while it comes back"))

    return Fault(f"kill {name}, and again {after * 1000:.0f} ms later", strike, after + 0.2)


def kill_the_heir(dice: random.Random) -> Fault:
    """The survivor dies in its takeover: the next life of either goes on. Sessions end unless a store keeps them."""
    name, calls = _node(dice), dice.randrange(1, 120)
    other = "b" if name == "a" else "a"

    def strike(simulation: "Simulation") -> None:
        simulation.checks.resets_excused = True
        simulation.kill(name, "and its heir a little later")
        simulation.doom(other, calls)

    return Fault(f"kill {name}, and its heir {calls} system calls later", strike)


def kill_both(dice: random.Random) -> Fault:
    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.checks.resets_excused |= not simulation.plan.store
        for name in "ab":
            simulation.kill(name, "both at once")

    return Fault("kill both", strike)


def kill_in_turn(dice: random.Random) -> Fault:
    """The heir has sessions that only its own fd store has, and dies before its peer is back."""
    name, after = _node(dice), 0.1 + dice.random() * 0.15
    other = "b" if name == "a" else "a"

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.checks.resets_excused |= not simulation.plan.store
        simulation.busy_until = max(simulation.busy_until, simulation.world.now + after)
        simulation.kill(name, "and then its heir")
        simulation.world.at(0.02, lambda: storm(dice).strike(simulation))
        simulation.world.at(after, lambda: simulation.kill(other, "alone"))

    return Fault(f"kill {name}, and its heir {after * 1000:.0f} ms later", strike)


def stop(dice: random.Random) -> Fault:
    """SIGSTOP, and SIGCONT later: perhaps too late, and its peer has killed it."""
    name, seconds = _node(dice), _duration(dice, 0.8)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        process = simulation.units[name].process
        if process is not None and process.alive:
            simulation.world.trace(name, "stopped")
            process.stop()

            def go_on() -> None:
                if process.alive:
                    simulation.world.trace(name, "continued")
                    process.go_on()

            simulation.world.at(seconds, go_on)

    return Fault(f"stop {name} for {seconds * 1000:.0f} ms", strike, min(seconds, 1.0))


def slow(dice: random.Random) -> Fault:
    name, factor, seconds = _node(dice), dice.choice((5, 20, 100)), _duration(dice, 0.8)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        process = simulation.units[name].process
        if process is not None:
            process.slowness = factor
            simulation.world.at(seconds, lambda: setattr(process, "slowness", 1.0))

    return Fault(f"{name} is {factor} times as slow for {seconds * 1000:.0f} ms", strike)


def restart(dice: random.Random) -> Fault:
    """In order, as for an upgrade."""
    name, after = _node(dice), 0.1 + dice.random() * 0.5

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        unit = simulation.units[name]
        simulation.world.trace(name, "asked to stop")
        unit.stop()
        simulation.world.at(after, unit.start)

    return Fault(f"restart {name}", strike, after + 0.3)


def upgrade(dice: random.Random) -> Fault:
    """Both nodes get the newer software, one after the other; what else happens meanwhile is for the other faults."""
    first, between = _node(dice), 0.5 + dice.random() * 0.5

    def strike(simulation: "Simulation") -> None:
        for name, when in ((first, 0.0), ("b" if first == "a" else "a", between)):
            simulation.world.at(when, lambda name=name: _upgrade(simulation, name))

    return Fault(f"upgrade {first}, and its peer {between * 1000:.0f} ms later", strike, between + 0.5)


def _upgrade(simulation: "Simulation", name: str) -> None:
    simulation.node_fault()
    unit = simulation.units[name]
    simulation.world.trace(name, "is upgraded")
    unit.version = VERSION
    unit.stop()
    simulation.world.at(0.1, unit.start)


def wall_clock(dice: random.Random) -> Fault:
    name, seconds = _node(dice), dice.choice((-86_400.0, -3600.0, -1.0, 1.0, 3600.0, 86_400.0))

    def strike(simulation: "Simulation") -> None:
        process = simulation.units[name].process
        if process is not None:
            process.wall_s += seconds

    return Fault(f"the wall clock of {name} jumps by {seconds:.0f} s", strike)


def cut_handover(dice: random.Random) -> Fault:
    """The socket between the nodes breaks, and both live: one of them kills the other, and never each the other."""

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        process = simulation.units["a"].process
        if process is not None and process.alive:
            simulation.world.trace("WORLD", "the handover socket is cut")
            ends = [file for file in process.fds.values() if isinstance(file, UnixEnd) and file.state == CONNECTED]
            for end in dict.fromkeys(ends):  # the beating thread has a descriptor of its own
                end.shutdown(SHUT_RDWR)

    return Fault("the handover socket is cut", strike)


def kill_with_late_entries(dice: random.Random) -> Fault:
    """What it last sent to etcd arrives after its death, and after its heir's entry."""
    name, after = _node(dice), 0.005 + dice.random() * 0.04

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.busy_until = max(simulation.busy_until, simulation.world.now + after)
        simulation.cluster.delay_requests(0.7, 0.3)

        def end() -> None:
            simulation.cluster.delay_requests(0.0, 0.0)
            simulation.kill(name, "its entries still on their way")

        simulation.world.at(after, end)

    return Fault(f"kill {name}, its last entries late", strike)


# --- etcd


def _etcd(text: str, act: Callable[[Any, random.Random], None]) -> Maker:
    def make(dice: random.Random) -> Fault:
        own = random.Random(dice.getrandbits(32))
        return Fault(f"etcd: {text}", lambda simulation: act(simulation.cluster, own))

    return make


def _for(etcd: Any, dice: random.Random, begin: Callable[[float], None], chance: float) -> None:
    begin(chance)
    etcd.world.at(_duration(dice, 0.5), lambda: begin(0.0))


ETCD = [
    _etcd("requests are lost", lambda etcd, dice: _for(etcd, dice, etcd.lose_requests, 0.3)),
    _etcd("answers are lost", lambda etcd, dice: _for(etcd, dice, etcd.lose_replies, 0.3)),
    _etcd("requests are late", lambda etcd, dice: _for(etcd, dice, lambda chance: etcd.delay_requests(chance, 1.5), 0.3)),
    _etcd("answers come in pieces", lambda etcd, dice: etcd.fragment(0.3)),
    _etcd("is compacted", lambda etcd, dice: etcd.compact()),
    _etcd("a member stops", lambda etcd, dice: etcd.stop_member(dice.randrange(len(etcd.members)), _duration(dice, 0.8))),
    _etcd("a member ends", lambda etcd, dice: etcd.restart_member(dice.randrange(len(etcd.members)), _duration(dice, 0.8))),
    _etcd("a node is cut off", lambda etcd, dice: etcd.cut(_node(dice), _duration(dice, 1.5))),
    _etcd("down", lambda etcd, dice: etcd.down(_duration(dice, 0.8))),
    _etcd("elects a leader", lambda etcd, dice: etcd.leader_change(_duration(dice, 0.5))),
    _etcd("has no quorum", lambda etcd, dice: etcd.quorum_loss(_duration(dice, 0.8))),
    _etcd("slow", lambda etcd, dice: etcd.slow(dice.choice((5, 30)), _duration(dice, 0.8))),
    _etcd("watches lag", lambda etcd, dice: etcd.watch_lag(_duration(dice, 0.8))),
    _etcd("a watch loses an event", lambda etcd, dice: etcd.lose_event()),
    _etcd("leases expire", lambda etcd, dice: etcd.expire_leases()),
]


def cut_off(dice: random.Random) -> Fault:
    """One node alone is away from etcd, for long enough that the log is truncated above what it has applied."""
    name, seconds = _node(dice), 1.5 + dice.random()

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.cluster.cut(name, seconds)
        simulation.busy_until = max(simulation.busy_until, simulation.world.now + seconds)

    return Fault(f"etcd: {name} is cut off for {seconds * 1000:.0f} ms", strike, seconds)


def etcd_away(dice: random.Random) -> Fault:
    """For longer than a request's timer. If that is all that happens, none that is older is forwarded afterwards."""
    seconds = 1.6 + dice.random()

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.cluster.down(seconds, refusing=True)
        simulation.busy_until = max(simulation.busy_until, simulation.world.now + seconds)
        if simulation.plan.members == len(simulation.plan.faults) == 1:  # else a late attempt may win over its settling
            simulation.checks.etcd_away(1.5)

    return Fault(f"etcd: away for {seconds * 1000:.0f} ms", strike, seconds)


# --- the network


def break_sessions(dice: random.Random) -> Fault:
    """RST, by something in between."""
    own = random.Random(dice.getrandbits(32))

    def strike(simulation: "Simulation") -> None:
        simulation.checks.resets_excused = True
        connections = simulation.network.connections()
        # not while an acknowledgement is under way: an answer that arrived without one counts as undelivered and is reversed
        quiet = [wire for wire in connections if all(end.written == end.acked for end in (wire.connecting, wire.accepted))]
        for connection in own.sample(quiet, min(len(quiet), own.randrange(1, 4))):
            simulation.network.break_(connection)

    return Fault("sessions break", strike)


def cut_sessions(dice: random.Random) -> Fault:
    """Nothing arrives for a while."""
    own, seconds = random.Random(dice.getrandbits(32)), _duration(dice, 0.6)

    def strike(simulation: "Simulation") -> None:
        connections = simulation.network.connections()
        for connection in own.sample(connections, min(len(connections), own.randrange(1, 4))):
            simulation.network.cut(connection, seconds)

    return Fault(f"sessions are cut for {seconds * 1000:.0f} ms", strike)


def leave(dice: random.Random) -> Fault:
    """A terminal goes away for good, an answer on its way; half of the time its line was dead before."""
    pick, after, cut = dice.random(), 0.001 + dice.expovariate(1.0) * 0.01, dice.random() < 0.5

    def strike(simulation: "Simulation") -> None:
        terminals = simulation.terminals
        terminal = terminals[int(pick * len(terminals))]
        terminal.leaving_s, terminal.cut_s = (0.25 + after, after) if cut else (after, 0.0)

    return Fault(f"a terminal goes away for good{' on a dead line' if cut else ''}", strike)


def storm(dice: random.Random) -> Fault:
    """All terminals reset their connections and come back at once."""

    def strike(simulation: "Simulation") -> None:
        for terminal in simulation.terminals:
            terminal.reset()

    return Fault("all terminals reconnect", strike)


def hang_up(dice: random.Random) -> Fault:
    """One terminal resets its connection, an answer on its way, and comes back."""
    pick, after = dice.random(), 0.001 + dice.expovariate(1.0) * 0.01

    def strike(simulation: "Simulation") -> None:
        terminals = simulation.terminals
        terminals[int(pick * len(terminals))].hangs_up_s = after

    return Fault("a terminal reconnects", strike)


def poison(dice: random.Random) -> Fault:
    """A frame that ends who parses it: two owners die of it, then it is quarantined."""
    pick = dice.random()

    def strike(simulation: "Simulation") -> None:
        simulation.checks.resets_excused = True
        terminals = simulation.terminals
        terminals[int(pick * len(terminals))].poison = True

    return Fault("a terminal sends a poison frame", strike)


# --- the issuer


def issuer(dice: random.Random, *kinds: str) -> Fault:
    kind, chance = dice.choice(kinds or ("loss", "late", "twice", "decline", "partial", "busy")), 0.2 + 0.6 * dice.random()
    seconds = _duration(dice, 1.0)

    def strike(simulation: "Simulation") -> None:
        setattr(simulation.issuer, kind, chance)
        usual = simulation.plan.partial if kind == "partial" else 0.0
        simulation.world.at(seconds, lambda: setattr(simulation.issuer, kind, usual))

    return Fault(f"issuer: {kind} {chance:.1f} for {seconds * 1000:.0f} ms", strike)


def reversals_unheard(dice: random.Random) -> Fault:
    """Answers get lost, and then the reversals that follow do before the issuer has seen them."""
    seconds = 1.0 + _duration(dice, 0.5)

    def strike(simulation: "Simulation") -> None:
        own = simulation.issuer
        own.loss, own.unheard = 0.5, 0.7
        simulation.world.at(seconds, lambda: setattr(own, "unheard", 0.0))

    return Fault(f"issuer: answers are lost, and reversals for {seconds * 1000:.0f} ms", strike)


def advices_refused(dice: random.Random) -> Fault:
    """For good: they are parked for an operator."""
    return issuer(dice, "refuse")


def issuer_away(dice: random.Random, *links: str) -> Fault:
    """A network, or all of them, breaks its connections and does not listen for a while."""
    away, seconds = links or dice.choice((("net",), ("net", "alt"), ("net", "alt"))), _duration(dice, 1.0)

    def strike(simulation: "Simulation") -> None:
        for link in away:
            simulation.issuer.away(link)
        simulation.world.at(seconds, simulation.issuer.there)

    return Fault(f"issuer: away from {' and '.join(away)} for {seconds * 1000:.0f} ms", strike, seconds)


def issuer_stuck(dice: random.Random) -> Fault:
    """A network takes nothing more, and then breaks its connections: what was not written to it was never asked."""
    seconds = _duration(dice, 0.3)

    def strike(simulation: "Simulation") -> None:
        simulation.issuer.stuck("net")
        simulation.world.at(0.1, lambda: simulation.issuer.away("net"))
        simulation.world.at(0.1 + seconds, simulation.issuer.there)

    return Fault(f"issuer: stuck, and away for {seconds * 1000:.0f} ms", strike, seconds + 0.1)


OF_NODES: list[tuple[int, Maker]] = [
    (6, kill), (8, kill_in_a_turn), (5, kill_at_a_point), (3, kill_returning), (3, kill_the_heir), (3, kill_both),
    (4, stop), (2, slow), (4, restart), (1, cut_handover), (1, poison), (2, kill_with_late_entries), (1, kill_in_turn),
]  # fmt: skip
OF_OTHERS: list[tuple[int, Maker]] = [
    (1, wall_clock), *((1, each) for each in ETCD), (2, break_sessions), (2, cut_sessions), (1, storm), (5, issuer),
    (3, leave), (1, reversals_unheard), (1, etcd_away), (1, cut_off), (8, issuer_away), (1, advices_refused),
    (5, issuer_stuck), (5, hang_up),
]  # fmt: skip
KINDS = OF_NODES + OF_OTHERS


def draw(dice: random.Random, makers: Sequence[Maker] = ()) -> Plan:
    """What the seed does. `makers`: these faults alone, each as likely as the others."""
    old = not makers and dice.random() < 0.1
    # with entries of version 1 a node that leaves may be given sessions, or be an heir (both are why there is a version 2)
    makers = makers or [maker for weight, maker in (OF_OTHERS if old else KINDS) for _ in range(weight)]
    found = []
    for _ in range(dice.choice((1, 2, 2, 3, 4, 6))):
        found.append((dice.random(), dice.choice(makers)(dice)))
    if old:
        found.append((dice.random() * 0.3, upgrade(dice)))
    found.sort(key=lambda each: each[0])
    return Plan(
        terminals=dice.randrange(1, 5), requests=dice.randrange(2, 5), members=dice.choice((1, 1, 3)),
        store=dice.random() < 0.4, old=old,
        snapshot_entries=dice.choice((12, 40)), faults=found, alt=dice.random() < 0.4, mall=dice.random() < 0.5,
        window=dice.choice((1, 4)), partial=dice.choice((0.0, 0.0, 0.3)), habits=_habits(dice),
    )  # fmt: skip


def _habits(dice: random.Random) -> Habits:
    return Habits(
        purchases=dice.choice((0.0, 0.5, 1.0, 1.0)), offline=dice.choice((0.0, 0.3, 0.6)), completes=dice.choice((0.0, 0.4)),
        cancels=dice.choice((0.0, 0.4)), overtakes=dice.choice((0.0, 0.0, 0.4)),
    )  # fmt: skip
