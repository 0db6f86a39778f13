"""The injector's terminals: each has one connection and one message outstanding at a time.

What is not answered is repeated, or reversed, or both, as `Habits` say. An advice or reversal is repeated until it is
answered. Some messages are sent twice whatever comes of them: the repeat crosses its answer, or follows it.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque

import msgspec

from messages.iso8583 import Dialect
from tools.card_requests import APPROVED, REQUEST, Advices, AnswerReader, CardRequest, CardTemplate, Clock
from tools.cards import Card
from tools.client import Connection, End, Wiring
from tools.fleet import Fleet
from tools.measure import Tally

SWITCH_NII = b"\x00\x03"  # the network that terminals address in their TPDU
SETTLED_MAX = 8  # messages of a terminal to which another answer may come
REPEAT_WITHIN_S = 0.05  # of what is sent twice


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """What terminals do beside asking. Shares are of 1."""

    repeat_after_s: float = 0.0  # a request that is not answered is repeated; 0: never
    reverse_after_s: tuple[float, float] = (
        0.0,
        0.0,
    )  # then, or at once, given up and reversed; from and to, by terminal
    advices: float = 0.0  # sales that were done without asking, of which an advice tells
    cancels: float = 0.0  # approvals that are reversed, since nothing could be dispensed
    repeats: float = 0.0  # messages that are sent again soon after, answered or not


class Pending(msgspec.Struct):
    """A message that waits. since: what its latency is measured from. owed: a repeat was sent after its last answer."""

    request: CardRequest
    key: tuple[str, str]
    since: float
    messages: int = 1  # sent, repeats included
    answers: int = 0
    repeated: bool = False  # after silence
    reversed: bool = False
    owed: bool = False


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
        habits: Habits,
    ) -> None:
        super().__init__(addresses, wiring, tally)
        self.reader = AnswerReader(dialect)
        self.advices = Advices(dialect)
        self.clock = Clock(dialect)
        self.dice = dice
        self.habits = habits
        self.idle: deque[Terminal] = deque()
        self._waiting: list[tuple[float, int, Terminal, Pending]] = []  # a heap, by the end of the terminal's patience
        self._order = itertools.count()
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
        self.idle.popleft().request(rrn, self.clock.at(time.time()), intended, now)
        return True

    def await_answer(self, terminal: "Terminal", pending: Pending, now: float) -> None:
        """The terminal acts again when its patience ends before the answer comes."""
        patience_s = terminal.patience_s(pending)
        if patience_s:
            heapq.heappush(self._waiting, (now + patience_s, next(self._order), terminal, pending))

    def lose_patience(self, now: float) -> None:
        """Repeat or reverse what has waited too long."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, terminal, pending = heapq.heappop(self._waiting)
            terminal.lose_patience(pending, now)


