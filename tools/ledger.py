"""The books of a simulated issuer or bank: an append-only file of postings and undoings, and balances in memory.

A posting is never refused for having been made before: a second copy of a request stands as a second posting, so that a
double shows. Undoing is idempotent, as at real hosts. Nothing counts before `sync` has returned.
"""

import enum
import hashlib
import os
import time
from collections import defaultdict
from pathlib import Path

import msgspec

FILE = "ledger.jsonl"

Key = tuple[str, ...]  # (RRN, terminal) or (EndToEndId, UETR)


class Posting(msgspec.Struct, tag="posting", tag_field="op", frozen=True):
    """An approved withdrawal (card) or credit (transfer). reference: what an undoing must name besides the key."""

    number: int
    time: float  # epoch seconds
    key: Key
    reference: str  # the STAN, or the MsgId
    account: str  # a token of the PAN or account, see `account_token`
    amount: int  # minor units
    currency: str


class Undoing(msgspec.Struct, tag="undoing", tag_field="op", frozen=True):
    """A reversal or negative confirmation. posting: the number it took back; None when none stood."""

    number: int
    time: float
    key: Key
    reference: str
    posting: int | None


Entry = Posting | Undoing


class Undone(enum.Enum):
    """What an undoing found."""

    APPLIED = enum.auto()
    REPEATED = enum.auto()
    NOTHING = enum.auto()


def account_token(identification: str) -> str:
    """A stable name of an account that tells nothing of its PAN or number."""
    return hashlib.blake2b(identification.encode(), digest_size=8, person=b"sim-account").hexdigest()


class Ledger:
    """One set of books. Opening a folder that has some goes on with them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        self.balances: defaultdict[str, int] = defaultdict(int)
        self._standing: defaultdict[Key, list[Posting]] = defaultdict(list)
        self._posted: set[Key] = set()
        self._undone: set[tuple[Key, str]] = set()
        self._number = 0
        self._unsynced: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode
        whole = 0
        if path.exists():
            for entry in read_ledger(path):
                self._book(entry)
            whole = path.read_bytes().rfind(b"\n") + 1
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.ftruncate(self._fd, whole)  # a line half-written by a killed process was never answered for

    def post(self, key: Key, reference: str, account: str, amount: int, currency: str) -> None:
        self._append(Posting(self._number + 1, time.time(), key, reference, account, amount, currency))

    def undo(self, key: Key, reference: str) -> Undone:
        """Take back the posting with this key and reference. A second time changes nothing."""
        if (key, reference) in self._undone:
            return Undone.REPEATED
        posting = next((posting for posting in self._standing[key] if posting.reference == reference), None)
        self._append(Undoing(self._number + 1, time.time(), key, reference, posting and posting.number))
        return Undone.APPLIED if posting else Undone.NOTHING

    def posted(self, key: Key) -> bool:
        """A posting with this key was made, undone or not."""
        return key in self._posted

    def undone(self, key: Key, reference: str) -> bool:
        """An undoing of this key and reference is known, even if it came before what it undoes."""
        return (key, reference) in self._undone

    @property
    def dirty(self) -> bool:
        return bool(self._unsynced)

    def sync(self) -> None:
        """Make all entries so far durable with one write and one fdatasync."""
        if self._unsynced:
            data = b"".join(self._unsynced)
            self._unsynced.clear()
            while data:
                data = data[os.write(self._fd, data) :]
            os.fdatasync(self._fd)

    def close(self) -> None:
        self.sync()
        os.close(self._fd)

    def _append(self, entry: Entry) -> None:
        self._book(entry)
        self._unsynced.append(self._encode(entry) + b"\n")

    def _book(self, entry: Entry) -> None:
        self._number = entry.number
        if isinstance(entry, Posting):
            self._posted.add(entry.key)
            self._standing[entry.key].append(entry)
            self.balances[entry.account] += entry.amount
            return
        self._undone.add((entry.key, entry.reference))
        for posting in self._standing[entry.key]:
            if posting.number == entry.posting:
                self._standing[entry.key].remove(posting)
                self.balances[posting.account] -= posting.amount
                return


def read_ledger(path: Path) -> list[Entry]:
    """All whole entries of a ledger file; a half-written last line is left out."""
    decode = msgspec.json.Decoder(Entry).decode
    return [decode(line) for line in path.read_bytes().split(b"\n")[:-1]]
