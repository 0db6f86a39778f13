"""What the service manager gives and keeps: listening sockets, and each session's socket in the fd store (sd_notify(3)).

After the death of both nodes the sockets come back from here; the state comes from etcd. Without systemd (no NOTIFY_SOCKET,
no LISTEN_FDS) nothing is kept.

A stored socket is named by its session alone: systemd hands over all names in one environment string, which execve(2)
limits to 128 KiB. What would not fit is not kept: a unit with a longer string could not be started again at all.
"""

import asyncio
import logging
import os
import re
import socket
from collections import deque
from collections.abc import Iterable

from switch.core.rules import Link
from switch.ops.logs import event

log = logging.getLogger("switch.sessions")
FDS_START = 3  # sd_listen_fds(3)
NAMES_MAX_BYTES = 120_000  # of MAX_ARG_STRLEN 131072, the rest is for the names of listening sockets
RETRY_S = 0.005
WILDCARDS = ("0.0.0.0", "::")
_SESSION = re.compile(r"[ab]\d+\.\d+")


def given(environ: dict[str, str], pid: int) -> list[tuple[str, socket.socket]]:
    """The sockets this process was started with, and their names (LISTEN_FDS, LISTEN_FDNAMES)."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for number in range(int(environ.get("LISTEN_FDS", "0"))):
        fd = FDS_START + number
        os.set_inheritable(fd, False)
        found.append((names[number] if number < len(names) else "", socket.socket(fileno=fd)))
    return found


def stored(name: str) -> bool:
    """Whether this is the name of a session's socket; else it listens."""
    return _SESSION.fullmatch(name) is not None


def listeners(sockets: Iterable[tuple[str, socket.socket]], links: list[Link]) -> dict[str, socket.socket]:
    """The listening sockets as `Links` names them: by their link's name, or by the address that a link has in `listen`."""
    found: dict[str, socket.socket] = {}
    outbound = {link.name: link.outbound for link in links}
    for name, sock in sockets:
        if stored(name):
            continue
        host, port = sock.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        nodes = [(link.name, node) for link in links for node, value in link.listen.items() if value == address]
        if outbound.get(name) is False:
            found[f"{name}/"] = sock
        elif nodes:
            link, node = nodes[0]
            found[f"{link}/{node}" if len(nodes) == 1 else f"{link}/"] = sock
        else:
            event(log, logging.ERROR, "link.unknown_socket", fdname=name, address=address, do="no link listens there")
            sock.close()
    return found


def accepted_by(sock: socket.socket, links: list[Link], listening: dict[str, socket.socket]) -> str:
    """The link at whose address a connection was accepted; "" when there is none: it was made by connect()."""
    try:
        host, port = sock.getsockname()[:2]
        addresses = [(name.partition("/")[0], *each.getsockname()[:2]) for name, each in listening.items()]
    except OSError:
        return ""
    for link in links:
        for address in link.listen.values():
            at, _, number = address.rpartition(":")
            addresses.append((link.name, at.strip("[]"), int(number)))
    return next((link for link, at, number in addresses if number == port and at in (host, *WILDCARDS)), "")


class Store:
    """systemd's fd store of this unit. `address`: NOTIFY_SOCKET."""

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._sock: socket.socket | None = None
        self._kept: set[str] = set()
        self._bytes = 0
        self._full = False
        self._queue: deque[tuple[str, int]] = deque()  # (message, own descriptor or -1)
        if self._address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def keep(self, session: str, fd: int) -> None:
        if self._sock is None or session in self._kept:
            return
        size = len(session) + 1
        if self._bytes + size > NAMES_MAX_BYTES:
            if not self._full:
                event(log, logging.ERROR, "store.full", kept=len(self._kept), do="fewer sessions: more are not kept")
            self._full = True
            return
        self._kept.add(session)
        self._bytes += size
        # FDPOLL=0, or PID 1 drops a connection when its remote resets it
        self._send(f"FDSTORE=1\nFDNAME={session}\nFDPOLL=0", os.dup(fd))

    def restored(self, session: str) -> None:
        """It was in the store when this process started."""
        if session not in self._kept:
            self._kept.add(session)
            self._bytes += len(session) + 1

    def forget(self, session: str) -> None:
        if session not in self._kept:
            return
        self._kept.discard(session)
        self._bytes -= len(session) + 1
        self._full = False
        self._send(f"FDSTOREREMOVE=1\nFDNAME={session}", -1)

    def _send(self, text: str, fd: int) -> None:
        self._queue.append((text, fd))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        """In order; while systemd's queue is full the event loop goes on."""
        while self._queue and self._sock is not None and self._address is not None:
            text, fd = self._queue[0]
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, "little"))] if fd >= 0 else []
            try:
                self._sock.sendmsg([text.encode()], ancillary, 0, self._address)
            except BlockingIOError:
                asyncio.get_running_loop().call_later(RETRY_S, self._flush)
                return
            except OSError as error:
                event(log, logging.ERROR, "store.failed", error=error.strerror)
            self._queue.popleft()
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        while self._queue:
            _, fd = self._queue.popleft()
            if fd >= 0:
                os.close(fd)
        if self._sock is not None:
            self._sock.close()
            self._sock = None
