"""Kills nodes while traffic runs, starts them again as a service manager would, and times each takeover.

A takeover counts from the signal, by the clock here, until its heir serves the sessions, by what the heir itself tells (its
status). What the world outside saw of it is in the injector's records.
"""

import contextlib
import itertools
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from tools.pair import READY_S, Switch

Mode = Literal["a", "b", "both-in-turn", "both-at-once", "none"]
DUPLEX_S = 30.0


class Kill(msgspec.Struct, frozen=True):
    """One SIGKILL, of "a", "b" or "ab". epoch_ms: when it was sent.

    noticed_ms, takeover_ms: from there until the heir had noticed, and until it served the sessions, as it tells itself.
    """

    node: str
    epoch_ms: float
    noticed_ms: float
    takeover_ms: float
    sessions: int


class Spread(msgspec.Struct, frozen=True):
    """Of one figure over many kills, milliseconds."""

    p50: float
    p99: float
    max: float

    @staticmethod
    def of(values: list[float]) -> "Spread":
        ordered = sorted(values) or [0.0]
        p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
        return Spread(*(round(each, 1) for each in (statistics.median(ordered), p99, ordered[-1])))


def duplex(switch: Switch) -> bool:
    """Both nodes live, and each holds the other's sockets."""
    try:
        answers = [switch.ask(node) for node in "ab"]
    except (OSError, ValueError):
        return False
    return all(answer["ok"] and not answer["simplex"] and answer["synced"] for answer in answers)


def taken_over(switch: Switch, dead: str, epoch_ms: float) -> Kill:
    """Wait until the sessions of an incarnation whose node was hit at `epoch_ms` are served. Raises TimeoutError."""
    survivor = "ba"["ab".index(dead[0])]
    found = _takeovers(switch, {dead}, survivor, f"{survivor} to take over from {dead}", READY_S)[dead]
    noticed_ms = found["noticed_epoch_ms"] - epoch_ms
    takeover_ms = round(noticed_ms + found["serving_ms"], 1)
    return Kill(dead[0], epoch_ms, round(noticed_ms, 1), takeover_ms, int(found["sessions"]))


def strike(switch: Switch, victim: str, how: signal.Signals = signal.SIGKILL) -> Kill:
    """Hit a node and start it again when it has ended; returns when the other serves its sessions.

    SIGKILL ends it, and after SIGSTOP its peer does. Raises TimeoutError.
    """
    dead = switch.ask(victim)["incarnation"]
    epoch_ms = time.time() * 1000
    switch.nodes[victim].signal(how)
    switch.nodes[victim].respawn()
    return taken_over(switch, dead, epoch_ms)


def strike_both(switch: Switch) -> Kill:
    """SIGKILL for both at once. Each dead one's sessions are served from its heir entry on: the heirs tell when that was."""
    dead = {switch.ask(node)["incarnation"] for node in "ab"}
    epoch_ms = time.time() * 1000
    for node in switch.nodes.values():
        node.signal(signal.SIGKILL)
    for node in switch.nodes.values():
        node.respawn()
    found = _takeovers(switch, dead, "ab", "heirs of both", DUPLEX_S)
    served = max(each["noticed_epoch_ms"] + each["serving_ms"] for each in found.values())
    first = min(each["noticed_epoch_ms"] for each in found.values())
    sessions = sum(int(each["sessions"]) for each in found.values())
    return Kill("ab", epoch_ms, round(first - epoch_ms, 1), round(served - epoch_ms, 1), sessions)


def _takeovers(switch: Switch, dead: set[str], heirs: str, what: str, seconds: float) -> dict[str, dict[str, Any]]:
    """What the heirs tell of their takeovers from these dead incarnations, waited for."""
    found: dict[str, dict[str, Any]] = {}

    def all_told() -> bool:
        for node in heirs:
            with contextlib.suppress(OSError, ValueError):
                found.update({each["dead"]: each for each in switch.ask(node)["takeovers"] if each["dead"] in dead})
        return dead <= found.keys()

    switch.wait_for(all_told, what, seconds)
    return found


class Killer:
    """Kills by `mode` every `every_s` seconds, but only a pair that is duplex, in a thread until `stop`."""

    def __init__(self, switch: Switch, mode: Mode, every_s: float) -> None:
        self.kills: list[Kill] = []
        self.failures: list[str] = []
        self._switch = switch
        self._every_s = every_s
        turns = {"a": ["a"], "b": ["b"], "both-in-turn": ["a", "b"], "both-at-once": ["ab"]}
        self._victims: Iterator[str] = itertools.cycle(turns.get(mode, []))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")
        if mode != "none":
            self._thread.start()

    def stop(self) -> None:
        """No more kills; returns when the pair is whole again (or its time is up)."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + self._every_s
        for victim in self._victims:
            if self._stopped.wait(max(due - time.monotonic(), 0)):
                break
            due = time.monotonic() + self._every_s
            try:
                self.kills.append(strike_both(self._switch) if victim == "ab" else strike(self._switch, victim))
                self._switch.wait_for(lambda: duplex(self._switch), "the pair to be whole again", DUPLEX_S)
            except (TimeoutError, RuntimeError, OSError) as error:
                self.failures.append(f"after killing {victim}: {error}")
                break
