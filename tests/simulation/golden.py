"""Golden interactions: stories in golden/*.txt, each a script that is played in a calm world and the drawing of what happened.

    A title
    =======
    What it shows.

        terminal TERM0001 on b          settings first
        TERM0001 sends 0200             then steps, one a line; a step may wait: "kill b when b appends Request"
        wait until settled
    ----
    the drawing

In a calm world every latency is the typical one and nothing happens by chance. golden/README.md explains the drawings and
the steps. After the last step everything heals, settles and is checked as in any run.
"""

import gc
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from agents import DebtorAgent
from client import Client
from drawing import ALIVE, DEAD, STOPPED, Drawing
from plan import Plan
from simulation import PORTS, Simulation, configuration
from tcp import OUTPUT
from terminals import Habits, Terminal
from witness import LOG, Witness
from world import Violation, World

from switch.config import Journal

DIRECTORY = Path(__file__).parent / "golden"
SEPARATOR = "----\n"
STEP_S = 15.0  # of virtual time: what a step waits for has happened by then, or never will


class ScriptError(Exception):
    """A story that cannot be played."""


class Even(Random):
    """Chance without surprise: always the middle."""

    def random(self) -> float:
        return 0.5


def calm(world: World) -> None:
    """Every latency is the typical one, what may happen does not."""
    world.dice = Even(0)
    world.latency = lambda typical_s: typical_s  # type: ignore[method-assign]
    world.chance = lambda probability: probability >= 1.0  # type: ignore[method-assign]


class Puppet(Client):
    """Connects when the script says so."""

    port = ""  # the link that it speaks on
    on = ""  # the node that its connection is to belong to
    free = False  # the story is over: it acts of its own

    def begin(self) -> None:
        """Not of its own."""

    def returns(self) -> None:
        self._addresses = [("127.0.0.1", PORTS[self.port][self.on])]
        self._connect()

    def leaves(self) -> Any:
        """Returns the connection it had; what becomes of that is the caller's to say."""
        wire, self._wire, self._connected = self._wire, None, False
        return wire

    def _away(self) -> None:
        if self.free:
            super()._away()
        else:
            self.leaves()

    @property
    def address(self) -> str:
        host, port = self._wire.local
        return f"{host}:{port}"

    @property
    def wire(self) -> Any:
        return self._wire

    @property
    def connected(self) -> bool:
        return self._connected


class PuppetTerminal(Puppet, Terminal):
    """A terminal that does what the script says; of its own it repeats after a silence."""

    port = "pos"

    def sends(self) -> None:
        self._left += 1
        self._next()

    def repeats(self) -> None:
        self._again()

    def buys(self) -> None:
        """With a card that stand-in may approve."""
        self._habits, usual = Habits(purchases=1.0), self._habits
        self.sends()
        self._habits = usual

    def reverses(self) -> None:
        """Its customer wants back what is under way."""
        self._begin("reversal")


class PuppetAgent(Puppet, DebtorAgent):
    """A debtor agent, the same."""

    port = "banks"

    def orders(self) -> None:
        self._left += 1
        self._next()


