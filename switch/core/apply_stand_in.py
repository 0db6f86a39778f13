"""Stand-in: what the switch may approve in its issuer's place, and how much of it is used up. Limits are kept in `apply`."""

from msgspec.structs import replace

from messages.message import Trait
from switch.core.fold import Fold
from switch.core.proposals import Decide
from switch.core.records import CardUse, Transaction
from switch.core.rules import StandIn
from switch.core.state import State


def allows(rule: StandIn, transaction: Transaction) -> bool:
    """Whether the rule speaks of such a request, whatever its card has used."""
    summary = transaction.summary
    return (
        transaction.target in rule.targets
        and summary.profile in rule.profiles
        and summary.is_(Trait.STAND_IN)
        and not summary.is_(Trait.PIN)
        and summary.currency == rule.currency
        and 0 < summary.amount <= rule.amount_max
    )


def left(state: State, rule: StandIn, account: bytes, day: int, amount: int, cards_max: int) -> bool:
    """Whether the card has this much left on this day."""
    first = day > state.meta.stand_in_day  # all cards are forgotten then
    use = CardUse(day) if first else state.cards.get(account)
    if use is None:
        use = CardUse(day)
        if len(state.cards) >= cards_max:
            return False
    return use.count < rule.card_count_max and use.amount + amount <= rule.card_amount_max


def stand_in(fold: Fold, transaction: Transaction, p: Decide) -> bool:
    """Charge the card's limits; False when the rule does not allow it (any more)."""
    state, amount = fold.state, transaction.summary.amount
    rule = next((each for each in fold.rules.stand_ins if each.name == p.stand_in), None)
    day = max(p.day, state.meta.stand_in_day)
    if rule is None or not allows(rule, transaction):
        return False
    if not left(state, rule, p.account, day, amount, fold.rules.limits.stand_in_cards_max):
        return False
    if day > state.meta.stand_in_day:
        state.put_meta(None, replace(state.meta, stand_in_day=day))
        for account in sorted(state.cards):
            state.put_card(account, None)
    use = state.cards.get(p.account) or CardUse(day)
    state.put_card(p.account, CardUse(day, use.count + 1, use.amount + amount))
    return True
