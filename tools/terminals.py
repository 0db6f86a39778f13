"""The injector's terminals: each has one connection, one request outstanding at a time, and repeats it when told to."""

import random
import time
from collections import deque

import msgspec

from messages.iso8583 import Dialect
from tools.card_requests import ANSWER, REPEAT, REQUEST, AnswerReader, CardRequest, CardTemplate, Clock
from tools.cards import Card
from tools.client import Connection, End, Wiring
from tools.fleet import Fleet
from tools.measure import Tally

APPROVED = "00"
SWITCH_NII = b"\x00\x03"  # the network that terminals address in their TPDU


class Pending(msgspec.Struct):
    """A request that waits. since: what its latency is measured from."""

    request: CardRequest
    key: tuple[str, str]
    since: float
    messages: int = 1  # sent, repeats included
    answers: int = 0


class Terminals(Fleet):
    """All terminals. `send` takes an idle one."""

    def __init__(
        self,
        addresses: list[tuple[str, int]],
        count: int,
        dialect: Dialect,
        wiring: Wiring,
        cards: list[Card],
        tally: Tally,
        dice: random.Random,
        repeat_after_s: float,
    ) -> None:
        super().__init__(addresses, wiring, tally)
        self.reader = AnswerReader(dialect)
        self.dice = dice
        self.repeat_after_s = repeat_after_s
        self.idle: deque[Terminal] = deque()
        self.waiting: deque[tuple[float, Terminal, Pending]] = deque()  # by the time of their next repeat
        self._clock = Clock(dialect)
        self._number = 0
        # 12 digits that no run of the last weeks has used: the switch takes a used one for a repeat
        self._rrn_base = int(time.time() * 5) % 10**6 * 10**6
        self.users = [
            Terminal(self, number, CardTemplate(dialect, f"T{number:07d}", cards[number % len(cards)], dice))
            for number in range(count)
        ]

    def send(self, intended: float, now: float) -> bool:
        """One request from an idle terminal; False when none is idle."""
        if not self.idle:
            return False
        self._number += 1
        rrn = f"{(self._rrn_base + self._number) % 10**12:012d}"
        self.idle.popleft().request(rrn, self._clock.at(time.time()), intended, now)
        return True

    def repeat(self, now: float) -> None:
        """Repeat what has waited too long."""
        waiting = self.waiting
        while waiting and waiting[0][0] <= now:
            _, terminal, pending = waiting.popleft()
            if pending.answers == 0:
                terminal.repeat(pending, now)
                waiting.append((now + self.repeat_after_s, terminal, pending))


class Terminal:
    """One terminal, or a concentrator's line: its own TPDU, STANs in order."""

    def __init__(self, fleet: Terminals, number: int, template: CardTemplate) -> None:
        self.terminal_id = f"T{number:07d}"
        self._fleet = fleet
        self._template = template
        self._tpdu = b"\x60" + SWITCH_NII + (number % 0xFFFF + 1).to_bytes(2, "big")
        self._header = self._tpdu if fleet.wiring.framer.is_tpdu else b""
        self._stan = 0
        self._connection: Connection | None = None
        self._pending: Pending | None = None
        self._settled: list[Pending] = []  # answered, but with more messages sent than answers come

    def request(self, rrn: str, times: dict[int, bytes], intended: float, now: float) -> None:
        fleet = self._fleet
        self._stan = self._stan % 999_999 + 1
        amount = fleet.dice.randrange(1_000, 50_000, 500)
        request = self._template.build(self._stan, rrn, amount, times, fleet.dice)
        pending = Pending(request, (rrn, self.terminal_id), intended)
        self._pending = pending
        self._send(request.payload, pending, now, REQUEST)
        fleet.tally.on_sent(now)
        if fleet.repeat_after_s:
            fleet.waiting.append((now + fleet.repeat_after_s, self, pending))

    def repeat(self, pending: Pending, now: float) -> None:
        if self._connection:
            pending.messages += 1
            self._fleet.tally.repeats += 1
            self._send(pending.request.repeat, pending, now, REPEAT)

    def _send(self, payload: bytes, pending: Pending, now: float, mti: str) -> None:
        assert self._connection
        frame = self._fleet.wiring.framer.frame(payload, self._header)
        offset = self._connection.send(frame, now)
        self._connection.record.on_message("out", offset, len(frame), now, mti, pending.key, pending.request.amount)

    def on_connected(self, connection: Connection) -> None:
        self._connection = connection
        if self._pending is None:
            self._fleet.idle.append(self)

    def on_frame(self, payload: bytes, offset: int, length: int, now: float) -> None:
        assert self._connection
        fleet, pending = self._fleet, self._pending
        if pending is not None:
            code = fleet.reader.code(payload, pending.request.rrn_bytes)
            if code is not None:
                pending.answers += 1
                self._pending = None
                fleet.tally.on_answer(pending.since, now, code == APPROVED)
                fleet.idle.append(self)
                if pending.messages > 1:
                    self._settled.append(pending)
                self._note(offset, length, now, pending, code, "")
                return
        for settled in self._settled:
            code = fleet.reader.code(payload, settled.request.rrn_bytes)
            if code is not None and settled.answers < settled.messages:
                settled.answers += 1
                self._note(offset, length, now, settled, code, "answer to a repeat")
                return
        fleet.tally.unexpected += 1
        self._connection.record.on_message("in", offset, length, now, "unexpected")

    def _note(self, offset: int, length: int, now: float, pending: Pending, code: str, note: str) -> None:
        assert self._connection
        amount = pending.request.amount
        self._connection.record.on_message("in", offset, length, now, ANSWER, pending.key, amount, code, note)

    def on_end(self, how: End) -> None:
        self._connection = None
        fleet = self._fleet
        if self in fleet.idle:
            fleet.idle.remove(self)
        if not fleet.repeat_after_s:
            self._pending = None  # nobody will ask again: it stays lost, the terminal goes on
        fleet.on_end(self, how)
