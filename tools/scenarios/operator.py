"""What a scenario's operator can do and what can be asked of the state: two tables, extended here and nowhere else.

A command has two forms: the proposals that an engine in virtual time appends, and the request to the control socket of a
node. A figure likewise: read off the state, or off what the control socket says.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from switch.core.proposals import Configure, Proposal
from switch.core.rules import Rules
from switch.core.state import State

Ask = Callable[[str], dict[str, Any]]  # a command of the control socket -> its answer


class Command(msgspec.Struct, frozen=True):
    """One command. Both forms get the value that the scenario gives it.

    proposals: of the state, the value and the present configuration. request: to the control socket.
    """

    proposals: Callable[[State, Any, Rules], list[Proposal]]
    request: Callable[[Any], dict[str, Any]]
    configures: bool = False  # its value changes the configuration (file) first


COMMANDS: dict[str, Command] = {
    "reload": Command(
        lambda state, value, rules: [Configure(rules.encode())], lambda value: {"command": "reload"}, configures=True
    ),
}


class Figure(msgspec.Struct, frozen=True):
    """One figure. `link` is "" where it is of the whole switch."""

    of_state: Callable[[State, str], int]
    of_answers: Callable[[Ask, str], int]


def _link(ask: Ask, name: str, figure: str) -> int:
    return next(int(link[figure]) for link in ask("links")["links"] if link["name"] == name)


def _of_link(name: str, of_state: Callable[[State, str], int]) -> Figure:
    return Figure(of_state, lambda ask, link: _link(ask, link, name))


def _whole(name: str) -> Figure:
    return Figure(lambda state, _: len(getattr(state, name)), lambda ask, _: int(ask("status")[name]))


# in a scenario: state = { transactions = 0, "net.ready" = 1 }
FIGURES: dict[str, Figure] = {
    "transactions": _whole("transactions"),
    "outcomes": _whole("outcomes"),
    "advices": _whole("advices"),
    "sessions": _whole("sessions"),
    ".sessions": _of_link("sessions", lambda state, link: len(state.links.get(link, ()))),
    ".ready": _of_link(
        "ready", lambda state, link: sum(state.sessions[id_].ready for id_ in state.links.get(link, ()))
    ),
    ".waiting": _of_link("waiting", lambda state, link: state.waiting.get(link, 0)),
    ".advices": _of_link("advices", lambda state, link: len(state.lanes.get(link, ()))),
}


def figure(name: str) -> tuple[Figure, str]:
    """A figure by its name in a scenario, and its link. Raises KeyError."""
    link, dot, rest = name.rpartition(".")
    return FIGURES[dot + rest], link
