"""The product's modules with the twins in place of `socket`, `os`, `time` and the like: its code is the daemon's, unchanged."""

import contextlib
import fcntl
import importlib
import logging
import mmap
import os
import pkgutil
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from sockets import OsFiles
from world import EPOCH_S, MONOTONIC_S, File, Process, World

import switch
import switch.node
from switch import points
from switch.ops import logs
from switch.sessions import beats
from switch.sessions.handover_messages import BEAT

BOOT_ID = "5f0c9a52-0000-4000-8000-000000000001"
KILL_S = 0.002  # from a signal to the end of who gets it
TICKS_A_SECOND = 100  # of the start time in proc(5)
MODULES = ("switch.daemon", "switch.ops.control", "switch.ops.switchctl", "switch.__main__")  # not part of a node


class PidFile(File):
    """pidfd_open(2): readable when the process has ended."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        process.ended.append(self.changed)

    def readable(self) -> bool:
        return not self.process.alive


class SharedFile(File):
    """A small file that processes map. Its bytes outlive them."""

    def __init__(self, data: bytearray) -> None:
        super().__init__()
        self.data = data


class Os(OsFiles):
    """What the product uses of os(3); the rest is the real one."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._disk: dict[str, bytearray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @property
    def environ(self) -> dict[str, str]:
        return self._world.process.environ if self._world.process else {}

    def getpid(self) -> int:
        assert self._world.process is not None
        return self._world.process.pid

    def getuid(self) -> int:
        return 0

    def urandom(self, size: int) -> bytes:
        return self._world.dice.randbytes(size)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        return self._world.system_call("open").give(SharedFile(self._disk.setdefault(str(path), bytearray())))

    def ftruncate(self, fd: int, size: int) -> None:
        file = self._world.system_call("ftruncate").fds[fd]
        assert isinstance(file, SharedFile)
        file.data.extend(bytes(max(size - len(file.data), 0)))

    def pidfd_open(self, pid: int) -> int:
        process = self._world.system_call("pidfd_open")
        found = self._world.find(pid)
        if found is None:
            raise ProcessLookupError(3, "No such process")
        return process.give(PidFile(found))


class Signal:
    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(signal, name)

    def pidfd_send_signal(self, pidfd: int, number: int) -> None:
        file = self._world.system_call("pidfd_send_signal").fds[pidfd]
        assert isinstance(file, PidFile) and number == signal.SIGKILL
        if not file.process.alive:
            raise ProcessLookupError(3, "No such process")
        self._world.trace(file.process.name, "killed by its peer")
        self._world.at(self._world.latency(KILL_S), file.process.kill)  # until then what it was about to do may happen


class Mmap:
    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(mmap, name)

    def mmap(self, fd: int, size: int) -> bytearray:
        assert self._world.process is not None
        file = self._world.process.fds[fd]
        assert isinstance(file, SharedFile)
        return file.data


class Time:
    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        return MONOTONIC_S + self._world.now

    def time(self) -> float:
        ahead = self._world.process.wall_s if self._world.process else 0.0
        return EPOCH_S + self._world.now + ahead


class PathTwin:
    """As much of pathlib.Path as a node uses: names, and what proc(5) says of processes."""

    world: World
    network: Any

    def __init__(self, name: object) -> None:
        self._name = str(name)

    def __str__(self) -> str:
        return self._name

    def __fspath__(self) -> str:
        return self._name

    def __truediv__(self, name: str) -> "PathTwin":
        return type(self)(f"{self._name}/{name}")

    @property
    def parent(self) -> "PathTwin":
        return type(self)(self._name.rpartition("/")[0])

    def mkdir(self, **_: Any) -> None: ...

    def chmod(self, mode: int) -> None: ...

    def unlink(self, missing_ok: bool = False) -> None:
        self.network.unlink(self._name)

    def read_text(self) -> str:
        if self._name == "/proc/sys/kernel/random/boot_id":
            return BOOT_ID
        _, proc, pid, stat = self._name.split("/")
        assert (proc, stat) == ("proc", "stat")
        process = self.world.process if pid == "self" else self.world.find(int(pid))
        if process is None:
            raise FileNotFoundError(2, "No such file or directory")
        return f"{process.pid} (switchd) S {'0 ' * 18}{int(process.started * TICKS_A_SECOND)} 0"


