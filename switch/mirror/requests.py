"""The requests to etcd in few words: compare, put, get, delete, and transactions of them."""

from collections.abc import Iterable
from typing import Any

from etcd3 import etcdrpc

from .errors import LogBroken

_Compare = etcdrpc.Compare


def holds(key: bytes, value: bytes) -> Any:
    """Guard: the key's value is exactly this."""
    return _Compare(result=_Compare.EQUAL, target=_Compare.VALUE, key=key, value=value)


def absent(key: bytes) -> Any:
    """Guard: there is no such key."""
    return _Compare(result=_Compare.EQUAL, target=_Compare.CREATE, key=key, create_revision=0)


def unchanged(key: bytes, mod_revision: int) -> Any:
    """Guard: nobody has put the key since that revision (0: it is absent)."""
    return _Compare(result=_Compare.EQUAL, target=_Compare.MOD, key=key, mod_revision=mod_revision)


def put(key: bytes, value: bytes, lease: int = 0) -> Any:
    return etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes) -> Any:
    return etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=key))


def get_range(start: bytes, end: bytes, *, keys_only: bool = False, by_revision: bool = False) -> Any:
    """All keys of [start, end), by key or by mod_revision."""
    target = etcdrpc.RangeRequest.MOD if by_revision else etcdrpc.RangeRequest.KEY
    return etcdrpc.RequestOp(
        request_range=etcdrpc.RangeRequest(
            key=start, range_end=end, keys_only=keys_only, sort_order=etcdrpc.RangeRequest.ASCEND, sort_target=target
        )
    )


def delete(start: bytes, end: bytes = b"") -> Any:
    """One key, or all of [start, end)."""
    return etcdrpc.RequestOp(request_delete_range=etcdrpc.DeleteRangeRequest(key=start, range_end=end))


def transaction(success: Iterable[Any], guards: Iterable[Any] = (), failure: Iterable[Any] = ()) -> Any:
    """All of `success` at one revision if every guard holds, else `failure`. Reads in it are linearizable."""
    return etcdrpc.TxnRequest(compare=guards, success=success, failure=failure)


def found(response: Any, number: int) -> list[Any]:
    """The key-values that the transaction's operation of that number has read. Raises LogBroken where it has none."""
    if number >= len(response.responses):
        raise LogBroken(f"etcd has answered {len(response.responses)} operations of a transaction and not number {number}")
    return list(response.responses[number].response_range.kvs)