class Story(Simulation):
    """One file: `play` returns its drawing."""

    def __init__(self, script: list[str]) -> None:
        self._lines: dict[str, str] = {}  # terminal or debtor agent: node
        self._columns: list[str] = []
        self._snapshots = 0
        self._connections = 1  # to the issuer
        self._script = [line for line in script if not self._setting(line)]
        terminals = sum(name.startswith("TERM") for name in self._lines)
        agents = len(self._lines) - terminals
        plan = Plan(
            terminals=terminals, agents=agents, requests=0, store="fd store" in script, old="old software" in script
        )
        super().__init__(1, plan=plan)
        calm(self.world)
        self.terminals = [
            PuppetTerminal(self.world, self.network, number, [], 0, Habits()) for number in range(1, terminals + 1)
        ]
        self.agents = [PuppetAgent(self.world, self.network, number, [], 0, patient=False) for number in range(1, agents + 1)]
        self._configure("stand-in" in script)
        hosts = ["ISSUER"] * bool(terminals) + ["CREDITOR"] * bool(agents)
        self.drawing = Drawing(self._columns or [*self._lines, "b", LOG, "a", *hosts], self._standing)
        self.witness = Witness(self, self.drawing, self.units["a"].config.pair.key_file, self._told)
        self._waiting: tuple[str, Callable[[], None]] | None = None
        self._pending: list[Callable[[], None]] = []  # answers of the issuer, while it is silent
        self._gone: list[Any] = []  # connections that terminals have lost

    def _setting(self, line: str) -> bool:
        match line.split():
            case ["terminal" | "agent", name, "on", node]:
                self._lines[name] = node
            case ["columns", *names]:
                self._columns = names
            case ["snapshot", "every", number, "entries"]:
                self._snapshots = int(number)
            case ["two", "connections"]:
                self._connections = 2
            case ["fd", "store"] | ["old", "software"] | ["stand-in"]:
                pass
            case _:
                return False
        return True

    def _configure(self, stand_in: bool) -> None:
        """As many connections to the issuer as the script says, and no traffic that belongs to no story."""
        config = configuration(self.plan)
        replace = msgspec.structs.replace
        links = [
            replace(link, connections=self._connections, echo_interval_ms=0) if link.outbound else link for link in config.link
        ]
        limits = replace(config.limits, snapshot_entries=self._snapshots or 100_000, journal_waiting_max=0)
        stand_ins = config.stand_in if stand_in else []
        for unit in self.units.values():  # a story keeps no journal
            unit.config = replace(config, link=links, limits=limits, stand_in=stand_ins, journal=Journal())

    def _standing(self, column: str) -> str:
        if column in self.units:
            process = self.units[column].process
            return DEAD if process is None or not process.alive else STOPPED if process.stopped else ALIVE
        return ALIVE if column != LOG or self.cluster.calm else STOPPED

    def connection_of(self, name: str) -> tuple[str, str]:
        """A terminal's address, and the node that its connection is to belong to; of the issuer nothing is known."""
        return next(((each.address, each.on) for each in self.clients if each.name == name), ("", ""))

    # --- playing

    def play(self) -> str:
        gc.disable()  # what a collection finalises must not depend on chance
        try:
            with self.witness.watching():
                result = self.run()
        finally:
            gc.enable()
        if result.violation:
            raise Violation(f"{result.violation}\n{self.drawing.render()}")
        return self.drawing.render()

    def _run(self) -> None:
        self._up()
        self.drawing.closed = False
        for line in self._script:
            self._step(line)
        self.drawing.closed = True
        self._down()

    def _up(self) -> None:
        """Both nodes serve, every terminal is connected."""
        self.units["a"].start()
        self.world.at(0.05, self.units["b"].start)  # so that what they do every 100 ms does not meet
        self._until(lambda: self.duplex, "both nodes serve")
        for puppet in self.clients:
            puppet.on = self._lines[puppet.name]
            self._connect(puppet)
            self._until(lambda puppet=puppet: puppet.name in self.witness.parties(), "its session is there")
        self._until(self._quiet, "the issuer has answered the sign-on")

    def _quiet(self) -> bool:
        sessions = self.witness.state.sessions.values()
        ready = sum(session.ready and not session.accepted for session in sessions)
        links = sum(link.outbound for link in self.units["a"].config.link)
        return ready == links * self._connections and not any(session.outbox for session in sessions)

    def _down(self) -> None:
        """Everything heals and settles; then the checks."""
        for calls in self.witness.withheld.values():
            for call in calls:
                call.apply()
        self.witness.withheld.clear()
        self._answer()
        for wire in self._gone:
            wire.cut_until = 0.0
            self.network.break_(wire)
        for puppet in self.clients:
            puppet.free = True
            if not puppet.connected:
                puppet.returns()
        for unit in self.units.values():
            if unit.process is not None and unit.process.stopped:
                unit.process.go_on()
        self.heal()
        self._until(self.settled, "settled")
        self.checks.at_the_end()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        if not self.world.run(condition, self.world.now + STEP_S):
            raise ScriptError(f"never came: {what} ({self.unsettled() or 'settled'})\n{self.drawing.render()}")

    def _told(self, fact: str) -> None:
        """A fact. If the script waits for it, the step is done at this very moment."""
        if fact.endswith("is at accept.after"):
            for unit in self.units.values():
                if unit.ready:
                    self._accepting(unit, True)
        if self._waiting is not None:
            wanted, act = self._waiting
            if fact == wanted or fact.startswith(f"{wanted} "):
                self._waiting = None
                act()

    def _step(self, line: str) -> None:
        action, _, fact = line.partition(" when ")
        if action.startswith("wait until "):
            wanted = action.removeprefix("wait until ")
            condition = self._condition(wanted)
            if condition is not None:
                self._until(condition, wanted)
                return
            action, fact = "", wanted
        if not fact:
            if "sends 0200" in action or "sends pacs.008" in action:  # what nodes do every 100 ms shall not come in between
                self._step(f"wait until {next(name for name in self.units if self.units[name].alive)} polls")
            self._act(action)
            return
        self._waiting = (fact, lambda: self._act(action))
        self._until(lambda: self._waiting is None, fact)

    def _condition(self, text: str) -> Callable[[], bool] | None:
        state = self.witness.state
        if text == "settled":
            return lambda: not state.transactions and not state.advices and all(each.done for each in self.clients)
        if text == "both serve":
            return lambda: self.duplex
        match = re.fullmatch(r"(\d+) ms pass", text)
        if match:
            until = self.world.now + int(match[1]) / 1000
            return lambda: self.world.now >= until
        return None

    # --- what a script can say

    def _act(self, action: str) -> None:
        note, units = self.drawing.note, self.units
        match action.split():
            case []:
                pass
            case [name, "sends", "0200"]:
                self._client(name).sends()
            case [name, "sends", "0200", "without", "PIN"]:
                self._client(name).buys()
            case [name, "sends", "pacs.008"]:
                self._client(name).orders()
            case [name, "sends", "0400"]:
                self._client(name).reverses()
            case [name, "is", "about", "to", "send", "poison"]:
                self._client(name).poison = True
                self.checks.sessions_may_end()  # its session is to end
            case [name, "leaves"]:
                self.drawing.arrow(name, self._client(name).on, "RST")
                self._client(name).leaves().reset()
            case [name, "loses", "its", "line"]:
                note(name, "loses its line")
                self._lose(self._client(name).leaves())
            case ["the", "line", "of", name, "is", "silent", "for", number, "ms"]:
                note(name, f"no word for {number} ms")
                self.network.cut(self._client(name).wire, int(number) / 1000)
            case [name, "returns", "on", node]:
                self._client(name).on = node
                note(name, "connects anew")
                self._connect(self._client(name))
            case ["CREDITOR", "answers", "in", number, "ms"]:
                self.creditor.delay_s = int(number) / 1000
            case ["ISSUER", "goes", "away"]:
                self.issuer.away("net")
            case ["ISSUER", "is", "back"]:
                note("ISSUER", "listens")
                self.issuer.there()
            case ["ISSUER", "is", "silent"]:
                self.issuer._reply, self._reply = self._keep, self.issuer._reply
            case ["ISSUER", "answers"]:
                self._answer()
            case ["kill", "both"]:
                for name in "ab":
                    self._kill(name)
            case ["kill", name]:
                self._kill(name)
            case ["freeze", name]:
                note(name, "stopped (SIGSTOP)")
                units[name].process.stop()
            case ["thaw", name]:
                note(name, "continued (SIGCONT)")
                units[name].process.go_on()
            case [name, "stays", "away"]:
                units[name].wanted = False
            case ["start", name]:
                units[name].start()
            case ["upgrade", name]:
                note(name, "new software")
                units[name].version += 1
            case ["ask", name, "to", "leave"]:
                note(name, "asked to leave (SIGTERM)")
                units[name].stop()
            case ["withhold", kind, "of", name]:
                self.witness.withheld[f"{name} {kind}"] = []
            case ["deliver", kind, "of", name]:
                for call in self.witness.withheld.pop(f"{name} {kind}"):
                    self.world.at(0.0, call.apply)
            case ["cut", "etcd"]:
                note(LOG, "cut off")
                self.cluster.cut(None, 3600.0)
            case ["cut", "etcd", "from", name]:
                note(LOG, f"cut off from {name}")
                self.cluster.cut(name, 3600.0)
            case ["etcd", "is", "back"]:
                self.cluster.heal()
                note(LOG, "is back")
            case ["lose", "an", "event", "of", name]:
                self.cluster.lose_event(name)
            case ["the", "issuer's", "sockets", "have", "room", "for", size, "bytes"]:
                for end in self.witness.outbound():
                    end.output_max = end.written - end.acked + int(size)
            case ["the", "issuer's", "sockets", "have", "room", "again"]:
                for end in self.witness.outbound():
                    end.set_output(OUTPUT)
            case ["ISSUER", "breaks", "the", "connection", "of", node]:
                note("ISSUER", f"breaks the connection of {node}")
                for end in self.witness.outbound(node):
                    self.checks.excuse(end.local)
                    self.network.break_(end)
            case ["the", "socket", "to", party, "has", "room", "for", size, "bytes"]:
                end = self.witness.end(party)
                end.output_max = end.written - end.acked + int(size)
            case ["the", "socket", "to", party, "has", "room", "again"]:
                self.witness.end(party).set_output(OUTPUT)
            case _:
                raise ScriptError(f"nobody knows how to {action!r}")

    def _client(self, name: str) -> Any:
        return next(each for each in self.clients if each.name == name)

    def _kill(self, name: str) -> None:
        self.drawing.note(name, "killed (SIGKILL)")
        self.units[name].wanted = False  # it stays away until the script starts it
        self.units[name].process.kill()

    def _connect(self, puppet: Any) -> None:
        """The node that the script names accepts it and keeps it: it is its turn, and the other looks away."""
        for name, unit in self.units.items():
            if name == puppet.on and unit.node is not None:
                unit.node.links._turn = True
            elif unit.ready:
                self._accepting(unit, False)
        puppet.returns()
        self.witness.lines[puppet.address] = puppet.name

    def _accepting(self, unit: Any, accepting: bool) -> None:
        self.world.within(unit.process, lambda: unit.node.links.pause(not accepting))

    def _lose(self, wire: Any) -> None:
        wire.on_change = None
        wire.wire.cut_until = float("inf")
        self._gone.append(wire.wire)

    def _keep(self, *answer: Any) -> None:
        self._pending.append(lambda: self._reply(*answer))

    def _answer(self) -> None:
        pending, self._pending = self._pending, []
        self.issuer.delay_s, usual = 0.0, self.issuer.delay_s  # it has thought for long enough
        if self.issuer._reply == self._keep:
            self.issuer._reply = self._reply
        for each in pending:
            each()
        self.issuer.delay_s = usual


# --- files


def names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.txt"))


def read(name: str) -> tuple[str, str]:
    """What is written (title, words and script), and what is drawn."""
    told, _, drawn = (DIRECTORY / f"{name}.txt").read_text().partition(SEPARATOR)
    return told, drawn


def script(told: str) -> list[str]:
    """The indented lines."""
    return [line.strip() for line in told.splitlines() if line.startswith("    ")]


def play(name: str) -> str:
    told, _ = read(name)
    return Story(script(told)).play()


def accept(name: str) -> None:
    told, _ = read(name)
    (DIRECTORY / f"{name}.txt").write_text(f"{told}{SEPARATOR}{play(name)}")
