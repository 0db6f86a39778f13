"""Sockets on two sides: this machine's kernel, and the twins in a world. A history is run on both, and they are compared."""

import errno
import itertools
import os
import random
import select
import socket
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from network import Network
from sockets import FcntlModule, SocketModule
from world import World

from switch.sessions import kernel

STILL_S = 0.3  # output that is not acknowledged after so long will not be: TCP_DELACK_MAX is 0.2 s
_IN = select.POLLIN | select.POLLHUP | select.POLLERR  # both wake a reader of epoll(7)
_OUT = select.POLLOUT | select.POLLHUP | select.POLLERR
_names = itertools.count()


class Linux:
    """The kernel of this machine."""

    socket: Any = socket

    def __init__(self, seed: int) -> None:
        self._directory = tempfile.TemporaryDirectory()

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


class History:
    """What one seed does with sockets, and what it sees. `ends`: by whose they are."""

    def __init__(self, side: Any, seed: int) -> None:
        self.side, self.dice = side, random.Random(seed)
        self.seen: list[Any] = []
        self.ends: dict[str, list[Any]] = {"a": [], "b": []}

    def run(self) -> Iterator[None]:
        """In steps, after each of which what is under way has to arrive."""
        raise NotImplementedError

    def note(self, *what: Any) -> None:
        self.seen.append(what)

    def look(self) -> Iterator[None]:
        """What all TCP ends show, when nothing is under way any more."""
        yield
        for name, socks in self.ends.items():
            self.side.by(name)
            for sock in socks:
                self.note(name, *standing(sock), *self.side.ready(sock), kernel.cookie(sock) == kernel.cookie(socks[0]))

    def close(self) -> None:
        for name, socks in self.ends.items():
            self.side.by(name)
            for sock in socks:
                sock.close()
            socks.clear()
        self.side.end()


def settle(histories: list[Any]) -> None:
    """Until nothing is under way in the real kernel: acknowledgements that are late are here, counters stand still."""
    ends = [sock for history in histories for socks in history.ends.values() for sock in socks]
    socks = [sock for sock in ends if sock.family == socket.AF_INET]
    before: Any = None
    since = time.monotonic()
    while True:
        for sock in socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        now = [standing(sock) for sock in socks]
        if now != before:
            before, since = now, time.monotonic()
        elif all(map(at_rest, now)) or time.monotonic() - since > STILL_S:
            return
        time.sleep(0.001)


def at_rest(seen: Any) -> bool:
    """Nothing is to come of what this end has sent."""
    state, output = seen[3], seen[-1]
    return state == kernel.CLOSE or (state != kernel.SYN_SENT and not output)


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