class Terminal:
    """One terminal, or a concentrator's line: its own TPDU, STANs in order."""

    def __init__(self, fleet: Terminals, number: int, template: CardTemplate) -> None:
        self.terminal_id = f"T{number:07d}"
        self._reverse_after_s = fleet.dice.uniform(*fleet.habits.reverse_after_s)
        self._fleet = fleet
        self._template = template
        self._tpdu = b"\x60" + SWITCH_NII + (number % 0xFFFF + 1).to_bytes(2, "big")
        self._header = self._tpdu if fleet.wiring.framer.is_tpdu else b""
        self._stan = 0
        self._connection: Connection | None = None
        self._pending: Pending | None = None
        self._settled: deque[Pending] = deque(maxlen=SETTLED_MAX)  # given up, or answered with answers yet to come

    def request(self, rrn: str, times: dict[int, bytes], intended: float, now: float) -> None:
        fleet = self._fleet
        amount = fleet.dice.randrange(1_000, 50_000, 500)
        request = self._template.build(self._next_stan(), rrn, amount, times, fleet.dice)
        if fleet.habits.advices and fleet.dice.random() < fleet.habits.advices:
            request = fleet.advices.sale(request)
            fleet.tally.advices += 1
        self._begin(request, intended, now)
        fleet.tally.on_sent(now)

    def _next_stan(self) -> int:
        self._stan = self._stan % 999_999 + 1
        return self._stan

    def _begin(self, request: CardRequest, since: float, now: float) -> None:
        pending = Pending(request, (request.rrn, self.terminal_id), since)
        self._pending = pending
        self._send(request.payload, pending, now, request.mti)
        self._fleet.await_answer(self, pending, now)
        if self._fleet.habits.repeats and self._fleet.dice.random() < self._fleet.habits.repeats:
            delay_s = self._fleet.dice.uniform(0, REPEAT_WITHIN_S)
            asyncio.get_running_loop().call_later(delay_s, self._send_twice, pending)

    def patience_s(self, pending: Pending) -> float:
        """How long the terminal waits from its last message on; 0: for ever."""
        repeat_after_s = self._fleet.habits.repeat_after_s
        return self._reverse_after_s if self._gives_up(pending) else repeat_after_s or self._reverse_after_s

    def _gives_up(self, pending: Pending) -> bool:
        """Whether what comes after more silence is a reversal."""
        habits, asks = self._fleet.habits, pending.request.mti == REQUEST
        return asks and bool(self._reverse_after_s) and (pending.repeated or not habits.repeat_after_s)

    def lose_patience(self, pending: Pending, now: float) -> None:
        """A request is given up where it is to be reversed; anything else is sent again."""
        if pending is not self._pending:
            return
        if self._connection is None:
            self._fleet.await_answer(self, pending, now)
            return
        if self._gives_up(pending):
            self._settled.append(pending)
            self._reverse(pending, pending.since, now)
            return
        pending.repeated = True
        self._repeat(pending, now)
        self._fleet.await_answer(self, pending, now)

    def _send_twice(self, pending: Pending) -> None:
        """The repeat that nothing asked for, unless the terminal has reversed meanwhile what it would repeat."""
        if pending.reversed or self._connection is None or self._fleet.closing:
            return
        if pending is not self._pending:
            if pending not in self._settled:
                self._settled.append(pending)
            pending.owed = True
            self._fleet.tally.on_owed()
        self._repeat(pending, time.monotonic())

    def _repeat(self, pending: Pending, now: float) -> None:
        pending.messages += 1
        self._fleet.tally.repeats += 1
        self._send(pending.request.repeat, pending, now, pending.request.repeat_mti)

    def _reverse(self, pending: Pending, since: float, now: float) -> None:
        fleet = self._fleet
        fleet.tally.reversals += 1
        pending.reversed = True
        times = fleet.clock.at(time.time())
        self._begin(fleet.advices.reversal(pending.request, self._next_stan(), times), since, now)

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
            code = self._code(payload, pending)
            if code is not None:
                self._note(offset, length, now, pending, code, "")
                self._answered(pending, code, now)
                return
        for settled in self._settled:
            code = self._code(payload, settled)
            if code is not None and settled.answers < settled.messages:
                settled.answers += 1
                if settled.owed:
                    settled.owed = False
                    fleet.tally.on_repaid()
                self._note(offset, length, now, settled, code, "answer to a repeat, or late")
                return
        fleet.tally.unexpected += 1
        self._connection.record.on_message("in", offset, length, now, "unexpected")

    def _code(self, payload: bytes, pending: Pending) -> str | None:
        return self._fleet.reader.code(payload, pending.request.rrn_bytes, pending.request.answer_mti)

    def _answered(self, pending: Pending, code: str, now: float) -> None:
        fleet = self._fleet
        pending.answers += 1
        self._pending = None
        if pending.messages > 1:
            self._settled.append(pending)
        asked = pending.request.mti == REQUEST
        if asked and code == APPROVED and fleet.habits.cancels and fleet.dice.random() < fleet.habits.cancels:
            fleet.tally.on_sent(now)
            self._reverse(pending, now, now)
        else:
            fleet.idle.append(self)
        fleet.tally.on_answer(pending.since, now, asked and code == APPROVED)

    def _note(self, offset: int, length: int, now: float, pending: Pending, code: str, note: str) -> None:
        assert self._connection
        request = pending.request
        self._connection.record.on_message(
            "in", offset, length, now, request.answer_mti, pending.key, request.amount, code, note
        )

    def on_end(self, how: End) -> None:
        self._connection = None
        fleet = self._fleet
        if self in fleet.idle:
            fleet.idle.remove(self)
        if self._pending is not None and not self.patience_s(self._pending):
            self._pending = None  # nobody will ask again: it stays lost, the terminal goes on
        fleet.on_end(self, how)
