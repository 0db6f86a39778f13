"""Which faults there are, how likely each is, and the plan that is drawn from a seed before its run begins."""

import random
from collections.abc import Sequence

import faults_of_nodes as nodes
import faults_of_others as others
from plan import Maker, Plan
from terminals import Habits

OF_NODES: list[tuple[int, Maker]] = [
    (6, nodes.kill), (8, nodes.kill_in_a_turn), (5, nodes.kill_at_a_point), (3, nodes.kill_returning),
    (3, nodes.kill_the_heir), (3, nodes.kill_both), (4, nodes.stop), (2, nodes.slow), (4, nodes.restart),
    (1, nodes.cut_handover), (1, others.poison), (2, nodes.kill_with_late_entries), (1, nodes.kill_in_turn),
]  # fmt: skip
OF_OTHERS: list[tuple[int, Maker]] = [
    (1, nodes.wall_clock), *((1, each) for each in others.ETCD), (2, others.break_sessions), (2, others.cut_sessions),
    (2, others.cramp), (1, others.lost), (1, others.storm), (5, others.issuer), (3, others.leave),
    (1, others.reversals_unheard), (1, others.etcd_away), (1, others.etcd_away_and_a_death), (1, others.cut_off),
    (8, others.issuer_away), (1, others.advices_refused), (5, others.issuer_stuck), (5, others.hang_up),
]  # fmt: skip
OF_TRANSFERS: list[Maker] = [
    others.creditor, others.creditor, others.creditor_away, others.creditor_stuck, others.agents_return,
]  # fmt: skip
KINDS = OF_NODES + OF_OTHERS


def draw(dice: random.Random, makers: Sequence[Maker] = ()) -> Plan:
    """What the seed does. `makers`: these faults alone, each as likely as the others."""
    every = not makers
    old = every and dice.random() < 0.1
    # with entries of version 1 a node that leaves may be given sessions, or be an heir (both are why there is a version 2)
    makers = makers or [maker for weight, maker in (OF_OTHERS if old else KINDS) for _ in range(weight)]
    found = []
    for _ in range(dice.choice((1, 2, 2, 3, 4, 6))):
        found.append((dice.random(), dice.choice(makers)(dice)))
    if old:
        found.append((dice.random() * 0.3, nodes.upgrade(dice)))
    found.sort(key=lambda each: each[0])
    plan = Plan(
        terminals=dice.randrange(1, 5), requests=dice.randrange(2, 5), members=dice.choice((1, 1, 3)),
        store=dice.random() < 0.4, old=old,
        snapshot_entries=dice.choice((12, 40)), faults=found, alt=dice.random() < 0.4, mall=dice.random() < 0.5,
        window=dice.choice((1, 4)), partial=dice.choice((0.0, 0.0, 0.3)), habits=_habits(dice),
    )  # fmt: skip
    own = random.Random()
    own.setstate(dice.getstate())  # so that what is drawn from it changes no history without it
    if every and own.random() < 0.25:
        _draw_transfers(own, plan)
    if every and own.random() < 0.15:
        plan.faults += [(own.random(), others.reload(own)) for _ in range(own.randrange(1, 3))]
    plan.forgets = every and own.random() < 0.025
    if every and own.random() < 0.1:
        plan.tries = own.choice((2, 3))
        plan.faults.append((own.random(), others.advices_unheard(own)))
    plan.faults.sort(key=lambda each: each[0])
    return plan


def _draw_transfers(dice: random.Random, plan: Plan) -> None:
    plan.agents, plan.patient = dice.randrange(1, 3), dice.random() < 0.3
    plan.faults += [(dice.random(), dice.choice(OF_TRANSFERS)(dice)) for _ in range(dice.randrange(3))]


def _habits(dice: random.Random) -> Habits:
    return Habits(
        purchases=dice.choice((0.0, 0.5, 1.0, 1.0)), offline=dice.choice((0.0, 0.3, 0.6)), completes=dice.choice((0.0, 0.4)),
        cancels=dice.choice((0.0, 0.4)), overtakes=dice.choice((0.0, 0.0, 0.4)),
    )  # fmt: skip
