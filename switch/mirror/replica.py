"""The applied side: hands entries to the follower in order of index, from the watch or from the log itself."""

import logging
from typing import Any

from .append import Appender
from .client import Client
from .entry import Entry, Follower
from .errors import Fenced, FenceMissing, LogBroken, RevisionWentBack
from .joining import Joining
from .keys import Keys
from .reading import Listing, Truncated, list_log, read_entries
from .sealing import Sealer
from .snapshot import Snapshots
from .truncate import Marks

log = logging.getLogger("switch.mirror")


class Replica:
    """How far this node has applied the log, and the only caller of the follower's `apply` and `load`."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        sealer: Sealer,
        follower: Follower,
        node: str,
        appender: Appender,
        snapshots: Snapshots,
    ) -> None:
        self.node = node
        self.index = 0  # of the last entry applied
        self.incarnation = 0  # 0: not joined
        self.marks = Marks()
        self._incomplete = 0
        self.joining: Joining | None = None
        self._client, self._keys, self._sealer, self._follower = client, keys, sealer, follower
        self._appender, self._snapshots = appender, snapshots

    def take(self, index: int, kv: Any) -> None:
        """Apply the next entry. Raises MirrorError."""
        position = self._keys.position(kv.key)
        if kv.mod_revision <= self._client.revision:
            raise RevisionWentBack(f"entry {index} has revision {kv.mod_revision}, {self._client.revision} was applied")
        if position.node == self.node and 0 < self.incarnation < position.incarnation:
            raise Fenced(
                f"incarnation {position.incarnation} of node {self.node} has joined, we are {self.incarnation}"
            )
        body = self._sealer.open(kv.key, kv.value)
        offers: list[Any] | None = None
        displaced: list[Any] = []
        if position.node == self.node and position.incarnation == self.incarnation:
            offers, displaced = self._appender.seen(position.sequence, kv.value)
        self.marks.note(index, kv.mod_revision, position)
        self.index, self._client.revision = index, kv.mod_revision
        self._follower.apply(
            Entry(index, position.node, position.incarnation, position.sequence, body, kv.mod_revision, offers)
        )
        if displaced:
            self._follower.dropped(displaced)
        if self.joining is not None:
            self.joining.saw(kv.value)
        self._appender.after_apply()

    async def catch_up(self) -> None:
        """Read the log where the watch cannot show it. Runs only while no watch does."""
        while True:
            listing = await list_log(self._client, self._keys)
            try:
                await self._read_on(listing)
            except Truncated:
                log.info("log.truncated_meanwhile index=%d", self.index)
                continue
            return

    async def _read_on(self, listing: Listing) -> None:
        if listing.head < self.index:
            raise RevisionWentBack(f"the log ends at entry {listing.head}, {self.index} was applied")
        if self.incarnation and self.node not in listing.fences:
            raise FenceMissing(f"{self._keys.fence(self.node).decode()} is gone")
        pointer = self._snapshots.decode(listing.pointer) if listing.pointer else None
        if pointer is not None and pointer.index > listing.head:
            raise LogBroken(f"the snapshot reaches to entry {pointer.index}, but the log ends at {listing.head}")
        if pointer is not None and pointer.index > self.index and (self.index == 0 or listing.first > self.index + 1):
            loaded = await self._snapshots.read(pointer)
            if loaded is None and pointer.index == self._incomplete:
                raise LogBroken(f"the snapshot at {pointer.index} lacks a chunk or a segment")
            if loaded is None:
                self._incomplete = pointer.index  # a newer one has replaced it meanwhile: then the next listing says so
                raise Truncated
            self._load(pointer.index, *loaded, listing)
        if listing.first > self.index + 1:
            raise LogBroken(
                f"the log begins at entry {listing.first}, and no snapshot reaches further than {self.index}"
            )
        async for kv in read_entries(self._client, listing.keys[self.index + 1 - listing.first :]):
            self.take(self.index + 1, kv)
        self._client.revision = max(self._client.revision, listing.head_revision)

    def _load(self, index: int, chunks: list[bytes], segments: dict[str, bytes], listing: Listing) -> None:
        """Replace the follower's state; what we had in flight below `index` is in it, or never will be anywhere."""
        kept = listing.keys[: max(0, index + 1 - listing.first)]
        self.marks = Marks()
        for number, (key, revision) in enumerate(kept, listing.first):
            self.marks.note(number, revision, self._keys.position(key))
        self._follower.load(index, chunks, segments)
        self.index = index
        if kept:
            self._client.revision = kept[-1][1]
        later = [self._keys.position(key) for key, _ in listing.keys[len(kept) :]]
        if self.joining is not None and self.node in listing.fences:
            self.joining.skipped(listing.fences[self.node], later)
        if self.incarnation:
            own = [position.sequence for position in later if position.node == self.node]
            offers = self._appender.abandon(own[0] - 1 if own else listing.fences[self.node].sequence)
            if offers:
                self._follower.dropped(offers)
        log.info("snapshot.loaded index=%d chunks=%d segments=%d", index, len(chunks), len(segments))
