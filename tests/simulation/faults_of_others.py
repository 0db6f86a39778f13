"""What happens around the nodes: to etcd, to the network, to terminals and issuers, to the configuration."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agents import CreditorAgent
from msgspec.structs import replace
from plan import Fault, Maker, duration, either

from switch.core.rules import Link

if TYPE_CHECKING:
    from simulation import Simulation

ECHO_S = 0.9  # of the configuration's network_timeout_ms

# --- etcd


def _etcd(text: str, act: Callable[[Any, random.Random], None]) -> Maker:
    def make(dice: random.Random) -> Fault:
        own = random.Random(dice.getrandbits(32))
        return Fault(f"etcd: {text}", lambda simulation: act(simulation.cluster, own))

    return make


def _for(etcd: Any, dice: random.Random, begin: Callable[[float], None], chance: float) -> None:
    begin(chance)
    etcd.world.at(duration(dice, 0.5), lambda: begin(0.0))


ETCD = [
    _etcd("requests are lost", lambda etcd, dice: _for(etcd, dice, etcd.lose_requests, 0.3)),
    _etcd("answers are lost", lambda etcd, dice: _for(etcd, dice, etcd.lose_replies, 0.3)),
    _etcd("requests are late", lambda etcd, dice: _for(etcd, dice, lambda chance: etcd.delay_requests(chance, 1.5), 0.3)),
    _etcd("answers come in pieces", lambda etcd, dice: etcd.fragment(0.3)),
    _etcd("is compacted", lambda etcd, dice: etcd.compact()),
    _etcd("a member stops", lambda etcd, dice: etcd.stop_member(dice.randrange(len(etcd.members)), duration(dice, 0.8))),
    _etcd("a member ends", lambda etcd, dice: etcd.restart_member(dice.randrange(len(etcd.members)), duration(dice, 0.8))),
    _etcd("a node is cut off", lambda etcd, dice: etcd.cut(either(dice), duration(dice, 1.5))),
    _etcd("down", lambda etcd, dice: etcd.down(duration(dice, 0.8))),
    _etcd("elects a leader", lambda etcd, dice: etcd.leader_change(duration(dice, 0.5))),
    _etcd("has no quorum", lambda etcd, dice: etcd.quorum_loss(duration(dice, 0.8))),
    _etcd("slow", lambda etcd, dice: etcd.slow(dice.choice((5, 30)), duration(dice, 0.8))),
    _etcd("watches lag", lambda etcd, dice: etcd.watch_lag(duration(dice, 0.8))),
    _etcd("a watch loses an event", lambda etcd, dice: etcd.lose_event()),
    _etcd("leases expire", lambda etcd, dice: etcd.expire_leases()),
]


def cut_off(dice: random.Random) -> Fault:
    """One node alone is away from etcd, for long enough that the log is truncated above what it has applied."""
    name, seconds = either(dice), 1.5 + dice.random()

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


def etcd_away_and_a_death(dice: random.Random) -> Fault:
    """The same, and a node dies meanwhile: its heir knows how long its requests have waited."""
    away, name, after = etcd_away(dice), either(dice), 0.3 + dice.random()

    def strike(simulation: "Simulation") -> None:
        away.strike(simulation)
        simulation.world.at(after, lambda: simulation.kill(name, "while etcd is away"))

    return Fault(f"{away.text}, and {name} dies after {after * 1000:.0f} ms", strike, away.lasts_s)


# --- the network


def break_sessions(dice: random.Random) -> Fault:
    """RST, by something in between."""
    own = random.Random(dice.getrandbits(32))

    def strike(simulation: "Simulation") -> None:
        connections = simulation.network.connections()
        # not while an acknowledgement is under way: an answer that arrived without one counts as undelivered and is reversed
        quiet = [wire for wire in connections if all(end.written == end.acked for end in (wire.connecting, wire.accepted))]
        for connection in own.sample(quiet, min(len(quiet), own.randrange(1, 4))):
            simulation.checks.excuse(connection.connecting.local)
            simulation.network.break_(connection)

    return Fault("sessions break", strike)


def cut_sessions(dice: random.Random) -> Fault:
    """Nothing arrives for a while."""
    own, seconds = random.Random(dice.getrandbits(32)), duration(dice, 0.6)

    def strike(simulation: "Simulation") -> None:
        connections = simulation.network.connections()
        for connection in own.sample(connections, min(len(connections), own.randrange(1, 4))):
            simulation.network.cut(connection, seconds)
            if seconds > ECHO_S:  # so long a network owes the answer to an echo
                simulation.checks.excuse(connection.connecting.local)

    return Fault(f"sessions are cut for {seconds * 1000:.0f} ms", strike)


def cramp(dice: random.Random) -> Fault:
    """Connections take less at a time than a frame."""
    own = random.Random(dice.getrandbits(32))

    def strike(simulation: "Simulation") -> None:
        connections = simulation.network.connections()
        for connection in own.sample(connections, min(len(connections), own.randrange(1, 6))):
            simulation.network.cramp(connection, own.choice((40, 100, 200)))

    return Fault("connections take little at a time", strike)


def leave(dice: random.Random) -> Fault:
    """A terminal goes away for good, an answer on its way; half of the time its line was dead before."""
    pick, after, cut = dice.random(), 0.001 + dice.expovariate(1.0) * 0.01, dice.random() < 0.5

    def strike(simulation: "Simulation") -> None:
        terminals = simulation.terminals
        terminal = terminals[int(pick * len(terminals))]
        terminal.leaving_s, terminal.cut_s = (0.25 + after, after) if cut else (after, 0.0)

    return Fault(f"a terminal goes away for good{' on a dead line' if cut else ''}", strike)


def lost(dice: random.Random) -> Fault:
    """A terminal and its line are dead from one instant on: only what is not acknowledged tells."""
    pick, after = dice.random(), 0.001 + dice.expovariate(1.0) * 0.01

    def strike(simulation: "Simulation") -> None:
        terminals = simulation.terminals
        terminal = terminals[int(pick * len(terminals))]
        terminal.leaving_s, terminal.cut_s, terminal.lost = after, 0.0, True

    return Fault("a terminal and its line are dead", strike)


def storm(dice: random.Random) -> Fault:
    """All who connect to the switch reset their connections and come back at once."""

    def strike(simulation: "Simulation") -> None:
        for client in simulation.clients:
            client.reset()

    return Fault("all clients reconnect", strike)


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
        simulation.checks.sessions_may_end()
        terminals = simulation.terminals
        terminals[int(pick * len(terminals))].poison = True

    return Fault("a terminal sends a poison frame", strike)


# --- the issuer and the creditor agent


def _errs(dice: random.Random, host: str, kinds: tuple[str, ...]) -> Fault:
    """Its answers go wrong by chance, for a while."""
    kind, chance, seconds = dice.choice(kinds), 0.2 + 0.6 * dice.random(), duration(dice, 1.0)

    def strike(simulation: "Simulation") -> None:
        own = simulation.hosts[host]
        setattr(own, kind, chance)
        simulation.world.at(seconds, lambda: own.usually(kind))

    return Fault(f"{host}: {kind} {chance:.1f} for {seconds * 1000:.0f} ms", strike)


def _away(dice: random.Random, host: str, links: tuple[str, ...]) -> Fault:
    """These networks of it break their connections and do not listen for a while."""
    seconds = duration(dice, 1.0)

    def strike(simulation: "Simulation") -> None:
        own = simulation.hosts[host]
        for link in links:
            own.away(link)
        simulation.world.at(seconds, own.there)

    return Fault(f"{host}: away from {' and '.join(links)} for {seconds * 1000:.0f} ms", strike, seconds)


def _stuck(dice: random.Random, host: str, link: str) -> Fault:
    """A network takes nothing more, and then breaks its connections: what was not written to it was never asked."""
    seconds = duration(dice, 0.3)

    def strike(simulation: "Simulation") -> None:
        own = simulation.hosts[host]
        own.stuck(link)
        simulation.world.at(0.1, lambda: own.away(link))
        simulation.world.at(0.1 + seconds, own.there)

    return Fault(f"{host}: stuck, and away for {seconds * 1000:.0f} ms", strike, seconds + 0.1)


def issuer(dice: random.Random, *kinds: str) -> Fault:
    return _errs(dice, "issuer", kinds or ("loss", "late", "twice", "decline", "partial", "busy"))


def reversals_unheard(dice: random.Random) -> Fault:
    """Answers get lost, and then the reversals that follow do before the issuer has seen them."""
    seconds = 1.0 + duration(dice, 0.5)

    def strike(simulation: "Simulation") -> None:
        own = simulation.issuer
        own.loss, own.unheard = 0.5, 0.7
        simulation.world.at(seconds, lambda: own.usually("unheard"))

    return Fault(f"issuer: answers are lost, and reversals for {seconds * 1000:.0f} ms", strike)


def advices_unheard(dice: random.Random) -> Fault:
    """None arrives, for so long that they are parked where few tries are allowed."""
    seconds = 1.0 + duration(dice, 1.0)

    def strike(simulation: "Simulation") -> None:
        simulation.issuer.unheard = 1.0
        simulation.world.at(seconds, lambda: simulation.issuer.usually("unheard"))

    return Fault(f"issuer: hears no advices for {seconds * 1000:.0f} ms", strike, seconds)


def advices_refused(dice: random.Random) -> Fault:
    """For good: they are parked for an operator."""
    return issuer(dice, "refuse")


def issuer_away(dice: random.Random, *links: str) -> Fault:
    return _away(dice, "issuer", links or dice.choice((("net",), ("net", "alt"), ("net", "alt"))))


def issuer_stuck(dice: random.Random) -> Fault:
    return _stuck(dice, "issuer", "net")


def creditor(dice: random.Random, *kinds: str) -> Fault:
    return _errs(dice, "creditor", kinds or CreditorAgent.KINDS)


def creditor_away(dice: random.Random) -> Fault:
    return _away(dice, "creditor", ("inst",))


def creditor_stuck(dice: random.Random) -> Fault:
    return _stuck(dice, "creditor", "inst")


# --- debtor agents


def agents_return(dice: random.Random) -> Fault:
    """Debtor agents reset their connections with transfers under way."""

    def strike(simulation: "Simulation") -> None:
        for agent in simulation.agents:
            agent.reset()

    return Fault("debtor agents reconnect", strike)


# --- operators


def reload(dice: random.Random) -> Fault:
    """Other rules, from a file that both nodes have and one reads: timers, limits, the breaker, connections, targets."""
    name, own = either(dice), random.Random(dice.getrandbits(32))
    timeout_ms, window, connections = dice.choice((700, 1_000, 1_400)), dice.choice((1, 2, 4)), dice.choice((1, 2, 3))
    gone = {"alt"} if dice.random() < 0.4 else set()
    inflight, breaker = dice.choice((2, 10_000)), dice.choice((0, 3))

    def changed(link: Link) -> Link:
        if not link.outbound:
            return replace(link, sessions_max=link.sessions_max - 1)
        breaks = breaker if link.iso8583 is not None else 0  # by echoes it is closed again
        return replace(
            link, timeout_ms=timeout_ms, advice_window=window, connections=connections, inflight_max=inflight,
            breaker_timeouts=breaks,
        )  # fmt: skip

    def strike(simulation: "Simulation") -> None:
        config = simulation.config
        links = [changed(link) for link in config.link if link.name not in gone]
        routes = [
            replace(route, targets=own.sample(targets, len(targets)))
            for route in config.route
            if (targets := [each for each in route.targets if each not in gone])
        ]
        simulation.reload(name, replace(config, link=links, route=routes))

    text = f"timeouts of {timeout_ms} ms, windows of {window}, {connections} connections, {inflight} in flight"
    text += f"{f', breaker at {breaker}' * bool(breaker)}{', alt gone' * bool(gone)}"
    return Fault(f"{name} reloads: {text}", strike)
