"""Data keys: short-lived keys for the bytes of requests on their way, destroyed when the state needs them no longer.

Both nodes map one small file of the run directory (a tmpfs), as with the marks of poison.py: what one writes there the other
has, it outlives the processes but not the host, and zeroing a slot destroys the only copy at once for both. Keys are never in
etcd. A node writes slots of its own; those of a node that is no more are zeroed by the other.

The life of a key: made when first needed; retired after `data_key_minutes`; destroyed when every entry in which it may stand
is applied, nothing in the state is sealed with it, and both nodes have applied as far as that.
"""

import logging
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.structs import replace

from switch.core.proposals import Piece, Proposal, Request, Resend
from switch.core.records import Session
from switch.core.sealed import KEY_ID_BYTES, KeyGone, Sealed, sealed_in
from switch.core.state import State
from switch.ops.logs import event
from switch.points import reach
from switch.shared_file import mapped

log = logging.getLogger("switch.datakeys")

VERSION = 3  # of entries, from which on they hold sealed frames
NODES = ("a", "b")
SLOTS = 128  # of each node
KEY_BYTES = 32
SEEN_EVERY_S = 1.0
_BODY = struct.Struct("<Id32s")  # number of the incarnation that made it, when (CLOCK_MONOTONIC), key
SLOT_BYTES = KEY_ID_BYTES + _BODY.size
_SLOT = struct.Struct(f"<{KEY_ID_BYTES}sId{KEY_BYTES}x")  # all of it but the key, of which no copy is made
SIZE = 16_384
_COUNT = struct.Struct("<Q")
_NONE = bytes(KEY_ID_BYTES)


class Slot(msgspec.Struct, frozen=True):
    """A key in the file, without the key."""

    at: int
    node: str
    key_id: bytes
    incarnation: int
    made: float


