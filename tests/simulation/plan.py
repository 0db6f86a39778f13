"""What a seed does: how much traffic there is, and which faults strike when."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from terminals import Habits

if TYPE_CHECKING:
    from simulation import Simulation


class Fault(msgspec.Struct):
    """One of a plan. `text` says what it does, `strike` does it, and the world heals `lasts_s` later at the earliest."""

    text: str
    strike: Callable[["Simulation"], None]
    lasts_s: float = 0.25


class Plan(msgspec.Struct):
    """The whole of a seed: how much traffic, and what goes wrong when (from 0 to 1: in the time there is for faults)."""

    terminals: int = 4
    requests: int = 4
    members: int = 1
    store: bool = False
    snapshot_entries: int = 40  # a snapshot at every so many
    old: bool = False  # the pair begins with the software before this one
    alt: bool = False  # a second network leads to the issuer
    mall: bool = False  # all terminals but the first are of a concentrator: it takes no part, and answers for any of them
    window: int = 1  # of advices
    tries: int = 100  # of an advice that is not answered, until it is parked
    partial: float = 0.0  # how often the issuer approves a part
    habits: Habits = Habits()
    agents: int = 0  # debtor agents; none: there is no link for credit transfers
    forgets: bool = False  # the run goes on until outcomes are forgotten, and a node dies meanwhile
    meanwhile: float = 0.05  # of looks into a queue: what was under way has come since the look before
    patient: bool = False  # a transfer without an answer is told to be pending, not rejected
    faults: list[tuple[float, Fault]] = []

    @property
    def texts(self) -> list[str]:
        return [f"{when:.3f} {fault.text}" for when, fault in self.faults]


Maker = Callable[[random.Random], Fault]


def either(dice: random.Random) -> str:
    """One of the nodes."""
    return dice.choice("ab")


def duration(dice: random.Random, typical: float) -> float:
    return typical * (0.2 + dice.expovariate(1.0))
