"""What happens to the nodes: kills, stops, orderly ends, an upgrade, a clock that jumps."""

import random
from socket import SHUT_RDWR
from typing import TYPE_CHECKING

from faults_of_others import storm
from plan import Fault, duration, either
from seqpacket import CONNECTED, UnixEnd

from switch import points
from switch.core.proposals import VERSION

if TYPE_CHECKING:
    from simulation import Simulation

SYSTEM_CALLS = 400  # a node makes so many in a few hundred milliseconds
POINTS = [point for point in points.POINTS if point != "join.after"]  # that comes too early for this


def kill(dice: random.Random) -> Fault:
    name = either(dice)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.kill(name, "at an instant of its own")

    return Fault(f"kill {name}", strike)


def kill_in_a_turn(dice: random.Random) -> Fault:
    """Between any two system calls: half a write, half an adoption."""
    name, calls = either(dice), dice.randrange(1, SYSTEM_CALLS)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.doom(name, calls)

    return Fault(f"kill {name} {calls} system calls later", strike)


def kill_at_a_point(dice: random.Random, *points: str) -> Fault:
    """Where the code says that something is about to happen, or has just happened (switch/points.py)."""
    name, point, count = either(dice), dice.choice(points or POINTS), dice.choice((1, 1, 2, 3, 8))

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.doom(name, count, point)

    return Fault(f"kill {name} at {point}, the {count}. time", strike)


def kill_returning(dice: random.Random) -> Fault:
    """It is killed, and again while it comes back."""
    name, after = either(dice), 0.3 + dice.random() * 0.6

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.busy_until = simulation.world.now + after
        simulation.kill(name, "to be killed again when it comes back")
        simulation.world.at(after, lambda: simulation.kill(name, "while it comes back"))

    return Fault(f"kill {name}, and again {after * 1000:.0f} ms later", strike, after + 0.2)


def kill_the_heir(dice: random.Random) -> Fault:
    """The survivor dies in its takeover: the next life of either goes on. Sessions end unless a store keeps them."""
    name, calls = either(dice), dice.randrange(1, 120)
    other = "b" if name == "a" else "a"

    def strike(simulation: "Simulation") -> None:
        simulation.checks.sessions_may_end()
        simulation.kill(name, "and its heir a little later")
        simulation.doom(other, calls)

    return Fault(f"kill {name}, and its heir {calls} system calls later", strike)


def kill_both(dice: random.Random) -> Fault:
    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        if not simulation.plan.store:
            simulation.checks.sessions_may_end()
        for name in "ab":
            simulation.kill(name, "both at once")

    return Fault("kill both", strike)


def kill_in_turn(dice: random.Random) -> Fault:
    """The heir has sessions that only its own fd store has, and dies before its peer is back."""
    name, after = either(dice), 0.1 + dice.random() * 0.15
    other = "b" if name == "a" else "a"

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        if not simulation.plan.store:
            simulation.checks.sessions_may_end()
        simulation.busy_until = max(simulation.busy_until, simulation.world.now + after)
        simulation.kill(name, "and then its heir")
        simulation.world.at(0.02, lambda: storm(dice).strike(simulation))
        simulation.world.at(after, lambda: simulation.kill(other, "alone"))

    return Fault(f"kill {name}, and its heir {after * 1000:.0f} ms later", strike)


def stop(dice: random.Random) -> Fault:
    """SIGSTOP, and SIGCONT later: perhaps too late, and its peer has killed it."""
    name, seconds = either(dice), duration(dice, 0.8)

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
    name, factor, seconds = either(dice), dice.choice((5, 20, 100)), duration(dice, 0.8)

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        process = simulation.units[name].process
        if process is not None:
            process.slowness = factor
            simulation.world.at(seconds, lambda: setattr(process, "slowness", 1.0))

    return Fault(f"{name} is {factor} times as slow for {seconds * 1000:.0f} ms", strike)


def restart(dice: random.Random) -> Fault:
    """In order, as for an upgrade."""
    name, after = either(dice), 0.1 + dice.random() * 0.5

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        unit = simulation.units[name]
        simulation.world.trace(name, "asked to stop")
        unit.stop()
        simulation.world.at(after, unit.start)

    return Fault(f"restart {name}", strike, after + 0.3)


def upgrade(dice: random.Random) -> Fault:
    """Both nodes get the newer software, one after the other; what else happens meanwhile is for the other faults."""
    first, between = either(dice), 0.5 + dice.random() * 0.5

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
    name, seconds = either(dice), dice.choice((-86_400.0, -3600.0, -1.0, 1.0, 3600.0, 86_400.0))

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
    name, after = either(dice), 0.005 + dice.random() * 0.04

    def strike(simulation: "Simulation") -> None:
        simulation.node_fault()
        simulation.busy_until = max(simulation.busy_until, simulation.world.now + after)
        simulation.cluster.delay_requests(0.7, 0.3)

        def end() -> None:
            simulation.cluster.delay_requests(0.0, 0.0)
            simulation.kill(name, "its entries still on their way")

        simulation.world.at(after, end)

    return Fault(f"kill {name}, its last entries late", strike)
