"""Stand-in: what the switch may approve in its issuer's place, and how much of it is used up. Limits are kept in `apply`."""

from msgspec.structs import replace

from messages.message import Trait
from switch.core.fold import Fold
from switch.core.proposals import Decide
from switch.core.records import CardUse, Transaction
from switch.core.rules import StandIn


def allows(rule: StandIn, transaction: Transaction) -> bool:
    """Whether the rule speaks of such a request, whatever its card has used."""
    summary = transaction.summary
    return (
        transaction.target in rule.targets
        and summary.profile in rule.profiles
        and summary.is_(Trait.STAND_IN)
        and not summary.is_(Trait.PIN)
        and summary.currency == rule.currency
        and summary.amount <= rule.amount_max
    )


def left(rule: StandIn, use: CardUse | None, day: int, amount: int) -> bool:
    """Whether the card has this much left on this day."""
    if use is None or use.day < day:
        use = CardUse(day)
    return use.count < rule.card_count_max and use.amount + amount <= rule.card_amount_max


def stand_in(fold: Fold, transaction: Transaction, p: Decide) -> bool:
    """Charge the card's limits; False when the rule does not allow it (any more)."""
    state = fold.state
    rule = next((each for each in fold.rules.stand_ins if each.name == p.stand_in), None)
    if rule is None or not allows(rule, transaction):
        return False
    day = max(p.day, state.meta.stand_in_day)
    if day > state.meta.stand_in_day:
        state.put_meta(None, replace(state.meta, stand_in_day=day))
        for account in sorted(state.cards):
            state.put_card(account, None)
    use = state.cards.get(p.account)
    amount = transaction.summary.amount
    if not left(rule, use, day, amount) or (use is None and len(state.cards) >= fold.rules.limits.stand_in_cards_max):
        return False
    use = use or CardUse(day)
    state.put_card(p.account, CardUse(day, use.count + 1, use.amount + amount))
    return True
