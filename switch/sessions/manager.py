"""What the service manager gives and keeps: listening sockets, and each session's socket in the fd store (sd_notify(3)).

After the death of both nodes the sockets come back from here; the state comes from etcd. Without systemd (no NOTIFY_SOCKET,
no LISTEN_FDS) nothing is kept.
"""

import logging
import os
import socket

from switch.core.proposals import Open
from switch.ops.logs import event

log = logging.getLogger("switch.sessions")
FDS_START = 3  # sd_listen_fds(3)
SESSION = "session"  # how the names of stored sockets begin: session|id|slot|link


def given(environ: dict[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """The sockets this process was started with, by their names (LISTEN_FDS, LISTEN_FDNAMES)."""
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(environ.get("LISTEN_FDS", "0"))):
        fd = FDS_START + number
        os.set_inheritable(fd, False)
        name = names[number] if number < len(names) else str(number)
        found.setdefault(name, []).append(socket.socket(fileno=fd))
    return found


def stored_name(open_: Open) -> str:
    """FDNAME of a session's socket: at most 255 characters, no colon."""
    return f"{SESSION}|{open_.session}|{open_.slot}|{open_.link}"


def stored(name: str) -> tuple[str, int, str] | None:
    """(session, slot, link) of a stored socket's name; None for other names."""
    kind, _, rest = name.partition("|")
    parts = rest.split("|", 2)
    return (parts[0], int(parts[1]), parts[2]) if kind == SESSION and len(parts) == 3 else None


class Store:
    """systemd's fd store of this unit. `address`: NOTIFY_SOCKET."""

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._sock: socket.socket | None = None
        if self._address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def keep(self, open_: Open, fd: int) -> None:
        # FDPOLL=0, or PID 1 drops a connection when its remote resets it
        self._send(f"FDSTORE=1\nFDNAME={stored_name(open_)}\nFDPOLL=0", [fd])

    def forget(self, open_: Open) -> None:
        self._send(f"FDSTOREREMOVE=1\nFDNAME={stored_name(open_)}", [])

    def _send(self, text: str, fds: list[int]) -> None:
        if self._sock is None or self._address is None:
            return
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(fd.to_bytes(4, "little") for fd in fds))]
        try:
            self._sock.sendmsg([text.encode()], ancillary if fds else [], 0, self._address)
        except OSError as error:
            event(log, logging.ERROR, "store.failed", error=error.strerror)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
