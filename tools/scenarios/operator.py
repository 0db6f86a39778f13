"""What a scenario's operator can do and what can be asked of the state: two tables, extended here and nowhere else.

A command has two forms: the proposals that an engine in virtual time appends, and the request to the control socket of a
node. A figure likewise: read off the state, or off what the control socket says. Both forms give the same value.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from switch.core.proposals import Configure, Proposal, Settle
from switch.core.rules import Rules
from switch.core.state import State

Ask = Callable[[str], dict[str, Any]]  # a command of the control socket -> its answer
Told = int | str


class Command(msgspec.Struct, frozen=True):
    """One command. Both forms get the value that the scenario gives it.

    proposals: of the state, the value and the present configuration. request: to the control socket, which may be asked
    before.
    """

    proposals: Callable[[State, Any, Rules], list[Proposal]]
    request: Callable[[Ask, Any], dict[str, Any]]
    configures: bool = False  # its value changes the configuration (file) first


def _on_parked(*, retry: bool) -> Command:
    """The value is a link: its oldest parked advice is meant. Without one the command is refused."""

    def proposals(state: State, link: str, rules: Rules) -> list[Proposal]:
        return [Settle(next(iter(state.parked.get(link, ())), 0), retry)]

    def request(ask: Ask, link: str) -> dict[str, Any]:
        parked = [int(row["id"]) for row in ask("advices")["advices"] if row["link"] == link and row["parked"]]
        return {"command": "settle", "id": min(parked, default=0), "retry": retry}

    return Command(proposals, request)


# in a scenario: operator = { retry = "net" }
COMMANDS: dict[str, Command] = {
    "reload": Command(
        lambda state, value, rules: [Configure(rules.encode())],
        lambda ask, value: {"command": "reload"},
        configures=True,
    ),
    "retry": _on_parked(retry=True),
    "settle": _on_parked(retry=False),
}


class Figure(msgspec.Struct, frozen=True):
    """One figure. `link` is "" where it is of the whole switch."""

    of_state: Callable[[State, str], Told]
    of_answers: Callable[[Ask, str], Told]


def _link(ask: Ask, name: str, figure: str) -> Told:
    """A node that begins to live does not know its links yet."""
    told: Told = next((link[figure] for link in ask("links")["links"] if link["name"] == name), -1)
    return told


def _of_link(name: str, of_state: Callable[[State, str], Told]) -> Figure:
    return Figure(of_state, lambda ask, link: _link(ask, link, name))


def _whole(name: str) -> Figure:
    return Figure(lambda state, _: len(getattr(state, name)), lambda ask, _: int(ask("status")[name]))


# in a scenario: state = { transactions = 0, "net.ready" = 1 }
FIGURES: dict[str, Figure] = {
    "transactions": _whole("transactions"),
    "outcomes": _whole("outcomes"),
    "advices": _whole("advices"),
    "sessions": _whole("sessions"),
    "journal": Figure(lambda state, _: len(state.journal), lambda ask, _: int(ask("status")["journal"]["waiting"])),
    ".sessions": _of_link("sessions", lambda state, link: len(state.links.get(link, ()))),
    ".ready": _of_link(
        "ready", lambda state, link: sum(state.sessions[id_].ready for id_ in state.links.get(link, ()))
    ),
    ".waiting": _of_link("waiting", lambda state, link: state.waiting.get(link, 0)),
    ".advices": _of_link("advices", lambda state, link: len(state.lanes.get(link, ()))),
    ".parked": _of_link("parked", lambda state, link: len(state.parked.get(link, ()))),
    ".date": _of_link("date", lambda state, link: state.dates.get(link, "")),
    ".breaker": _of_link("breaker", lambda state, link: _breaker(state, link)),
}


def _breaker(state: State, link: str) -> str:
    return "open" if link in state.breakers and state.breakers[link].open else "closed"


def figure(name: str) -> tuple[Figure, str]:
    """A figure by its name in a scenario, and its link. Raises KeyError."""
    link, dot, rest = name.rpartition(".")
    return FIGURES[dot + rest], link
