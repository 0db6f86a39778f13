"""What the kernel's counters say after a kill, against real sockets: the streams go on at them byte for byte.

A process accepts and connects, peeks, consumes and writes at random, and is killed at a random instant while this one
holds duplicates of its sockets. It leaves what it did, and what it was about to do, in shared memory.
"""

import contextlib
import errno
import mmap
import os
import random
import signal
import socket
import struct
import time
import traceback

from switch.sessions import kernel

KILLS = 2000  # of a socket in use
SOCKETS = 24  # of one process: half of them accepted, half connecting
MORE_BYTES = 50_000  # written after the kill
STREAM = random.Random(7).randbytes(1 << 24)
SHIFT = 104_729
CONSUMED, CONSUMING, WRITTEN, WRITING = range(4)  # a socket's notes: eight bytes each, since a kill must not tear one
NOTES = 4
LINGER_ZERO = struct.pack("ii", 1, 0)  # close() resets
WAIT_S = 20.0


def stream(number: int, outward: bool, start: int, size: int) -> bytes:
    """Bytes [start, start + size) of what a socket writes (outward) or reads."""
    begin = (2 * number + outward) * SHIFT + start
    assert begin + size <= len(STREAM)
    return STREAM[begin : begin + size]


# --- the process that is killed


class Worker:
    """Works on its sockets until it is killed. Place of a socket in `notes`: its number."""

    def __init__(self, listener: socket.socket, far: tuple[str, int], channel: socket.socket, notes: memoryview) -> None:
        self._listener, self._far, self._channel, self._notes = listener, far, channel, notes

    def run(self, dice: random.Random) -> None:
        sockets = []
        for number in range(SOCKETS):
            if number % 2:
                sock = socket.socket()
                socket.send_fds(self._channel, [bytes([number])], [sock.fileno()])
                sock.connect(self._far)
            else:
                sock, _ = self._listener.accept()
                socket.send_fds(self._channel, [bytes([number])], [sock.fileno()])
            sock.setblocking(False)
            sockets.append((number, sock))
            for _ in range(dice.randrange(20)):
                self._act(*dice.choice(sockets), dice)
        while True:
            self._act(*dice.choice(sockets), dice)

    def _act(self, number: int, sock: socket.socket, dice: random.Random) -> None:
        size = dice.choice((1, 7, 100, 1_000, 20_000, 100_000))
        notes = self._notes[number * NOTES : (number + 1) * NOTES]
        with contextlib.suppress(BlockingIOError, ConnectionError):
            match dice.randrange(4):
                case 0:
                    sock.recv(size, socket.MSG_PEEK)
                case 1:
                    kernel.low_water(sock, min(size, 2_000))
                case 2:
                    notes[CONSUMING] = size
                    notes[CONSUMED] += len(sock.recv(size))
                case _:
                    data = stream(number, True, notes[WRITTEN], size)
                    notes[WRITING] = size
                    notes[WRITTEN] += sock.send(data)
        notes[CONSUMING] = notes[WRITING] = 0


# --- the remote ends


