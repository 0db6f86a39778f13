"""The world of a scenario as real processes: etcd, two nodes, and the actors' own TCP connections on this machine.

Timers of the configuration run `speed` times as fast, and so does `pass_ms`; what is waited for has all the time it needs.
"""

import contextlib
import copy
import csv
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from switch.ops import switchctl
from tools.kills import duplex
from tools.scenarios.configuration import changed
from tools.scenarios.operator import COMMANDS, figure
from tools.scenarios.pair import ScenarioSwitch
from tools.scenarios.script import Scenario
from tools.scenarios.sockets import Host, Stream
from tools.scenarios.speech import Speech, speech
from tools.scenarios.world import Arrived, How

PATIENCE_S = 30.0
QUIET_S = 0.3


class RealWorld:
    """See tools.scenarios.world.World."""

    def __init__(self, scenario: Scenario, directory: Path, speed: float) -> None:
        self.switch = ScenarioSwitch(directory, scenario.table, speed)
        self._scenario = scenario
        self._speed = speed
        self._links = {link["name"]: link for link in scenario.table["link"]}
        self._speeches: dict[str, Speech] = {}
        self._streams: dict[str, Stream] = {}  # by name
        self._of: dict[str, Stream] = {}
        self._arrived: list[Arrived] = []
        self._lock = threading.Lock()
        self._hosts = {name: Host(name, self.switch.where[name]["a"], self._joined) for name in scenario.hosts}
        self._stays_down: set[str] = set()
        self._serving = False
        self._locking: sqlite3.Connection | None = None  # keeps the switch out of the journal's database
        self.deaths: list[str] = []

    def __enter__(self) -> Self:
        for host in self._mannered():
            self._hosts[host].listen()
        try:
            self.switch.__enter__()
            self._serving = True
            self._await(lambda: all(self._host_ready(host) for host in self._mannered()), "the hosts to be signed on")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _mannered(self) -> list[str]:
        return [host for host in self._scenario.hosts if host not in self._scenario.by_hand]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self._hosts.values():
            host.close()
        for stream in self._all():
            with contextlib.suppress(OSError):
                stream.leave("closes")
        for process in self.switch.nodes.values():
            if process.running():
                with contextlib.suppress(OSError):
                    process.signal(signal.SIGCONT)
        self.switch.__exit__(kind, value, trace)
        if self._locking is not None:
            self._locking.close()

    # --- connections

    def _speech(self, link: str) -> Speech:
        return self._speeches.setdefault(link, speech(self._links[link]))

    def _joined(self, host: str, sock: socket.socket) -> None:
        self._add(Stream(host, sock, self._speech(host), self._take))

    def _add(self, stream: Stream) -> None:
        with self._lock:
            self._streams[stream.name] = stream

    def _all(self) -> list[Stream]:
        """Threads add to them."""
        with self._lock:
            return list(self._streams.values())

    def _open(self, actor: str) -> list[Stream]:
        return [each for each in self._all() if each.actor == actor and not each.over]

    def _take(self, stream: Stream, arrived: Arrived) -> None:
        """Called by the reading threads."""
        if stream.actor in self._mannered() and arrived.payload:
            spoken = self._speech(stream.actor)
            answer = spoken.manners(spoken.read(arrived.payload))
            if answer is not None:
                with contextlib.suppress(OSError):
                    stream.write(spoken.framer.frame(answer, spoken.framer.answer_header(arrived.header)))
                return
        with self._lock:
            self._arrived.append(arrived)

    def connect(self, actor: str, at: str) -> None:
        link = self._scenario.link_of(actor)["name"]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            sock = socket.create_connection(("127.0.0.1", self.switch.where[link][at or "a"]))
            stream = Stream(actor, sock, self._speech(link), self._take)
            self._of[actor] = stream
            self._add(stream)
            self._await(lambda: self._row(actor) is not None, f"a session of {actor}")
            if not at or self.owner(actor) == at:
                return
            stream.leave("closes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no session of {actor} became {at}'s")

    def _row(self, actor: str) -> dict[str, Any] | None:
        """What the switch says of the actor's session."""
        stream = self._stream_of(actor)
        with contextlib.suppress(OSError, ValueError):
            for row in self.switch.ask_any("sessions")["sessions"]:
                here = row["local"] == stream.peer and row["link"] == actor  # of a host: the switch has connected
                if here or row["remote"] == stream.local:
                    return dict(row)
        return None

    def _stream_of(self, actor: str) -> Stream:
        if actor not in self._hosts:
            return self._of[actor]
        if not (streams := self._open(actor)):
            raise ValueError(f"{actor} has no connection")
        return streams[0]

    def leave(self, actor: str, how: How) -> None:
        self._of[actor].leave(how)
        if how == "resets":
            self._await(lambda: self._row(actor) is None, f"the end of {actor}'s session")

    def connected(self, actor: str) -> bool:
        if actor in self._hosts:
            return bool(self._open(actor))
        stream = self._of.get(actor)
        return stream is not None and not stream.over

    def listen(self, host: str) -> None:
        self._hosts[host].listen()
        if host in self._mannered():
            self._await(lambda: self._host_ready(host), f"{host} to be signed on")
        else:
            self._await(lambda: self.connected(host), f"a connection to {host}")

    def _host_ready(self, host: str) -> bool:
        return self.figure(f"{host}.ready") == int(self._links[host]["connections"])

    def disconnect(self, host: str) -> None:
        self._hosts[host].close()
        for stream in self._open(host):
            stream.leave("closes")
        self._await(lambda: self.figure(f"{host}.ready") == 0, f"the switch to know that {host} is gone")

    # --- bytes

    def write(self, actor: str, stream: str, data: bytes) -> None:
        found = self._streams.get(stream)
        (found if found is not None and not found.over else self._stream_of(actor)).write(data)

    def take(self, actor: str, extent: int | None) -> None:
        raise NotImplementedError("a kernel acknowledges what it gets")

    def arrivals(self) -> list[Arrived]:
        self.revive()
        for stream in self._all():
            if stream.failure:
                raise ValueError(f"{stream.actor}: {stream.failure}")
        with self._lock:
            arrived, self._arrived = self._arrived, []
        return arrived

    def wait(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):  # a node that is asked may be dying
                if condition():
                    return True
            if time.monotonic() > deadline:
                return False
            self.revive()
            time.sleep(0.01)

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        if not self.wait(condition):
            raise TimeoutError(f"waited {PATIENCE_S:g} s for {what}")

    def quiet(self) -> None:
        self._sleep(QUIET_S)

    def pass_ms(self, passed: int) -> None:
        self._sleep(passed / 1000 / self._speed)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.revive()
            time.sleep(min(left, 0.02))

    # --- lives

    def arm(self, point: str) -> None:
        """Whichever node comes to this point next dies there. One failure at a time: the pair is whole before."""
        self._await(lambda: duplex(self.switch), "a pair of two before one dies")
        fresh = self.switch.arm.with_suffix(".new")
        fresh.write_text(point)
        fresh.rename(self.switch.arm)

    def revive(self) -> None:
        """Start again what has died, as the service manager does."""
        for node, process in self.switch.nodes.items():
            if node not in self._stays_down and self._serving and not process.running():
                self.deaths.append(node)
                process.start()

    def owner(self, actor: str) -> str:
        row: dict[str, Any] = {}

        def found() -> bool:
            row.update(self._row(actor) or {})
            return bool(row)

        self._await(found, f"a session of {actor}")
        known = self.switch.ask_any("status")["incarnations"]
        owner = str(row["owner"])
        while known.get(owner, {}).get("heir"):
            owner = known[owner]["heir"]
        return owner[0]

    def kill(self, node: str, *, stays_down: bool) -> None:
        nodes = "ab" if node == "both" else node
        self._await(lambda: duplex(self.switch), "a pair of two before one dies")
        self._stays_down.update(nodes if stays_down else "")
        for each in nodes:
            self.switch.nodes[each].signal(signal.SIGKILL)
        for each in nodes:
            self.switch.nodes[each].wait()
        self.revive()

    def restart(self, node: str) -> None:
        if not self._stays_down:  # a node that leaves alone ends its sessions
            self._await(lambda: duplex(self.switch), "a pair of two before one leaves")
        self._stays_down.add(node)
        self.switch.nodes[node].stop()
        self._stays_down.discard(node)
        self.switch.nodes[node].start()
        self._await(lambda: duplex(self.switch), "the node to be back")

    def etcd(self, what: str) -> None:
        if what == "stops" and not self._stays_down:  # one that is starting needs etcd
            self._await(lambda: duplex(self.switch), "a pair of two before etcd stops")
        self.switch.etcd.pause() if what == "stops" else self.switch.etcd.resume()
        self._await(lambda: self._held() is (what == "stops"), f"the switch to know that etcd {what}")

    def _held(self) -> bool:
        return all(bool(self.switch.ask(node)["held"]) for node in "ab" if self.switch.nodes[node].running())

    # --- the books

    def database(self, what: str) -> None:
        """Away is one that is locked: each commit fails after its timeout. Who reads is not kept out (sqlite.org/wal.html)."""
        if self._locking is not None:
            self._locking.close()
        self._locking = None
        if what == "stops":
            self._locking = sqlite3.connect(self.switch.journal, timeout=PATIENCE_S, isolation_level=None)
            self._locking.execute("PRAGMA journal_mode=WAL")  # as the switch's own, which may not have made it yet
            self._locking.execute("BEGIN EXCLUSIVE")

    def extract(self, books: str, link: str, date: str) -> list[dict[str, str]]:
        """What `switchctl ... --csv` writes."""
        file, config = self.switch.directory / f"{books}.csv", self.switch.config_path
        try:
            if books == "journal":
                switchctl.journal(config, link, date, last=0, csv=file)
            else:
                switchctl.totals(config, next(iter(self._live()), "a"), link, date, file)
        except SystemExit as error:
            raise OSError(str(error)) from None
        with file.open(newline="") as lines:
            return list(csv.DictReader(lines))

    # --- operators

    def operate(self, command: str, value: Any) -> bool:
        entered = COMMANDS[command]
        former = copy.deepcopy(self._scenario.table)
        if entered.configures:
            changed(self._scenario.table, value)
            self.switch.configure(self.switch.settings)
        before = self.noted("rules.active")[0] if entered.configures else 0
        accepted = bool(self.switch.ask_any(entered.request(self.switch.ask_any, value))["ok"])
        if accepted and entered.configures:
            self._await(lambda: self.noted("rules.active")[0] > before, "the configuration to be active")
        elif entered.configures:  # what is refused is not to be found by the next start either
            self._scenario.table.update(former)
            self.switch.configure(self.switch.settings)
        return accepted

    def figure(self, name: str) -> int | str:
        """What all live nodes say; -1 while they do not agree, one being behind the other, or none is there."""
        entered, link = figure(name)
        told = set()
        for node in self._live():
            with contextlib.suppress(OSError, ValueError):
                told.add(entered.of_answers(partial(self.switch.ask, node), link))
        return told.pop() if len(told) == 1 else -1

    def _live(self) -> list[str]:
        """Not one that begins: its state is empty yet."""
        live = []
        for node in "ab":
            with contextlib.suppress(OSError, ValueError):
                status = self.switch.ask(node)
                if status["incarnations"].get(status["incarnation"], {}).get("status") == "live":
                    live.append(node)
        return live

    def noted(self, event: str) -> tuple[int, bool]:
        """In the logs of both nodes; a node that died may not have told."""
        texts = [process.log.read_text() for process in self.switch.nodes.values() if process.log.exists()]
        return sum(text.count(f" {event} ") + text.count(f" {event}\n") for text in texts), False
