"""The network of a world, where loopback cannot show it: the outside world's ends, what is under way, faults, death."""

import array
import errno
from typing import Any

import pytest
from network import Network
from remote import Remote
from sockets import FcntlModule, OsFiles, SocketModule
from world import File, Process, Violation, World

from switch.sessions import kernel

PORT = ("127.0.0.1", 7001)


class Side:
    """A process with a listening socket, and the world around it."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.network = Network(self.world)
        self.network.tearing = self.network.delayed_acks = 0.0
        self.module: Any = SocketModule(self.network)
        self.process = self.world.spawn("a")
        self.world.process = self.process
        self.listener = self.module.socket()
        self.listener.setblocking(False)
        self.listener.bind(PORT)
        self.listener.listen(100)

    def run(self, seconds: float = 1.0) -> None:
        self.world.run(lambda: False, self.world.now + seconds)

    def until(self, condition: Any) -> None:
        assert self.world.run(condition, self.world.now + 10.0)

    def session(self) -> tuple[Any, Remote]:
        """A connection from outside that was accepted."""
        remote = self.network.connect(PORT)
        self.run()
        sock, address = self.listener.accept()
        assert address == remote.local
        sock.setblocking(False)
        return sock, remote

    def state(self, sock: Any) -> int:
        state: int = sock.getsockopt(self.module.IPPROTO_TCP, self.module.TCP_INFO, 256)[0]
        return state


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Side:
    made = Side()
    monkeypatch.setattr(kernel, "socket", made.module)
    monkeypatch.setattr(kernel, "fcntl", FcntlModule(made.network))
    return made


def raised(call: Any, *args: Any) -> str:
    with pytest.raises(OSError) as caught:
        call(*args)
    return errno.errorcode[caught.value.errno]


def test_a_remote_is_told_of_every_change_and_not_at_once(side: Side) -> None:
    sock, remote = side.session()
    told: list[tuple[bytes, bool]] = []
    remote.on_change = lambda: told.append((remote.receive(), remote.finished))
    sock.send(b"hello")
    assert told == []
    side.run()
    sock.shutdown(side.module.SHUT_WR)
    side.run()
    assert (b"hello", False) in told
    assert told[-1] == (b"", True)
    assert not remote.broken


def test_a_remote_that_connects_where_nobody_listens_is_broken(side: Side) -> None:
    remote = side.network.connect(("127.0.0.1", 9))
    assert remote.send(b"too early") == 0
    side.run()
    assert remote.broken and not remote.connected


def test_the_outside_world_listens_until_it_stops(side: Side) -> None:
    accepted: list[Remote] = []
    stop = side.network.listen(("127.0.0.1", 9001), accepted.append)
    sock = side.module.socket()
    sock.setblocking(False)
    assert raised(sock.connect, ("127.0.0.1", 9001)) == "EINPROGRESS"
    assert side.state(sock) == kernel.SYN_SENT
    side.run()
    assert accepted[0].send(b"welcome") == 7
    stop()
    side.run()
    assert sock.recv(100) == b"welcome"
    second = side.network.connect(("127.0.0.1", 9001))
    side.run()
    assert second.broken and accepted[0].connected


def test_a_remote_may_reset(side: Side) -> None:
    sock, remote = side.session()
    remote.reset()
    side.run()
    assert raised(sock.recv, 1) == "ECONNRESET"
    assert sock.recv(1) == b""
    assert side.network.connections() == []


def test_what_was_on_its_way_arrives_before_a_reset(side: Side) -> None:
    """And what had not left by then never does."""
    sock, remote = side.session()
    remote.send(b"on its way")
    remote.send(b"waits for that")
    remote.reset()
    side.run()
    assert sock.recv(100) == b"on its way"
    assert raised(sock.recv, 100) == "ECONNRESET"


def test_both_may_close_at_once(side: Side) -> None:
    sock, remote = side.session()
    sock.shutdown(side.module.SHUT_WR)
    remote.shutdown()
    side.until(lambda: side.state(sock) == 11)
    side.run()
    assert (side.state(sock), sock.recv(1)) == (kernel.CLOSE, b"")


def test_the_acknowledgement_of_a_fin_is_late(side: Side) -> None:
    sock, _ = side.session()
    sock.shutdown(side.module.SHUT_WR)
    side.run(0.03)
    assert (side.state(sock), kernel.unacknowledged(sock)) == (4, 1)
    side.run(0.1)
    assert (side.state(sock), kernel.unacknowledged(sock)) == (5, 0)


def test_a_full_buffer_takes_a_part_and_is_writable_again_when_there_is_room(side: Side) -> None:
    sock, remote = side.session()
    sock.setsockopt(side.module.SOL_SOCKET, side.module.SO_SNDBUF, 3000)
    file = side.process.fds[sock.fileno()]
    assert (sock.send(bytes(2000)), file.writable()) == (2000, True)
    assert (sock.send(bytes(2000)), file.writable()) == (1000, False)
    assert raised(sock.send, b"x") == "EAGAIN"
    side.run()
    assert file.writable()
    assert len(remote.receive()) == remote.received == 3000


def test_a_cramped_queue_wakes_though_less_is_there_than_was_asked_for(side: Side) -> None:
    sock, remote = side.session()
    kernel.low_water(sock, 1000)
    file = side.process.fds[sock.fileno()]
    remote.send(bytes(900))
    side.run()
    assert not file.readable()
    side.network.cramp(remote, 900)
    assert file.readable()
    remote.send(b"more")
    side.run()
    assert (len(sock.recv(5000)), remote.unacknowledged) == (900, 4)
    side.run()
    assert sock.recv(5000) == b"more"


def test_nothing_passes_a_cut_and_everything_comes_after_it(side: Side) -> None:
    sock, remote = side.session()
    side.network.cut(remote, 5.0)
    remote.send(b"request")
    assert sock.send(b"answer") == 6
    side.run(4.9)
    assert raised(sock.recv, 100) == "EAGAIN"
    assert (kernel.unacknowledged(sock), remote.unacknowledged) == (6, 7)
    side.run(2.0)
    assert (sock.recv(100), remote.receive()) == (b"request", b"answer")
    assert (kernel.unacknowledged(sock), remote.unacknowledged) == (0, 0)


def test_a_broken_connection_is_reset_at_both_ends(side: Side) -> None:
    sock, remote = side.session()
    (wire,) = side.network.connections()
    side.network.break_(wire)
    side.run()
    assert remote.broken
    assert raised(sock.send, b"x") == "ECONNRESET"
    assert raised(sock.send, b"x") == "EPIPE"


def test_who_reads_and_writes_is_observed(side: Side) -> None:
    sock, remote = side.session()
    seen: list[tuple[str, Process, int, int]] = []
    side.network.observe = lambda kind, process, end, offset, size: seen.append((kind, process, offset, size))
    remote.send(b"request")
    side.run()
    sock.recv(100, side.module.MSG_PEEK)
    sock.recv(3)
    sock.recv_into(memoryview(bytearray(100)))
    sock.send(b"an")
    sock.send(b"swer")
    a = side.process
    assert seen == [("read", a, 0, 3), ("read", a, 3, 4), ("write", a, 0, 2), ("write", a, 2, 4)]


def test_a_killed_process_closes_what_it_had(side: Side) -> None:
    """With unread input by a RST; its output arrives all the same."""
    first, remote = side.session()
    second, other = side.session()
    assert (first.send(b"answer"), second.send(b"answer")) == (6, 6)
    side.run()
    other.send(b"never read")
    side.run()
    side.process.kill()
    side.run()
    assert (remote.receive(), remote.finished, remote.broken) == (b"answer", True, False)
    assert (other.receive(), other.broken) == (b"answer", True)


def test_a_descriptor_on_its_way_outlives_its_sender(side: Side) -> None:
    sock, remote = side.session()
    mine, theirs = side.module.socketpair(side.module.AF_UNIX, side.module.SOCK_SEQPACKET)
    heir = side.world.spawn("b")
    number = heir.give(side.process.fds[theirs.fileno()])
    side.module.send_fds(mine, [b"keep this"], [sock.fileno()])
    side.process.kill()
    side.run()
    assert remote.connected
    side.world.process = heir
    peer = side.module.socket(fileno=number)
    data, fds, _, _ = side.module.recv_fds(peer, 100, 5)
    again = side.module.socket(fileno=fds[0])
    assert (data, again.send(b"still here")) == (b"keep this", 10)
    assert peer.recv(100) == b""
    side.run()
    assert remote.receive() == b"still here"
    again.close()
    side.run()
    assert remote.finished


def test_datagrams_arrive_with_files_or_wait_for_room(side: Side) -> None:
    got: list[tuple[bytes, list[File]]] = []
    sock, _ = side.session()
    file = side.process.fds[sock.fileno()]

    def receive(data: bytes, files: list[File]) -> None:
        for each in files:
            each.hold()
        got.append((data, files))

    side.network.datagrams("/notify", receive)
    sender = side.module.socket(side.module.AF_UNIX, side.module.SOCK_DGRAM | side.module.SOCK_NONBLOCK)
    rights = (side.module.SOL_SOCKET, side.module.SCM_RIGHTS, array.array("i", [sock.fileno()]))
    sender.sendmsg([b"FDSTORE=1"], [rights], 0, "/notify")
    sock.close()
    while True:
        try:
            sender.sendmsg([b"WATCHDOG=1"], [], 0, "/notify")
        except BlockingIOError:
            break
    side.run()
    assert got[0] == (b"FDSTORE=1", [file])
    assert file.holders == 1
    assert len(got) == 11
    assert raised(sender.sendmsg, [b"x"], [], 0, "/nowhere") == "ENOENT"


def test_descriptors_are_the_processes_own(side: Side) -> None:
    files = OsFiles(side.network.world)
    number = files.dup(side.listener.fileno())
    side.listener.close()
    assert raised(side.listener.accept) == "EBADF"
    side.network.connect(PORT)
    side.run()
    assert side.module.socket(fileno=number).accept()
    files.close(number)
    assert raised(files.close, number) == "EBADF"
    assert raised(files.set_inheritable, number, False) == "EBADF"


def test_a_call_that_would_wait_is_a_violation(side: Side) -> None:
    sock, _ = side.session()
    sock.setblocking(True)
    with pytest.raises(Violation):
        sock.recv(1)
    assert raised(sock.recv, 1, side.module.MSG_DONTWAIT) == "EAGAIN"


def test_a_seed_decides_everything() -> None:
    def times(seed: int) -> list[float]:
        side = Side(seed)
        seen: list[float] = []
        sock, remote = side.session()
        remote.on_change = lambda: seen.append(side.world.now)
        for _ in range(20):
            sock.send(bytes(1000))
            side.run(0.001)
        return seen

    assert times(1) == times(1) != times(2)
