"""The event loop of a process in the world: asyncio above, virtual time and twins of files below."""

import asyncio
import contextlib
import heapq
from asyncio import events
from collections.abc import Callable
from typing import Any

from world import MONOTONIC_S, Killed, Process

TURN_S = 0.000_05  # of CPU for one turn, times what the callbacks are


class Handle:
    """A callback that waits for its turn. asyncio's own also keeps a context of variables, of which the product has none."""

    __slots__ = ("_args", "_callback", "_cancelled", "_loop")

    def __init__(self, loop: "SimLoop", callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def _run(self) -> None:
        try:
            self._callback(*self._args)
        except BaseException as error:  # Killed, too, as asyncio's handles do
            self._loop.call_exception_handler({"message": f"in {self._callback}", "exception": error})


class Fire:
    """A reader or writer that is to be called; until then it may be removed."""

    __slots__ = ("fd", "loop", "table")
    _cancelled = False

    def __init__(self, loop: "SimLoop", table: dict[int, tuple[Callable[..., None], tuple[Any, ...]]], fd: int) -> None:
        self.loop, self.table, self.fd = loop, table, fd

    def _run(self) -> None:
        entry = self.table.get(self.fd)
        if entry is None:
            return
        try:
            entry[0](*entry[1])
        except Exception as error:
            self.loop.call_exception_handler({"message": f"in {entry[0]}", "exception": error})


class SimLoop(asyncio.AbstractEventLoop):
    """Ready callbacks run in turns; readers and writers are level-triggered as with epoll(7)."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.defects: list[dict[str, Any]] = []
        self.on_defect: Callable[[dict[str, Any]], None] = self.defects.append
        self._ready: list[Any] = []  # Handle and Fire
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0
        self._readers: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._writers: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._hot: dict[int, None] = {}  # descriptors that may be ready
        self._turn: Any = None  # the next turn, when it is planned
        self._turn_at = 0.0
        self._busy_until = 0.0
        self._tasks: dict[asyncio.Task[Any], None] = {}
        process.loop = self

    # --- turns

    def _plan(self, when: float) -> None:
        """A turn at that time, if none comes before it."""
        process = self.process
        if not process.alive or process.stopped:
            return
        when = max(when, self._busy_until, self.world.now)
        if self._turn is not None:
            if self._turn_at <= when:
                return
            self._turn.cancel()
        self._turn_at = when
        self._turn = self.world.at(when - self.world.now, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        process, world = self.process, self.world
        if not process.alive or process.stopped:
            return
        events._set_running_loop(self)
        world.process = process
        try:
            self._run_once()
        except Killed:
            if process.alive:
                raise
        finally:
            world.process = None
            events._set_running_loop(None)
        if not process.alive:
            return
        cost = TURN_S * process.slowness * (0.5 + world.dice.random())
        self._busy_until = world.now + cost
        if self._ready or self._hot:
            self._plan(self._busy_until)
        elif self._timers:
            self._plan(self._timers[0][0])

    def _run_once(self) -> None:
        now = self.world.now
        while self._timers and self._timers[0][0] <= now:
            handle = heapq.heappop(self._timers)[2]
            if not handle._cancelled:
                self._ready.append(handle)
        fds = self.process.fds
        for fd in list(self._hot) if self._hot else ():
            file = fds.get(fd)
            if file is None:
                self._hot.pop(fd, None)
                continue
            readable = fd in self._readers and file.readable()
            writable = fd in self._writers and file.writable()
            if not readable and not writable:
                self._hot.pop(fd, None)
            if readable:
                self._ready.append(Fire(self, self._readers, fd))
            if writable:
                self._ready.append(Fire(self, self._writers, fd))
        ready, self._ready = self._ready, []
        if len(ready) > 1 and self.world.chance(0.05):
            ready, self._ready = ready[:1], ready[1:]
        for handle in ready:
            if not handle._cancelled:
                handle._run()
                if not self.process.alive:
                    return

    def wake(self, fd: int) -> None:
        """A file changed."""
        if fd in self._readers or fd in self._writers:
            self._hot[fd] = None
            self._plan(self.world.now)

    def resume(self) -> None:
        """After SIGCONT."""
        self._plan(self.world.now)

    # --- what asyncio asks for

    def time(self) -> float:
        return MONOTONIC_S + self.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return not self.process.alive

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.pop(task, None)

    def dispose(self) -> None:
        """At the end of the world: let no coroutine wait for the garbage collector, which would run its last lines then."""
        for task in list(self._tasks):
            coroutine: Any = task.get_coro()
            with contextlib.suppress(Killed, RuntimeError):  # it meets dead system calls, or awaits once more
                coroutine.close()
        self._tasks.clear()

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        handle = Handle(self, callback, args)
        if self.process.alive:
            self._ready.append(handle)
            if self.world.process is not self.process:
                self._plan(self.world.now)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        handle = Handle(self, callback, args)
        if self.process.alive:
            self._count += 1
            heapq.heappush(self._timers, (when - MONOTONIC_S, self._count, handle))
            if self.world.process is not self.process:
                self._plan(when - MONOTONIC_S)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.process.alive and not self.world.over:
            self.on_defect(context)

    def add_reader(self, fd: Any, callback: Callable[..., None], *args: Any) -> None:
        self._add(self._readers, fd, callback, args)

    def add_writer(self, fd: Any, callback: Callable[..., None], *args: Any) -> None:
        self._add(self._writers, fd, callback, args)

    def remove_reader(self, fd: Any) -> bool:
        return self._remove(self._readers, fd)

    def remove_writer(self, fd: Any) -> bool:
        return self._remove(self._writers, fd)

    def _add(self, table: dict[int, Any], fd: Any, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        if not self.process.alive:
            return
        number = fd if isinstance(fd, int) else fd.fileno()
        table[number] = (callback, args)
        self.process.fds[number].waiters[self, number] = None
        self._hot[number] = None
        if self.world.process is not self.process:
            self._plan(self.world.now)

    def _remove(self, table: dict[int, Any], fd: Any) -> bool:
        number = fd if isinstance(fd, int) else fd.fileno()
        found = table.pop(number, None) is not None
        if number not in self._readers and number not in self._writers:
            file = self.process.fds.get(number)
            if file is not None:
                file.waiters.pop((self, number), None)
        return found
