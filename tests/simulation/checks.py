"""The invariants: looked at whenever something happens, and at the end."""

import logging
from typing import TYPE_CHECKING, Any

from outside import PAN, PINBLOCK, TRACK
from world import Process, Violation

if TYPE_CHECKING:
    from simulation import Simulation

SECRETS = [text.encode() for text in (PAN, TRACK, PINBLOCK)]
LOG_MAX = 400  # entries left in etcd at the end: truncated at every 40th
BRAND_NEW_S = 0.2  # a connection whose node dies between accept and passing it on


class Checks:
    """What is watched in one run."""

    def __init__(self, simulation: "Simulation") -> None:
        self.entries = 0
        self.resets_excused = False
        self._simulation = simulation
        self._world = simulation.world
        self._poisoned: dict[tuple[str, int], int] = {}
        simulation.network.observe = self._touched
        simulation.cluster.on_put.append(self._put)

    # --- as it happens

    def told(self, process: Process | None, level: int, name: str, fields: dict[str, Any]) -> None:
        """A log event."""
        world = self._world
        text = " ".join(f"{key}={value}" if key else str(value) for key, value in fields.items() if value is not None)
        if any(secret.decode() in text for secret in SECRETS):
            raise Violation(f"card data in the log: event {name}")
        if world.tracing:
            world.trace(process.name if process else "?", f"{name} {text}")
        if name in ("state.diverged", "handover.unreadable", "handover.unexpected", "store.failed", "node.defect"):
            raise Violation(f"{process.name if process else '?'}: {name} {text}")
        if level >= logging.CRITICAL and "Fenced" not in text:
            raise Violation(f"{process.name if process else '?'}: {name} {text}")

    def died_of(self, session: str, start: int) -> None:
        """A frame has ended the process that parsed it."""
        deaths = self._poisoned[session, start] = self._poisoned.get((session, start), 0) + 1
        if deaths > 2:
            raise Violation(f"the frame at {start} of session {session} has ended {deaths} processes")

    def _put(self, key: bytes, value: bytes) -> None:
        if b"/log/" in key:
            self.entries += 1
        if any(secret in value for secret in SECRETS):
            raise Violation(f"card data in etcd: {key.decode()}")

    def _touched(self, kind: str, process: Process, end: Any, offset: int, size: int) -> None:
        """A session's socket is read or written: by nobody but its owner."""
        cookie = f"{end.cookie:x}"
        for unit in self._simulation.units.values():
            node = unit.node
            if not unit.alive or node is None or unit.process is process:
                continue
            for connection in node.sessions.connections.values():
                if connection.mine and not connection.moving and connection.open.cookie.endswith(f":{cookie}"):
                    raise Violation(
                        f"session {connection.session}: {process.name} {kind}s at {offset} while {unit.name} acts for it"
                    )

    # --- at the end

    def at_the_end(self) -> None:
        self._ledger()
        self._streams()
        self._states()
        self._log()

    def _ledger(self) -> None:
        """The issuer's ledger equals what terminals know."""
        ledger = dict(self._simulation.issuer.ledger)
        for terminal in self._simulation.terminals:
            for request in terminal.requests:
                entry = ledger.pop(request.rrn, None)
                standing = entry is not None and entry.standing
                if (request.outcome == "approved") != standing:
                    raise Violation(
                        f"rrn={request.rrn} is {request.outcome} at its terminal, and "
                        f"{'stands' if standing else 'does not stand'} at the issuer"
                    )
                if standing and entry is not None and entry.amount != request.amount:
                    raise Violation(f"rrn={request.rrn}: {request.amount} at its terminal, {entry.amount} at the issuer")
        if ledger:
            raise Violation(f"the issuer knows requests that no terminal made: {sorted(ledger)}")

    def _streams(self) -> None:
        if self.resets_excused:
            return
        for terminal in self._simulation.terminals:
            for connected, lost in terminal.lost_sessions:
                if lost - connected > BRAND_NEW_S:
                    raise Violation(f"{terminal.name}: its connection of {connected:.3f} was ended at {lost:.3f}")

    def _states(self) -> None:
        found = [(unit.node.engine.state.index, unit.node.engine.state.hash()) for unit in self._units()]
        if len({index for index, _ in found}) == 1 and len({value for _, value in found}) > 1:
            raise Violation(f"the nodes' states differ at entry {found[0][0]}")

    def _units(self) -> list[Any]:
        return [unit for unit in self._simulation.units.values() if unit.node is not None]

    def _log(self) -> None:
        kept = len(self._simulation.cluster.store.select(b"/switch/sim/log/", b"/switch/sim/log0"))
        if kept > LOG_MAX:
            raise Violation(f"{kept} entries are left in etcd's log: it is not truncated")
