"""Read the log without the watch: one linearizable listing of what there is, then the entries themselves in pages."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from .client import Client
from .errors import FenceMissing, LogBroken
from .keys import NODES, Fence, Keys, decode_fence
from .requests import found, get, get_range, transaction

PAGE_ENTRIES = 64  # point reads in one transaction: at most 64 MiB, and etcd allows 128 operations


class Truncated(Exception):
    """What a listing named is gone: it was truncated meanwhile. List again."""


class Listing(msgspec.Struct, frozen=True):
    """The log, the fences and the snapshot's pointer as of one revision."""

    head: int  # index of the last entry; 0: an empty log
    head_revision: int
    keys: list[tuple[bytes, int]]  # key and mod_revision of every kept entry, in order of index
    fences: dict[str, Fence]
    pointer: bytes  # sealed; empty if there is no snapshot
    revision: int

    @property
    def first(self) -> int:
        """The index of the first kept entry."""
        return self.head - len(self.keys) + 1


async def list_log(client: Client, keys: Keys) -> Listing:
    """Raises FenceMissing, and LogBroken where what is there was not written by a pair."""
    reads = [
        get(keys.head),
        get_range(keys.log, keys.log_end, keys_only=True, by_revision=True),
        get(keys.pointer),
        *(get(keys.fence(node)) for node in NODES),
    ]
    response = await client.call(lambda endpoint: endpoint.kv.Txn, transaction(reads))
    head, pointer = _only(response, 0), _only(response, 2)
    entries = [(kv.key, kv.mod_revision) for kv in found(response, 1)]
    fences = {node: decode_fence(kv.value) for number, node in enumerate(NODES, 3) if (kv := _only(response, number))}
    if head is None and (entries or fences or pointer):
        raise LogBroken(f"{keys.head.decode()} is missing, but there is a log, a fence or a snapshot")
    for node in NODES:
        if node not in fences and any(key.startswith(keys.node_log(node)) for key, _ in entries):
            raise FenceMissing(f"{keys.fence(node).decode()} is missing, but the log has entries of node {node}")
    if head is not None and (
        not fences or len(entries) > head.version or (entries and entries[-1][1] != head.mod_revision)
    ):
        raise LogBroken(f"{keys.head.decode()} does not fit the fences and the {len(entries)} entries of the log")
    return Listing(
        head=head.version if head else 0,
        head_revision=head.mod_revision if head else 0,
        keys=entries,
        fences=fences,
        pointer=pointer.value if pointer else b"",
        revision=response.header.revision,
    )


async def read_entries(client: Client, listed: list[tuple[bytes, int]]) -> AsyncIterator[Any]:
    """The key-values of listed entries, in that order. Raises Truncated."""
    for start in range(0, len(listed), PAGE_ENTRIES):
        page = listed[start : start + PAGE_ENTRIES]
        response = await client.call(lambda endpoint: endpoint.kv.Txn, transaction(get(key) for key, _ in page))
        for number, (_, mod_revision) in enumerate(page):
            kv = _only(response, number)
            if kv is None or kv.mod_revision != mod_revision:
                raise Truncated
            yield kv


def _only(response: Any, number: int) -> Any | None:
    kvs = found(response, number)
    return kvs[0] if kvs else None
