"""The journal's database: takes what the writers of both nodes commit, each batch after a while, or refuses it."""

import asyncio
from collections.abc import Callable
from typing import Any

from world import Violation, World

from switch.journal.rows import Row

COMMIT_S = 0.02
REFUSED = 0.1  # of the batches, until everything heals


class Database:
    """Rows by (origin, number): the first stays."""

    def __init__(self, world: World) -> None:
        self.rows: dict[tuple[str, int], Row] = {}
        self.healed = False
        self._world = world

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        """In place of the writer's: a thread that dies with its process, whose last batch the server may yet commit."""
        world, process = self._world, self._world.process
        assert process is not None
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        rows: list[Row] = arguments[1] if function.__name__ == "_write_blocking" else []

        def arrives() -> None:
            if rows and not self.healed and world.chance(REFUSED):
                loop.call_soon(_settle, future, OSError("the database refuses"))
                return
            if process.alive or world.chance(0.5):
                for row in rows:
                    self.rows.setdefault((row.origin, row.number), row)
            loop.call_soon(_settle, future, None)

        world.at(COMMIT_S * 2 * world.dice.random(), arrives)
        return future

    def check(self, state: Any) -> None:
        """What the state has let go is here without a gap, and each transaction that finished is here once."""
        meta = state.meta
        numbers = {number for origin, number in self.rows if origin == meta.origin}
        if missing := {*range(1, meta.journaled + 1)} - numbers:
            raise Violation(f"the journal has no rows {sorted(missing)}")
        rows = [self.rows[meta.origin, number] for number in sorted(numbers)]
        finished = [row.transaction_id for row in rows if row.kind == "request"]
        if len(finished) != len(set(finished)):
            raise Violation("a transaction is in the journal twice")
        if lacking := {*range(1, meta.transaction + 1)} - {*finished}:
            raise Violation(f"transactions {sorted(lacking)} are not in the journal")
        told = [row.advice_id for row in rows if row.advice_id and row.kind != "undone"]
        if len(told) != len(set(told)):
            raise Violation("an advice is in the journal twice")
        # one that is parked, or stands behind a parked one, is an operator's
        if lacking := {*range(1, meta.advice + 1)} - {*told} - state.advices.keys():
            raise Violation(f"advices {sorted(lacking)} are not in the journal")


def _settle(future: "asyncio.Future[Any]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
