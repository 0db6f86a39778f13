"""A unit's fd store as the service manager keeps it (sd_notify(3)), for nodes that run without one.

What a process stored outlives it, and is given to the next one with its name.
"""

import array
import contextlib
import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

MESSAGE_BYTES = 4096
FDS_MAX = 16  # of one message; the switch stores one at a time
WAIT_S = 0.1


class FdStore:
    """Listens at `path`, which is the NOTIFY_SOCKET of the processes of one unit, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(WAIT_S)
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fdstore", daemon=True)
        self._thread.start()

    def held(self) -> dict[str, int]:
        """The descriptors by name, after everything that was sent so far."""
        with self._lock:
            while self._take(socket.MSG_DONTWAIT):
                pass
            return dict(self._held)

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                self._take(0)
            self._stopped.wait(0.001)  # lets `held` have the lock

    def _take(self, flags: int) -> bool:
        """One message; False when there is none."""
        size = FDS_MAX * array.array("i").itemsize
        try:
            data, ancillary, _, _ = self._sock.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(size), flags)
        except OSError:  # nothing came in time, or closed
            return False
        fds = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content)
        fields = dict(line.split("=", 1) for line in data.decode().splitlines() if "=" in line)
        name = fields.get("FDNAME", "")
        if "FDSTOREREMOVE" in fields and name in self._held:
            os.close(self._held.pop(name))
        for fd in fds:
            if "FDSTORE" in fields and name not in self._held:
                self._held[name] = fd
            else:
                os.close(fd)
        return True

    def close(self) -> None:
        """Close what is held."""
        self._stopped.set()
        self._thread.join()
        self._sock.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
