"""The world of a scenario in virtual time: two engines over one log in memory (engines.Pair), and their connections."""

import copy
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
from connections import Connections
from engines import HEARTBEAT_MS, Pair

from switch.core.proposals import Heir, Leaving, Live, Move
from switch.core.rules import Rules, RulesError, check
from switch.ops.books import chosen, columns, shown
from switch.ops.control import totals
from tools.scenarios.configuration import changed
from tools.scenarios.operator import COMMANDS, figure
from tools.scenarios.play import Player
from tools.scenarios.script import Scenario, Step


class Noting(Pair):
    """A pair that remembers what was noted, and looks for nothing while its engines are made anew."""

    def __init__(self, rules: Rules) -> None:
        self.noted: dict[str, int] = {}
        super().__init__(rules)

    def _apply(self, by: str, proposals: Any) -> Any:
        applied = super()._apply(by, proposals)
        for event in self.notes:
            self.noted[event] = self.noted.get(event, 0) + 1
        return applied


class EngineWorld(Connections):
    """See tools.scenarios.world.World."""

    def __init__(self, scenario: Scenario) -> None:
        self._table = scenario.table
        self.noting = Noting(_rules(self._table))
        self.down: set[str] = set()
        super().__init__(scenario, self.noting)

    def wait(self, condition: Callable[[], bool]) -> bool:
        self.settle()
        return condition()

    def quiet(self) -> None:
        self.settle()

    # --- time and lives

    def pass_ms(self, passed: int) -> None:
        if self.held:
            self.pair.now_ms += passed
            return
        self.settle()
        for begun in range(0, passed, HEARTBEAT_MS):
            self.pair.pass_ms(min(HEARTBEAT_MS, passed - begun))
            self.settle()

    def owner(self, actor: str) -> str:
        session = self.session(self.stream_of(actor))
        assert session is not None
        return self.node(session)

    def kill(self, node: str, *, stays_down: bool) -> None:
        if node == "both":
            self._kill_both()
            return
        if node not in self.pair.engines or len(self.pair.engines) < 2:
            return
        self.pair.die(node, held=self._acted_for(node))
        self.down.add(node)
        if not stays_down:
            self.restart(node)

    def _acted_for(self, *nodes: str) -> Iterable[str]:
        return [id_ for id_, session in self.pair.state.sessions.items() if self.node(session) in nodes]

    def _kill_both(self) -> None:
        """Nobody is left to be heir: a's next life is, of both, with the sockets that the service manager kept."""
        pair, held = self.pair, tuple(self.pair.state.sessions)
        dead = [engine.incarnation for engine in pair.engines.values()]
        pair.engines = {"a": pair.loaded("a")}
        pair.join("a")
        for incarnation in dead:
            assert pair.append("a", Heir(incarnation, held)) == [True]
        pair.append("a", Live())
        pair.restart("b")
        self.down.clear()

    def restart(self, node: str) -> None:
        if node in self.pair.engines:
            self.settle()
            (other,) = [name for name in self.pair.engines if name != node]
            heir = self.pair.engines[other].incarnation
            moved = tuple(self._acted_for(node))
            assert self.pair.append(node, Leaving(), Move(moved, heir)) == [True, True]
            self.pair.leave(node)
        self.pair.restart(node)
        self.down.discard(node)

    def etcd(self, what: str) -> None:
        self.settle()
        self.held = what == "stops"

    # --- the books

    def database(self, what: str) -> None:
        self.settle()
        self.journal.away = what == "stops"

    def extract(self, books: str, link: str, date: str) -> list[dict[str, str]]:
        self.settle()
        if books == "journal":
            rows = shown(self.journal.read(link, date), columns())
        else:
            node = SimpleNamespace(engine=next(iter(self.pair.engines.values())))
            rows = chosen(totals(node, {})["totals"], link, date)
        return [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows]

    # --- operators

    def operate(self, command: str, value: Any) -> bool:
        self.settle()
        entered = COMMANDS[command]
        table = copy.deepcopy(self._table)
        if entered.configures:
            changed(table, value)
        try:
            rules = _rules(table)
        except RulesError:
            return False
        self._table.update(table)
        proposals = entered.proposals(self.pair.state, value, rules)
        return all(self.pair.append(next(iter(self.pair.engines)), *proposals))

    def figure(self, name: str) -> int | str:
        entered, link = figure(name)
        return entered.of_state(self.pair.state, link)

    def noted(self, event: str) -> tuple[int, bool]:
        return self.noting.noted.get(event, 0), True


def _rules(table: dict[str, Any]) -> Rules:
    """The configuration as it travels through the log; addresses stand for themselves."""
    links = []
    for link in table["link"]:
        where = {"connect": ["host:1"]} if "connect" in link else {"listen": {"a": "here:1", "b": "here:2"}}
        links.append({**link, **where})
    given = {
        "links": links, "routes": table.get("route", []), "stand_ins": table.get("stand_in", []),
        "limits": table.get("limits", {}),
    }  # fmt: skip
    rules = msgspec.convert(given, Rules)
    check(rules)
    return rules


def play(scenario: Scenario, before: Callable[[EngineWorld, Step], None] = lambda world, step: None) -> Player:
    """The scenario, played to its end; `before` each step a node may be made to die. Raises StepFailed."""
    world = EngineWorld(scenario)
    player = Player(scenario, world, lambda step: before(world, step))
    player.play()
    assert not any(engine.diverged for engine in world.pair.engines.values())
    return player
