"""The twins of the modules socket and fcntl, and of os as far as descriptors go: the product's system calls in a world.

Each call is one of the process whose code runs now, on its table of descriptors. What is not here falls through to the real
module: constants, error classes. A call that would wait in the real kernel is a Violation: an event loop must not.
"""

import array
import errno
import fcntl
import random
import socket as real
import struct
import termios
from collections.abc import Iterable, Sequence
from typing import Any

from network import Network
from seqpacket import Datagrams, Message, UnixEnd, join
from tcp import BOTH, CLOSE, LISTEN, RCV, SEND, SYN_SENT, TcpEnd, failure
from world import File, Process, Violation, World

SO_COOKIE = 57
MSG_PEEK, MSG_DONTWAIT = int(real.MSG_PEEK), int(real.MSG_DONTWAIT)  # as enumerations they are slow
KINDS = int(real.SOCK_NONBLOCK | real.SOCK_CLOEXEC)
_HOW = {real.SHUT_RD: RCV, real.SHUT_WR: SEND, real.SHUT_RDWR: BOTH}
_CONSTANTS = {name: int(value) for name, value in vars(real).items() if isinstance(value, int)}
_INFO = struct.Struct("=B51xI64xQQ16xI100x")  # state, last_data_recv, bytes_acked, bytes_received, data_segs_in
_LINGER = struct.Struct("ii")
_CREDENTIALS = struct.Struct("iii")


