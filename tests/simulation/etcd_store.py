"""etcd's store as the switch uses it (API v3, as of 3.4): revisions, transactions, ranges, history, compaction, leases.

No time, no chance and no network here: etcd_twin.py has those. Requests are the real protobuf messages, read once into
plain tuples; answers are light objects with the attributes of the real ones. What is not modelled is refused loudly.
test_etcd_agrees.py holds it against a real etcd.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import grpc
from etcd3 import etcdrpc

OPS_MAX = 128  # --max-txn-ops
REQUEST_BYTES_MAX = 3 * 512 * 1024  # --max-request-bytes
LEASE_TTL_MIN_S = 2  # with the default election timeout: 1.5 times that, in whole seconds
PUT, DELETE = 0, 1  # types of events
FROM_KEY = b"\0"  # as range_end: everything from the key on

_INVALID, _OUT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE
EMPTY_KEY = (_INVALID, "etcdserver: key is not provided")
TOO_MANY = (_INVALID, "etcdserver: too many operations in txn request")
DUPLICATE = (_INVALID, "etcdserver: duplicate key given in txn request")
TOO_LARGE = (_INVALID, "etcdserver: request is too large")
COMPACTED = (_OUT, "etcdserver: mvcc: required revision has been compacted")
FUTURE = (_OUT, "etcdserver: mvcc: required revision is a future revision")
NO_LEASE = (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = (grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: lease already exists")


class Refused(Exception):
    """etcd's answer is an error: its code and text are the arguments."""


class Header:
    __slots__ = ("cluster_id", "member_id", "raft_term", "revision")

    def __init__(self, cluster_id: int, member_id: int, revision: int) -> None:
        self.cluster_id, self.member_id, self.revision, self.raft_term = cluster_id, member_id, revision, 2


class KeyValue:
    """Never changed once it is there: answers, events and the history share it."""

    __slots__ = ("create_revision", "key", "lease", "mod_revision", "value", "version")

    def __init__(self, key: bytes, created: int, modified: int, version: int, value: bytes, lease: int) -> None:
        self.key, self.create_revision, self.mod_revision = key, created, modified
        self.version, self.value, self.lease = version, value, lease


class Event:
    __slots__ = ("former", "kv", "type")

    def __init__(self, kind: int, kv: KeyValue, former: KeyValue | None) -> None:
        self.type, self.kv, self.former = kind, kv, former


class Answer:
    """A header, and whatever else the answer to this request has."""

    def __init__(self, **named: Any) -> None:
        self.header: Header | None = None
        self.__dict__.update(named)


class TxnAnswer:
    __slots__ = ("header", "responses", "succeeded")

    def __init__(self, succeeded: bool, responses: "list[OpAnswer]") -> None:
        self.header: Header | None = None
        self.succeeded, self.responses = succeeded, responses


class RangeAnswer:
    __slots__ = ("count", "header", "kvs", "more")

    def __init__(self, kvs: list[KeyValue], count: int, more: bool) -> None:
        self.header: Header | None = None
        self.kvs, self.count, self.more = kvs, count, more


class DeleteAnswer:
    __slots__ = ("deleted", "prev_kvs")

    def __init__(self, deleted: int) -> None:
        self.deleted, self.prev_kvs = deleted, []


class OpAnswer:
    __slots__ = ("response_delete_range", "response_put", "response_range")

    def __init__(self, put: Any = None, got: RangeAnswer | None = None, deleted: DeleteAnswer | None = None) -> None:
        self.response_put, self.response_range, self.response_delete_range = put, got, deleted


_PUT_DONE = OpAnswer(put=Answer(prev_kv=None))


# --- requests, read once