class Beats:
    """The beating thread (switch/sessions/beats.py), on a timer: a stopped process beats no more."""

    INTERVAL_S, STILL_S = beats.Beats.INTERVAL_S, beats.Beats.STILL_S

    def __init__(self, sock: Any, world: World, sent_errors: tuple[type[OSError], ...] = (OSError,)) -> None:
        self.turned = MONOTONIC_S + world.now
        self._world, self._errors = world, sent_errors
        self._sock = sock.dup()
        self._stopped = False
        assert world.process is not None
        self._process = world.process
        world.at(self.INTERVAL_S, self._turn)

    def _turn(self) -> None:
        if not self._process.alive or self._world.over:
            return
        if self._stopped:
            self._world.within(self._process, self._sock.close)
            return
        if not self._process.stopped and MONOTONIC_S + self._world.now - self.turned <= self.STILL_S:
            self._world.within(self._process, self._beat)
        self._world.at(self.INTERVAL_S, self._turn)

    def _beat(self) -> None:
        with contextlib.suppress(*self._errors):
            self._sock.send(BEAT, socket.MSG_DONTWAIT)

    def stop(self) -> None:
        self._stopped = True


class NoMetrics:
    """Figures for operators are not simulated."""

    def __init__(self, node: str) -> None:
        self.simplex = self.held = self.refused = self
        self.journal_rows = self.journal_failures = self.journal_failing = self

    def entry(self, *_: object) -> None: ...

    def note(self, *_: object, mine: bool) -> None: ...

    def sample(self, *_: object) -> None: ...

    def set(self, *_: object) -> None: ...

    def inc(self, *_: object) -> None: ...


Told = Callable[[Process | None, int, str, dict[str, Any]], None]


class _Handler(logging.Handler):
    """The mirror's log lines."""

    def __init__(self, world: World, told: Told) -> None:
        super().__init__(logging.INFO)
        self._world, self._told = world, told

    def emit(self, record: logging.LogRecord) -> None:
        name, _, text = record.getMessage().partition(" ")
        self._told(self._world.process, record.levelno, name, {"": text})


@cache
def _modules() -> list[Any]:
    for found in pkgutil.walk_packages(switch.__path__, "switch."):
        if found.name not in MODULES:
            importlib.import_module(found.name)
    chosen = [name for name in sorted(sys.modules) if name.startswith("switch.") and name not in MODULES]
    return [sys.modules[name] for name in chosen if sys.modules[name] not in (logs, points)]


@cache
def _places() -> list[tuple[Any, str, int]]:
    """Where the product's modules name what there is a twin of: module, name, identity of what it names."""
    real = {id(each) for each in (socket, os, time, signal, mmap, fcntl, random, logs.event, points.reach)}
    return [
        (module, name, id(value)) for module in _modules() for name, value in vars(module).items() if id(value) in real
    ]


@contextlib.contextmanager
def installed(world: World, network: Any, sockets: Any, fcntl_twin: Any, told: Told) -> Iterator[None]:
    """Put the twins in place. `told` gets every log event: process, level, name, fields."""

    def event(log: logging.Logger, level: int, name: str, **fields: Any) -> None:
        told(world.process, level, name, fields)

    def reach(name: str) -> None:
        world.points[name] = None
        world.system_call(name)

    path = type("WorldPath", (PathTwin,), {"world": world, "network": network})
    twins = {
        id(socket): sockets, id(os): Os(world), id(time): Time(world), id(signal): Signal(world), id(mmap): Mmap(world),
        id(fcntl): fcntl_twin, id(random): world.dice, id(logs.event): event, id(points.reach): reach,
    }  # fmt: skip
    undo: list[tuple[Any, str, Any]] = []

    def put(module: Any, name: str, value: Any) -> None:
        undo.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    for module, name, real in _places():
        put(module, name, twins[real])
    for name in ("switch.node", "switch.peer", "switch.mirror.lease"):
        put(sys.modules[name], "Path", path)
    put(switch.node, "Metrics", NoMetrics)
    put(sys.modules["switch.sessions.handover"], "Beats", lambda sock: Beats(sock, world))
    logger, handler = logging.getLogger("switch"), _Handler(world, told)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        for module, name, value in reversed(undo):
            setattr(module, name, value)
