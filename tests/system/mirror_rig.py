"""What the tests of the mirror share: a recording follower, a proxy that loses things, nodes that end with the test."""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from switch.mirror import fitness
from switch.mirror.entry import Entry
from switch.mirror.mirror import Mirror
from switch.mirror.sealing import Sealer, create_key_file
from switch.mirror.settings import EtcdSettings

WAIT_S = 25.0
NEVER_MS = 600_000
# no expectation of how fast etcd, its disk or this machine is: for mirrors that are not to hold, to settle or to give up
PATIENT = {
    "append_timeout_ms": 25_000,
    "call_timeout_ms": 25_000,
    "settle_after_ms": NEVER_MS,
    "hold_after_ms": NEVER_MS,
    "watch_stall_ms": NEVER_MS,
}
fitness.HTTP_TIMEOUT_S = WAIT_S  # what etcd tells of itself is asked once
pairs = (f"pair{number}" for number in itertools.count())


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on uvloop, as the daemon runs."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        uvloop.run(test(*args, **named))

    return run


class Recorder:
    """A follower that keeps what it is told and can be waited for."""

    def __init__(self) -> None:
        self.log: list[tuple[int, bytes]] = []
        self.entries: list[Entry] = []
        self.carried: list[Any] = []
        self.lost: list[Any] = []
        self.holds: list[bool] = []
        self.loaded: list[tuple[int, list[bytes], dict[str, bytes]]] = []
        self.again: Callable[[Any], None] | None = None  # offers anew
        self._changed = asyncio.Event()

    def load(self, index: int, chunks: list[bytes], segments: dict[str, bytes]) -> None:
        self.loaded.append((index, chunks, segments))
        self._changed.set()

    def apply(self, entry: Entry) -> None:
        self.log.append((entry.index, entry.body))
        self.entries.append(entry)
        self.carried += entry.offers or []
        self._changed.set()

    def dropped(self, offers: list[Any]) -> None:
        self.lost += offers
        self._changed.set()

    def holding(self, held: bool) -> None:
        self.holds.append(held)
        if not held and self.again is not None:
            lost, self.lost = self.lost, []
            for offer in lost:
                self.again(offer)
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a call of the mirror has made this true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def proposals(self) -> list[Any]:
        """Everything applied, in order, without the joins."""
        found = [each for _, body in self.log for each in msgspec.msgpack.decode(body)[1]]
        return [each for each in found if not (isinstance(each, list) and each[0] == "join")]


class Node(Mirror):
    """A mirror with its recorder."""

    recorder: Recorder

    def offer(self, what: Any) -> None:
        self.submit(msgspec.msgpack.encode(what), what)

    async def begin(self) -> int:
        await self.start()
        return await self.join(join_body)

    def appends(self, **settings: int) -> None:
        """Settings of how it appends from the next batch on, and of when it holds."""
        self._appender._settings = msgspec.structs.replace(self._appender._settings, **settings)

    async def watching(self) -> None:
        """Wait until the watch shows what comes."""
        await eventually(lambda: self._watcher.since)


def join_body(incarnation: int, token: str) -> bytes:
    return msgspec.msgpack.encode([1, [["join", incarnation, token]]])


def heir_body() -> bytes:
    return msgspec.msgpack.encode([1, ["heir"]])


class Nodes:
    """Makes nodes and closes them all at the end. They have patience with etcd where no other settings are given."""

    def __init__(self, directory: Path, endpoints: tuple[str, ...], **settings: Any) -> None:
        self.key_file = directory / "keys"
        if not self.key_file.exists():
            directory.mkdir(parents=True, exist_ok=True)
            create_key_file(self.key_file)
        self.pair = next(pairs)
        self.settings = EtcdSettings(endpoints=endpoints, **PATIENT | settings)
        self._made: list[Node] = []

    def make(self, name: str, endpoints: tuple[str, ...] = ()) -> Node:
        recorder = Recorder()
        settings = msgspec.structs.replace(self.settings, endpoints=endpoints) if endpoints else self.settings
        node = Node(settings, self.pair, name, Sealer(self.key_file), recorder)
        node.recorder = recorder
        self._made.append(node)
        return node

    async def __aenter__(self) -> "Nodes":
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self._made:
            await node.close()


async def failure(node: Node) -> BaseException:
    """Wait until the node's mirror has failed."""
    async with asyncio.timeout(WAIT_S):
        await asyncio.wait([node.failed])
    error = node.failed.exception()
    assert error is not None
    return error


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for what no call of a follower tells."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def same(*nodes: Node) -> None:
    """Wait until all have applied as much as the first, and assert that it is the same."""
    index = nodes[0].index
    for node in nodes:
        await node.recorder.until(lambda node=node: node.index >= index)
    logs = [[each for each in node.recorder.log if each[0] <= index] for node in nodes]
    assert all(log == logs[0] for log in logs)


class Proxy:
    """A TCP proxy before one member that withholds requests or answers, or cuts connections, when told.

    away_s: what everything takes on its way, in each direction.
    """

    def __init__(self, endpoint: str, away_s: float = 0.0) -> None:
        self._away_s = away_s
        self._target = endpoint.removeprefix("http://").split(":")
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.endpoint = ""
        self._forward = {"requests": asyncio.Event(), "answers": asyncio.Event()}
        self._refusing = False
        self.pass_all()

    def pass_all(self) -> None:
        self._refusing = False
        for gate in self._forward.values():
            gate.set()

    def withhold(self, what: str) -> None:
        """Keep "requests" or "answers" until `pass_all`: they are late, not lost."""
        self._forward[what].clear()

    def cut(self) -> None:
        """End all connections, with what was withheld."""
        for link in self._links:
            link.cancel()

    def refuse(self) -> None:
        """End all connections and let no new one in."""
        self._refusing = True
        self.cut()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        async with _closing(writer):
            try:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
            except OSError:
                return
            async with _closing(far_writer):
                pumps = [
                    asyncio.create_task(self._pump(reader, far_writer, "requests")),
                    asyncio.create_task(self._pump(far_reader, writer, "answers")),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                except asyncio.CancelledError:
                    pass  # cut: the streams are closed below
                finally:
                    for pump in pumps:
                        pump.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._forward[what].wait()
                await asyncio.sleep(self._away_s)
                writer.write(data)
                await writer.drain()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()