class Socket:
    """socket.socket over the world's files. `network` is set by SocketModule in a class of its own."""

    network: Network
    __slots__ = ("_fd", "_timeout", "_world", "family", "proto", "type")

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        world = self._world = self.network.world
        self._fd = -1
        self._timeout: float | None = None
        if fileno is not None:
            process = world.system_call("getsockname")
            family, type = _kind(_file(process, fileno))
            self._fd = fileno
        else:
            process = world.system_call("socket")
            family = real.AF_INET if family == -1 else family
            type = real.SOCK_STREAM if type == -1 else type
            file = self._make(family, type & ~KINDS)
            if type & real.SOCK_NONBLOCK:
                file.nonblocking, self._timeout = True, 0.0
            self._fd = process.give(file)
        self.family, self.type, self.proto = family, type & ~KINDS, max(proto, 0)

    def _make(self, family: int, kind: int) -> Any:
        if family in (real.AF_INET, real.AF_INET6) and kind == real.SOCK_STREAM:
            return TcpEnd(self.network)
        if family == real.AF_UNIX and kind == real.SOCK_SEQPACKET:
            return UnixEnd(self.network)
        if family == real.AF_UNIX and kind == real.SOCK_DGRAM:
            return Datagrams(self.network)
        raise failure(errno.EPROTONOSUPPORT)

    def _begin(self, call: str) -> tuple[Process, Any]:
        """Every system call: whose it is, and at which file."""
        process = self._world.system_call(call)
        file = process.fds.get(self._fd)
        if file is None:
            raise failure(errno.EBADF)
        return process, file

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<twin socket fd={self._fd}>"

    # --- descriptors

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        process = self._world.system_call("close")
        if fd not in process.fds:
            raise failure(errno.EBADF)
        process.close(fd)

    def detach(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def dup(self) -> "Socket":
        """As Python's: the timeout goes along, and whether the shared file blocks is set by it."""
        process, file = self._begin("dup")
        twin = self._of(process, file)
        twin._timeout = self._timeout
        file.nonblocking = self._timeout is not None
        return twin

    def _of(self, process: Process, file: File) -> "Socket":
        """A socket object for a new descriptor."""
        twin = object.__new__(self.__class__)
        twin._world, twin._fd, twin._timeout = self._world, process.give(file), None
        twin.family, twin.type, twin.proto = self.family, self.type, self.proto
        return twin

    def setblocking(self, flag: bool) -> None:
        self._begin("ioctl")[1].nonblocking = not flag
        self._timeout = None if flag else 0.0

    def settimeout(self, timeout: float | None) -> None:
        if timeout:
            raise NotImplementedError("a socket that waits in the kernel")
        self.setblocking(timeout is None)

    def gettimeout(self) -> float | None:
        return self._timeout

    def getblocking(self) -> bool:
        return self._timeout is None

    # --- naming and connecting

    def bind(self, address: Any) -> None:
        _, file = self._begin("bind")
        if isinstance(file, TcpEnd):
            host, port = address[0], address[1] or self.network.port()
            if self.network.taken((host, port)):
                raise failure(errno.EADDRINUSE)
            file.local = (host, port)
        else:
            file.bind(str(address))

    def listen(self, backlog: int = 128) -> None:
        process, file = self._begin("listen")
        if isinstance(file, TcpEnd):
            file.listen(backlog)
        else:
            file.listen(backlog, process)

    def connect(self, address: Any) -> None:
        process, file = self._begin("connect")
        if isinstance(file, TcpEnd):
            file.connect((address[0], address[1]))
        elif isinstance(file, UnixEnd):
            file.connect(str(address), process)
        else:
            file.path = str(address)

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or 0
        return 0

    def accept(self) -> "tuple[Socket, Any]":
        process, file = self._begin("accept")
        if file.state != (LISTEN if isinstance(file, TcpEnd) else UnixEnd.LISTENING):
            raise failure(errno.EINVAL)
        if not file.backlog:
            if not file.nonblocking:
                raise Violation("accept blocks")
            raise failure(errno.EAGAIN)
        accepted = file.backlog.popleft()
        return self._of(process, accepted), accepted.remote if isinstance(accepted, TcpEnd) else ""

    def getsockname(self) -> Any:
        _, file = self._begin("getsockname")
        if isinstance(file, TcpEnd):
            return file.local or ("0.0.0.0", 0)
        return file.path

    def getpeername(self) -> Any:
        _, file = self._begin("getpeername")
        if isinstance(file, TcpEnd):
            if file.state in (CLOSE, SYN_SENT, LISTEN):
                raise failure(errno.ENOTCONN)
            return file.remote
        if file.peer is None:
            raise failure(errno.ENOTCONN)
        return file.remote_path

    def shutdown(self, how: int) -> None:
        self._begin("shutdown")[1].shutdown(_HOW[how])

    # --- reading

    def recv(self, size: int, flags: int = 0) -> bytes:
        process, file = self._begin("recv")
        if isinstance(file, TcpEnd):
            data = bytes(file.queue[:size])
            if data:
                if not flags & MSG_PEEK:
                    self._consume(process, file, len(data))
            elif size:
                file.ended(bool(flags & MSG_DONTWAIT))
            return data
        message = file.receive(bool(flags & MSG_DONTWAIT))
        if message is None:
            return b""
        message.taken()
        return bytes(message.data[:size])

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        process, file = self._begin("recv")
        size = nbytes or len(buffer)
        if not isinstance(file, TcpEnd):
            raise NotImplementedError("recv_into of a unix socket")
        queue = file.queue
        if not queue:
            if size:
                file.ended(bool(flags & MSG_DONTWAIT))
            return 0
        if size >= len(queue):
            size = len(queue)
            buffer[:size] = queue
        else:
            buffer[:size] = queue[:size]
        if not flags & MSG_PEEK:
            self._consume(process, file, size)
        return size

    def _consume(self, process: Process, file: TcpEnd, size: int) -> None:
        observe = self.network.observe
        if observe is not None:
            observe("read", process, file, file.consumed, size)
        file.take(size)

    def receive_fds(self, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int], int, Any]:
        """socket.recv_fds."""
        process, file = self._begin("recvmsg")
        message: Message | None = file.receive(bool(flags & MSG_DONTWAIT))
        if message is None:
            return b"", [], 0, None
        found = [process.give(each) for each in message.files[:most]]
        message.taken()
        flags = real.MSG_CTRUNC if len(message.files) > most else 0
        flags |= real.MSG_TRUNC if len(message.data) > size else 0
        return bytes(message.data[:size]), found, flags, file.remote_path or None

    # --- writing

    def send(self, data: Any, flags: int = 0) -> int:
        process, file = self._begin("send")
        dontwait = bool(flags & MSG_DONTWAIT)
        if isinstance(file, TcpEnd):
            offset = file.sent
            size = file.send(data, dontwait)
            observe = self.network.observe
            if observe is not None:
                observe("write", process, file, offset, size)
            return size
        if isinstance(file, UnixEnd):
            return file.send(bytes(data), (), dontwait)
        return file.send(bytes(data), (), file.path)

    def sendall(self, data: Any, flags: int = 0) -> None:
        size = self.send(data, flags)
        if size < len(data):
            raise Violation("sendall waits")

    def sendmsg(
        self,
        buffers: Iterable[Any],
        ancillary: Sequence[tuple[int, int, Any]] = (),
        flags: int = 0,
        address: Any = None,
    ) -> int:
        process, file = self._begin("sendmsg")
        data = b"".join(buffers)
        files: tuple[File, ...] = ()
        for level, kind, content in ancillary:
            if (level, kind) != (real.SOL_SOCKET, real.SCM_RIGHTS):
                raise NotImplementedError((level, kind))
            files += tuple(_file(process, fd) for fd in array.array("i", bytes(content)))
        if isinstance(file, UnixEnd):
            return file.send(data, files, bool(flags & MSG_DONTWAIT))
        if isinstance(file, Datagrams):
            return file.send(data, files, file.path if address is None else str(address))
        raise NotImplementedError("sendmsg of a TCP socket")

    # --- options

    def setsockopt(self, level: int, option: int, value: Any, *_: Any) -> None:
        """Those that the model knows; others have no effect here."""
        _, file = self._begin("setsockopt")
        if (level, option) == (real.IPPROTO_TCP, real.TCP_USER_TIMEOUT):
            file.user_timeout_s = value / 1000
        if level != real.SOL_SOCKET:
            return
        if option == real.SO_SNDBUF:
            file.set_output(value)
        elif isinstance(file, TcpEnd):
            if option == real.SO_RCVLOWAT:
                file.set_low_water(value)
            elif option == real.SO_RCVBUF:
                file.window, file.window_set = max(value, 1152), True
            elif option == real.SO_LINGER:
                file.resets = _LINGER.unpack(value) == (1, 0)

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        _, file = self._begin("getsockopt")
        if level == real.IPPROTO_TCP and option == real.TCP_INFO:
            idle = int((self._world.now - file.arrived) * 1000)
            return _INFO.pack(file.state, idle, file.acked, file.received, file.segments)[:size]
        if level != real.SOL_SOCKET:
            raise NotImplementedError((level, option))
        if option == SO_COOKIE:
            return file.cookie.to_bytes(8, "little")
        if option == real.SO_ERROR:
            code, file.error = file.error, 0
            return code
        if option == real.SO_PEERCRED:
            return _CREDENTIALS.pack(file.peer_pid, 0, 0)
        if option == real.SO_RCVLOWAT:
            return file.low_water
        raise NotImplementedError((level, option))


