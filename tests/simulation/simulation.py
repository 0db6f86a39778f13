"""One run: both nodes' real code, simulated etcd and sockets, terminals and an issuer, and what the seed does to them."""

import gc
import tempfile
import time
import traceback
import unittest.mock
from functools import cache
from pathlib import Path

import checks
import faults
import msgspec
from agents import INVESTIGATES_S, CreditorAgent, DebtorAgent
from client import Client
from database import Database
from etcd_twin import Cluster, install
from host import Host
from interpose import PathTwin, installed
from issuer import Issuer
from msgspec.structs import replace
from outside import BIN, FRAME_MAX
from plan import Plan, either
from sockets import FcntlModule, Network, SocketModule
from tcp import WINDOW
from terminals import Terminal
from units import Unit
from world import Killed, Process, Violation, World

from messages.iso8583.codec import Iso8583Codec
from messages.iso8583.options import Iso8583Options
from messages.iso20022.options import Iso20022Options
from switch.config import Config, ConfigError, Journal, Pair
from switch.core.proposals import Settle
from switch.core.records import Advice
from switch.core.rules import Limits, Link, Route, StandIn, Tcp
from switch.mirror.sealing import create_key_file
from switch.mirror.settings import EtcdSettings

SETTLE_S = 15.0  # of virtual time, after the last fault: by then everything is decided and delivered, but what agents
# ask about by other means (seen: 3 s at most)
LOOK_S = 0.001  # whether it is settled
RECONNECT_S = 5.0  # until all connections to networks are there again
BEGIN_S = 0.05  # after both nodes serve: the first fault may come
FAULTS_S = 0.5  # and for how long they come
WINDOW_MS = 20_000  # in runs in which outcomes are forgotten
PORTS = {"pos": {"a": 7001, "b": 7002}, "mall": {"a": 7003, "b": 7004}, "banks": {"a": 7005, "b": 7006}}
NETWORKS = {"net": ("127.0.0.1", 9001), "alt": ("127.0.0.1", 9002)}  # both lead to the issuer
CREDITOR = {"inst": ("127.0.0.1", 9003)}  # leads to the creditor agent
CARDS = Iso8583Options()
STAND_IN = StandIn(
    name="small", targets=["net"], bins=[BIN], profiles=["purchase"], currency="978", amount_max=40_000,
    card_amount_max=60_000, card_count_max=3,
)  # fmt: skip


class Result(msgspec.Struct):
    """What a seed has shown."""

    seed: int
    violation: str = ""  # "" when everything held
    plan: list[str] = []
    lines: list[str] = []
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    requests: int = 0
    entries: int = 0
    kills: int = 0
    rest_s: float = 0.0  # of virtual time, from healing until everything was settled for the first time
    points: list[str] = []  # that were reached


@cache
def _key_file() -> str:
    path = Path(tempfile.mkdtemp(prefix="simulation-")) / "keys"
    create_key_file(path)
    return str(path)


_codecs: dict[bytes, Iso8583Codec] = {}


def _codec(options: Iso8583Options) -> Iso8583Codec:
    """One for all nodes of all seeds: a codec keeps nothing of what it is asked, and is costly to make."""
    key = msgspec.msgpack.encode(options)
    if key not in _codecs:
        _codecs[key] = Iso8583Codec(options)
    return _codecs[key]


