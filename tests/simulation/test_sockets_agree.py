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

SEEDS = 100
LITTLE = 30_000  # far from any buffer's limit
STILL_S = 0.3  # output that is not acknowledged after so long will not be: TCP_DELACK_MAX is 0.2 s
# (SO_RCVBUF, SO_SNDBUF), 0: as it is. Where no segment of loopback's 65,483 bytes fits Linux goes on by a slow timer
BUFFERS = ((0, 0), (0, 10_000), (0, 100_000), (100_000, 100_000), (300_000, 100_000))
STREAM = memoryview(bytes(range(251)) * 40_000)
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


class Tcp(History):
    """One connection with duplicates of both ends."""

    def __init__(self, side: Any, seed: int) -> None:
        super().__init__(side, seed)
        self.streams = {"a": 0, "b": 0}
        self.deaf = False  # an end has SHUT_RD: then it depends on who is first whether data or a FIN ends it

    def run(self) -> Iterator[None]:
        side = self.side
        listener = self._listen()
        yield from self._connect(listener)
        for _ in range(self.dice.randrange(3, 25)):
            name = self.dice.choice("ab")
            sock = self._pick(name)
            if sock is not None:
                self._step(name, sock)
                yield from self.look()
        side.by("b")
        listener.close()
        self.close()

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
        yield from self.look()
        for _ in range(self.dice.choice((0, 0, 1, 3))):  # before it is accepted
            sock = self._pick("a")
            if sock is not None:
                self._step("a", sock)
                yield from self.look()
        side.by("b")
        self.note(side.ready(listener))
        accepted, address = listener.accept()
        accepted.setblocking(False)
        self.ends["b"].append(accepted)
        sock = self._pick("a")
        if sock is not None:
            self.note(sock.getsockname() == address)
        yield from self.look()

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
        yield from self.look()

    def _step(self, name: str, sock: Any) -> None:
        dice, module = self.dice, self.side.socket
        kinds = ["send"] * 6 + ["recv"] * 4 + ["peek"] * 3 + ["consume"] * 2 + ["low_water"] * 2 + ["burst"] * 2 + [
            "dup", "dup", "close", "close", "reset", "shut_wr", "error", "peer", "connect", "shut", "fd",
        ]  # fmt: skip
        kind = dice.choice(kinds)
        size = dice.choice((1, 2, 10, 100, 1000, 5000) if self.streams[name] < LITTLE else (1, 2, 10))
        match kind:
            case "burst":
                result = self._burst(name) if self._both(kernel.ESTABLISHED) and not self.deaf else None
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
                self.deaf = True
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

    def _burst(self, name: str) -> Any:
        """Both write before anything of it can have arrived; perhaps one has nothing more to say."""
        dice, sent = self.dice, 0
        for _ in range(dice.randrange(2, 6)):
            self.side.by(name)
            data = self._data(name, dice.choice((1, 10, 200)))
            sent += self.ends[name][0].send(data)
            self.streams[name] += len(data)
            name = "a" if name == "b" else "b"
        if dice.random() < 0.3:
            self.side.by(name)
            self.ends[name][0].shutdown(self.side.socket.SHUT_WR)
        return sent

    def _both(self, state: int) -> bool:
        """Both ends are open, and in this state."""
        found = []
        for name, socks in self.ends.items():
            self.side.by(name)
            found += [standing(sock)[3] for sock in socks[:1]]
        return found == [state, state]

    def _close(self, name: str, sock: Any) -> Any:
        self.ends[name].remove(sock)
        return told(sock.close), told(sock.recv, 1), sock.fileno()

    def _data(self, name: str, size: int) -> bytes:
        """So that a byte tells where it belongs."""
        first = self.streams[name]
        return bytes((first + number) * 7 % 251 for number in range(size))


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


