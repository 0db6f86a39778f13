"""A world in virtual time: processes, what happens when, and chance. One seed decides everything.

Nothing here knows the switch. A process is an event loop (loop.py), a table of open files and a few facts; its code runs in
turns, and each turn takes a little time. `world.process` is whose code runs now: the twins of socket, os and time ask it.
"""

import heapq
import random
from collections.abc import Callable
from typing import Any

EPOCH_S = 1_780_000_000.0
MONOTONIC_S = 50_000.0  # since boot, when the world begins


class Killed(BaseException):
    """Ends the turn of a process that was killed in the middle of it. No code of it runs after this."""


class Violation(Exception):
    """What must never be was seen."""


class Timer(list[Any]):
    """Something that will happen, unless it is cancelled: when, its place among those of one instant, the call or None."""

    __slots__ = ()

    def cancel(self) -> None:
        self[2] = None


class File:
    """What a descriptor refers to, shared by its duplicates in all processes: `holders` counts them, those in flight too."""

    def __init__(self) -> None:
        self.holders = 0
        self.waiters: dict[tuple[Any, int], None] = {}  # (loop, descriptor) that wait for a change

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False

    def changed(self) -> None:
        """To be called whenever readable() or writable() may have changed."""
        for loop, fd in list(self.waiters):
            loop.wake(fd)

    def hold(self) -> None:
        self.holders += 1

    def release(self) -> None:
        self.holders -= 1
        if not self.holders:
            self.closed()

    def closed(self) -> None:
        """Nobody holds it any more."""


class Process:
    """One life of a program. `loop` is set by who starts it."""

    def __init__(self, world: "World", name: str, pid: int) -> None:
        self.world = world
        self.name = name
        self.pid = pid
        self.started = world.now
        self.alive = True
        self.stopped = False  # by SIGSTOP
        self.slowness = 1.0
        self.wall_s = 0.0  # how much its wall clock is ahead
        self.environ: dict[str, str] = {}
        self.fds: dict[int, File] = {}
        self.loop: Any = None
        self.ended: list[Callable[[], None]] = []  # told when it has ended
        self.doom = 0  # killed when it has made so many more system calls (of that name); 0: not
        self.doom_at = ""

    def give(self, file: File) -> int:
        """A descriptor for the file: the lowest that is free (POSIX open)."""
        fd = 3
        while fd in self.fds:
            fd += 1
        self.fds[fd] = file
        file.hold()
        return fd

    def close(self, fd: int) -> None:
        """Raises KeyError for a descriptor that is not open."""
        file = self.fds.pop(fd)
        if self.loop is not None:
            file.waiters.pop((self.loop, fd), None)
        file.release()

    def kill(self) -> None:
        """It ends here and now; the kernel closes what it had open."""
        if not self.alive:
            return
        self.alive = False
        for fd in list(self.fds):
            self.close(fd)
        for told in self.ended:
            told()

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        self.stopped = False
        if self.loop is not None:
            self.loop.resume()


class World:
    """Virtual time in seconds from 0, in which things happen in an order that the seed decides."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.now = 0.0
        self.process: Process | None = None
        self.processes: list[Process] = []
        self.over = False
        self.lines: list[str] = []  # the trace
        self.points: dict[str, None] = {}  # of the product's code (switch/points.py) that were reached
        self.tracing = False
        self._queue: list[Timer] = []
        self._count = 0
        self._pids = 1000
        self.called: Callable[[Process, str], None] | None = None  # told of system calls and named points

    # --- time

    def at(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """In so many seconds. What falls on one instant happens in the order of these calls."""
        self._count += 1
        timer = Timer((self.now + delay_s if delay_s > 0.0 else self.now, self._count, call))
        heapq.heappush(self._queue, timer)
        return timer

    def run(self, until: Callable[[], bool], limit_s: float, every_s: float = 0.0) -> bool:
        """Let things happen until the condition holds; False when the limit (a time) or the end of all events came first.

        The condition is looked at after each event, or once in so many seconds.
        """
        queue, look_at = self._queue, self.now
        while True:
            if self.now >= look_at:
                if until():
                    return True
                look_at = self.now + every_s
            if not queue or queue[0][0] > limit_s:
                self.now = max(self.now, limit_s)
                return until()
            self.step()

    def step(self) -> None:
        when, _, call = heapq.heappop(self._queue)
        if call is not None:
            self.now = when
            call()

    def latency(self, typical_s: float) -> float:
        """Around the typical one, seldom many times as long."""
        return typical_s * min(self.dice.expovariate(1.0) + 0.2, 20.0)

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    # --- processes

    def spawn(self, name: str) -> Process:
        self._pids += self.dice.randrange(1, 4)
        process = Process(self, name, self._pids)
        self.processes.append(process)
        return process

    def find(self, pid: int) -> Process | None:
        """The living process of that number."""
        return next((each for each in self.processes if each.pid == pid and each.alive), None)

    def within(self, process: Process, call: Callable[[], None]) -> None:
        """Run code of a process, which may be killed in the middle of it."""
        former, self.process = self.process, process
        try:
            call()
        except Killed:
            if process.alive:
                raise
        finally:
            self.process = former

    def system_call(self, name: str) -> Process:
        """Every twin of a system call begins with this. Raises Killed where the process that makes it ends."""
        process = self.process
        if process is None or not process.alive:
            raise Killed
        if self.called is not None:
            self.called(process, name)
        if process.doom and (not process.doom_at or process.doom_at == name):
            process.doom -= 1
            if not process.doom:
                self.trace(process.name, f"killed at {name}")
                process.kill()
        if not process.alive:
            raise Killed
        return process

    def end(self) -> None:
        """The world is over: what processes leave behind runs no code any more."""
        self.over = True
        for process in self.processes:
            process.alive = False
        for process in self.processes:
            if process.loop is not None:
                self.within(process, process.loop.dispose)

    # --- what was seen

    def trace(self, who: str, text: str) -> None:
        if self.tracing:
            self.lines.append(f"{self.now * 1000:10.3f} {who:<9} {text}")
