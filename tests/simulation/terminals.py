"""Terminals that do as the standards say: requests, advices, completions, reversals, each until it is answered.

Silence brings repeats; a request that stays without an answer is reversed. Customers cancel what was approved. A concentrator
may send a reversal before its original's repeat, on another connection, and it hands on what comes for any of its terminals.
"""

from collections import Counter
from math import inf
from typing import Any

import msgspec
from client import Client
from outside import APPROVED, CARDS, DELAYED_ACK_S, DIALECT, compose, frame, kept
from world import Violation, World

SILENCE_S, REPEATS = 1.6, 2


class Habits(msgspec.Struct, frozen=True):
    """What a terminal does beside withdrawals with PIN: chances."""

    purchases: float = 0.0  # with a card that needs no PIN
    offline: float = 0.0  # of purchases: approved by the terminal, and told by 0220
    completes: float = 0.0  # of what was approved: a final amount follows, by 0220
    cancels: float = 0.0  # of what was approved: the customer wants it undone
    overtakes: float = 0.0  # of requests: reversed at once, on another connection, and repeated afterwards


class Step(msgspec.Struct, frozen=True):
    """A message of a deal, sent until it is answered."""

    mti: str
    repeat: str
    answer: str
    base: int = 0  # of its STAN
    about: bool = False  # it names the deal's first message


STEPS = {
    "request": Step("0200", "0201", "0210"),
    "offline": Step("0220", "0221", "0230"),
    "completion": Step("0220", "0221", "0230", 300_000, True),
    "reversal": Step("0400", "0401", "0410", 900_000, True),
    "late repeat": Step("0201", "0201", "0210"),
}


class Deal:
    """One piece of business, as its terminal knows it."""

    def __init__(self, terminal: str, number: int, amount: int, card: str = "", *, offline: bool = False) -> None:
        self.terminal, self.number, self.amount, self.card = terminal, number, amount, card
        self.first = "offline" if offline else "request"
        self.final = 0  # the amount of its completion; 0: it has none
        self.cancels = self.overtakes = False
        self.rrn = f"{terminal[-4:]}{number:08d}"
        self.sent_s = 0.0  # when, the first time
        self.told: list[tuple[str, int]] = []  # DE39 and DE4 of every 0210
        self.asked: Counter[str] = Counter()  # messages that were sent, by the STAN of their step
        self.answered: Counter[str] = Counter()
        self.steps: dict[str, None] = {}  # that were begun
        self.outcome = ""  # "approved", "declined", "reversed"; "" while it is not known
        self.holds = 0  # what the terminal counts as paid
        self.card_fields = kept(DIALECT.decode(self.message("request", repeat=False)[2:]).fields)
        self.asked.clear()

    def stan(self, step: str) -> str:
        return f"{STEPS[step].base + self.number:06d}"

    def message(self, step: str, *, repeat: bool, poison: bool = False) -> bytes:
        """The frame of a step."""
        row = STEPS[step]
        self.asked[self.stan(step)] += 1
        payload = compose(
            row.repeat if repeat else row.mti, self.stan(step), self.rrn, self.final if step == "completion" else self.amount,
            self.terminal, card=self.card, original=(STEPS[self.first].mti, self.stan(self.first)) if row.about else ("", ""),
        )  # fmt: skip
        return frame(payload.replace(b"MERCHANT", b"POISON__") if poison else payload)


