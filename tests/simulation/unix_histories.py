"""Random histories of seqpacket sockets: messages, the descriptors on their way, how many fit."""

import os
import struct
from collections.abc import Iterator
from typing import Any

from two_kernels import History, brief, told

from switch.sessions import kernel


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
