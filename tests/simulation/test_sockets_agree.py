"""The twins of the kernel's sockets do what the kernel does: the same random history on loopback and in a world.

Each history is a list of observations: bytes, errors, counters, states, readiness after every step. Linux is right.
"""

import errno
import itertools
import os
import random
import select
import socket
import struct
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from network import Network
from sockets import FcntlModule, SocketModule
from world import World

from switch.sessions import kernel

SEEDS = 150
LITTLE = 30_000  # far from any buffer's limit
STILL_S = 0.3  # output that is not acknowledged after so long will not be: TCP_DELACK_MAX is 0.2 s
SHORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a RST
_IN = select.POLLIN | select.POLLHUP | select.POLLERR  # both wake a reader of epoll(7)
_OUT = select.POLLOUT | select.POLLHUP | select.POLLERR
_names = itertools.count()


class Linux:
    """The kernel of this machine."""

    socket: Any = socket

    def __init__(self, seed: int) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._pids = {"a": os.getpid(), "b": os.getpid()}

    def by(self, name: str) -> None:
        """Whose calls follow: all are this process's."""

    def pid(self, name: str) -> int:
        return os.getpid()

    def path(self) -> str:
        return str(Path(self._directory.name) / str(next(_names)))

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def ready(self, sock: Any) -> tuple[bool, bool]:
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        found = poll.poll(0)
        events = found[0][1] if found else 0
        return bool(events & _IN), bool(events & _OUT)

    def end(self) -> None:
        self._directory.cleanup()


class Twin:
    """A world with two processes."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        self.network.tearing = 0.3
        self.socket: Any = SocketModule(self.network)
        self.processes = {name: self.world.spawn(name) for name in "ab"}
        self.by("a")

    def by(self, name: str) -> None:
        self.world.process = self.processes[name]

    def pid(self, name: str) -> int:
        return self.processes[name].pid

    def path(self) -> str:
        return f"/{next(_names)}"

    def unlink(self, path: str) -> None:
        assert self.network.unlink(path)

    def ready(self, sock: Any) -> tuple[bool, bool]:
        file = self.world.process.fds[sock.fileno()]
        return file.readable(), file.writable()

    def settle(self) -> None:
        self.world.run(lambda: False, self.world.now + 0.5)

    def end(self) -> None:
        pass


@contextmanager
def twin(seed: int) -> Iterator[Twin]:
    """With the product's kernel.py over it."""
    made = Twin(seed)
    former = kernel.socket, kernel.fcntl
    kernel.socket, kernel.fcntl = made.socket, FcntlModule(made.network)
    try:
        yield made
    finally:
        kernel.socket, kernel.fcntl = former


