"""Replays snapshot and log in a fresh engine: who differs from its own replay is the one whose state went wrong."""

from typing import Any

from switch.config import Config
from switch.core import snapshot
from switch.core.engine import Engine
from switch.mirror.entry import Entry
from switch.mirror.mirror import Mirror
from switch.mirror.sealing import Sealer


class Replay:
    """A follower that only applies."""

    def __init__(self, node: str) -> None:
        self.engine = Engine(node)

    def load(self, index: int, chunks: list[bytes], segments: dict[str, bytes]) -> None:
        self.engine.load(snapshot.load(index, chunks, segments), 0.0)

    def apply(self, entry: Entry) -> None:
        self.engine.apply(f"{entry.node}{entry.incarnation}", entry.index, entry.body, 0.0)

    def dropped(self, offers: list[Any]) -> None:
        raise AssertionError("a replay offers nothing")

    def holding(self, held: bool) -> None:
        """A replay has nothing to hold."""


async def differs(config: Config, engine: Engine) -> bool:
    """Whether the engine's state differs from what the log says, at the heartbeats that both know."""
    replay = Replay(engine.node)
    mirror = Mirror(config.etcd, config.pair.name, engine.node, Sealer(config.pair.key_file), replay)
    try:
        await mirror.start()
    finally:
        await mirror.close()
    mine, theirs = engine.hashes, replay.engine.hashes
    return any(mine[index] != theirs[index] for index in mine.keys() & theirs.keys())
