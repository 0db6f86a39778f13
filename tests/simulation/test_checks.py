"""What the checks are for is noticed: a switch that serves badly without losing a payment, each in its own way."""

import contextlib
from collections.abc import Callable
from typing import Any

import faults_of_nodes as nodes
import pytest
from ablation_table import Focus
from msgspec.structs import replace as changed
from patching import replaced
from simulation import simulate

from messages.iso8583.codec import Iso8583Codec
from messages.message import Reason
from switch.core.targets import Targets
from switch.mirror.mirror import Mirror
from switch.sessions.sessions import Sessions

SEEDS = 20
Break = Callable[[], contextlib.AbstractContextManager[Any]]


def _heir_ends_networks() -> Any:
    """An heir ends the connections to networks that it has just adopted."""

    def make(adopt: Any) -> Any:
        def adopted(self: Sessions, connection: Any, session: Any) -> bool:
            known = session.connected and session.owner != self.engine.incarnation
            if not adopt(self, connection, session):
                return False
            if known and connection.connecting:
                self._fail(connection, "ECONNRESET")
                return False
            return True

        return adopted

    return replaced(Sessions, "_adopt", make)


def _declines_after_a_death() -> Any:
    """Nothing is forwarded any more once a node has had a second life."""

    def make(choose: Any) -> Any:
        def chosen(self: Targets, *arguments: Any) -> Any:
            again = any(each.number > 1 for each in self._state.incarnations.values())
            return Reason.LINK_DOWN if again else choose(self, *arguments)

        return chosen

    return replaced(Targets, "choose", make)


def _another_pin_block() -> Any:
    """The issuer gets another PIN block than the terminal has sent."""

    def make(forward: Any) -> Any:
        def forwarded(self: Iso8583Codec, *arguments: Any, **more: Any) -> Any:
            found = forward(self, *arguments, **more)
            return changed(found, payload=found.payload.replace(b"7A3B19C4D5E6F708", bytes(16).hex()[:16].encode()))

        return forwarded

    return replaced(Iso8583Codec, "forward", make)


def _never_truncates() -> Any:
    """The log is kept for ever."""

    async def keeps(self: Mirror, *arguments: Any) -> None: ...

    return replaced(Mirror, "truncate", lambda _: keeps)


@pytest.mark.parametrize(
    ("broken", "noticed"),
    [
        (_heir_ends_networks, "ISSUER: its connection of"),
        (_declines_after_a_death, "is not served at once"),
        (_another_pin_block, "came to the issuer with other fields"),
        (_never_truncates, "entries are left in etcd's log"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_it_is_noticed(broken: Break, noticed: str) -> None:
    told = []
    with broken():
        for seed in range(SEEDS):
            told.append(simulate(seed, plan=Focus((nodes.kill,)).plan(seed)).violation)
            assert "the simulation failed" not in told[-1], told
            if noticed in told[-1]:
                return
    raise AssertionError(f"not noticed: {told}")
