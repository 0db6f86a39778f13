"""The state's snapshot in etcd: sealed chunks and immutable segments, and the guarded pointer that makes them count.

The pointer is put again, unchanged, with every deletion of segments; a writer guards on its mod_revision as read before
it looked which segments are there. So no pointer ever names a segment that somebody is deleting.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import msgspec

from .client import Client
from .errors import LogBroken, Unavailable
from .keys import Keys
from .requests import absent, delete, found, get, get_range, put, transaction, unchanged
from .sealing import Sealer

log = logging.getLogger("switch.mirror")

CHUNK_BYTES_MAX = 1024 * 1024
CHUNKS_MAX = 999_999  # six digits of a key
PAGE_VALUES = 16  # read in one transaction: at most 16 MiB
DELETIONS_MAX = 100  # in one transaction; etcd allows 128 operations
PATIENCE_S = 10.0  # for one call, while a snapshot is written


class Pointer(msgspec.Struct, frozen=True, array_like=True):
    """What `snapshot` holds, sealed: the newest whole snapshot."""

    index: Annotated[int, msgspec.Meta(ge=0)]
    chunks: Annotated[int, msgspec.Meta(ge=0, le=CHUNKS_MAX)]
    segments: tuple[Annotated[str, msgspec.Meta(pattern="^[^/]+$")], ...]


class Snapshots:
    """Writes, reads and deletes snapshots of one pair."""

    def __init__(self, client: Client, keys: Keys, sealer: Sealer) -> None:
        self._client, self._keys, self._sealer = client, keys, sealer
        self._busy = asyncio.Lock()

    def decode(self, value: bytes) -> Pointer:
        """Raises Unsealable, and LogBroken for what no pair has written."""
        plain = self._sealer.open(self._keys.pointer, value)
        try:
            return msgspec.msgpack.decode(plain, type=Pointer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # msgspec lets the latter two through
            raise LogBroken(f"{self._keys.pointer.decode()} names no snapshot ({type(error).__name__})") from None

    async def read(self, pointer: Pointer) -> tuple[list[bytes], dict[str, bytes]] | None:
        """The chunks and segments; None if a newer snapshot has replaced them meanwhile."""
        keys = [self._keys.chunk(pointer.index, number) for number in range(pointer.chunks)]
        keys += [self._keys.segment(name) for name in pointer.segments]
        values: list[bytes] = []
        for start in range(0, len(keys), PAGE_VALUES):
            page = keys[start : start + PAGE_VALUES]
            response = await self._txn(transaction(get(key) for key in page), None)
            for number, key in enumerate(page):
                kvs = found(response, number)
                if not kvs:
                    return None
                values.append(self._sealer.open(key, kvs[0].value))
        return values[: pointer.chunks], dict(zip(pointer.segments, values[pointer.chunks :], strict=True))

    async def write(self, index: int, chunks: Iterator[bytes], segments: dict[str, Callable[[], bytes]]) -> bool:
        """Write a whole snapshot and move the pointer to it. False if a newer one is there, or etcd is away."""
        async with self._busy:
            try:
                return await self._write(index, chunks, segments)
            except Unavailable as error:
                log.warning("snapshot.abandoned index=%d reason=%s", index, error)
                return False

    async def _write(self, index: int, chunks: Iterator[bytes], segments: dict[str, Callable[[], bytes]]) -> bool:
        pointer, mod_revision, present = await self._survey()
        if pointer is not None and pointer.index >= index:
            return False
        for name, encode in segments.items():
            key = self._keys.segment(name)
            if key not in present and not await self._put_once(key, encode()):
                return False
        count = 0
        for chunk in chunks:
            if not await self._put_once(self._keys.chunk(index, count), chunk):
                return False
            count += 1
        value = self._seal(self._keys.pointer, msgspec.msgpack.encode(Pointer(index, count, tuple(segments))))
        guards = [unchanged(self._keys.pointer, mod_revision)]
        response = await self._txn(transaction([put(self._keys.pointer, value)], guards, [get(self._keys.pointer)]))
        moved = response.succeeded or any(kv.value == value for kv in found(response, 0))
        log.info("snapshot.written index=%d chunks=%d segments=%d moved=%s", index, count, len(segments), moved)
        return moved

    async def _put_once(self, key: bytes, plain: bytes) -> bool:
        """Put a value that nobody may replace; False if another one is there."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        value = self._seal(key, plain)
        response = await self._txn(transaction([put(key, value)], [absent(key)], [get(key)]))
        await asyncio.sleep(loop.time() - began)  # half the time is the appends': a snapshot is in no hurry
        return response.succeeded or any(kv.value == value for kv in found(response, 0))

    def _seal(self, key: bytes, plain: bytes) -> bytes:
        if len(plain) > CHUNK_BYTES_MAX:
            raise ValueError(f"{key.decode()}: {len(plain)} bytes are too many for one value")
        return self._sealer.seal(key, plain)

    async def index(self) -> int:
        """Up to where the newest snapshot reaches; 0 if there is none."""
        pointer, _, _ = await self._survey()
        return pointer.index if pointer else 0

    async def delete_old(self) -> None:
        """Delete the chunks of older snapshots, whole or abandoned, and the segments that the newest does not name."""
        async with self._busy:
            pointer, mod_revision, present = await self._survey()
            if pointer is None:
                return
            await self._txn(transaction([delete(self._keys.chunks + b"0", self._keys.chunks_of(pointer.index))]))
            named = {self._keys.segment(name) for name in pointer.segments}
            unnamed = [key for key in present if key not in named]
            while unnamed:
                page, unnamed = unnamed[:DELETIONS_MAX], unnamed[DELETIONS_MAX:]
                again = put(self._keys.pointer, self._seal(self._keys.pointer, msgspec.msgpack.encode(pointer)))
                guards = [unchanged(self._keys.pointer, mod_revision)]
                response = await self._txn(transaction([*(delete(key) for key in page), again], guards))
                if not response.succeeded:
                    return  # a newer snapshot has come: its truncation does the rest
                mod_revision = response.header.revision

    async def _survey(self) -> tuple[Pointer | None, int, list[bytes]]:
        """The pointer, its mod_revision, and the keys of all segments, as of one revision."""
        reads = [get(self._keys.pointer), get_range(self._keys.segments, self._keys.segments_end, keys_only=True)]
        response = await self._txn(transaction(reads))
        pointer = found(response, 0)
        present = [kv.key for kv in found(response, 1)]
        if not pointer:
            return None, 0, present
        return self.decode(pointer[0].value), pointer[0].mod_revision, present

    async def _txn(self, request: Any, patience_s: float | None = PATIENCE_S) -> Any:
        return await self._client.call(lambda endpoint: endpoint.kv.Txn, request, patience_s)
