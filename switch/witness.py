"""How much of the log this host has seen applied: in a small mapped file that outlives both nodes.

A node that lives notices when etcd answers from before what it has applied. When both have ended nobody would: of an etcd
whose data was restored from a backup, or lost in part, they would decide again what was decided and told since then; a
payment that was approved would time out and be reversed, and its row in the journal would be another's.
"""

import struct
from hashlib import blake2b
from pathlib import Path

from switch.mirror.errors import MirrorError
from switch.shared_file import mapped

SIZE = 4096
SLOT = {"a": 0, "b": 256}
_SLOT = struct.Struct("@16sQ")  # of which log, index of the last entry applied; native: an index is never seen half written
_INDEX = struct.Struct("@Q")
_INDEX_AT = 16


class WentBack(MirrorError):
    """The log in etcd ends before what this host has applied of it. The text says what to do."""


class Witness:
    """What both nodes of a pair have applied; this node writes its own."""

    def __init__(self, path: Path, node: str) -> None:
        self._path = path
        self._map = mapped(path, SIZE)
        self._at = SLOT[node]
        self._origin = ""

    def saw(self, origin: str, index: int) -> None:
        """This entry of the log with that origin is applied."""
        if origin != self._origin:
            self._origin = origin
            _SLOT.pack_into(self._map, self._at, bytes(16), 0)  # never one log's index under another's name
            _SLOT.pack_into(self._map, self._at, _name(origin), 0)
        _INDEX.pack_into(self._map, self._at + _INDEX_AT, index)

    def last(self) -> dict[bytes, int]:
        """By log: the last entry that was applied here. To be read before the log is."""
        found: dict[bytes, int] = {}
        for at in SLOT.values():
            name, index = _SLOT.unpack_from(self._map, at)
            found[name] = max(found.get(name, 0), index)
        return found

    def check(self, last: dict[bytes, int], origin: str, index: int) -> None:
        """The log as it was read since then, with this origin, ends at `index`, or later. Raises WentBack."""
        applied = last.get(_name(origin), 0) if origin else 0
        if index < applied:
            raise WentBack(
                f"the log in etcd ends at entry {index}, and {applied} was applied on this host: etcd's data was lost or "
                "restored from before. What was decided since then would be decided again. Bring the newer data back; only "
                f"if it is lost, and what is in flight and in lanes of that time is settled by hand, remove {self._path}"
            )


def _name(origin: str) -> bytes:
    return blake2b(origin.encode(), digest_size=16).digest()