class Terminal(Client):
    """One deal at a time."""

    def __init__(
        self, world: World, network: Any, number: int, addresses: list[tuple[str, int]], deals: int, habits: Habits
    ) -> None:
        super().__init__(world, network, f"TERM{number:04d}", addresses, DIALECT.decode)
        self.deals: list[Deal] = []
        self.neighbours: dict[str, Terminal] = {self.name: self}  # of its concentrator
        self.leaving_s = self.cut_s = 0.0  # so soon after its next new deal it does, and its line is dead; 0: not
        self.lost = False  # then its line is dead, too, for good: nobody is told that it has left
        self.gone_s = 0.0  # when it has
        self.hangs_up_s = 0.0  # so soon after its next new deal it resets its connection; 0: not
        self.poison = False  # its next new request kills who parses it
        self._habits = habits
        self._left = deals
        self._deal: Deal | None = None
        self._step = ""  # of the deal at hand
        self._sends = 0  # of the step at hand
        self._aside: Aside | None = None  # where its reversal overtakes
        self._timer: Any = None

    @property
    def done(self) -> bool:
        return self.gone or (not self._left and self._deal is None)

    def asks(self) -> None:
        self._habits, self._left = Habits(), 1
        self.leaving_s = self.hangs_up_s = 0.0
        self.poison = False
        if self._connected and self._timer is None:
            self._timer = self._world.at(self._world.latency(0.02), self._next)

    @property
    def served(self) -> bool:
        deal = self.deals[-1]
        return deal.outcome == "approved" and deal.asked[deal.stan("request")] == 1

    @property
    def waits_for(self) -> str:
        return f"rrn={self._deal.rrn}" if self._deal is not None else "its next deal"

    def _leave(self, deal: Deal) -> None:
        """It goes away with a deal open, and never comes back: unless a byte of its answer was faster."""
        silent = not deal.told and not deal.outcome and not self._frames.rest
        # what it read within the instant may be another's answer: as in `reset`
        if self._deal is deal and self._wire is not None and silent and not self.unacknowledged():
            self._world.trace(self.name, f"goes away for good, without an answer to rrn={deal.rrn}")
            self.gone, self.gone_s = True, self._world.now
            self._quiet()
            if self.lost:
                self._network.cut(self._wire, inf)
            self._wire.reset()
            self._away()

    def up(self) -> None:
        if self._deal is not None:
            self._again()
        elif self._timer is None:
            self._timer = self._world.at(self._world.latency(0.02), self._next)

    # --- what it has to say

    def _next(self) -> None:
        self._timer = None
        if not self._left or not self._connected or self._deal is not None:
            return
        self._left -= 1
        deal = self._deal = self._draw()
        self.deals.append(deal)
        self._begin(deal.first)
        if self.hangs_up_s:
            self._mishaps.append(self._world.at(self.hangs_up_s, self.reset))
            self.hangs_up_s = 0.0
        if self.leaving_s:
            if self.cut_s:
                cut = self._world.at(self.cut_s, lambda wire=self._wire: self._network.cut(wire, self.leaving_s))
                self._mishaps.append(cut)
            self._mishaps.append(self._world.at(self.leaving_s, lambda: self._leave(deal)))

    def _draw(self) -> Deal:
        habits, world = self._habits, self._world
        amount = 100 * world.dice.randrange(1, 500)
        card = world.dice.choice(CARDS) if world.chance(habits.purchases) else ""
        offline = bool(card) and world.chance(habits.offline)
        deal = Deal(self.name, len(self.deals) + 1, amount, card, offline=offline)
        if world.chance(habits.completes) and not offline:
            deal.final = amount // 200 * 100 + 50
        deal.cancels = world.chance(habits.cancels)
        deal.overtakes = not offline and not self.leaving_s and world.chance(habits.overtakes)
        return deal

    def _begin(self, step: str) -> None:
        deal = self._deal
        assert deal is not None
        self._step, self._sends = step, 0
        deal.steps[step] = None
        self._say()
        if deal.overtakes and step == "request":
            self._world.at(self._world.latency(0.01), lambda: self._overtake(deal))

    def _overtake(self, deal: Deal) -> None:
        if self._deal is deal and self._step == "request" and not deal.told:
            self._step = "reversal"
            deal.steps["reversal"] = None
            self._quiet()
            self._aside = Aside(self._world, self._network, self._addresses, self, deal)

    def _say(self) -> None:
        deal, world = self._deal, self._world
        assert deal is not None
        repeat = self._sends > 0
        self._sends += 1
        deal.sent_s = deal.sent_s or world.now
        if self._connected:
            row = STEPS[self._step]
            world.trace(self.name, f"sends {row.repeat if repeat else row.mti} rrn={deal.rrn}")
            new = self._step == "request" and not repeat
            poison, self.poison = self.poison and new, self.poison and not new
            data = deal.message(self._step, repeat=repeat, poison=poison)
            if self._wire.send(data) != len(data):
                world.trace(self.name, "cannot send")
        self._quiet()
        self._timer = world.at(SILENCE_S, self._silence)

    def _quiet(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silence(self) -> None:
        self._timer = None
        if self._deal is not None and self._connected:
            self._again()

    def _again(self) -> None:
        if self._aside is not None:
            return  # the reversal is sent there
        if self._step == "request" and self._sends > REPEATS:
            self._begin("reversal")
        else:
            self._say()

    # --- what it hears

    def heard(self, body: Any) -> None:
        """On one of its connections: what comes for a neighbour is handed on."""
        super().heard(body)
        to = self.neighbours.get(body.fields[41])
        if to is None:
            raise Violation(f"{self.name}: hears what is for {body.fields[41]}")
        to._take(body)

    def _take(self, body: Any) -> None:
        mti, rrn, code, stan = body.mti, body.fields[37], body.fields[39], body.fields[11]
        amount = int(body.fields[4])
        self._world.trace(self.name, f"hears {mti} rrn={rrn} DE39={code}")
        deal = next((each for each in self.deals if each.rrn == rrn), None)
        step = next((each for each in deal.steps if (STEPS[each].answer, deal.stan(each)) == (mti, stan)), "") if deal else ""
        if deal is None or not step:
            raise Violation(f"{self.name}: {mti} rrn={rrn} answers nothing that it sent")
        sent = deal.final if step == "completion" else deal.amount
        if amount != sent and not (mti == "0210" and code == "10" and amount < sent):
            raise Violation(f"{self.name}: {mti} rrn={rrn} has another amount than it sent")
        deal.answered[stan] += 1
        if deal.answered[stan] > deal.asked[stan]:
            raise Violation(f"{self.name}: {deal.asked[stan]} messages rrn={rrn} stan={stan} got {deal.answered[stan]} answers")
        if mti == "0210":
            deal.told.append((code, amount))
        elif code != "00":
            raise Violation(f"{self.name}: its advice {mti} rrn={rrn} was refused by {code}")
        if deal is self._deal and not self.gone and (mti, stan) == (STEPS[self._step].answer, deal.stan(self._step)):
            self._done(deal, code, amount)

    def _done(self, deal: Deal, code: str, amount: int) -> None:
        """The step at hand is answered."""
        step = self._step
        if step in ("request", "offline", "completion"):
            approved = code in APPROVED
            deal.outcome, deal.holds = ("approved", amount) if approved else ("declined", 0)
            if approved and deal.final and step == "request":
                deal.final = min(deal.final, amount)
                self._begin("completion")
                return
            if approved and deal.cancels:
                self._begin("reversal")
                return
        elif step == "reversal":
            deal.outcome, deal.holds = "reversed", 0
            if self._aside is not None:
                self._aside.leave()
                self._aside = None
                self._begin("late repeat")
                return
        self._deal = None
        self._quiet()
        self._timer = self._world.at(self._world.latency(0.06), self._next)


class Aside(Client):
    """Another connection of a terminal, for the reversal of one deal: until that is answered."""

    def __init__(self, world: World, network: Any, addresses: list[tuple[str, int]], terminal: Terminal, deal: Deal) -> None:
        super().__init__(world, network, terminal.name, addresses, DIALECT.decode)
        self._terminal, self._deal = terminal, deal
        self._sent = False
        self._connect()

    @property
    def done(self) -> bool:
        return self.gone

    def asks(self) -> None:
        raise AssertionError("it is there for one reversal")

    @property
    def served(self) -> bool:
        return self.gone

    @property
    def waits_for(self) -> str:
        return f"the reversal of rrn={self._deal.rrn}"

    def up(self) -> None:
        self._say(self._wire)

    def heard(self, body: Any) -> None:
        self._terminal.heard(body)

    def _say(self, wire: Any) -> None:
        if self._wire is wire and not self.gone:
            row = STEPS["reversal"]
            self._world.trace(self.name, f"sends {row.repeat if self._sent else row.mti} rrn={self._deal.rrn}, aside")
            wire.send(self._deal.message("reversal", repeat=self._sent))
            self._sent = True
            self._world.at(SILENCE_S, lambda: self._say(wire))

    def leave(self) -> None:
        """When its kernel has acknowledged what it has heard."""
        self.gone = True

        def close(wire: Any = self._wire) -> None:
            if wire is not None and self._wire is wire:
                wire.close()
                self._wire = None

        self._world.at(DELAYED_ACK_S, close)