_Compare, _Range = etcdrpc.Compare, etcdrpc.RangeRequest
_SORT_BY: dict[int, Callable[[KeyValue], Any]] = {
    _Range.KEY: attrgetter("key"),
    _Range.VERSION: attrgetter("version"),
    _Range.CREATE: attrgetter("create_revision"),
    _Range.MOD: attrgetter("mod_revision"),
    _Range.VALUE: attrgetter("value"),
}
_COMPARED: dict[int, str] = {
    _Compare.VERSION: "version",
    _Compare.CREATE: "create_revision",
    _Compare.MOD: "mod_revision",
    _Compare.VALUE: "value",
    _Compare.LEASE: "lease",
}
_Op = tuple[
    Any, ...
]  # ("put", key, value, lease), ("get", key, range_end, options or None), ("delete", key, range_end)
_PLAIN = (0, 0, 0, 0, False, False, 0, 0, 0, 0)  # a range without options


class Txn:
    """A transaction as read from its request. `error` is what etcd refuses it for without looking at its data."""

    __slots__ = ("compares", "error", "failure", "reads_only", "success")

    def __init__(self, request: Any) -> None:
        self.compares = [
            (c.result, c.target, c.key, getattr(c, _COMPARED[c.target]), c.range_end) for c in request.compare
        ]
        self.success, puts, deletes = _operations(request.success)
        self.failure, puts_else, deletes_else = _operations(request.failure)
        self.reads_only = not (puts or deletes or puts_else or deletes_else)
        self.error: tuple[grpc.StatusCode, str] | None = None
        if max(len(self.compares), len(self.success), len(self.failure)) > OPS_MAX:
            self.error = TOO_MANY
        elif b"" in [each[2] for each in self.compares] or b"" in [op[1] for op in self.success + self.failure]:
            self.error = EMPTY_KEY
        elif _twice(puts, deletes) or _twice(puts_else, deletes_else):
            self.error = DUPLICATE
        elif sum([len(op[2]) for op in puts + puts_else]) > REQUEST_BYTES_MAX // 2:  # the size itself takes time
            self.error = TOO_LARGE if request.ByteSize() > REQUEST_BYTES_MAX else None


def _operations(requests: Any) -> tuple[list[_Op], list[_Op], list[_Op]]:
    """All, and the puts and the deletions among them."""
    ops, puts, deletes = [], [], []
    for request in requests:
        kind = request.WhichOneof("request")
        if kind == "request_put":
            op = _put(request.request_put)
            puts.append(op)
        elif kind == "request_range":
            op = _range(request.request_range)
        elif kind == "request_delete_range":
            op = _delete(request.request_delete_range)
            deletes.append(op)
        else:
            raise NotImplementedError(f"the twin of etcd has no {kind} in a transaction")
        ops.append(op)
    return ops, puts, deletes


def _put(put: Any) -> _Op:
    if put.prev_kv or put.ignore_value or put.ignore_lease:
        raise NotImplementedError("the twin of etcd puts without prev_kv, ignore_value, ignore_lease")
    return ("put", put.key, put.value, put.lease)


def _range(r: Any) -> _Op:
    if r.serializable:
        raise NotImplementedError("the twin of etcd reads what is agreed upon: a member of its own may be behind")
    options = (
        r.limit,
        r.revision,
        r.sort_order,
        r.sort_target,
        r.keys_only,
        r.count_only,
        r.min_mod_revision,
        r.max_mod_revision,
        r.min_create_revision,
        r.max_create_revision,
    )
    return ("get", r.key, r.range_end, None if options == _PLAIN else options)


def _delete(delete: Any) -> _Op:
    if delete.prev_kv:
        raise NotImplementedError("the twin of etcd deletes without prev_kv")
    return ("delete", delete.key, delete.range_end)


def _twice(puts: list[_Op], deletes: list[_Op]) -> bool:
    """Is a key put twice, or put and deleted? (A deletion of everything from a key on is not looked at, nor by etcd.)"""
    if len(puts) > 1 and len({op[1] for op in puts}) < len(puts):
        return True
    return any(end != FROM_KEY and covers(start, end, put[1]) for _, start, end in deletes for put in puts)


def covers(start: bytes, end: bytes, key: bytes) -> bool:
    """Is the key in [start, end), as etcd writes a range?"""
    if not end:
        return key == start
    return start <= key and (end == FROM_KEY or key < end)


# --- the store


