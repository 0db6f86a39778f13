"""The injector's bank sessions: pacs.008 out, pacs.002 in, one outstanding at a time or several in a pipeline.

Some transfers are sent twice, byte for byte, on the same session or on another one: each has its answer where it was sent.
"""

import asyncio
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
REPEAT_WITHIN_S = 0.05
SETTLED_MAX = 1000  # transfers of a session to which another answer may come
_ANSWERED = re.compile(rb"OrgnlEndToEndId>\s*([^<\s]+)\s*<")
_STATUS = re.compile(rb"(?:TxSts|GrpSts)>\s*(\w+)\s*<")


class Pending(msgspec.Struct):
    """A transfer that waits. since: what its latency is measured from. owed: a repeat was sent after its last answer."""

    request: TransferRequest
    since: float
    messages: int = 1  # sent on this session
    answers: int = 0
    owed: bool = False


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
        repeats: float = 0.0,
    ) -> None:
        """repeats: so many transfers, of 1, are sent again soon after, answered or not."""
        super().__init__(addresses, wiring, tally)
        self.pipeline = pipeline
        self.idle: deque[BankSession] = deque()  # a session is in it as often as it may send
        self._templates = templates
        self._dice = dice
        self._repeats = repeats
        self._number = 0
        self._run = f"{int(time.time() * 10) % 10**10:010d}"
        self._sessions = [BankSession(self) for _ in range(count)]
        self.users = [*self._sessions]

    def send(self, intended: float, now: float) -> bool:
        """One transfer on the session that has waited longest; False when all are at their limit."""
        if not self.idle:
            return False
        self._number += 1
        template = self._templates[self._number % len(self._templates)]
        request = template.build(self._run, self._number, datetime.now(UTC), self._dice)
        session = self.idle.popleft()
        session.request(request, intended, now)
        if self._repeats and self._dice.random() < self._repeats:
            again = session if self._dice.random() < 0.5 else self._dice.choice(self._sessions)
            delay_s = self._dice.uniform(0, REPEAT_WITHIN_S)
            asyncio.get_running_loop().call_later(delay_s, again.repeat, request)
        return True


class BankSession:
    """One bank's connection to the switch."""

    def __init__(self, fleet: Banks) -> None:
        self._fleet = fleet
        self._connection: Connection | None = None
        self._pending: dict[str, Pending] = {}  # by end-to-end id
        self._settled: dict[str, Pending] = {}  # answered, or sent on another session first

    def request(self, request: TransferRequest, intended: float, now: float) -> None:
        self._pending[request.end_to_end_id] = Pending(request, intended)
        self._send(request, now)
        self._fleet.tally.on_sent(now)

    def repeat(self, request: TransferRequest) -> None:
        """The same message once more, whoever sent it first."""
        if self._connection is None or self._fleet.closing:
            return
        now, tally = time.monotonic(), self._fleet.tally
        pending = self._pending.get(request.end_to_end_id)
        if pending is None:
            pending = self._settle(self._settled.get(request.end_to_end_id) or Pending(request, now, messages=0))
            pending.owed = True
            tally.on_owed()
        pending.messages += 1
        tally.repeats += 1
        self._send(request, now)

    def _settle(self, pending: Pending) -> Pending:
        self._settled[pending.request.end_to_end_id] = pending
        if len(self._settled) > SETTLED_MAX:
            del self._settled[next(iter(self._settled))]
        return pending

    def _send(self, request: TransferRequest, now: float) -> None:
        assert self._connection
        frame = self._fleet.wiring.framer.frame(request.payload)
        offset = self._connection.send(frame, now)
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
        waiting = self._pending.get(end_to_end_id)
        pending = waiting or self._settled.get(end_to_end_id)
        if pending is None or pending.answers >= pending.messages:
            tally.unexpected += 1
            record.on_message("in", offset, length, now, "unexpected")
            return
        key = (end_to_end_id, pending.request.uetr)
        record.on_message("in", offset, length, now, "pacs.002", key, pending.request.amount, code)
        if code in INTERIM:
            return
        pending.answers += 1
        if waiting:
            del self._pending[end_to_end_id]
            if pending.answers < pending.messages:
                self._settle(pending)
            tally.on_answer(pending.since, now, code in APPROVED)
            self._fleet.idle.append(self)
        elif pending.owed:
            pending.owed = False
            tally.on_repaid()

    def on_end(self, how: End) -> None:
        self._connection = None
        self._pending.clear()  # nobody asks again: they stay lost
        self._settled.clear()
        idle = self._fleet.idle
        for _ in range(idle.count(self)):
            idle.remove(self)
        self._fleet.on_end(self, how)
