"""Truncate the log and compact etcd. Which entries lie below an index is known from sparse marks, not asked."""

import logging
from collections import deque

import grpc.aio
import msgspec
from etcd3 import etcdrpc

from .client import Client, describe
from .keys import Keys, Position
from .requests import delete, transaction

log = logging.getLogger("switch.mirror")

MARK_EVERY = 16  # entries
MARKS_KEPT = 8192  # 131,072 entries
SLICE_MARKS = 16  # 256 entries are deleted in one transaction: more would delay appends


class Mark(msgspec.Struct, frozen=True):
    """The last entry of each node at an index. All entries up to it are, per node, one range of keys."""

    index: int
    revision: int
    positions: tuple[Position, ...]


class Marks:
    """Where the log stood at every sixteenth index."""

    def __init__(self) -> None:
        self._latest: dict[str, Position] = {}
        self._marks: deque[Mark] = deque(maxlen=MARKS_KEPT)

    def note(self, index: int, revision: int, position: Position) -> None:
        """An entry is in the log. To be called in order of index."""
        self._latest[position.node] = position
        if index % MARK_EVERY == 0:
            self._marks.append(Mark(index, revision, tuple(self._latest.values())))

    def up_to(self, index: int) -> list[Mark]:
        return [mark for mark in self._marks if mark.index <= index]

    def forget(self, index: int) -> None:
        """Drop the marks up to `index`."""
        while self._marks and self._marks[0].index <= index:
            self._marks.popleft()


async def truncate_log(client: Client, keys: Keys, marks: Marks, below: int) -> int:
    """Delete entries up to the last mark at or below `below`, then compact up to that entry. Returns its index, or 0.

    A watch that is to show a later entry resumes above the compacted revision. Raises Unavailable.
    """
    reached = marks.up_to(below)
    if not reached:
        return 0
    last = reached[-1]
    for mark in [*reached[SLICE_MARKS - 1 : -1 : SLICE_MARKS], last]:
        end = [(keys.node_log(position.node), keys.entry(position) + b"\0") for position in mark.positions]
        request = transaction(delete(start, stop) for start, stop in end)
        await client.call(lambda endpoint: endpoint.kv.Txn, request, patience_s=10.0)
    marks.forget(last.index)
    await _compact(client, last.revision)
    log.info("log.truncated index=%d revision=%d", last.index, last.revision)
    return last.index


async def _compact(client: Client, revision: int) -> None:
    endpoint = client.endpoint
    try:
        await endpoint.kv.Compact(
            etcdrpc.CompactionRequest(revision=revision),
            timeout=client.settings.call_timeout_ms / 1000,
            metadata=client.metadata,
        )
    except grpc.aio.AioRpcError as error:
        # Compacted already, or etcd is away: the next truncation compacts further.
        log.warning("log.not_compacted revision=%d reason=%s", revision, describe(error))