class Door(History):
    """A listening socket and its duplicates: clients come and go, some before they are accepted."""

    def run(self) -> Iterator[None]:
        side, dice = self.side, self.dice
        module = side.socket
        side.by("b")
        listener = module.socket()
        listener.setblocking(False)
        listener.setsockopt(module.SOL_SOCKET, module.SO_REUSEADDR, 1)  # as links.py does
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        address = listener.getsockname()
        self.doors = [listener]
        for _ in range(dice.randrange(3, 20)):
            kind = dice.choice(["come"] * 4 + ["accept"] * 4 + ["dup", "shut", "bind", "send", "send", "go", "read"])
            side.by("a" if kind in ("come", "send", "go") else "b")
            doors, clients, served = self.doors, self.ends["a"], self.ends["b"]
            door = dice.choice(doors) if doors else None
            result = None
            match kind:
                case "come":
                    sock = module.socket()
                    sock.setblocking(False)
                    result = sock.connect_ex(address)
                    clients.append(sock)
                case "accept" if door is not None:
                    result = told(door.accept)
                    if not isinstance(result, str):
                        result[0].setblocking(False)
                        served.append(result[0])
                        result = [sock is not None and result[1] == result[0].getpeername() for sock in clients[:1]]
                case "dup" if door is not None:
                    doors.append(door.dup())
                case "shut" if door is not None:
                    result = told(door.shutdown, module.SHUT_WR), told(door.recv, 1), told(door.send, b"x")
                case "bind":
                    with module.socket() as other:
                        other.setsockopt(module.SOL_SOCKET, module.SO_REUSEADDR, 1)
                        result = told(other.bind, address)
                case "send" if clients:
                    result = told(dice.choice(clients).send, b"hello")
                case "go" if clients:
                    clients.pop(dice.randrange(len(clients))).close()
                case "read" if served:
                    result = told(dice.choice(served).recv, 5)
            if dice.random() < 0.15 and doors:
                yield  # Linux answers a SYN on loopback at once
                side.by("b")
                doors.pop(dice.randrange(len(doors))).close()
            self.note(kind, result)
            yield from self.look()
            side.by("b")
            self.note([side.ready(door) for door in self.doors])
        for sock in self.doors:
            sock.close()
        self.close()


class Flood(History):
    """More than fits: partial writes, a full queue, and how it ends. How much fits is not compared, only what follows."""

    def run(self) -> Iterator[None]:
        side, dice = self.side, self.dice
        self.sizes = random.Random(0)  # drawn from as often as it takes
        yield from self._pair()
        a, b = self.ends["a"][0], self.ends["b"][0]
        sent = 0
        while True:  # until no more fits after a while, either
            side.by("a")
            sent = self._fill(a, sent)
            yield
            side.by("a")
            if not side.ready(a)[1] and kernel.unacknowledged(a):
                break
        self.note("filled")
        side.by("b")
        if self.limited:  # else the buffer grows with it, and is not full any more
            kernel.low_water(b, 1 << 24)
        yield
        side.by("a")
        waiting, state = kernel.unacknowledged(a), standing(a)[3]
        self.note("full", waiting > 0, kernel.counters(a, connecting=True).written == sent, side.ready(a)[1])
        side.by("b")
        unread = kernel.unread(b)
        self.note(unread > 0, unread + waiting == sent, side.ready(b), state, standing(b)[3])
        end = dice.choice(("go on", "go on", "finish", "close", "die", "leave", "reset"))
        side.by("a")
        if end == "finish":
            a.shutdown(side.socket.SHUT_WR)
            self.note(kernel.unacknowledged(a) - waiting, standing(a)[3])
        elif end in ("close", "reset"):  # what was written arrives all the same, unless it is reset
            if end == "reset":
                a.setsockopt(side.socket.SOL_SOCKET, side.socket.SO_LINGER, SHORT)
            self.ends["a"].clear()
            a.close()
        side.by("b")
        if end == "leave":
            self.ends["b"].clear()
            b.close()
            yield
            side.by("a")
            self.note(standing(a)[3], side.ready(a), told(a.recv, 1), told(a.send, b"x"), told(a.recv, 1))
        else:
            data = bytearray()
            while (part := told(b.recv, self.sizes.choice((10_000, 100_000)))) not in (b"", "ECONNRESET"):
                if part == "EAGAIN":
                    if len(data) == sent and end in ("go on", "die"):
                        break
                    yield
                    side.by("b")
                else:
                    data += part
            whole = len(data) == sent if end != "reset" else len(data) < sent
            self.note(end, whole, data == STREAM[: len(data)], brief(part))
            yield from self.look_at_end()
        self.close()

    def _pair(self) -> Iterator[None]:
        side, dice = self.side, self.dice
        module = side.socket
        side.by("b")
        listener = module.socket()
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address = listener.getsockname()
        side.by("a")
        sock = module.socket()
        sock.setblocking(False)
        sock.connect_ex(address)
        yield
        side.by("b")
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        listener.close()
        self.ends = {"a": [sock], "b": [accepted]}
        input_, output = dice.choice(BUFFERS)
        self.limited = input_ > 0
        if input_:
            accepted.setsockopt(module.SOL_SOCKET, module.SO_RCVBUF, input_)
        side.by("a")
        if output:
            sock.setsockopt(module.SOL_SOCKET, module.SO_SNDBUF, output)

    def _fill(self, sock: Any, sent: int) -> int:
        while True:
            result = told(sock.send, STREAM[sent : sent + self.sizes.choice((500, 100_000))])
            if result == "EAGAIN":
                return sent
            sent += result

    def look_at_end(self) -> Iterator[None]:
        yield
        for name, socks in self.ends.items():
            self.side.by(name)
            self.note(name, [(standing(sock)[3:], self.side.ready(sock)) for sock in socks])