class DataKeys:
    """The data keys of a pair, as one node has them: seals with its own newest one, opens with all."""

    def __init__(self, path: Path, node: str, minutes: float) -> None:
        self._map = mapped(path, SIZE)
        self._node = node
        self._period_s = minutes * 60
        self._incarnation = 0
        self._current: Slot | None = None
        self._cipher: AESGCM | None = None
        self._head = b""
        self._count = 0  # values sealed with the current key: the nonce of the next
        self._ciphers: dict[bytes, AESGCM] = {}
        self._retired: dict[bytes, int] = {}  # own keys: index applied when they had sealed their last
        self._free: dict[bytes, int] = {}  # keys that nothing in the state needs: since which index
        self._last = 0  # slot written last
        self._look_at = 0.0
        self.alive = 0  # keys of both nodes, when last looked

    def begin(self, incarnation: int) -> None:
        """This process is that incarnation of its node."""
        self._incarnation = incarnation

    # --- sealing

    def sealed(self, proposal: Proposal, version: int) -> Proposal:
        """The proposal as it may go into an entry of that version."""
        if version >= VERSION:
            if isinstance(proposal, Request | Resend):
                if isinstance(proposal.frame, bytes):
                    return replace(proposal, frame=self.seal(proposal.frame))
            elif isinstance(proposal, Piece) and isinstance(proposal.data, bytes):
                return replace(proposal, data=self.seal(proposal.data))
        return proposal

    def seal(self, plain: bytes) -> Sealed:
        if self._cipher is None:
            self._cipher = self._make()
        count = _COUNT.pack(self._count)
        self._count += 1
        return Sealed(self._head + count + self._cipher.encrypt(b"\0\0\0\0" + count, plain, None))

    def open(self, data: bytes | Sealed) -> bytes:
        """The inverse of `seal`, for what may be sealed. Raises KeyGone."""
        if isinstance(data, bytes):
            return data
        value = data.value
        cipher = self._ciphers.get(data.key) or self._find(data.key)
        body = KEY_ID_BYTES + _COUNT.size
        try:
            return cipher.decrypt(b"\0\0\0\0" + value[KEY_ID_BYTES:body], value[body:], None)
        except InvalidTag:  # the key is zeros already: its destroyer died before the id was
            raise _gone(data.key) from None

    def piece(self, session: Session) -> bytes:
        """The session's input of a frame that is not whole. Raises KeyGone."""
        piece = session.piece
        return piece if isinstance(piece, bytes) else b"".join([self.open(part) for part in piece])

    def _find(self, key_id: bytes) -> AESGCM:
        for slot in self._slots():
            if slot.key_id == key_id:
                key = _BODY.unpack_from(self._map, slot.at + KEY_ID_BYTES)[2]
                cipher = self._ciphers[key_id] = AESGCM(key)
                return cipher
        raise _gone(key_id)

    # --- the life of keys

    def _make(self) -> AESGCM:
        at = self._vacant()
        if at is None:
            raise KeyGone("no slot is left for a data key")
        key_id, key = os.urandom(KEY_ID_BYTES), os.urandom(KEY_BYTES)
        reach("key.before")
        made = time.monotonic()
        _BODY.pack_into(self._map, at + KEY_ID_BYTES, self._incarnation, made, key)
        self._map[at : at + KEY_ID_BYTES] = key_id  # last: a key is whole or not there
        reach("key.after")
        self._last = at
        self._current = Slot(at, self._node, key_id, self._incarnation, made)
        self._head, self._count = key_id, 0
        cipher = self._ciphers[key_id] = AESGCM(key)
        return cipher

    def _vacant(self) -> int | None:
        """A free slot of ours, in turn: one that was zeroed just now is the last to be used again."""
        first = NODES.index(self._node) * SLOTS * SLOT_BYTES
        turn = (self._last - first) // SLOT_BYTES + 1 if self._last else 0
        for number in range(turn, turn + SLOTS):
            at = first + number % SLOTS * SLOT_BYTES
            if self._map[at : at + KEY_ID_BYTES] == _NONE:
                return at
        return None

    def _slots(self) -> Iterator[Slot]:
        slots = _SLOT.iter_unpack(memoryview(self._map)[: len(NODES) * SLOTS * SLOT_BYTES])
        for number, (key_id, incarnation, made) in enumerate(slots):
            if key_id != _NONE:
                yield Slot(number * SLOT_BYTES, NODES[number // SLOTS], key_id, incarnation, made)

    def rotate(self, index: int) -> bool:
        """Seal with a new key from here on. False where there is no room for one, or none is in use. `index`: applied now."""
        if self._current is None or self._vacant() is None:
            return False
        self._retired[self._current.key_id] = index
        self._current = self._cipher = None
        return True

    def tend(self, state: State, me: str) -> None:
        """Retire and destroy what is due. To be called often, with the state and the id of this incarnation."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + min(SEEN_EVERY_S, self._period_s / 2)
        if self._current is not None and now - self._current.made >= self._period_s and not self.rotate(state.index):
            event(log, logging.WARNING, "key.kept", keys=SLOTS, do="see why requests wait in outboxes: switchctl sessions")
        idle = [slot for slot in self._slots() if self._unused(slot, state, me)]
        if idle:
            needed = {each.key for each in sealed_in(state)}
            reached = min(item.applied for item in state.incarnations.values() if not state.over(item.id))
            for slot in idle:
                if slot.key_id not in needed and reached >= self._free.setdefault(slot.key_id, state.index):
                    self._destroy(slot)
        present = {slot.key_id for slot in self._slots()}
        self.alive = len(present)
        for known in (self._ciphers, self._retired, self._free):
            for key_id in [key_id for key_id in known if key_id not in present]:
                del known[key_id]

    def _unused(self, slot: Slot, state: State, me: str) -> bool:
        """Whether all that it sealed is applied, and it is ours to destroy."""
        if slot.node == self._node:
            if slot.incarnation != self._incarnation:
                return slot.incarnation < self._incarnation  # a life before: the join has fenced it
            # a heartbeat that was made after the last use stands behind it in the log
            return slot.key_id in self._retired and state.incarnations[me].applied > self._retired[slot.key_id]
        newest = state.incarnations.get(state.nodes.get(slot.node, ""))
        return newest is not None and slot.incarnation <= newest.number and state.over(newest.id)

    def _destroy(self, slot: Slot) -> None:
        reach("destroy.before")
        body = slot.at + KEY_ID_BYTES
        self._map[body : body + _BODY.size] = bytes(_BODY.size)
        reach("destroy.after")
        self._map[slot.at : body] = _NONE  # last: what has an id may still hold a key
        event(log, logging.INFO, "key.destroyed", key=slot.key_id.hex(), node=slot.node, incarnation=slot.incarnation)

    def health(self) -> dict[str, float | None]:
        """Figures for operators: age of the key that seals here, and how many keys there are of both nodes."""
        age = None if self._current is None else round(time.monotonic() - self._current.made, 1)
        return {"age_s": age, "alive": self.alive}


def _gone(key_id: bytes) -> KeyGone:
    event(log, logging.ERROR, "key.gone", key=key_id.hex(),
          do="was the run directory emptied while sessions were open? RuntimeDirectoryPreserve=yes keeps it")  # fmt: skip
    return KeyGone(f"data key {key_id.hex()} is gone")


def in_memory(directory: Path) -> bool:
    """Whether the directory is on a tmpfs or ramfs (proc(5), mountinfo): what is zeroed on a disk may be there still."""
    mounts: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounts[Path(before.split()[4])] = after.split()[0]
    place = directory.resolve()
    return next(mounts[each] for each in (place, *place.parents) if each in mounts) in ("tmpfs", "ramfs")
