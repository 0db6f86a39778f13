"""One safeguard removed at a time: a simulation that does not notice cannot be trusted where it says that all is well.

Each entry patches the product in memory, for as long as its context lasts; the product itself has no such switch. A seed
counts as a catch only if it holds with the safeguard in place. Where one of two safeguards is enough, the pair of them is what
has to be caught, and what breaks without both has to hold without either.

Most safeguards matter in one kind of mishap only. Seeds then draw their faults from those kinds, with more traffic and among
the same checks: with all kinds it takes many times as many seeds, and some need a mishap that is seldom drawn alone.
"""

from functools import cache

import msgspec
from ablation_table import TABLE, Ablation
from patching import all_of
from simulation import simulate

ABLATIONS = {each.name: each for each in TABLE}
# of a patch, never a catch
DEFECTS = ("AttributeError", "NameError", "TypeError", "UnboundLocalError", "ImportError", "the simulation failed")


class Catch(msgspec.Struct, frozen=True):
    """The first seed that shows that a safeguard is missing."""

    seed: int
    seeds: int  # run until then
    broke: str


@cache
def catch(name: str) -> Catch | None:
    """Run seeds from 0 without the safeguard, until one breaks that holds with it. None: none did.

    Of a pair: that holds with either of the two.
    """
    ablation = ABLATIONS[name]
    for seed in range(ablation.seeds):
        broke = without(ablation, seed)
        if broke and not _run(ablation, seed) and not any(without(each, seed) for each in _members(name)):
            return Catch(seed, seed + 1, broke)
    return None


def _members(pair: str) -> list[Ablation]:
    return [each for each in ABLATIONS.values() if each.pair == pair]


def without(ablation: Ablation, seed: int) -> str:
    """What breaks in a seed without the safeguard."""
    with all_of(*ablation.apply):
        broke = _run(ablation, seed)
    if defect := next((each for each in DEFECTS if each in broke), None):
        raise AssertionError(f"{ablation.name}, seed {seed}: the patch itself is at fault, {defect}: {broke}")
    return broke


def _run(ablation: Ablation, seed: int) -> str:
    """What breaks, without what it was wrapped in on its way out of the product."""
    text = simulate(seed, plan=ablation.focus.plan(seed) if ablation.focus else None).violation
    return text.rpartition("Violation: ")[2]


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    safeguard: str
    protects: str
    stated: int  # seeds within which it has to be caught
    seeds: int | None  # that were needed; None: it was not caught, or must not be
    broke: str
    good: bool


def row(name: str) -> Row:
    """The outcome of one entry."""
    ablation = ABLATIONS[name]
    caught = catch(ablation.pair or name)
    if caught is None:
        return Row(name, ablation.protects, ablation.seeds, None, "nothing: it is not caught", False)
    if not ablation.pair:
        return Row(name, ablation.protects, ablation.seeds, caught.seeds, caught.broke, True)
    others = " and ".join(each.name for each in _members(ablation.pair) if each is not ablation)
    told = f"nothing: {others or 'another one'} is enough where without both: {caught.broke}"
    return Row(name, ablation.protects, ablation.seeds, None, told, True)