class Crowd(History):
    """A backlog that is full: Linux drops the SYN, and connect() goes on waiting."""

    def run(self) -> Iterator[None]:
        side = self.side
        module = side.socket
        side.by("b")
        listener = module.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address = listener.getsockname()
        side.by("a")
        for _ in range(3):
            sock = module.socket()
            sock.setblocking(False)
            self.note(told(sock.connect, address))
            self.ends["a"].append(sock)
            yield
            side.by("a")
        for kind in self.dice.sample(["recv", "send", "connect", "getpeername", "error", "shutdown"], 4):
            match kind:
                case "recv":
                    result = told(sock.recv, 1)
                case "send":
                    result = told(sock.send, b"x")
                case "connect":
                    result = told(sock.connect, address) if standing(sock)[3] == kernel.SYN_SENT else None
                case "getpeername":
                    result = told(sock.getpeername)
                case "error":
                    result = sock.getsockopt(module.SOL_SOCKET, module.SO_ERROR)
                case "shutdown":
                    result = told(sock.shutdown, self.dice.choice((module.SHUT_WR, module.SHUT_RDWR)))
            shown = standing(sock)  # after shutdown() what is left of the output is no number any more
            self.note(kind, result, *(shown[:-1] if shown[3] == kernel.CLOSE else shown), *side.ready(sock))
        side.by("b")
        listener.close()
        yield
        side.by("a")
        for each in self.ends["a"][:2]:  # nobody had accepted them
            self.note(*standing(each), *side.ready(each))
        self.close()


class Pile(History):
    """More messages than fit. How many do is the kernel's business: about as many."""

    def run(self) -> Iterator[None]:
        side = self.side
        module = side.socket
        side.by("a")
        first, second = module.socketpair(module.AF_UNIX, module.SOCK_SEQPACKET)
        for sock in (first, second):
            sock.setblocking(False)
        if self.dice.random() < 0.3:
            first.setsockopt(module.SOL_SOCKET, module.SO_SNDBUF, 20_000)
        size = self.dice.choice((1, 192, 193, 900, 5000, 16_000, 17_000, 35_000))
        self.note(told(first.send, bytes(1 << 20)))
        count = 0
        while (result := told(first.send, bytes(size))) == size:
            count += 1
        self.note(result, side.ready(first), side.ready(second))
        self.count = self.drained = count
        while not side.ready(first)[1]:
            assert second.recv(size) == bytes(size)
            self.drained -= 1
        self.note(told(first.send, b"fits again"))
        yield
        second.close()
        self.note(told(first.send, b"x"), told(first.send, b"x"), told(first.recv, 1))
        first.close()
        self.close()