class Remote:
    """The other end of one socket: sends, reads at its leisure, ends its stream or resets the connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.number = -1  # of the socket at the other end
        self.sent = 0
        self.received = bytearray()
        self.finished = False
        self.gone = False
        self._queued = b""
        sock.setblocking(False)

    def act(self, dice: random.Random) -> None:
        if self.gone or self.number < 0:
            return
        size = dice.choice((1, 50, 3_000, 60_000))
        with contextlib.suppress(BlockingIOError, ConnectionError):
            match dice.randrange(400):
                case 0:
                    self.sock.shutdown(socket.SHUT_WR)
                    self.finished = True
                case 1:
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
                    self.sock.close()
                    self.gone = True
                case chance if chance < 240:
                    if not self.finished:
                        self.sent += self.sock.send(stream(self.number, False, self.sent, size))
                case _:
                    self.received += self.sock.recv(size)


class Round:
    """One process, killed once."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._notes = memoryview(mmap.mmap(-1, SOCKETS * NOTES * 8)).cast("Q")
        self._held: dict[int, socket.socket] = {}  # duplicates, by number
        # by whether the killed process connected, and the client's address: the kernel gives a port to one of each
        self._remotes: dict[tuple[bool, tuple[str, int]], Remote] = {}
        self.kills = self.cut = self.broken = 0

    def run(self) -> None:
        dice = self._dice
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2 * SOCKETS))
            far = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2 * SOCKETS))
            for each in (listener, far):  # inherited by what is accepted
                if dice.random() < 0.5:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, dice.choice((4_096, 30_000)))
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, dice.choice((4_096, 30_000)))
            mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(mine)
            seed = dice.randrange(1 << 32)
            with its:
                pid = os.fork()
                if not pid:
                    try:
                        mine.close()  # its end must tell the worker when this process is gone
                        Worker(listener, far.getsockname(), its, self._notes).run(random.Random(seed))
                    except BaseException:
                        traceback.print_exc()  # pytest shows it with the test that fails for it
                    finally:
                        os._exit(1)
            try:
                self._live(mine, listener, far)
            finally:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
            assert os.WTERMSIG(status) == signal.SIGKILL, "the worker failed by itself"
            self._take_in(mine, far)  # descriptors in flight survive their sender
            for number, sock in sorted(self._held.items()):
                self._judge(number, sock)

    def _live(self, mine: socket.socket, listener: socket.socket, far: socket.socket) -> None:
        """Until the instant of the kill."""
        dice, deadline = self._dice, time.monotonic() + self._dice.uniform(0.001, 0.06)
        mine.setblocking(False)
        far.setblocking(False)
        for _ in range(SOCKETS // 2):
            sock = socket.create_connection(listener.getsockname())
            self._remotes[False, sock.getsockname()] = Remote(sock)
        while time.monotonic() < deadline:
            self._take_in(mine, far)
            for _ in range(20):
                dice.choice(list(self._remotes.values())).act(dice)

    def _take_in(self, mine: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(mine, 16, 1)
                if not data:
                    break
                self._held[data[0]] = socket.socket(fileno=fds[0])
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, address = far.accept()
                self._remotes[True, address] = Remote(sock)
        for number, sock in self._held.items():
            remote = self._remotes.get((number % 2 == 1, self._address(number, sock)))
            if remote is not None:
                remote.number = number

    @staticmethod
    def _address(number: int, sock: socket.socket) -> tuple[str, int]:
        """Which names the remote end."""
        if number % 2:
            name: tuple[str, int] = sock.getsockname()
            return name
        try:
            name = sock.getpeername()
        except OSError:
            return ("", 0)
        return name

    def _judge(self, number: int, sock: socket.socket) -> None:
        counters = kernel.counters(sock, connecting=number % 2 == 1)
        consumed, consuming, written, writing = self._notes[number * NOTES : (number + 1) * NOTES]
        self.kills += 1
        self.cut += bool(consuming or writing)
        remote = next((each for each in self._remotes.values() if each.number == number), None)
        if counters.state == kernel.CLOSE:
            # never connected, or reset: what may have arrived is what was acknowledged
            self.broken += 1
            assert counters.acked <= written + writing
        else:
            assert consumed <= counters.consumed <= consumed + consuming
            assert written <= counters.written <= written + writing
            assert counters.acked <= counters.written
            if remote is not None and not remote.gone:
                self._go_on(number, sock, counters, remote)
        sock.close()
        if remote is not None:
            remote.sock.close()

    def _go_on(self, number: int, sock: socket.socket, counters: kernel.Counters, remote: Remote) -> None:
        """Both streams, from where the counters stand to their ends, and the remote end sees no seam."""
        remote.number = number
        sock.setblocking(False)
        kernel.low_water(sock, 1)
        rest, more = bytearray(), bytearray(stream(number, True, counters.written, MORE_BYTES))
        wanted = counters.written + MORE_BYTES
        deadline = time.monotonic() + WAIT_S
        while counters.consumed + len(rest) < remote.sent or len(remote.received) < wanted:
            with contextlib.suppress(BlockingIOError):
                rest += sock.recv(1 << 20)
            with contextlib.suppress(BlockingIOError):
                remote.received += remote.sock.recv(1 << 20)
            if more:
                with contextlib.suppress(BlockingIOError):
                    del more[: sock.send(more)]
            assert time.monotonic() < deadline, f"{counters}, {len(rest)} of {remote.sent}, {len(remote.received)}"
        assert rest == stream(number, False, counters.consumed, len(rest))
        assert remote.received == stream(number, True, 0, wanted)
        with contextlib.suppress(BlockingIOError):
            assert (sock.recv(1) == b"") == remote.finished


def test_after_a_kill_at_any_instant_both_streams_go_on_at_the_kernels_counters() -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    dice = random.Random(seed)
    kills = rounds = cut = broken = 0
    while kills < KILLS:
        one = Round(dice)
        one.run()
        rounds += 1
        kills, cut, broken = kills + one.kills, cut + one.cut, broken + one.broken
    print(f"{kills} sockets of {rounds} killed processes: {cut} in a system call, {broken} reset or never connected")
    assert cut and broken < kills / 2


def test_a_socket_that_never_connected_has_counted_nothing() -> None:
    with socket.socket() as sock:
        counters = kernel.counters(sock, connecting=True)
        assert (counters.consumed, counters.acked, counters.written) == (0, 0, 0)


def test_a_refused_connection_has_counted_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with socket.socket() as sock:
        sock.settimeout(WAIT_S)
        assert sock.connect_ex(address) == errno.ECONNREFUSED
        counters = kernel.counters(sock, connecting=True)
        assert (counters.acked, counters.written, counters.state) == (0, 0, kernel.CLOSE)
