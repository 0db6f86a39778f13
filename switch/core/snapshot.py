"""The state as bytes: a view taken in an instant, encoded in slices; and back.

Chunks are msgpack lists of [table, key, item], the first one begins with the header [index, hash]. Closed segments of
outcomes never change and are written once: they are encoded apart, by their number.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from switch.core.books import JournalItem, Total
from switch.core.records import (
    Advice,
    Breaker,
    CardUse,
    Finished,
    Incarnation,
    Meta,
    Rate,
    Record,
    Session,
    Transaction,
)
from switch.core.state import State

CHUNK_ITEMS = 200
CHUNK_BYTES = 400_000
LAST, CONTINUED = b"\0", b"\1"  # how a chunk begins: whole or the end of one, or to be continued by the next
_encode = msgspec.msgpack.Encoder().encode


class SnapshotError(Exception):
    """A snapshot that is damaged, or of a state this version does not know."""


class Table(msgspec.Struct, frozen=True):
    """How a table of items is read back and put."""

    key: Any
    item: Any
    put: str


TABLES: dict[str, Table] = {
    "meta": Table(None, Meta, "put_meta"),
    "incarnations": Table(str, Incarnation, "put_incarnation"),
    "sessions": Table(str, Session, "put_session"),
    "transactions": Table(int, Transaction, "put_transaction"),
    "advices": Table(int, Advice, "put_advice"),
    "outcomes": Table(bytes, Finished, "put_outcome"),
    "stans": Table(str, int, "put_stan"),
    "closed": Table(int, int, "put_closed"),
    "marks": Table(str, int, "put_mark"),
    "dates": Table(str, str, "put_date"),
    "breakers": Table(str, Breaker, "put_breaker"),
    "paces": Table(str, int, "put_pace"),
    "rates": Table(str, Rate, "put_rate"),
    "cards": Table(bytes, CardUse, "put_card"),
    "journal": Table(int, JournalItem, "put_journal"),
    "totals": Table(str, Total, "put_total"),
}
Row = tuple[str, Any, Any]


def segment_name(number: int) -> str:
    return f"{number:010d}"


class View:
    """The state at one index, whatever is applied later: items are immutable, so shallow copies are enough."""

    def __init__(self, state: State) -> None:
        self.index = state.index
        self._hash = state.hash()
        self._tables: list[tuple[str, dict[Any, Any]]] = [
            ("meta", {None: state.meta}),
            *((name, dict(getattr(state, name))) for name in TABLES if name not in ("meta", "outcomes")),
            ("outcomes", {key: state.outcomes[key] for key in state.segments.get(state.meta.segment, ())}),
        ]
        self._segments = {
            number: {key: state.outcomes[key] for key in keys}
            for number, keys in state.segments.items()
            if number in state.closed
        }

    def chunks(self) -> Iterator[bytes]:
        """Slices of at most some hundred items and 400 KB; a larger item (a session's outbox) takes several."""
        rows: list[bytes] = [_encode(("header", self.index, self._hash))]
        size = 0
        for name, items in self._tables:
            for key in sorted(items) if name != "meta" else items:
                row = _encode((name, key, items[key]))
                rows.append(row)
                size += len(row)
                if len(rows) >= CHUNK_ITEMS or size >= CHUNK_BYTES:
                    yield from _cut(_joined(rows))
                    rows, size = [], 0
        if rows:
            yield from _cut(_joined(rows))

    def segments(self) -> dict[str, Callable[[], bytes]]:
        """The closed segments, each encoded when asked for."""

        def encoder(keys: dict[bytes, Finished]) -> Callable[[], bytes]:
            return lambda: _joined([_encode(("outcomes", key, keys[key])) for key in sorted(keys)])

        return {segment_name(number): encoder(keys) for number, keys in sorted(self._segments.items())}


def _cut(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        end = start + CHUNK_BYTES
        yield (CONTINUED if end < len(data) else LAST) + data[start:end]


def _whole(chunks: list[bytes]) -> list[bytes]:
    """The inverse of `_cut`, over all chunks. Raises ValueError for chunks that begin otherwise, or do not end."""
    whole: list[bytes] = []
    parts: list[bytes] = []
    for chunk in chunks:
        if chunk[:1] not in (LAST, CONTINUED):
            raise ValueError("not a chunk")
        parts.append(chunk[1:])
        if chunk[:1] == LAST:
            whole.append(b"".join(parts))
            parts = []
    if parts:
        raise ValueError("a chunk that ends too early")
    return whole


def _joined(rows: list[bytes]) -> bytes:
    return _encode([msgspec.Raw(row) for row in rows])


def load(index: int, chunks: list[bytes], segments: dict[str, bytes]) -> State:
    """The state of a snapshot. Raises SnapshotError when it is not what was written (its hash is compared)."""
    state = State()
    header: Row | None = None
    try:
        for part in [*(segments[name] for name in sorted(segments)), *_whole(chunks)]:
            for row in msgspec.msgpack.decode(part, type=list[tuple[str, Any, Any]]):
                if row[0] == "header":
                    header = row
                else:
                    _put(state, row)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SnapshotError(f"snapshot {index} cannot be read ({type(error).__name__})") from None
    state.commit()
    state.index = index
    if header is None or header[1] != index or header[2] != state.hash():
        raise SnapshotError(f"snapshot {index} is incomplete or damaged: its hash differs")
    return state


def _put(state: State, row: Row) -> None:
    name, key, item = row
    table = TABLES[name]
    key = msgspec.convert(key, table.key, strict=False) if table.key is not None else None
    typed = msgspec.convert(item, table.item) if isinstance(item, list) and issubclass(table.item, Record) else item
    getattr(state, table.put)(key, typed)
