"""Requests that the switch declined by itself: told a decline, though neither issuer nor bank had answered so.

With hosts that answer all in time there is one reason for it: the request outlived its timer while the log stood still.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from tools.judge import APPROVED, INTERIM
from tools.record import lives

ANSWERS = ("0210", "pacs.002")  # to requests, not to advices and reversals
GRAIN_S = 0.5  # of the switch's timers: its clock goes by heartbeats (switch/core/rules.py), one of each node


class Decline(msgspec.Struct, frozen=True):
    """A decline of the switch. asked, told: epoch seconds. reference: the RRN or end-to-end id."""

    reference: str
    code: str
    asked: float
    told: float

    @property
    def waited_s(self) -> float:
        return self.told - self.asked


class Standstill(msgspec.Struct, frozen=True):
    """When a fault held up the log, or sessions: epoch seconds."""

    begin: float
    end: float


class _Message(msgspec.Struct):
    """Of a tools.record.MessageLine what is needed here."""

    time: float
    direction: Literal["in", "out"]
    type: str
    key: tuple[str, ...] = ()
    code: str = ""

    @property
    def declines(self) -> bool:
        status = self.code.partition("/")[0]
        return bool(self.key and status) and self.type.startswith(ANSWERS) and status not in APPROVED | INTERIM


def declined_by_switch(inject: Path, hosts: Iterable[Path]) -> list[Decline]:
    """By the injector's records and the hosts', in the order in which they were told."""
    by_hosts = {seen.key[0] for host in hosts for seen in _messages(host) if seen.direction == "out" and seen.declines}
    asked: dict[str, float] = {}
    found = []
    for seen in _messages(inject):
        if seen.direction == "out":
            asked.setdefault(seen.key[0], seen.time)
        elif seen.declines and seen.key[0] not in by_hosts:
            found.append(Decline(seen.key[0], seen.code, asked[seen.key[0]], seen.time))
    return found


def unexcused(declines: Iterable[Decline], standstills: Iterable[Standstill], timer_s: float) -> list[Decline]:
    """Those that came before the timer of requests was over, or in whose time the log did not stand still."""
    stood = list(standstills)
    return [
        each for each in declines
        if each.waited_s < timer_s - GRAIN_S or not any(s.begin < each.told and s.end > each.asked for s in stood)
    ]  # fmt: skip


def _messages(folder: Path) -> Iterator[_Message]:
    decode = msgspec.json.Decoder(_Message).decode
    for life in lives(folder):
        with (folder / f"messages-{life}.jsonl").open("rb") as lines:
            yield from map(decode, lines)
