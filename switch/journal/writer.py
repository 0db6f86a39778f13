"""The journal's items go into the database: by the lead, in the order of their numbers, a batch at a time.

An item leaves the state by `Journaled`, after its row is durable. Whoever is the lead begins after `meta.journaled`, so
what a dead lead had committed without saying so is written again, and the primary key makes that one row.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from switch.config import Config, Journal
from switch.core.engine import Engine
from switch.core.proposals import Journaled, Proposal
from switch.core.state import State
from switch.core.tend import Subject
from switch.journal.rows import Row, Rows
from switch.mirror.mirror import Mirror
from switch.ops.logs import event
from switch.ops.metrics import Metrics
from switch.points import reach
from switch.threads import in_thread

if TYPE_CHECKING:
    from switch.journal.store import Store

log = logging.getLogger("switch.journal")
POLL_MS = 100
SLICE_ROWS = 16  # made without letting others go on: about a millisecond
RETRY_MIN_MS, RETRY_MAX_MS = 250, 5_000


class Writer:
    """One node's. Does nothing without a database in the configuration."""

    def __init__(
        self, config: Callable[[], Config], node: str, engine: Engine, mirror: Mirror,
        submit: Callable[[Proposal, Subject], None], metrics: Metrics,
    ) -> None:  # fmt: skip
        self._config, self._node = config, node  # as it was read last: a reload may name another database
        self._engine, self._mirror, self._submit, self._metrics = engine, mirror, submit, metrics
        self._store: Store | None = None
        self._of: Journal | None = None  # what the store was made of
        self._committed = 0  # last number that this node knows to be in the database
        self._saying = False  # a Journaled waits for the log
        self._failure = ""  # why the last write failed

    async def run(self) -> None:
        """Write for as long as the node lives."""
        if self._config().journal.url:
            await in_thread(importlib.import_module, "switch.journal.store")  # costly, and not needed to serve
        retry_ms = RETRY_MIN_MS
        while True:
            try:
                full = await self._batch()
                retry_ms = RETRY_MIN_MS
                if not full:
                    await asyncio.sleep(POLL_MS / 1000)
            except OSError as error:  # StoreError is one
                self._failed(str(error) or type(error).__name__)
                await asyncio.sleep(retry_ms / 1000)
                retry_ms = min(2 * retry_ms, RETRY_MAX_MS)

    async def _batch(self) -> bool:
        """Write what is next, if it is ours to write; whether there may be more. Raises StoreError."""
        state = self._engine.state
        if not self._engine.incarnation or state.lead() != self._engine.incarnation:
            self._works()  # or fails at another, who tells it
            return False
        if self._mirror.held:
            return False
        config = self._config()
        if not config.journal.url:
            if state.journal:
                raise OSError("the configuration of this node names no database")
            return False
        first = max(state.meta.journaled, self._committed) + 1
        last = min(state.meta.journal, first + config.journal.batch_rows - 1)
        if last >= first:
            rows = await self._rows(config.pair.name, first, last)
            reach("journal.before")
            await self._write(config.journal, rows)
            reach("journal.after")
            self._committed = last
            self._metrics.journal_rows.inc(len(rows))
        self._say()
        return last - first + 1 == config.journal.batch_rows

    def _say(self) -> None:
        if not self._saying and self._committed > self._engine.state.meta.journaled:
            self._saying = True
            self._submit(Journaled(self._committed), ("journaled", self._committed))

    def resolved(self) -> None:
        """The Journaled was applied, refused or dropped."""
        self._saying = False

    async def _rows(self, pair: str, first: int, last: int) -> list[Row]:
        """In slices. Items that left the state meanwhile are in the database: another wrote them."""
        state = self._engine.state
        make = Rows(pair, state.meta.origin, self._node)
        utc = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows: list[Row] = []
        for number in range(first, last + 1):
            item = self._engine.state.journal.get(number)
            if item is not None:
                rows.append(make.row(number, item, self._engine.wires, utc))
            if number % SLICE_ROWS == 0:
                await asyncio.sleep(0)
        return rows

    async def _write(self, journal: Journal, rows: list[Row]) -> None:
        writing = in_thread(self._write_blocking, journal, rows)
        patience_s = 2.0 * journal.timeout_s
        done, _ = await asyncio.wait([writing], timeout=patience_s)
        if not done:  # the thread cannot be ended, and a second one would only wait with it
            self._failed(f"no answer for {patience_s:g} s")
        await writing
        if self._failure:
            event(log, logging.WARNING, "journal.resumed", waiting=len(self._engine.state.journal))
        self._works()

    def _write_blocking(self, journal: Journal, rows: list[Row]) -> None:
        from switch.journal.store import Store  # imported by run

        if self._store is None or journal != self._of:
            if self._store is not None:
                self._store.close()
            self._of = journal
            self._store = Store(journal.url_of(self._node), journal.password(), journal.timeout_s)
        self._store.write(rows)

    def _works(self) -> None:
        self._failure = ""
        self._metrics.journal_failing.set(0)

    def _failed(self, why: str) -> None:
        self._metrics.journal_failures.inc()
        self._metrics.journal_failing.set(1)
        if why != self._failure:
            event(log, logging.WARNING, "journal.failed", error=why, waiting=len(self._engine.state.journal))
        self._failure = why

    def health(self) -> dict[str, Any]:
        """How far the database is behind, and whether it takes rows."""
        state, limits = self._engine.state, self._engine.rules.limits
        return {
            "on": bool(limits.journal_waiting_max),
            "waiting": len(state.journal),
            "lag_ms": lag_ms(state),
            "waiting_max": limits.journal_waiting_max,
            "last": state.meta.journal,
            "origin": state.meta.origin,
            "writer": bool(self._config().journal.url) and state.lead() == self._engine.incarnation,
            "failure": self._failure,
        }


def lag_ms(state: State) -> int:
    """How long what waits longest has waited, in log time."""
    oldest = state.journal.get(state.meta.journaled + 1)
    return state.meta.clock_ms - oldest.clock_ms if oldest is not None else 0