def told(call: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or the name of its error."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def brief(value: Any) -> Any:
    """Long bytes by their length and sum."""
    return (len(value), zlib.crc32(value)) if isinstance(value, bytes) and len(value) > 10 else value


def standing(sock: Any) -> Any:
    """All that the product asks the kernel of a TCP socket."""
    counters = kernel.counters(sock, connecting=False)
    return counters.consumed, counters.acked, counters.written, counters.state, kernel.unread(sock), kernel.unacknowledged(sock)


class Tcp:
    """One connection with duplicates of both ends, in the hands of chance."""

    def __init__(self, side: Any, seed: int) -> None:
        self.side, self.dice = side, random.Random(seed)
        self.seen: list[Any] = []
        self.ends: dict[str, list[Any]] = {"a": [], "b": []}
        self.streams = {"a": 0, "b": 0}
        self.refused = False

    def note(self, *what: Any) -> None:
        self.seen.append(what)

    def run(self) -> Iterator[None]:
        """In steps, after each of which what is under way has to arrive."""
        side = self.side
        listener = self._listen()
        yield from self._connect(listener)
        for _ in range(self.dice.randrange(3, 25)):
            name = self.dice.choice("ab")
            sock = self._pick(name)
            if sock is not None:
                self._step(name, sock)
                yield from self._look()
        for name, socks in self.ends.items():
            side.by(name)
            for sock in socks:
                sock.close()
        side.by("b")
        listener.close()
        side.end()

    def _pick(self, name: str) -> Any:
        self.side.by(name)
        socks = self.ends[name]
        return self.dice.choice(socks) if socks else None

    def _listen(self) -> Any:
        module = self.side.socket
        self.side.by("b")
        listener = module.socket()
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        self.note("nobody", told(listener.accept), self.side.ready(listener))
        return listener

    def _connect(self, listener: Any) -> Iterator[None]:
        side = self.side
        address = listener.getsockname()
        side.by("a")
        sock = side.socket.socket(side.socket.AF_INET, side.socket.SOCK_STREAM)
        sock.setblocking(False)
        self.ends["a"].append(sock)
        for _ in range(self.dice.choice((0, 0, 0, 1, 2))):
            yield from self._early(sock)
        side.by("a")
        self.note("connect", told(sock.connect, address))
        yield from self._look()
        for _ in range(self.dice.choice((0, 0, 1, 3))):  # before it is accepted
            sock = self._pick("a")
            if sock is not None:
                self._step("a", sock)
                yield from self._look()
        side.by("b")
        self.note(side.ready(listener))
        accepted, address = listener.accept()
        accepted.setblocking(False)
        self.ends["b"].append(accepted)
        sock = self._pick("a")
        if sock is not None:
            self.note(sock.getsockname() == address)
        yield from self._look()

    def _early(self, sock: Any) -> Iterator[None]:
        self.side.by("a")
        match self.dice.randrange(4):
            case 0:
                self.note("recv", told(sock.recv, 10))
            case 1:
                self.note("send", told(sock.send, b"early"))
            case 2:
                self.note("getpeername", told(sock.getpeername))
            case 3:
                self.ends["a"].append(sock.dup())
        yield from self._look()

    def _look(self) -> Iterator[None]:
        """What both ends show, when nothing is under way any more."""
        side = self.side
        yield
        for name, socks in self.ends.items():
            side.by(name)
            for sock in socks:
                self.note(name, *standing(sock), *side.ready(sock), kernel.cookie(sock) == kernel.cookie(socks[0]))

    def _step(self, name: str, sock: Any) -> None:
        dice, module = self.dice, self.side.socket
        kinds = ["send"] * 6 + ["recv"] * 4 + ["peek"] * 3 + ["consume"] * 2 + ["low_water"] * 2 + [
            "dup", "dup", "close", "close", "reset", "shut_wr", "error", "peer", "connect", "shut", "fd",
        ]  # fmt: skip
        kind = dice.choice(kinds)
        size = dice.choice((1, 2, 10, 100, 1000, 5000) if self.streams[name] < LITTLE else (1, 2, 10))
        match kind:
            case "send":
                data = self._data(name, size)
                result = told(sock.send, data)
                self.streams[name] += result if isinstance(result, int) else 0
            case "recv":
                result = told(sock.recv, size)
            case "peek":
                result = told(sock.recv, size, module.MSG_PEEK)
            case "consume":
                buffer = memoryview(bytearray(size))
                result = told(sock.recv_into, buffer, dice.randrange(size + 1)), bytes(buffer)
            case "low_water":
                result = told(kernel.low_water, sock, size)
            case "dup":
                result = None
                self.ends[name].append(sock.dup())
            case "fd":  # as activation.py does
                number = sock.detach()
                result = sock.fileno()
                self.ends[name].remove(sock)
                self.ends[name].append(module.socket(fileno=number))
                self.ends[name][-1].setblocking(False)
            case "close":
                result = self._close(name, sock)
            case "reset":
                sock.setsockopt(module.SOL_SOCKET, module.SO_LINGER, SHORT)
                result = self._close(name, sock)
            case "shut_wr":
                result = told(sock.shutdown, module.SHUT_WR)
            case "shut":
                result = told(sock.shutdown, dice.choice((module.SHUT_RD, module.SHUT_RDWR)))
            case "error":
                result = sock.getsockopt(module.SOL_SOCKET, module.SO_ERROR)
            case "peer":
                result = told(sock.getpeername)
                result = result if isinstance(result, str) else result[0]
            case "connect" if standing(sock)[3] == kernel.CLOSE:
                result = None  # that of a used socket begins anew, which nobody needs
            case "connect":
                result = told(sock.connect, ("127.0.0.1", 9))
        self.note(name, kind, size, *map(brief, result if isinstance(result, tuple) else (result,)))

    def _close(self, name: str, sock: Any) -> Any:
        self.ends[name].remove(sock)
        return told(sock.close), told(sock.recv, 1), sock.fileno()

    def _data(self, name: str, size: int) -> bytes:
        """So that a byte tells where it belongs."""
        first = self.streams[name]
        return bytes((first + number) * 7 % 251 for number in range(size))


    def sockets(self) -> list[Any]:
        """One of each end that is open."""
        return [socks[0] for socks in self.ends.values() if socks]


def settle(histories: list[Any]) -> None:
    """Until nothing is under way in the real kernel: acknowledgements that are late are here, counters stand still."""
    socks = [sock for history in histories for sock in history.sockets()]
    before: Any = None
    since = time.monotonic()
    while True:
        for sock in socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        now = [standing(sock) for sock in socks]
        if now != before:
            before, since = now, time.monotonic()
        elif all(not each[-1] or each[3] == kernel.CLOSE for each in now) or time.monotonic() - since > STILL_S:
            return
        else:
            time.sleep(0.002)


def on_linux(history: type[Any], seeds: range) -> list[list[Any]]:
    """Many at once, because each step has to wait for the slowest."""
    all_ = [history(Linux(seed), seed) for seed in seeds]
    running = {made: made.run() for made in all_}
    while running:
        for made, steps in list(running.items()):
            if next(steps, running) is running:
                del running[made]
        settle(list(running))
    return [made.seen for made in all_]


def on_twins(history: type[Any], seed: int) -> list[Any]:
    with twin(seed) as side:
        made = history(side, seed)
        try:
            for _ in made.run():
                side.settle()
        except Exception:
            made.note(traceback.format_exc())
        return made.seen


def differ(history: type[Any], seed: int, real: list[Any]) -> str:
    """Where the first difference is, with what came before it; "" when there is none."""
    for number, (ours, theirs) in enumerate(itertools.zip_longest(on_twins(history, seed), real)):
        if ours != theirs:
            before = "\n".join(map(str, real[max(number - 40, 0) : number]))
            return f"seed {seed}, step {number}\n{before}\nLinux: {theirs}\ntwin:  {ours}"
    return ""


@pytest.mark.parametrize("block", range(4))
def test_tcp_agrees(block: int) -> None:
    seeds = range(block * SEEDS, (block + 1) * SEEDS)
    differences = [differ(Tcp, seed, real) for seed, real in zip(seeds, on_linux(Tcp, seeds), strict=True)]
    found = [each for each in differences if each]
    assert not found, f"{len(found)} of {SEEDS}, the shortest:\n{min(found, key=len)}"
