"""Processes of incarnations: who is one, does it still run, its end. Nobody becomes heir who has not seen that end."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from switch.core.records import Incarnation
from switch.ops.logs import event

log = logging.getLogger("switch.peer")
START_TIME_FIELD = 19  # of /proc/pid/stat after the command: field 22 of proc(5)


def boot_id() -> str:
    """This boot of this machine (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process (or only its zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[START_TIME_FIELD])


def open_process(incarnation: Incarnation) -> int | None:
    """A pidfd of the incarnation's process, or None when that process has ended (or ran in an earlier boot)."""
    if incarnation.boot_id != boot_id():
        return None
    try:
        pidfd = os.pidfd_open(incarnation.pid)
    except ProcessLookupError:
        return None
    # opened first, checked second: the pid cannot have been reused between the two
    if start_time(incarnation.pid) != incarnation.start_time:
        os.close(pidfd)
        return None
    return pidfd


class Watch:
    """Watches the peer's process and tells once when it has ended."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._watched = ""
        self._pidfd = -1

    def follow(self, incarnation: Incarnation) -> None:
        """Watch this incarnation from now on."""
        if incarnation.id == self._watched:
            return
        self.stop()
        self._watched = incarnation.id
        pidfd = open_process(incarnation)
        if pidfd is None:
            self._ended(incarnation.id)
            return
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._exited)

    def _exited(self) -> None:
        ended = self._watched
        self._close()
        self._ended(ended)

    def _close(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def stop(self) -> None:
        self._close()
        self._watched = ""


async def kill(incarnation: Incarnation, grace_s: float = 0.0, spare: Callable[[], bool] = lambda: False) -> bool:
    """Make sure the incarnation's process has ended: SIGKILL by pidfd when it does not end by itself, exit awaited.

    After the grace `spare` has the last word. False: the process was spared and may still run.
    """
    pidfd = open_process(incarnation)
    if pidfd is None:
        return True
    loop = asyncio.get_running_loop()
    exited = asyncio.Event()
    try:
        loop.add_reader(pidfd, exited.set)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(exited.wait(), grace_s)
        if not exited.is_set():
            if spare():
                return False
            event(log, logging.WARNING, "process.killed", incarnation=incarnation.id, pid=incarnation.pid)
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself, and the loop has not seen that yet
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await exited.wait()
        return True
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
