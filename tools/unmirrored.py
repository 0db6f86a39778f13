"""A node without mirroring, to measure what mirroring costs: `python -m tools.unmirrored --config FILE --node a`.

It is the node as it is, with a log in memory in place of the one in etcd: what is submitted is applied in the next turn
of the event loop, as one entry. Nothing is sealed, nobody else sees it, and it is gone with the process.
"""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer
import uvloop

from switch.config import load
from switch.core.proposals import OLDEST
from switch.daemon import serve
from switch.mirror.entry import Entry, Follower, pack
from switch.mirror.mirror import Mirror
from switch.ops import logs


class LocalLog:
    """What a node needs of a Mirror, for a node without a peer."""

    held = False
    backlog_bytes = 0  # what is submitted is applied before anything else is read

    def __init__(self, settings: object, pair: str, node: str, sealer: object, follower: Follower) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.index = 0
        self.incarnation = 0
        self.entry_version = OLDEST
        self._node = node
        self._follower = follower
        self._queue: list[tuple[bytes, Any]] = []

    async def start(self) -> None:
        """There is nothing to catch up with."""

    async def join(self, make_body: Callable[[int, str], bytes]) -> int:
        self.incarnation = 1
        self._append(make_body(self.incarnation, "local"), None)
        return self.incarnation

    def submit(self, proposal: bytes, context: Any) -> None:
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._commit)
        self._queue.append((proposal, context))

    def _commit(self) -> None:
        queue, self._queue = self._queue, []
        self._append(pack(self.entry_version, [proposal for proposal, _ in queue]), [context for _, context in queue])

    def _append(self, body: bytes, offers: list[Any] | None) -> None:
        self.index += 1
        self._follower.apply(Entry(self.index, self._node, self.incarnation, self.index, body, self.index, offers))

    async def take_fence_of(self, node: str, incarnation: int, make_body: Callable[[], bytes]) -> bool:
        return False

    async def write_snapshot(self, index: int, chunks: object, segments: object) -> bool:
        return True  # nothing is kept, so that nothing has to be written

    async def truncate(self, below: int) -> None:
        """Nothing is kept."""

    async def leave(self) -> None:
        await asyncio.sleep(0)  # what is submitted becomes applied

    async def close(self) -> None:
        """There is nothing to close."""

    def health(self) -> dict[str, Any]:
        return {"cluster_id": "none", "append_p50_ms": 0.0}


def main(
    config: Annotated[Path, typer.Option(help="the pair's configuration file")],
    node: Annotated[str, typer.Option(help="a or b")],
) -> None:
    """Run one node without mirroring."""
    loaded = load(config)
    logs.configure(node, loaded.pair.log_level)
    gc.freeze()  # as the daemon does
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(loaded, config, node, cast(type[Mirror], LocalLog)))


if __name__ == "__main__":
    typer.run(main)
