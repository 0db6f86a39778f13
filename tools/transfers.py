"""The injector's bank sessions: pacs.008 out, pacs.002 in, one outstanding at a time or several in a pipeline."""

import random
import re
import time
from collections import deque
from datetime import UTC, datetime

import msgspec

from tools.client import Connection, End, Wiring
from tools.fleet import Fleet
from tools.measure import Tally
from tools.transfer_requests import TYPE, TransferRequest, TransferTemplate

APPROVED = frozenset(("ACSC", "ACSP", "ACCC", "ACCP", "ACWC"))
INTERIM = frozenset(("PDNG", "RCVD", "ACTC"))
_ANSWERED = re.compile(rb"OrgnlEndToEndId>\s*([^<\s]+)\s*<")
_STATUS = re.compile(rb"(?:TxSts|GrpSts)>\s*(\w+)\s*<")


class Pending(msgspec.Struct):
    """A transfer that waits. since: what its latency is measured from."""

    request: TransferRequest
    since: float


class Banks(Fleet):
    """All bank sessions. `send` takes one that may send."""

    def __init__(
        self,
        addresses: list[tuple[str, int]],
        count: int,
        templates: list[TransferTemplate],
        wiring: Wiring,
        tally: Tally,
        dice: random.Random,
        pipeline: int,
    ) -> None:
        super().__init__(addresses, wiring, tally)
        self.pipeline = pipeline
        self.idle: deque[BankSession] = deque()  # a session is in it as often as it may send
        self._templates = templates
        self._dice = dice
        self._number = 0
        self._run = f"{int(time.time() * 10) % 10**10:010d}"
        self.users = [BankSession(self) for _ in range(count)]

    def send(self, intended: float, now: float) -> bool:
        """One transfer on the session that has waited longest; False when all are at their limit."""
        if not self.idle:
            return False
        self._number += 1
        template = self._templates[self._number % len(self._templates)]
        request = template.build(self._run, self._number, datetime.now(UTC), self._dice)
        self.idle.popleft().request(request, intended, now)
        return True


class BankSession:
    """One bank's connection to the switch."""

    def __init__(self, fleet: Banks) -> None:
        self._fleet = fleet
        self._connection: Connection | None = None
        self._pending: dict[str, Pending] = {}  # by end-to-end id

    def request(self, request: TransferRequest, intended: float, now: float) -> None:
        assert self._connection
        self._pending[request.end_to_end_id] = Pending(request, intended)
        frame = self._fleet.wiring.framer.frame(request.payload)
        offset = self._connection.send(frame, now)
        self._fleet.tally.on_sent(now)
        key = (request.end_to_end_id, request.uetr)
        self._connection.record.on_message("out", offset, len(frame), now, TYPE, key, request.amount)

    def on_connected(self, connection: Connection) -> None:
        self._connection = connection
        self._fleet.idle.extend([self] * self._fleet.pipeline)

    def on_frame(self, payload: bytes, offset: int, length: int, now: float) -> None:
        assert self._connection
        record, tally = self._connection.record, self._fleet.tally
        answered, status = _ANSWERED.search(payload), _STATUS.search(payload)
        end_to_end_id = answered[1].decode() if answered else ""
        code = status[1].decode() if status else ""
        pending = self._pending.get(end_to_end_id)
        if pending is None:
            tally.unexpected += 1
            record.on_message("in", offset, length, now, "unexpected")
            return
        key = (end_to_end_id, pending.request.uetr)
        record.on_message("in", offset, length, now, "pacs.002", key, pending.request.amount, code)
        if code not in INTERIM:
            del self._pending[end_to_end_id]
            tally.on_answer(pending.since, now, code in APPROVED)
            self._fleet.idle.append(self)

    def on_end(self, how: End) -> None:
        self._connection = None
        self._pending.clear()  # nobody asks again: they stay lost
        idle = self._fleet.idle
        for _ in range(idle.count(self)):
            idle.remove(self)
        self._fleet.on_end(self, how)
