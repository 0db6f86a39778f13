"""A node as a service: the part of systemd. It starts the process, restarts what fails, and keeps its fd store."""

import asyncio
from collections.abc import Callable
from typing import Any

from loop import SimLoop
from world import File, Killed, Process, Violation, World

from switch.config import Config
from switch.core.proposals import VERSION
from switch.core.records import Status
from switch.mirror.errors import Fenced
from switch.node import Node

START_S = 0.25  # Python's start
RESTART_S = 0.1  # the unit's RestartSec
POISON = b"POISON"


class Unit:
    """`a` or `b`: one life after the other, until an operator stops it."""

    def __init__(self, world: World, network: Any, name: str, config: Config, path: Any, *, store: bool) -> None:
        self.name = name
        self.process: Process | None = None
        self.node: Node | None = None
        self.version = VERSION  # of entries, the newest that its software applies
        self.lives = 0
        self.deaths = 0  # by SIGKILL
        self.stopping = False
        self._exits = False
        self.wanted = False
        self.ready = False
        self.on_defect: Callable[[str], None] = self._defect
        self.on_poison: Callable[[str, int], None] = lambda session, start: None
        self._world, self.config, self._path = world, config, path
        self._tokens: list[str] = []  # of its lives, in their fences
        self._store: dict[str, File] = {}
        self._notify = f"/run/notify-{name}" if store else ""
        if store:
            network.datagrams(self._notify, self._notified)

    def _defect(self, text: str) -> None:
        raise Violation(text)

    # --- lives

    def start(self) -> None:
        self.wanted = True
        self._world.at(START_S * (0.8 + 0.4 * self._world.dice.random()), self._begin)

    def _begin(self) -> None:
        if not self.wanted or (self.process is not None and self.process.alive):
            return
        world = self._world
        self.lives += 1
        self.node, self.ready, self.stopping, self._exits = None, False, False, False
        process = self.process = world.spawn(self.name)
        process.ended.append(lambda: self._ended(process))
        loop = SimLoop(process)
        loop.on_defect = lambda context: self.on_defect(f"{self.name}: {_cause(context)}")
        process.environ = {"NOTIFY_SOCKET": self._notify} if self._notify else {}
        if self._store:
            for file in self._store.values():
                process.give(file)
            process.environ |= {
                "LISTEN_PID": str(process.pid), "LISTEN_FDS": str(len(self._store)),
                "LISTEN_FDNAMES": ":".join(self._store),
            }  # fmt: skip
        world.trace(self.name, f"starts, pid {process.pid}, life {self.lives}")
        task = loop.create_task(self._main())
        task.add_done_callback(lambda done: self._exited(process, done))

    async def _main(self) -> None:
        node = self.node = Node(self.config, self.name, self._path)
        self._tokens.append(node.mirror.token)
        node.engine.version = self.version
        offer, process = node.engine.offer, self.process

        def poisonable(session: Any, start: int, end: int, frame: Any, *more: Any) -> Any:
            """A defect that the product does not have: it dies of a frame."""
            if POISON in bytes(frame.payload):
                assert process is not None
                self._world.trace(self.name, "dies of a poison frame")
                self.on_poison(session.id, start)
                process.kill()
                raise Killed
            return offer(session, start, end, frame, *more)

        node.engine.offer = poisonable  # type: ignore[method-assign]
        if self.config.journal.url:
            asyncio.create_task(node.journal.run())  # noqa: RUF006 - as in switch/daemon.py; the loop keeps it
        try:
            await node.run(self._ready)
        finally:
            await node.close()

    def _ready(self) -> None:
        self.ready = True

    def _exited(self, process: Process, task: "asyncio.Task[None]") -> None:
        """The program has come to its end. As in switch/daemon.py, any exception ends the process: none is expected."""
        error = None if task.cancelled() else task.exception()
        self._world.trace(self.name, f"exits{': ' + type(error).__name__ if error else ''}")
        if error is not None and not self._slipped(error):
            self.on_defect(f"{self.name}: {type(error).__name__}: {error}")
        elif error is None and not self.stopping:
            self.on_defect(f"{self.name}: it has ended by itself")
        self._exits = True
        process.kill()

    def _slipped(self, error: BaseException) -> bool:
        """Whether its join met that of its former life, which had been under way since (seed 210227): the next life joins."""
        return isinstance(error, Fenced) and not self.ready and any(token in str(error) for token in self._tokens[:-1])

    def _ended(self, process: Process) -> None:
        self.ready = False
        self.deaths += not self._exits
        if self.wanted and process is self.process:
            self._world.at(RESTART_S, self.start)

    def stop(self) -> None:
        """SIGTERM."""
        self.wanted, self.stopping = False, True
        process, node = self.process, self.node
        if process is not None and process.alive and node is not None:
            self._world.within(process, node.stop)
            process.loop.resume()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def live(self) -> bool:
        """It serves, and holds what its peer holds."""
        node = self.node
        if not self.alive or node is None or not self.ready:
            return False
        return node.me.status is Status.LIVE and node.succession.synced and node.succession.handover.up

    # --- fd store (sd_pid_notify_with_fds(3))

    def _notified(self, data: bytes, files: list[File]) -> None:
        lines = dict(line.partition("=")[::2] for line in data.decode().split("\n"))
        name = lines.get("FDNAME", "")
        if "FDSTORE" in lines and name not in self._store:
            self._store[name] = files[0]
            files[0].hold()
        elif "FDSTOREREMOVE" in lines and name in self._store:
            self._store.pop(name).release()


def _cause(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}: {type(error).__name__}: {error}"