def _file(process: Process, fd: int) -> File:
    file = process.fds.get(fd)
    if file is None:
        raise failure(errno.EBADF)
    return file


def _kind(file: File) -> tuple[int, int]:
    if isinstance(file, TcpEnd):
        return real.AF_INET, real.SOCK_STREAM
    if isinstance(file, UnixEnd):
        return real.AF_UNIX, real.SOCK_SEQPACKET
    if isinstance(file, Datagrams):
        return real.AF_UNIX, real.SOCK_DGRAM
    raise failure(errno.ENOTSOCK)


class SocketModule:
    """In place of the module socket."""

    def __init__(self, network: Network) -> None:
        self.__dict__.update(_CONSTANTS)  # __getattr__ is slow
        self.network = network
        self.socket = type("socket", (Socket,), {"network": network, "__slots__": ()})
        self.SocketType = self.socket

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def send_fds(self, sock: Socket, buffers: Iterable[Any], fds: Iterable[int], flags: int = 0, address: Any = None) -> int:
        rights = (real.SOL_SOCKET, real.SCM_RIGHTS, array.array("i", fds))
        return sock.sendmsg(buffers, [rights], flags, address)

    def recv_fds(self, sock: Socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int], int, Any]:
        return sock.receive_fds(size, most, flags)

    def socketpair(
        self, family: int = real.AF_UNIX, type: int = real.SOCK_SEQPACKET, proto: int = 0
    ) -> tuple[Socket, Socket]:
        first, second = self.socket(family, type), self.socket(family, type)
        fds = self.network.world.system_call("socketpair").fds
        one, other = fds[first.fileno()], fds[second.fileno()]
        assert isinstance(one, UnixEnd) and isinstance(other, UnixEnd)
        join(one, other)
        return first, second


class FcntlModule:
    """In place of the module fcntl: what waits in the queues of TCP. `meanwhile`: how often it changes in that instant."""

    def __init__(self, network: Network, meanwhile: float = 0.0) -> None:
        self._world, self._meanwhile = network.world, meanwhile
        self._dice = random.Random(network.world.seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def ioctl(self, fd: int, request: int, value: Any, _mutate: bool = True) -> int:
        end = _file(self._world.system_call("ioctl"), fd)
        if not isinstance(end, TcpEnd):
            raise failure(errno.ENOTTY)
        if end.state == LISTEN:
            raise failure(errno.EINVAL)
        if self._meanwhile and self._dice.random() < self._meanwhile:
            end.hurry()
        if request == termios.FIONREAD:
            value[0] = len(end.queue)
        elif request == termios.TIOCOUTQ:
            value[0] = 0 if end.state == SYN_SENT else end.written - end.acked
        else:
            raise NotImplementedError(request)
        return 0


class OsFiles:
    """os.dup, os.close and os.set_inheritable over the table of the process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def dup(self, fd: int) -> int:
        process = self._world.system_call("dup")
        return process.give(_file(process, fd))

    def close(self, fd: int) -> None:
        process = self._world.system_call("close")
        _file(process, fd)
        process.close(fd)

    def set_inheritable(self, fd: int, inheritable: bool) -> None:
        _file(self._world.system_call("fcntl"), fd)