def configuration(plan: Plan) -> Config:
    """The pair's configuration, with timers that make a run short."""
    listens = ["pos", "mall"] if plan.mall else ["pos"]
    leads = [name for name in NETWORKS if name == "net" or plan.alt]
    links = [
        Link(
            name=name, listen={node: f"127.0.0.1:{port}" for node, port in PORTS[name].items()}, framing="2-byte-be",
            frame_max_bytes=FRAME_MAX, iso8583=CARDS if name == "pos" else replace(CARDS, partial=False), half_close_ms=2_000,
            redeliver=name == "mall", tcp=Tcp(user_timeout_ms=3_000),
        )
        for name in listens
    ]  # fmt: skip
    links += [
        Link(
            name=name, connect=["{}:{}".format(*NETWORKS[name])], connections=2 if name == "net" else 1,
            framing="2-byte-be", frame_max_bytes=FRAME_MAX, iso8583=CARDS, timeout_ms=1_000, advice_retry_ms=500,
            advice_retry_max_ms=1_000, advice_tries_max=plan.tries, advice_window=plan.window, network_timeout_ms=1_000,
            echo_interval_ms=2_000, reconnect_max_ms=400,
        )
        for name in leads
    ]  # fmt: skip
    routes = [Route(name="cards", source=listens, targets=leads)]
    if plan.agents:
        links += _transfer_links(plan)
        routes.append(Route(name="transfers", source=["banks"], targets=list(CREDITOR)))
    return Config(
        pair=Pair(
            name="sim", run_directory="/run/sim", key_file=_key_file(), peer_silence_ms=300, data_key_minutes=0.005,
        ),
        etcd=EtcdSettings(
            endpoints=tuple(f"http://etcd{number}:2379" for number in range(plan.members)), append_timeout_ms=150,
            call_timeout_ms=300, settle_after_ms=300, hold_after_ms=300, watch_stall_ms=300, lease_ttl_s=2,
        ),
        limits=Limits(
            snapshot_entries=plan.snapshot_entries, segment_outcomes=10, journal_waiting_max=1_000,
            replay_window_ms=WINDOW_MS if plan.forgets else Limits().replay_window_ms,
        ),
        journal=Journal(url="postgresql://simulated", batch_rows=4),
        link=links,
        route=routes,
        stand_in=[STAND_IN],
    )  # fmt: skip


def _transfer_links(plan: Plan) -> list[Link]:
    return [
        Link(
            name="banks", listen={node: f"127.0.0.1:{port}" for node, port in PORTS["banks"].items()}, framing="2-byte-be",
            frame_max_bytes=FRAME_MAX, iso20022=Iso20022Options(timeout_profile="pending" if plan.patient else "reject"),
            half_close_ms=2_000,
        ),
        *(
            Link(
                name=name, connect=[f"{host}:{port}"], connections=2, framing="2-byte-be", frame_max_bytes=FRAME_MAX,
                iso20022=Iso20022Options(), timeout_ms=1_000, advice_retry_ms=500, advice_retry_max_ms=1_000,
                advice_tries_max=plan.tries, advice_window=plan.window, reconnect_max_ms=400,
            )
            for name, (host, port) in CREDITOR.items()
        ),
    ]  # fmt: skip


