"""How often a simulated host misbehaves: a probability or every Nth time, from a seed."""

import random

import msgspec


class Chance:
    """A fault that strikes with a probability ("0.01") or every Nth time ("1/100")."""

    def __init__(self, text: str, dice: random.Random) -> None:
        """Raises ValueError for a text that is neither."""
        one, slash, every = text.partition("/")
        if slash and (one != "1" or int(every) < 1):
            raise ValueError(f'chance {text!r} is neither a probability ("0.01") nor every Nth ("1/100")')
        self._every = int(every) if slash else 0
        self._probability = 0.0 if slash else float(text)
        if not 0.0 <= self._probability <= 1.0:
            raise ValueError(f"probability {text} is not within 0 and 1")
        self._dice = dice
        self._count = 0

    def strikes(self) -> bool:
        if self._every:
            self._count += 1
            return self._count % self._every == 0
        return self._probability > 0.0 and self._dice.random() < self._probability


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The configured misbehaviour of a host toward requests and advices. Network management is left alone."""

    delay_ms: tuple[float, float] = (0.0, 0.0)  # every answer waits this long
    lose: str = "0"  # booked, never answered
    late: str = "0"  # booked, answered after late_ms
    late_ms: float = 5000.0
    drop: str = "0"  # an issuer's: neither booked nor answered
    busy: str = "0"  # an issuer's: an advice is told to come again (91) the first time
    duplicate: str = "0"  # answered twice
    wrong: str = "0"  # before the answer comes another with a changed RRN or STAN (message or end-to-end id)
    seed: int = 1


class Fate(msgspec.Struct, frozen=True):
    """What happens to one answer."""

    wait_s: float
    copies: int  # 0: lost
    wrong: bool


class Faults:
    """Deals a fate to every answer, and says which messages are to get none."""

    def __init__(self, plan: FaultPlan) -> None:
        self._dice = random.Random(plan.seed)
        self._plan = plan
        self._lose = Chance(plan.lose, self._dice)
        self._late = Chance(plan.late, self._dice)
        self.drop = Chance(plan.drop, self._dice)
        self.busy = Chance(plan.busy, self._dice)
        self._duplicate = Chance(plan.duplicate, self._dice)
        self._wrong = Chance(plan.wrong, self._dice)

    def deal(self) -> Fate:
        low, high = self._plan.delay_ms
        wait_ms = self._dice.uniform(low, high) if high else 0.0
        if self._late.strikes():
            wait_ms = self._plan.late_ms
        copies = 0 if self._lose.strikes() else 2 if self._duplicate.strikes() else 1
        return Fate(wait_ms / 1000, copies, self._wrong.strikes())


def parse_delay(text: str) -> tuple[float, float]:
    """Milliseconds from and to of "5..20" or "5". Raises ValueError."""
    low, dots, high = text.partition("..")
    delay = float(low), float(high if dots else low)
    if not 0 <= delay[0] <= delay[1]:
        raise ValueError(f"delay {text!r} is not MIN..MAX")
    return delay
