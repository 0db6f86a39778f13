"""Random histories of TCP: connections, listening sockets, full buffers, full backlogs."""

import random
import struct
from collections.abc import Iterator
from typing import Any

from two_kernels import History, brief, standing, told

from switch.sessions import kernel

LITTLE = 30_000  # far from any buffer's limit
# (SO_RCVBUF, SO_SNDBUF), 0: as it is. Where no segment of loopback's 65,483 bytes fits Linux goes on by a slow timer
BUFFERS = ((0, 0), (0, 10_000), (0, 100_000), (100_000, 100_000), (300_000, 100_000))
STREAM = memoryview(bytes(range(251)) * 40_000)
SHORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a RST


def listening(side: Any, backlog: int) -> Any:
    """A listening socket of b, as links.py makes them."""
    side.by("b")
    sock = side.socket.socket()
    sock.setblocking(False)
    sock.setsockopt(side.socket.SOL_SOCKET, side.socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    return sock


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
        listener = listening(self.side, 5)
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


class Door(History):
    """A listening socket and its duplicates: clients come and go, some before they are accepted."""

    def run(self) -> Iterator[None]:
        side, dice = self.side, self.dice
        module = side.socket
        listener = listening(side, 20)
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
        listener = listening(side, 1)
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
        listener = listening(side, 1)
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
