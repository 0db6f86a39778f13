"""Where sessions come from: listening sockets, shared by both nodes, and connections to networks in their slots."""

import asyncio
import errno
import logging
import random
import resource
import socket
from collections.abc import Callable

from switch.core.rules import Link
from switch.ops.logs import event
from switch.points import reach
from switch.sessions import kernel
from switch.sessions.sessions import Sessions

log = logging.getLogger("switch.sessions")
BACKLOG = 1024
ACCEPTS_MAX = 64  # of one wake-up, so that other sessions get their turn
DESCRIPTORS_OTHER = 512  # for all but sessions
BUSY_MS = 2_000  # how long an address that has become another link's may still be held by the peer, which is to let it go
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # of accept(2): until something else has ended


def sessions_held(descriptors: int) -> int:
    """For how many sessions so many descriptors are enough: two for each, while it is passed to the peer."""
    return max((descriptors - DESCRIPTORS_OTHER) // 2, 0)


class Links:
    """The listeners and outbound slots of one node.

    Listeners are named "link/node": each node binds its own addresses, and both accept from all, so that connections
    queued at one node's death are served by the other. One that systemd gave for both is named "link/".
    """

    def __init__(
        self, sessions: Sessions, node: str, given: dict[str, socket.socket], now: Callable[[], float]
    ) -> None:
        self.listening: dict[str, socket.socket] = {}
        self.peer = ""  # incarnation that holds our sockets: new sessions are divided with it
        self._sessions = sessions
        self._engine = sessions.engine
        self._node = node
        self._given = given
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._held_max = sessions_held(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._paused = {"held"}  # why nothing is accepted
        self._paused_at = now()
        self._backlogs: dict[socket.socket, float] = {}  # what is there has waited since then, at the most
        self._serving = False
        self._closed = False
        self._ours: set[str] = set()  # names of those that systemd gave us
        self._addresses: dict[str, str] = {}  # of listening sockets, as the rules said when each was taken
        self._busy_until = 0.0  # addresses that are in use are tried again until then
        self._busy = False  # some are
        self._turn = False
        self._tries: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], float] = {}
        self._opening: dict[tuple[str, int], str] = {}

    # --- listening

    def listen(self) -> None:
        """Take what systemd gave, bind what else the links say. Raises OSError with the address in its text."""
        self._serving = True
        self._ours = set(self._given)
        for name in list(self._given):
            self.hold(name, self._given.pop(name))
        self._let_go_unwanted()  # the peer's, if the rules have changed since it shared them
        for name, link in self._unbound():
            self.hold(name, self._bind(link, link.listen[self._node]))
        self.pause(False)

    def _unbound(self) -> list[tuple[str, Link]]:
        """Our own addresses that nothing listens on; of one that only the peer was given, ours is bound all the same."""
        links = [wire.link for wire in self._engine.wires.values() if self._node in wire.link.listen]
        named = [(f"{link.name}/{self._node}", link) for link in links if f"{link.name}/" not in self._ours]
        return [(name, link) for name, link in named if not link.outbound and name not in self.listening]

    def configured(self) -> bool:
        """The rules have changed: addresses of links that are gone are let go, those of new ones are bound.

        False while this node does not listen yet.
        One that cannot be bound is told in the log: the rules are active, and the node serves what it can.
        """
        self._let_go_unwanted()  # else what the peer shares instead would find its name taken
        if not self._serving:
            return False
        self._busy_until = self._now() + BUSY_MS
        self._bind_more()
        return True

    def bind_again(self) -> bool:
        """Whether more is listened on: an address was in use. The peer lets go what its links no longer want when it has
        applied the same rules."""
        if not self._busy:
            return False
        before = len(self.listening)
        self._bind_more()
        return len(self.listening) > before

    def _bind_more(self) -> None:
        self._busy = False
        for name, link in self._unbound():
            try:
                self.hold(name, self._bind(link, link.listen[self._node]))
            except OSError as error:
                if error.errno == errno.EADDRINUSE and self._now() < self._busy_until:
                    self._busy = True
                else:
                    event(log, logging.ERROR, "link.not_listening", error=error.strerror,
                          do="free the address, and reload again")  # fmt: skip

    def _let_go_unwanted(self) -> None:
        for name in [name for name in self.listening if not self._wanted(name)]:
            self._let_go(name)

    def _wanted(self, name: str) -> bool:
        """Whether the rules want this socket: one that systemd gave has the address that it has."""
        link, _, node = name.partition("/")
        wire = self._engine.wires.get(link)
        if wire is None or wire.link.outbound:
            return False
        return not node or wire.link.listen.get(node) == self._addresses.get(name)

    def _let_go(self, name: str) -> None:
        sock = self.listening.pop(name)
        self._backlogs.pop(sock, None)
        self._addresses.pop(name, None)
        self._ours.discard(name)
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def hold(self, name: str, sock: socket.socket) -> None:
        """Accept from this socket, too. Who leaves holds none: the address is to be free for its owner's next life."""
        link, _, node = name.partition("/")
        if self._closed or name in self.listening or link not in self._engine.wires:
            sock.close()
            return
        sock.setblocking(False)
        self.listening[name] = sock
        self._addresses[name] = self._engine.wires[link].link.listen.get(node, "")
        event(log, logging.INFO, "link.listening", link=link, address=kernel.address(sock.getsockname()))
        if not self._paused:
            self._loop.add_reader(sock.fileno(), self._accept, link, sock)

    def _bind(self, link: Link, address: str) -> socket.socket:
        host, _, port = address.rpartition(":")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host.strip("[]"), int(port)))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"link {link.name}: cannot listen on {address}: {error.strerror}") from None
        return sock

    def pause(self, paused: bool, why: str = "held") -> None:
        """Connections wait in the backlog, which outlives either node.

        While the switch holds, cannot share sockets ("parted"), or not yet ("behind"), or has enough ("full").
        """
        was = bool(self._paused)
        (self._paused.add if paused else self._paused.discard)(why)
        if bool(self._paused) == was:
            return
        if paused:
            self._paused_at = self._now()
        for name, sock in self.listening.items():
            if paused:
                self._loop.remove_reader(sock.fileno())
            else:
                self._backlogs.setdefault(sock, self._paused_at)
                self._loop.add_reader(sock.fileno(), self._accept, name.partition("/")[0], sock)
                self._loop.call_soon(self._accept, name.partition("/")[0], sock)  # also where nothing waits: then it is known

    def _accept(self, name: str, sock: socket.socket) -> None:
        if self._paused or sock.fileno() < 0:
            return
        link = self._engine.wires[name].link
        for _ in range(ACCEPTS_MAX):
            if self._full() or self._paused:
                return
            reach("accept.before")
            try:
                accepted, address = sock.accept()
            except BlockingIOError:
                self._backlogs.pop(sock, None)
                return
            except OSError as error:
                event(log, logging.WARNING, "link.accept_failed", link=name, error=error.strerror)
                if error.errno in SHORT:  # the connection stays in the backlog, and would wake us at once, again and again
                    self.pause(True, "full")
                return
            reach("accept.after")
            kernel.configure(accepted, link.tcp, link.frame_max_bytes)
            since = self._backlogs.get(sock)
            owner = self._owner() if since is None else ""  # the peer would not know how long it may have waited
            self._sessions.open(name, accepted, -1, kernel.address(address), owner, since)

    def _full(self) -> bool:
        """Whether there are as many sessions as descriptors are for; then nothing is accepted until some have ended."""
        sessions, most = len(self._sessions.connections), min(self._engine.rules.limits.sessions_max, self._held_max)
        full = sessions >= most
        if full and "full" not in self._paused:
            event(log, logging.WARNING, "links.full", sessions=sessions, most=most,
                  do="see limits.sessions_max and LimitNOFILE, and who connects so much")  # fmt: skip
        self.pause(full, "full")
        return full

    def _owner(self) -> str:
        """Who is to have a new session: the nodes in turn; "" is this one."""
        self._turn = not self._turn
        return self.peer if self._turn else ""

    # --- connecting

    def connect(self) -> None:
        """Open what is missing: each slot is the business of one live node. Called some ten times a second."""
        self._full()
        state, live = self._engine.state, self._engine.state.live()
        if not live or "parted" in self._paused:
            return
        for wire in self._engine.wires.values():
            link = wire.link
            for slot in range(link.connections if link.outbound else 0):
                key = (link.name, slot)
                if key in state.slots:
                    if state.sessions[state.slots[key]].ready:
                        self._tries.pop(key, None)
                    continue
                opening = self._opening.get(key)
                if opening in self._sessions.connections or live[slot % len(live)] != self._engine.incarnation:
                    continue
                if self._now() >= self._next.get(key, 0.0):
                    self._open(link, slot)

    def _open(self, link: Link, slot: int) -> None:
        key = (link.name, slot)
        tries = self._tries.get(key, 0)
        self._tries[key] = tries + 1
        delay = min(link.reconnect_min_ms * 2 ** min(tries, 16), link.reconnect_max_ms)
        self._next[key] = self._now() + delay * random.uniform(0.5, 1.0)  # so that two nodes do not knock together
        address = link.connect[(slot + tries) % len(link.connect)]
        try:
            sock = socket.socket(socket.AF_INET6 if address.startswith("[") else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:  # this host has no IPv6, or no descriptor: the next address, or a later time
            event(log, logging.WARNING, "link.not_connecting", link=link.name, address=address, error=error.strerror)
            return
        kernel.configure(sock, link.tcp, link.frame_max_bytes)
        self._opening[key] = self._sessions.open(link.name, sock, slot, address).session

    def close(self) -> None:
        """For good: rules that become active now bind nothing, and what the peer shares is closed."""
        self._serving, self._closed, self._busy = False, True, False
        self.pause(True)
        for sock in self.listening.values():
            sock.close()
        self.listening.clear()
