"""Currency and amount of a message: DE49 and DE4; in 2003 both are in DE4."""

from collections.abc import Mapping

from messages.iso8583.dialect import Dialect

_AMOUNT_2003 = 16  # digits of DE4 in 2003: currency 3, minor unit 1, amount 12


def holds_currency(dialect: Dialect) -> bool:
    """Whether DE4 of this dialect has its currency before the amount."""
    field = dialect.fields.get(4)
    return field is not None and field.notation.length == _AMOUNT_2003


def money(fields: Mapping[int, str], with_currency: bool) -> tuple[str, int | None]:
    """Currency as on the wire, and the amount in its minor units. `with_currency`: see holds_currency."""
    amount = fields.get(4)
    if with_currency:
        if amount is None or not amount.isdecimal():
            return "", None
        return amount[:3], int(amount[4:])
    return fields.get(49, ""), int(amount) if amount is not None and amount.isdecimal() else None
