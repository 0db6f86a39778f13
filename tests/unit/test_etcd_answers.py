"""What etcd holds and no pair has written is refused as a broken log, and nothing in it is waited for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from etcd3 import etcdrpc

from switch.mirror.errors import LogBroken
from switch.mirror.keys import Fence, Keys, Position, decode_fence
from switch.mirror.lease import Presence
from switch.mirror.reading import Listing
from switch.mirror.replica import Replica
from switch.mirror.requests import found
from switch.mirror.snapshot import Pointer, Snapshots

KEYS = Keys("p")
UNSEALED: Any = SimpleNamespace(open=lambda path, value: value)


@pytest.mark.parametrize(
    "value", [b"", b"7 1", b"+7 1 t", b"07 1 t", b"7 1_0 t", b"\xd9\xa7 1 t", b"7  t", b"\xff 1 t"]
)
def test_a_fence_is_read_only_as_appends_compare_it(value: bytes) -> None:
    """One that reads alike and is written otherwise would let no append through, and a join try for ever."""
    assert decode_fence(b"7 1 t") == Fence(7, 1, "t")
    with pytest.raises(LogBroken):
        decode_fence(value)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a/1/1",
        "c/0000000001/0000000000000001",
        "a/0000000000/0000000000000001",
        "a/+000000001/0000000000000001",
        "a/0000000001/000000000000000_1",
    ],
)
def test_a_key_of_the_log_is_one_that_an_entry_has(key: str) -> None:
    assert KEYS.position(KEYS.log + b"a/0000000001/0000000000000002") == Position("a", 1, 2)
    with pytest.raises(LogBroken):
        KEYS.position(KEYS.log + key.encode())


@pytest.mark.parametrize(
    "value", [b"", b"\xc1", b"\x91" * 2000, (1, 1 << 40, ()), (-1, 1, ()), (1, 0, ("a/b",)), (1, 0, ("",)), (1,)]
)
def test_a_pointer_names_a_snapshot_that_can_be(value: Any) -> None:
    """A count of chunks beyond any would be a list of as many keys before the first is read."""
    snapshots = Snapshots(None, KEYS, UNSEALED)  # type: ignore[arg-type]
    assert snapshots.decode(msgspec.msgpack.encode(Pointer(1, 2, ("s",)))) == Pointer(1, 2, ("s",))
    with pytest.raises(LogBroken):
        snapshots.decode(value if type(value) is bytes else msgspec.msgpack.encode(value))


def test_a_snapshot_beyond_the_log_is_refused() -> None:
    """etcd counts the log anew when its keys were deleted: entries up to the snapshot's index would be passed over."""
    snapshots = Snapshots(None, KEYS, UNSEALED)  # type: ignore[arg-type]
    replica = Replica(None, KEYS, UNSEALED, None, "a", None, snapshots)  # type: ignore[arg-type]
    listing = Listing(4, 14, [], {"a": Fence(1, 1, "t")}, msgspec.msgpack.encode(Pointer(9, 1, ())), 14)
    with pytest.raises(LogBroken, match="reaches to entry 9, but the log ends at 4"):
        asyncio.run(replica._read_on(listing))


def test_an_answer_without_what_was_asked_is_refused() -> None:
    with pytest.raises(LogBroken, match="0 operations"):
        found(etcdrpc.TxnResponse(), 0)


@pytest.mark.parametrize("value", [b"", b"{", b"[1]", b'{"pid":"\xff"}', b'{"a":' * 2000])
def test_a_node_says_of_itself_an_object_of_json(value: bytes) -> None:
    response = etcdrpc.TxnResponse()
    response.responses.add().response_range.kvs.add(key=KEYS.node("a"), value=value)

    async def call(*_: Any, **__: Any) -> Any:
        return response

    client: Any = SimpleNamespace(call=call, settings=SimpleNamespace(lease_ttl_s=5))
    with pytest.raises(LogBroken):
        asyncio.run(Presence(client, KEYS, "a").nodes())
