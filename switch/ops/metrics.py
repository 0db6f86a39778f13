"""The catalogue of metrics: every figure the switch tells, in Prometheus' text format. No label holds data of a message."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

if TYPE_CHECKING:
    from switch.core.engine import Engine
    from switch.datakeys import DataKeys
    from switch.mirror.mirror import Mirror
    from switch.sessions.sessions import Sessions


class Metrics:
    """The figures of one node."""

    def __init__(self, node: str) -> None:
        self.registry = CollectorRegistry()
        self._node = node
        self.entries = self._counter("switch_entries", "Entries applied, of both nodes")
        self.entry_bytes = self._counter("switch_entry_bytes", "Their bytes, unsealed")
        self.proposals = self._counter("switch_proposals", "Proposals decided")
        self.refused = self._counter("switch_proposals_refused", "Own proposals that no longer held when applied")
        self.events = Counter("switch_events", "Events decided by the log", ["event"], registry=self.registry)
        self.held = self._gauge("switch_held", "1 while the switch holds without etcd")
        self.simplex = self._gauge("switch_simplex", "1 while there is no live peer")
        self.sessions = self._gauge("switch_sessions", "Sessions of the pair")
        self.connections = self._gauge("switch_connections", "Sockets this node holds")
        self.transactions = self._gauge("switch_transactions", "Transactions that are not finished")
        self.outcomes = self._gauge("switch_outcomes", "Outcomes kept for repeats")
        self.advices = self._gauge("switch_advices", "Advices not yet acknowledged")
        self.parked = self._gauge("switch_advices_parked", "Of these, what waits for an operator")
        self.index = self._gauge("switch_log_index", "Entry applied last")
        self.backlog = self._gauge("switch_backlog_bytes", "Proposals that wait for the log")
        self.data_keys = self._gauge("switch_data_keys", "Data keys that are not destroyed, of both nodes")
        self.data_key_age = self._gauge("switch_data_key_age_seconds", "Age of the data key that seals at this node")
        self.append_ms = self._gauge("switch_append_p50_ms", "Median of an append")

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def entry(self, size_bytes: int, proposals: int) -> None:
        self.entries.inc()
        self.entry_bytes.inc(size_bytes)
        self.proposals.inc(proposals)

    def note(self, event: str, *, mine: bool) -> None:
        """Each event counts at the node that appended it, so that the pair's figures add up."""
        if mine:
            self.events.labels(event).inc()

    def sample(self, engine: "Engine", mirror: "Mirror", sessions: "Sessions", keys: "DataKeys") -> None:
        """Figures that are read, not counted."""
        state = engine.state
        self.sessions.set(len(state.sessions))
        self.connections.set(len(sessions.connections))
        self.transactions.set(len(state.transactions))
        self.outcomes.set(len(state.outcomes))
        self.advices.set(len(state.advices))
        self.parked.set(sum(map(len, state.parked.values())))
        self.index.set(state.index)
        self.backlog.set(mirror.backlog_bytes)
        told = keys.health()
        self.data_keys.set(told["alive"] or 0)
        self.data_key_age.set(told["age_s"] or 0)

    def text(self) -> bytes:
        return generate_latest(self.registry)
