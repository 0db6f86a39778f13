"""What a node is at while it parses a frame or applies an entry: marks in a small mapped file that outlives both nodes.

A frame that ended the process of two owners is quarantined (the heir entry carries the mark, so the log knows); an entry that
ended the same node three times while it was applied stops it, with a clear message, rather than letting it loop. Deaths are
counted for each node: both apply an entry at the same time, so whatever kills both at once finds both at the same entry.

A mark names its process: the node's next life may have begun before the heir looks for it, and be at something itself.
"""

import struct
from hashlib import blake2b
from pathlib import Path

from switch.shared_file import mapped

SIZE = 4096
SLOT = {"a": 0, "b": 256}
FORMER_SLOT = {"a": 512, "b": 768}  # what the life before was at when it died
TEXT_MAX = 200
ENTRY_AT = {"a": 1024, "b": 1040}  # (index, deaths in a row) of the entry that ended the node last
DEATHS_MAX = 3
_LENGTH = struct.Struct("<H")
_ENTRY = struct.Struct("<QI")
_ENTRY_MARK = b"entry "


class PoisonEntry(Exception):
    """The same entry ended this node repeatedly. The text says what to do."""


class Poison:
    """The marks of both nodes of a pair; this node writes its own."""

    def __init__(self, path: Path, node: str, pid: int) -> None:
        self._map = mapped(path, SIZE)
        self._at = SLOT[node]
        self._pid = b"%d " % pid

    def frame(self, session: str, start: int, payload: bytes) -> str:
        """Mark a frame that is about to be parsed; its identity."""
        digest = blake2b(payload, digest_size=8).hexdigest()
        mark = f"{session}@{start}:{digest}"
        self._write(mark.encode())
        return mark

    def entry(self, index: int) -> None:
        """Mark an entry that is about to be applied."""
        self._write(b"entry %d" % index)

    def _write(self, mark: bytes) -> None:
        self._put(self._at, self._pid + mark)

    def _put(self, at: int, text: bytes) -> None:
        body = at + _LENGTH.size
        self._map[body : body + len(text)] = text
        _LENGTH.pack_into(self._map, at, len(text))  # last: a mark is whole or not there

    def clear(self) -> None:
        """It went well."""
        _LENGTH.pack_into(self._map, self._at, 0)

    def _read(self, at: int) -> tuple[str, str]:
        """The process and its mark."""
        (length,) = _LENGTH.unpack_from(self._map, at)
        text = bytes(self._map[at + _LENGTH.size : at + _LENGTH.size + min(length, TEXT_MAX)]).decode("ascii", "replace")
        pid, _, mark = text.partition(" ")
        return pid, mark

    def frame_of(self, node: str, pid: int) -> str:
        """The frame at which that process of a node died; "" when it was not at one."""
        for at in (SLOT[node], FORMER_SLOT[node]):
            process, mark = self._read(at)
            if process == str(pid) and not mark.startswith(_ENTRY_MARK.decode()):
                return mark
        return ""

    def begin(self, node: str) -> None:
        """This node starts: count an entry at which it died. Raises PoisonEntry when that was so too often in a row."""
        pid, mark = self._read(SLOT[node])
        if mark:
            self._put(FORMER_SLOT[node], f"{pid} {mark}".encode())
        self.clear()
        if not mark.startswith(_ENTRY_MARK.decode()):
            return
        index = int(mark[len(_ENTRY_MARK) :])
        known, deaths = _ENTRY.unpack_from(self._map, ENTRY_AT[node])
        deaths = deaths + 1 if known == index else 1
        _ENTRY.pack_into(self._map, ENTRY_AT[node], index, deaths)
        if deaths >= DEATHS_MAX:
            raise PoisonEntry(
                f"entry {index} ended this node {deaths} times while it was applied: it stops. "
                "Keep etcd's data and the logs, and report them; a version that can apply it goes on by itself"
            )