class Simulation:
    """The world of one seed. `plan` replaces the faults that the seed would choose."""

    def __init__(self, seed: int, *, tracing: bool = False, plan: Plan | None = None) -> None:
        world = self.world = World(seed)
        world.tracing = tracing
        self.plan = plan or faults.draw(world.dice)
        self.network = Network(world)
        self.cluster = Cluster(world, members=self.plan.members)
        self.database = Database(world)
        self.checks = checks.Checks(self)
        self.healed_at = self.rest_s = 0.0
        self.busy_until = 0.0  # a fault of a node lasts as long
        self.reloads: list[tuple[Process, bytes]] = []  # which process has read which rules anew
        config = self.config = configuration(self.plan)
        outbound = {link.name: NETWORKS[link.name] for link in config.link if link.name in NETWORKS}
        self.issuer = Issuer(world, self.network, outbound)
        self.issuer.usual["partial"] = self.issuer.partial = self.plan.partial
        self.creditor = CreditorAgent(world, self.network, CREDITOR if self.plan.agents else {})
        self.hosts: dict[str, Host] = {"issuer": self.issuer, "creditor": self.creditor}
        path = PathTwin("/etc/switch.toml")
        self.units = {
            name: Unit(world, self.network, name, config, path, store=self.plan.store) for name in "ab"
        }
        for unit in self.units.values():
            unit.on_poison = self.checks.died_of
            unit.version -= self.plan.old
        self.terminals = [self._person(number) for number in range(1, self.plan.terminals + 1)]
        mall = {terminal.name: terminal for terminal in self.terminals[1:]}
        for terminal in mall.values() if self.plan.mall else ():
            terminal.neighbours = mall
        banks = [("127.0.0.1", port) for port in PORTS["banks"].values()]
        self.agents = [
            DebtorAgent(world, self.network, number, banks, self.plan.requests, self.plan.patient)
            for number in range(1, self.plan.agents + 1)
        ]

    @property
    def clients(self) -> list[Client]:
        """All who connect to the switch."""
        return [*self.terminals, *self.agents]

    def _person(self, number: int) -> Terminal:
        link = "mall" if self.plan.mall and number > 1 else "pos"
        addresses = [("127.0.0.1", port) for port in PORTS[link].values()]
        return Terminal(self.world, self.network, number, addresses, self.plan.requests, self.plan.habits)

    def run(self) -> Result:
        """To the end of everything, or to the first violation."""
        world, began = self.world, time.process_time()
        result = Result(world.seed, plan=self.plan.texts)
        sockets = SocketModule(self.network)
        try:
            with (
                install(self.cluster),
                installed(world, self.network, sockets, FcntlModule(self.network, self.plan.meanwhile), self.checks.told),
                unittest.mock.patch("switch.journal.writer.in_thread", self.database.in_thread),
                unittest.mock.patch("switch.node.load_again", lambda path: self.config),
                unittest.mock.patch("switch.core.wires.Iso8583Codec", _codec),
                unittest.mock.patch("switch.sessions.sessions.SCRATCH_BYTES", 2 * WINDOW),  # each node's would be zeroed anew
            ):
                try:
                    self._run()
                finally:
                    world.end()
        except Violation as violation:
            result.violation = str(violation)
            world.trace("VIOLATION", str(violation))
        result.lines = world.lines
        result.virtual_s = round(world.now, 3)
        result.cpu_s = time.process_time() - began
        result.requests = sum(len(terminal.deals) for terminal in self.terminals)
        result.requests += sum(len(agent.transfers) for agent in self.agents)
        result.entries = self.checks.entries
        result.points = list(world.points)
        result.rest_s = round(self.rest_s, 3)
        result.kills = sum(unit.deaths for unit in self.units.values())
        return result

    def _run(self) -> None:
        world = self.world
        for unit in self.units.values():
            unit.start()
        if not world.run(lambda: self.duplex, 10.0, LOOK_S):
            raise Violation("the pair did not come up in 10 s")
        for client in self.clients:
            client.begin()
        for when, fault in self.plan.faults:
            world.at(BEGIN_S + when * FAULTS_S, lambda fault=fault: fault.strike(self))
        lasts_s = max((when * FAULTS_S + fault.lasts_s for when, fault in self.plan.faults), default=FAULTS_S)
        world.run(lambda: False, world.now + BEGIN_S + lasts_s)
        self.heal()
        self._come_to_rest()
        if self.plan.forgets:
            self._forget()
        self._go_on()
        self.checks.at_the_end()

    def _come_to_rest(self) -> None:
        """And again, after an operator has found out why advices were refused for good, and has them sent once more."""
        limit = self.healed_at + SETTLE_S + INVESTIGATES_S * bool(self.plan.agents)
        self.world.run(self.settled, limit, LOOK_S)
        self.rest_s = self.world.now - self.healed_at
        while not self._at_rest(limit) or self._retry(limit):
            pass

    def _go_on(self) -> None:
        """It serves as if nothing had been: whoever is still there asks for one thing more, and gets it at the first try."""
        for host in self.hosts.values():
            host.usual.clear()
            host.heal()
        if not self.world.run(lambda: not self._missing(), self.world.now + RECONNECT_S, LOOK_S):
            raise Violation(f"{RECONNECT_S:.0f} s after all was at rest {self._missing()}")
        for client in [client for client in self.clients if not client.gone]:  # in turn: rules may allow few in flight
            client.once_more()
            self.world.run(lambda client=client: client.done, self.world.now + SETTLE_S)
            if not client.done or not client.served:
                raise Violation(f"{client.name} is not served at once, when nothing goes wrong any more")
        self.healed_at = self.world.now
        self._at_rest(self.healed_at + SETTLE_S)

    def _missing(self) -> str:
        """A connection that ought to be there, in words."""
        for name, unit in self.units.items():
            if not unit.live or unit.node is None:
                return f"{name} is not live"
            engine = unit.node.engine
            if unit.node.mirror.held:
                return f"{name} holds"
            known = {session.remote for session in engine.state.sessions.values()}
            if strangers := [client.name for client in self.clients if not client.gone and client.address not in known]:
                return f"{name} does not know {strangers}"
            for link in (wire.link for wire in engine.wires.values() if wire.link.outbound):
                sessions = [engine.state.sessions[id_] for id_ in engine.state.links.get(link.name, ())]
                wires = [wire for host in self.hosts.values() for wire in host.wires if host.wires[wire] == link.name]
                there = {"{}:{}".format(*wire.remote) for wire in wires}
                if sum(session.ready and session.local in there for session in sessions) < link.connections:
                    return f"{name} knows {len(sessions)} connections to {link.name}, not all of them ready"
                breaker = engine.state.breakers.get(link.name)
                if breaker is not None and breaker.open:
                    return f"the breaker of {link.name} is open"
        return ""

    def _forget(self) -> None:
        """Outcomes are kept for the window, and not for long after it; a node dies meanwhile, and reads what is left."""
        if self.world.now < WINDOW_MS / 1000 and any(unit.node.engine.state.meta.oldest > 1 for unit in self.units.values()):
            raise Violation(f"outcomes are forgotten within {self.world.now:.1f} s")
        dice = self.world.dice
        lasts_s = 1.4 * WINDOW_MS / 1000
        name = either(dice)
        self.world.at(dice.random() * lasts_s, lambda: self.kill(name, "as outcomes are forgotten"))
        self.world.run(lambda: False, self.world.now + lasts_s)
        self.healed_at = self.world.now
        self._come_to_rest()
        for unit in self.units.values():
            state = unit.node.engine.state
            if state.outcomes or state.closed:
                raise Violation(f"{unit.name} has {len(state.outcomes)} outcomes in {len(state.closed)} segments: all are old")

    def _retry(self, limit: float) -> bool:
        """As `switchctl advices retry` does for each that is parked, on either node, once. False when there is none."""
        parked = self.parked()
        unit = self.units[self.world.dice.choice("ab")] if parked else None
        for number, advice in parked.items():
            unanswered = advice.parked == "unanswered" and advice.tries >= self.plan.tries
            if not unanswered and (advice.parked != "12" or (advice.link, advice.stan) not in self.issuer.refused):
                raise Violation(f"advice {number} is parked by {advice.parked}, and nobody has refused it")
            self.world.trace("WORLD", f"has advice {number} sent again")
            self.world.within(unit.process, lambda number=number: unit.node.settle(Settle(number, True)))
        if not self.world.run(lambda: not self.parked(), limit):
            raise Violation(f"advices {sorted(self.parked())} are parked, whatever an operator says")
        return unit is not None

    def parked(self) -> dict[int, Advice]:
        """Advices that wait for an operator, by either node."""
        states = [unit.node.engine.state for unit in self.units.values() if unit.node is not None]
        return {number: advice for state in states for number, advice in sorted(state.advices.items()) if advice.parked}

    def _at_rest(self, limit: float) -> bool:
        """False when something came up again: what a terminal that is gone had sent may have been in the kernel until now."""
        if not self.world.run(self.settled, limit):
            raise Violation(f"not settled {self.world.now - self.healed_at:.0f} s after healing: {self.unsettled()}")
        self.world.run(lambda: not self.checks.loose(), self.world.now + checks.LOOSE_S)
        return self.settled()

    def heal(self) -> None:
        """No further fault. A stopped node still goes on when its time has come, or is dead by then."""
        self.world.trace("WORLD", "heals")
        self.healed_at = self.world.now
        self.cluster.heal()
        self.network.heal()
        self.database.healed = True
        for host in self.hosts.values():
            host.heal()
        for unit in self.units.values():
            unit.wanted = True
            process = unit.process
            if process is not None:
                process.slowness, process.doom = 1.0, 0
            if not unit.alive:
                unit.start()
        self.world.called = None

    @property
    def duplex(self) -> bool:
        return all(unit.live for unit in self.units.values())

    def settled(self) -> bool:
        """Both nodes serve, every terminal is done, nothing is open in the switch."""
        return not self.unsettled()

    def unsettled(self) -> str:
        """What is not settled yet, in words."""
        for client in self.clients:
            if not client.done:
                return f"{client.name} waits for {client.waits_for}"
        # what a node has read becomes active, if it lives on: that, or what the other read before or after it
        awaited = not self.checks.rules_refused and any(process.alive for process, _ in self.reloads)
        read = [rules for _, rules in self.reloads]
        for name, unit in self.units.items():
            if not unit.live or unit.node is None or unit.stopping:
                return f"{name} is not live, or leaves"
            state, version = unit.node.engine.state, unit.node.engine.version
            if state.meta.version != min(each.version for each in self.units.values()) and unit.version == version:
                return f"entries are of version {state.meta.version}"
            if state.transactions:
                return f"{name} has open transactions {sorted(state.transactions)}"
            # what is about the same original as a parked one waits with it for an operator
            due = [each.id for each in state.advices.values() if not each.parked and each.about not in state.stopped]
            if due:
                return f"{name} has advices {due}"
            if state.journal:
                return f"{name} has items of the journal {sorted(state.journal)}"
            if awaited and state.meta.rules not in read:
                return f"{name} has rules of before a reload"
        return ""

    def reload(self, name: str, config: Config) -> None:
        """An operator has both files changed, and a node read its own. Where that refuses them, they are put back."""
        unit, former = self.units[name], self.config
        if not unit.live or unit.node is None or unit.process is None:
            return
        self.world.trace(name, "reloads")
        self.config = config
        try:
            self.world.within(unit.process, unit.node.reload)
        except ConfigError as error:
            self.world.trace(name, f"refuses: {error}")
            self.config = former
        else:
            self.reloads.append((unit.process, config.rules.encode()))
        for each in self.units.values():
            each.config = self.config

    def node_fault(self) -> None:
        """Another one begins. Sessions survive one at a time: two that overlap may end them (never a transaction)."""
        processes = [unit.process for unit in self.units.values() if unit.wanted and unit.process is not None]
        busy = any(process.doom or process.stopped or process.slowness > 1 for process in processes)
        busy = busy or any(unit.stopping for unit in self.units.values())
        if busy or self.world.now < self.busy_until or len(processes) < 2 or not self.duplex:
            self.checks.sessions_may_end()

    @property
    def calm(self) -> bool:
        """Both nodes are there and whole, and nothing hangs over them."""
        processes = [unit.process for unit in self.units.values() if unit.process is not None]
        troubled = any(process.doom or process.stopped or process.slowness > 1 for process in processes)
        troubled |= any(unit.stopping or not unit.wanted for unit in self.units.values())
        poisoned = any(terminal.poison for terminal in self.terminals)
        return self.duplex and not troubled and not poisoned and self.world.now >= self.busy_until

    def doom(self, name: str, count: int, point: str = "") -> None:
        """It is killed at its so many next system calls, or when it reaches a point so many times."""
        process = self.units[name].process
        if process is not None:
            process.doom_at, process.doom = point, count

    def kill(self, name: str, why: str) -> None:
        process = self.units[name].process
        if process is not None and process.alive:
            self.world.trace(name, f"killed: {why}")
            process.kill()


def simulate(seed: int, *, tracing: bool = False, plan: Plan | None = None) -> Result:
    """Run one seed. A seed that failed is run again with a trace by the caller."""
    collecting = gc.isenabled()
    gc.disable()  # what a collection finalises must not depend on chance
    try:
        return Simulation(seed, tracing=tracing, plan=plan).run()
    except (Exception, Killed) as error:  # of a twin, or a check: no seed may pass for it
        text = "".join(traceback.format_exception(error))
        return Result(seed, f"the simulation failed: {type(error).__name__}: {error}", lines=text.split("\n"))
    finally:
        if collecting:
            gc.enable()