class Messages(History):
    """Seqpacket: boundaries, descriptors on their way, how it ends. What travels is one end of a pair, watched at the other."""

    def run(self) -> Iterator[None]:
        side, dice = self.side, self.dice
        module = side.socket
        self.cargo: dict[str, list[Any]] = {"a": [], "b": []}
        side.by("a")
        path = side.path()
        listener = self._new()
        self.note(told(listener.connect, path), told(listener.listen, 1) if dice.random() < 0.3 else None)
        listener.bind(path)
        self.note(told(self._new().bind, path), told(self._new().connect, path))
        listener.listen(4)
        side.by("b")
        sock = self._new()
        self.note(told(sock.send, b"early"), told(sock.recv, 9), told(sock.getpeername), side.ready(sock))
        self.note(told(sock.connect, path), told(sock.connect, path), sock.getpeername() == path, self._pid(sock, "a"))
        for size in range(dice.randrange(3)):
            self.note(told(sock.send, bytes(size + 1)))  # before it is accepted
        self.ends["b"].append(sock)
        yield from self._look()
        side.by("a")
        self.note(side.ready(listener))
        if dice.random() < 0.9:
            sock, address = listener.accept()
            sock.setblocking(False)
            self.ends["a"].append(sock)
            self.note(address, told(listener.accept), self._pid(sock, "b"), sock.getsockname() == path)
        listener.close()
        side.by("b")
        self.note(told(self._new().connect, path))
        side.by("a")
        side.unlink(path)
        self.note(told(self._new().connect, path))
        self.watched, travels = module.socketpair(module.AF_UNIX, module.SOCK_SEQPACKET)
        self.watched.setblocking(False)
        self.cargo["a"].append(travels)
        self.cookie = kernel.cookie(travels)
        for _ in range(dice.randrange(4, 30)):
            yield from self._look()
            name = dice.choice("ab")
            if self.ends[name]:
                side.by(name)
                self._step(name, dice.choice(self.ends[name]))
        self.close()
        yield from self._look()
        for name, socks in self.cargo.items():
            side.by(name)
            for sock in socks:
                sock.close()
        self.cargo = {"a": [], "b": []}
        yield from self._look()
        self.watched.close()

    def _new(self) -> Any:
        module = self.side.socket
        return module.socket(module.AF_UNIX, module.SOCK_SEQPACKET | module.SOCK_NONBLOCK)

    def _pid(self, sock: Any, name: str) -> bool:
        module = self.side.socket
        credentials = struct.unpack("iii", sock.getsockopt(module.SOL_SOCKET, module.SO_PEERCRED, 12))
        return credentials == (self.side.pid(name), os.getuid(), os.getgid())

    def _look(self) -> Iterator[None]:
        yield
        side = self.side
        for name, socks in self.ends.items():
            side.by(name)
            self.note(name, [side.ready(sock) for sock in socks])
        side.by("a")
        if hasattr(self, "watched"):
            self.note("watched", side.ready(self.watched), told(self.watched.recv, 100))

    def _step(self, name: str, sock: Any) -> None:
        dice, module = self.dice, self.side.socket
        kinds = ["send"] * 5 + ["pass"] * 6 + ["recv"] * 4 + ["take"] * 6
        kind = dice.choice([*kinds, "dup", "close", "shut", "error", "copy", "use"])
        size = dice.choice((1, 10, 1000))
        cargo, result = self.cargo[name], None
        match kind:
            case "send":
                result = told(sock.send, bytes(size), dice.choice((0, module.MSG_DONTWAIT)))
            case "pass":
                sent = cargo[: dice.randrange(3)]
                result = len(sent), told(module.send_fds, sock, [b"passed", bytes(size)], [each.fileno() for each in sent])
                if dice.random() < 0.7:
                    for each in sent:
                        cargo.remove(each)
                        each.close()
            case "recv":  # descriptors that come along are closed
                result = told(sock.recv, dice.choice((5, 2000)))
            case "take":
                result = told(module.recv_fds, sock, dice.choice((5, 2000)), dice.choice((1, 5)))
                if not isinstance(result, str):
                    got = [module.socket(fileno=fd) for fd in result[1]]
                    cargo += got
                    result = result[0], [kernel.cookie(each) == self.cookie for each in got], result[2] & module.MSG_TRUNC
            case "dup" if len(self.ends[name]) < 3:
                self.ends[name].append(sock.dup())
            case "close":
                self.ends[name].remove(sock)
                sock.close()
            case "shut":
                result = told(sock.shutdown, dice.choice((module.SHUT_RD, module.SHUT_WR, module.SHUT_RDWR)))
            case "error":
                result = sock.getsockopt(module.SOL_SOCKET, module.SO_ERROR)
            case "copy" if cargo:
                cargo.append(cargo[0].dup())
            case "use" if cargo:
                result = told(dice.choice(cargo).send, b"I am here")
        self.note(name, kind, size, *map(brief, result if isinstance(result, tuple) else (result,)))


def check(history: type[History], seeds: range) -> None:
    differences = [differ(history, seed, real) for seed, real in zip(seeds, on_linux(history, seeds), strict=True)]
    found = [each for each in differences if each]
    assert not found, f"{len(found)} of {len(seeds)}, the shortest:\n{min(found, key=len)}"


@pytest.mark.parametrize("block", range(4))
def test_connections_agree(block: int) -> None:
    check(Tcp, range(block * SEEDS, (block + 1) * SEEDS))


def test_listening_agrees() -> None:
    check(Door, range(SEEDS))


def test_full_buffers_agree() -> None:
    check(Flood, range(30))


def test_full_backlogs_agree() -> None:
    check(Crowd, range(30))


@pytest.mark.parametrize("block", range(2))
def test_messages_agree(block: int) -> None:
    check(Messages, range(block * SEEDS, (block + 1) * SEEDS))


@pytest.mark.parametrize("seed", range(20))
def test_as_many_messages_fit(seed: int) -> None:
    real = Pile(Linux(seed), seed)
    list(real.run())
    with twin(seed) as side:
        model = Pile(side, seed)
        list(model.run())
    assert model.seen == real.seen
    assert real.count / 2 <= model.count <= real.count * 2
    assert abs(real.drained - model.drained) <= max(real.count / 5, 1)
