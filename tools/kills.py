"""Kills nodes while traffic runs, starts them again as a service manager would, and measures each takeover from outside."""

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from tools.pair import Switch

Mode = Literal["a", "b", "both-in-turn", "both-at-once", "none"]
DUPLEX_S = 30.0


class Kill(msgspec.Struct, frozen=True):
    """One SIGKILL, of "a", "b" or "ab". takeover_ms: from there until an heir served the sessions."""

    node: str
    epoch_ms: float
    noticed_ms: float
    takeover_ms: float
    sessions: int


def duplex(switch: Switch) -> bool:
    """Both nodes live, and each holds the other's sockets."""
    try:
        answers = [switch.ask(node) for node in "ab"]
    except (OSError, ValueError):
        return False
    return all(answer["ok"] and not answer["simplex"] and answer["synced"] for answer in answers)


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
                self._kill_both() if victim == "ab" else self._kill(victim, "ba"["ab".index(victim)])
            except (TimeoutError, RuntimeError, OSError) as error:
                self.failures.append(f"after killing {victim}: {error}")
                break

    def _kill(self, victim: str, survivor: str) -> None:
        switch = self._switch
        before = len(switch.ask(survivor)["takeovers"])
        epoch_ms = time.time() * 1000
        switch.nodes[victim].signal(signal.SIGKILL)
        switch.nodes[victim].respawn()
        found: list[dict[str, float]] = []

        def taken_over() -> bool:
            with contextlib.suppress(OSError, ValueError):
                found[:] = switch.ask(survivor)["takeovers"][before:]
            return bool(found)

        switch.wait_for(taken_over, f"{survivor} to take over from {victim}")
        noticed_ms = found[0]["noticed_epoch_ms"] - epoch_ms
        takeover_ms = round(noticed_ms + found[0]["serving_ms"], 1)
        self.kills.append(Kill(victim, epoch_ms, round(noticed_ms, 1), takeover_ms, int(found[0]["sessions"])))
        switch.wait_for(lambda: duplex(switch), f"{victim} to come back", DUPLEX_S)

    def _kill_both(self) -> None:
        """Each dead one's sessions are served from its heir entry on: both heirs tell when that was."""
        switch = self._switch
        dead = {switch.ask(node)["incarnation"] for node in "ab"}
        epoch_ms = time.time() * 1000
        for node in switch.nodes.values():
            node.signal(signal.SIGKILL)
        for node in switch.nodes.values():
            node.respawn()
        found: dict[str, dict[str, float]] = {}

        def taken_over() -> bool:
            for node in "ab":
                with contextlib.suppress(OSError, ValueError):
                    found.update({each["dead"]: each for each in switch.ask(node)["takeovers"]})
            return dead <= found.keys()

        switch.wait_for(taken_over, "heirs of both", DUPLEX_S)
        served = max(found[id_]["noticed_epoch_ms"] + found[id_]["serving_ms"] for id_ in dead)
        first = min(found[id_]["noticed_epoch_ms"] for id_ in dead)
        sessions = sum(int(found[id_]["sessions"]) for id_ in dead)
        self.kills.append(Kill("ab", epoch_ms, round(first - epoch_ms, 1), round(served - epoch_ms, 1), sessions))
        switch.wait_for(lambda: duplex(switch), "both to come back", DUPLEX_S)
