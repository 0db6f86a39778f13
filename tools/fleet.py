"""Many connections of one kind: opens them over the given addresses, opens lost ones again, closes them in order."""

import asyncio
import contextlib

from tools.client import Connection, End, User, Wiring
from tools.measure import Tally

CONNECTING_AT_ONCE = 64
RETRY_S = 0.2


class Fleet:
    """Keeps `users` connected. Lost connections are counted and opened again, at the next address."""

    users: list[User]

    def __init__(self, addresses: list[tuple[str, int]], wiring: Wiring, tally: Tally) -> None:
        self.wiring = wiring
        self.tally = tally
        self._addresses = addresses
        self._place: dict[User, int] = {}
        self._connections: dict[User, Connection] = {}
        self._again: set[asyncio.Task[None]] = set()
        self.closing = False

    async def connect(self) -> None:
        """Connect all users, spread over the addresses. Raises OSError when one cannot."""
        slots = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def one(user: User, place: int) -> None:
            async with slots:
                await self._open(user, place)

        await asyncio.gather(*(one(user, place) for place, user in enumerate(self.users)))

    async def _open(self, user: User, place: int) -> None:
        self._place[user] = place
        host, port = self._addresses[place % len(self._addresses)]
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self.wiring, user), host, port)
        self._connections[user] = connection

    def on_end(self, user: User, how: End) -> None:
        self._connections.pop(user, None)
        if self.closing:
            return
        self.tally.resets += how == "reset"
        self.tally.closes += how != "reset"
        task = asyncio.get_running_loop().create_task(self._reopen(user))
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    async def _reopen(self, user: User) -> None:
        while not self.closing:
            await asyncio.sleep(RETRY_S)
            with contextlib.suppress(OSError):
                await self._open(user, self._place[user] + 1)
                return

    async def close(self, timeout_s: float = 5.0) -> None:
        """Close all connections one after the other, and wait until they have ended."""
        self.closing = True
        for task in list(self._again):
            task.cancel()
        connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        ends = [asyncio.ensure_future(connection.ended.wait()) for connection in connections]
        if ends:
            _, late = await asyncio.wait(ends, timeout=timeout_s)
            for end in late:
                end.cancel()
