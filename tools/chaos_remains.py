"""What a run leaves behind: nothing of cards and accounts in clear, in etcd or in the nodes' logs, and a truncated log.

No text of this file shows what was found.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import etcd3.etcdrpc
import grpc

from tools.cards import BINS, luhn_digit

stubs: Any = etcd3.etcdrpc  # generated, without types
CALL_S = 20.0
FOUND_SHOWN = 10
# The log is cut back to each snapshot, but not beyond what a dead or joining node has applied: then with the next one.
SNAPSHOTS_OF_LOG = 3
QUIET_S = 60.0  # of heartbeats, beside: a snapshot may have to wait for etcd
SNAPSHOTS_LEFT = 4  # the newest, one that is being written, and those whose writer was killed meanwhile

_BINS = tuple(each.encode() for each in BINS)
_DIGITS = re.compile(rb"[0-9]{16,}")
_HEX = re.compile(rb"[0-9A-Fa-f]{32,}")
_ACCOUNT = re.compile(rb"[A-Z]{2}TEST[0-9]{12}")  # as tools/transfer_requests.py makes them


def exposed(data: bytes) -> str:
    """What these bytes show of the injector's cards and accounts: "" when nothing.

    It is looked for as text, as digits packed in nibbles at either place (BCD), and as either of them written in hex.
    """
    shown = _text_shows(data) or _text_shows(data.hex().encode())
    for run in _HEX.finditer(data):
        for place in (0, 1):
            digits = run[0][place:]
            shown = shown or _text_shows(bytes.fromhex(digits[: len(digits) // 2 * 2].decode()))
    return shown


def _text_shows(text: bytes) -> str:
    if any(_is_pan(run[0][at : at + 16]) for run in _DIGITS.finditer(text) for at in range(len(run[0]) - 15)):
        return "a card's number"
    return "an account's number" if _ACCOUNT.search(text) else ""


def _is_pan(digits: bytes) -> bool:
    return digits.startswith(_BINS) and luhn_digit(digits[:-1].decode()) == chr(digits[-1])


def exposures(values: Iterable[tuple[bytes, bytes]], logs: Iterable[Path]) -> list[str]:
    """Findings: which keys of etcd and which lines of logs show card or account data."""
    found = [f"etcd has {what} in clear under {key.decode()}" for key, value in values if (what := exposed(value))]
    for log in logs:
        with log.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if what := exposed(line):
                    found.append(f"{log.name} shows {what} in line {number}")
    more = [f"... and {len(found) - FOUND_SHOWN} places more"] if len(found) > FOUND_SHOWN else []
    return found[:FOUND_SHOWN] + more


def overgrown(keys: Iterable[bytes], prefix: bytes, snapshot_entries: int, heartbeat_ms: int) -> list[str]:
    """Findings: more entries of the log, or snapshots, than can be due under a pair's prefix."""
    entries, snapshots = 0, set()
    for key in keys:
        kind, _, rest = key.removeprefix(prefix).partition(b"/")
        index = rest.partition(b"/")[0]
        entries += kind == b"log"
        if kind == b"snapshot" and index.isdigit():
            snapshots.add(index)
    bound = SNAPSHOTS_OF_LOG * snapshot_entries + int(2 * QUIET_S * 1000 / heartbeat_ms)
    found = [f"the log is not truncated: {entries} entries are left in etcd, and {bound} at most can be due"]
    found = found if entries > bound else []
    if len(snapshots) > SNAPSHOTS_LEFT:
        found.append(f"old snapshots are not deleted: etcd has chunks of {len(snapshots)}")
    return found


def stored(endpoint: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values that begin so, as of one moment. Raises RuntimeError when etcd does not tell."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(endpoint.removeprefix("http://"), options) as channel:
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        try:
            answer = stubs.KVStub(channel).Range(stubs.RangeRequest(key=prefix, range_end=end), timeout=CALL_S)
        except grpc.RpcError as error:
            raise RuntimeError(f"etcd was not to be read in the end: {error.details()}") from None
        yield from ((kv.key, kv.value) for kv in answer.kvs)