class Lease:
    __slots__ = ("expiry", "keys", "number", "ttl")

    def __init__(self, number: int, ttl: int) -> None:
        self.number, self.ttl = number, max(ttl, LEASE_TTL_MIN_S)
        self.keys: dict[bytes, None] = {}
        self.expiry: Any = None  # whatever the keeper of time puts here


class Store:
    """The data of one cluster. Each method is one applied request; Refused is raised before anything has changed."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1  # reads and watches from before it are refused
        self.live: dict[bytes, KeyValue] = {}
        self.keys: list[bytes] = []  # of `live`, sorted
        self.leases: dict[int, Lease] = {}
        self.history: list[list[Event]] = [[], []]  # by revision; kept beyond compaction, for checks
        self.on_put: list[Callable[[bytes, bytes], None]] = []
        self.on_revision: Callable[[], None] = lambda: None
        self._events: list[Event] = []  # of the transaction under way

    # --- requests

    def txn(self, txn: Txn) -> TxnAnswer:
        if txn.error is not None:
            raise Refused(*txn.error)
        held = True
        for compare in txn.compares:
            if not self._holds(*compare):
                held = False
                break
        ops = txn.success if held else txn.failure
        for op in ops:
            if op[0] == "put":
                if op[3] and op[3] not in self.leases:
                    raise Refused(*NO_LEASE)
            elif op[0] == "get" and op[3] is not None:
                self._check_revision(op[3][1])
        return self._apply(held, ops)

    def range(self, request: Any) -> RangeAnswer:
        op = _range(request)
        if not op[1]:
            raise Refused(*EMPTY_KEY)
        if op[3] is not None:
            self._check_revision(op[3][1])
        return self._get(*op[1:])

    def compact(self, revision: int) -> Answer:
        if revision <= self.compacted:
            raise Refused(*COMPACTED)
        if revision > self.revision:
            raise Refused(*FUTURE)
        self.compacted = revision
        return Answer()

    def grant(self, number: int, ttl: int) -> Answer:
        if number in self.leases:
            raise Refused(*LEASE_EXISTS)
        lease = self.leases[number] = Lease(number, ttl)
        return Answer(ID=number, TTL=lease.ttl, error="")

    def keep_alive(self, number: int) -> Answer:
        """A TTL of 0 says that there is no such lease."""
        lease = self.leases.get(number)
        return Answer(ID=number, TTL=lease.ttl if lease else 0)

    def revoke(self, number: int) -> Answer:
        lease = self.leases.pop(number, None)
        if lease is None:
            raise Refused(*NO_LEASE)
        for key in sorted(lease.keys):
            self._remove(key)
        self._end()
        return Answer()

    # --- reading

    def select(self, start: bytes, end: bytes) -> list[KeyValue]:
        """What is in [start, end) now, by key."""
        live, keys = self.live, self.keys
        if not end:
            kv = live.get(start)
            return [] if kv is None else [kv]
        stop = len(keys) if end == FROM_KEY else bisect_left(keys, end)
        return [live[key] for key in keys[bisect_left(keys, start) : stop]]

    def prefix(self, start: bytes) -> list[KeyValue]:
        """What begins with these bytes, by key: for checks."""
        return self.select(start, start[:-1] + bytes((start[-1] + 1,)))

    def events(self, since: int, start: bytes, end: bytes) -> Iterable[tuple[int, list[Event]]]:
        """(revision, events in [start, end)) from a revision on, where there are any."""
        for revision in range(since, self.revision + 1):
            found = [event for event in self.history[revision] if covers(start, end, event.kv.key)]
            if found:
                yield revision, found

    def _check_revision(self, revision: int) -> None:
        if revision > self.revision:
            raise Refused(*FUTURE)
        if 0 < revision < self.compacted:
            raise Refused(*COMPACTED)

    def _at(self, revision: int, start: bytes, end: bytes) -> list[KeyValue]:
        """What was in the range at a past revision: the present undone, the newest event first."""
        state = {kv.key: kv for kv in self.select(start, end)}
        for past in reversed([*self.history[revision + 1 :], self._events]):
            for event in reversed(past):
                _undo(state, event, start, end)
        return [state[key] for key in sorted(state)]

    def _get(self, start: bytes, end: bytes, options: tuple[Any, ...] | None) -> RangeAnswer:
        if options is None:
            kvs = self.select(start, end)
            return RangeAnswer(kvs, len(kvs), False)
        limit, revision, order, target, keys_only, count_only, min_mod, max_mod, min_new, max_new = options
        kvs = self._at(revision, start, end) if revision > 0 else self.select(start, end)
        count = len(kvs)
        if count_only:
            return RangeAnswer([], count, False)
        if min_mod or max_mod or min_new or max_new:
            kvs = [
                kv
                for kv in kvs
                if min_mod <= kv.mod_revision
                and (not max_mod or kv.mod_revision <= max_mod)
                and min_new <= kv.create_revision
                and (not max_new or kv.create_revision <= max_new)
            ]
        elif limit > 0 and order == _Range.NONE:
            kvs = kvs[: limit + 1]  # before the sort, where a target is given without an order: etcd does it so
        if target != _Range.KEY or order == _Range.DESCEND:
            kvs.sort(key=_SORT_BY[target], reverse=order == _Range.DESCEND)
        more = 0 < limit < len(kvs)
        if more:
            kvs = kvs[:limit]
        if keys_only:
            kvs = [KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, b"", kv.lease) for kv in kvs]
        return RangeAnswer(kvs, count, more)

    def _holds(self, result: int, target: int, key: bytes, wanted: Any, end: bytes) -> bool:
        kvs = self.select(key, end) if end else [self.live.get(key)]
        if not kvs:
            kvs = [None]
        for kv in kvs:
            if kv is None:
                if target == _Compare.VALUE:
                    return False  # no value is neither equal to one nor different from it
                found: Any = 0
            else:
                found = getattr(kv, _COMPARED[target])
            if result == _Compare.EQUAL:
                held = found == wanted
            elif result == _Compare.NOT_EQUAL:
                held = found != wanted
            elif result == _Compare.GREATER:
                held = found > wanted
            else:
                held = found < wanted
            if not held:
                return False
        return True

    # --- writing

    def _apply(self, held: bool, ops: list[_Op]) -> TxnAnswer:
        responses = []
        for op in ops:
            kind = op[0]
            if kind == "put":
                self._write(op[1], op[2], op[3])
                responses.append(_PUT_DONE)
            elif kind == "get":
                responses.append(OpAnswer(None, self._get(op[1], op[2], op[3])))
            else:
                gone = self.select(op[1], op[2])
                for kv in gone:
                    self._remove(kv.key)
                responses.append(OpAnswer(None, None, DeleteAnswer(len(gone))))
        self._end()
        return TxnAnswer(held, responses)

    def _write(self, key: bytes, value: bytes, lease: int) -> None:
        revision = self.revision + 1
        former = self.live.get(key)
        if former is None:
            kv = KeyValue(key, revision, revision, 1, value, lease)
            insort(self.keys, key)
        else:
            kv = KeyValue(key, former.create_revision, revision, former.version + 1, value, lease)
            if former.lease and former.lease in self.leases:
                del self.leases[former.lease].keys[key]
        if lease:
            self.leases[lease].keys[key] = None
        self.live[key] = kv
        self._events.append(Event(PUT, kv, former))
        for told in self.on_put:
            told(key, value)

    def _remove(self, key: bytes) -> None:
        former = self.live.pop(key)
        del self.keys[bisect_left(self.keys, key)]
        if former.lease and former.lease in self.leases:
            del self.leases[former.lease].keys[key]
        self._events.append(Event(DELETE, KeyValue(key, 0, self.revision + 1, 0, b"", 0), former))

    def _end(self) -> None:
        if self._events:
            self.revision += 1
            self.history.append(self._events)
            self._events = []
            self.on_revision()


def _undo(state: dict[bytes, KeyValue], event: Event, start: bytes, end: bytes) -> None:
    key = event.kv.key
    if covers(start, end, key):
        if event.former is None:
            state.pop(key, None)
        else:
            state[key] = event.former
